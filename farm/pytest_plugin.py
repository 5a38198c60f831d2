"""A fixture for tests of programs that use a farm."""

from typing import TYPE_CHECKING

import pytest

import farm

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["farm_client"]


@pytest.fixture
def farm_client() -> "Iterator[farm.Client]":
    """The client of a farm of two workers on this machine, new for each test, gone after it."""
    client = farm.local(workers=2)
    yield client
    client.shutdown(wait=True, cancel_futures=True)
