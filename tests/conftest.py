"""Fixtures that every kind of test may ask for."""

import os
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """The folder of real data sets; FARM_TEST_DATA names another place for it."""
    folder = Path(os.environ.get("FARM_TEST_DATA", REPOSITORY.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"no test data: {folder} is not a folder (set FARM_TEST_DATA)")
    return folder
