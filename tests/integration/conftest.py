"""Fixtures of tests that open sockets and start processes."""

import pytest

from tests.processes import free_ports


@pytest.fixture
def free_address():
    """A function that returns a loopback TCP address of which this port and the next are free."""
    return lambda: f"tcp://127.0.0.1:{free_ports()}"
