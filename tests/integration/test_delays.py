"""What starts later, on a real farm: it waits in the store, over a restart, and starts on time."""

import sys
import time
from concurrent.futures import wait
from datetime import UTC, datetime, timedelta

import cloudpickle

import farm
from tests.processes import Place

# Workers need not import this module, and what it imports, to run its functions.
cloudpickle.register_pickle_by_value(sys.modules[__name__])

PATIENCE = 60.0
CORE = {"far_seconds": 1.0, "recovery_seconds": 1.0}
COUNT, SIZE = 300, 10_000


def began(text):
    return len(text), time.time()


def test_arguments_wait_in_the_store_over_a_restart_and_tasks_start_on_time():
    with Place("delays", forks=True) as place:
        coordinator = place.coordinator(CORE)
        coordinator.start()
        place.agent("host").start()
        with farm.Client(place.address) as client:
            waiting = [client.options(delay="1h").submit(began, "x" * SIZE) for _ in range(COUNT)]
            eta = datetime.now(UTC) + timedelta(seconds=3)
            soon = [client.options(eta=eta).submit(began, "x" * SIZE) for _ in range(20)]
            client.connection.wait_acknowledged()
            _holds(client)
            coordinator.kill()
            coordinator.start()
            found = [future.result(PATIENCE) for future in soon]
            assert {size for size, _ in found} == {SIZE}
            assert min(at for _, at in found) >= eta.timestamp()
            _holds(client)
            assert all(future.cancel() for future in waiting)
            assert not wait(waiting, PATIENCE).not_done
            memory = client.query("status")["memory"]
            assert memory["payload_bytes"] == memory["payload_bytes_stored"] == 0
            assert memory["read_back"] > 0
        assert place.complaints() == []


def _holds(client):
    """The store has what starts in an hour, and memory has not."""
    memory = client.query("status")["memory"]
    assert memory["payload_bytes"] <= 30 * SIZE
    assert memory["payload_bytes_stored"] >= COUNT * SIZE
