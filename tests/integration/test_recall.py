"""Two real hosts: what waits behind something long on one is run by the other."""

import sys
import time
from pathlib import Path

import cloudpickle
import pytest

import farm
from tests.processes import Place

# Workers need not import this module, and what it imports, to run its functions.
cloudpickle.register_pickle_by_value(sys.modules[__name__])

PATIENCE = 30.0
LOOK_SECONDS = 0.005


def work(begun="", opens=""):
    """Next to nothing, unless it has to wait until somebody makes a file."""
    if begun:
        Path(begun).touch()
        while not Path(opens).exists():
            time.sleep(LOOK_SECONDS)
    return farm.current_task().attempt


def wait_for(holds):
    deadline = time.monotonic() + PATIENCE
    while not (found := holds()):
        assert time.monotonic() < deadline
        time.sleep(LOOK_SECONDS)
    return found


def host(client, name):
    return {row["name"]: row for row in client.query("hosts")}.get(name, {"held": 0})


@pytest.mark.parametrize("store", ["memory:", "farm.db"])
def test_short_tasks_behind_a_long_one_go_to_a_host_that_comes(tmp_path, store):
    begun, opens = str(tmp_path / "begun"), str(tmp_path / "opens")
    with Place("recall", forks=True) as place:
        path = store if store == "memory:" else str(tmp_path / store)
        place.coordinator(store=path).start()
        place.agent("first", slots=1).start()
        with farm.Client(place.address, connect_timeout=PATIENCE) as client:
            # How long they take, and how far it is to the coordinator.
            for _ in range(50):
                client.submit(work).result(PATIENCE)
            long = client.submit(work, begun, opens)
            short = [client.submit(work) for _ in range(20)]
            wait_for(Path(begun).exists)
            wait_for(lambda: host(client, "first")["held"] > 1)
            place.agent("second", slots=1).start()
            attempts = [one.result(PATIENCE) for one in short]
            assert not long.done()
            assert max(attempts) == 2  # one was taken back, and no more than once
            status = client.query("status")
            assert status["counters"]["recalled"] == sum(one == 2 for one in attempts)
            assert status["counters"].get("lost", 0) == 0
            Path(opens).touch()
            assert long.result(PATIENCE) == 1
        assert place.complaints() == []
