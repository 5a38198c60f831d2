"""Fixtures of tests that open sockets and start processes."""

import psutil
import pytest

from tests.forked_services import begin_forked
from tests.processes import free_ports


def coordinator_of(client):
    """The process of the coordinator of a client's own farm."""
    return psutil.Process(client._connection._loop._on_ended.__self__.coordinator.pid)


@pytest.fixture
def free_address():
    """A function that returns a loopback TCP address of which this port and the next are free."""
    return lambda: f"tcp://127.0.0.1:{free_ports()}"


@pytest.fixture(scope="module")
def forked_services():
    """Services of farms that a module starts are forked; for modules that are not about a start."""
    with pytest.MonkeyPatch.context() as patch:
        begin_forked(patch.setattr)
        yield
