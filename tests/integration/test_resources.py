"""Real processes: devices of one's own, no more at a time than fits, what is said of the rest."""

import os
import sys
import time
from pathlib import Path

import cloudpickle
import pytest

import farm
from farm.errors import ConfigError

# Workers need not import this module, and what it imports, to run its functions.
cloudpickle.register_pickle_by_value(sys.modules[__name__])

pytestmark = pytest.mark.usefixtures("forked_services")


@pytest.fixture(scope="module")
def client():
    with farm.local(
        workers=4, resources={"gpu": 2, "memory": "8GB", "licence": 1}, labels=["ssd", "zone=a"]
    ) as client:
        yield client


def visible(folder=""):
    """The devices of this task; while it runs, no other has one of them."""
    devices = os.environ.get("CUDA_VISIBLE_DEVICES")
    if folder and devices:
        held = [Path(folder) / device for device in devices.split(",")]
        for path in held:
            path.touch(exist_ok=False)
        time.sleep(0.02)
        for path in held:
            path.unlink()
    return devices


def test_each_task_has_devices_that_no_other_has(client, tmp_path):
    one, both = client.options(resources={"gpu": 1}), client.options(resources={"gpu": 2})
    futures = [one.submit(visible, str(tmp_path)) for _ in range(12)]
    futures += [both.submit(visible, str(tmp_path)) for _ in range(2)]
    futures += [one.submit(visible, str(tmp_path)) for _ in range(4)]
    found = [future.result(60) for future in futures]
    assert set(found[:12]) == {"0", "1"}
    assert found[12:14] == ["0,1", "0,1"]
    assert set(found[14:]) <= {"0", "1"}


def test_other_tasks_have_what_the_host_has(client):
    client.options(resources={"gpu": 1}).submit(visible).result(60)
    assert {client.submit(visible).result(60) for _ in range(4)} == {None}


def alone(path):
    """Fails if another one runs."""
    Path(path).touch(exist_ok=False)
    time.sleep(0.01)
    Path(path).unlink()
    return True


@pytest.mark.parametrize("resources", [{"licence": 1}, {"slots": 3}, {"memory": "5GB"}])
def test_no_more_run_at_a_time_than_fit(client, tmp_path, resources):
    tasks = client.options(resources=resources, labels=["ssd", "zone=a"])
    futures = [tasks.submit(alone, str(tmp_path / "running")) for _ in range(8)]
    assert [future.result(60) for future in futures] == [True] * 8


def test_items_of_a_map_share_what_their_chunk_has(client):
    found = list(client.options(resources={"gpu": 1}).map(visible, [""] * 40))
    assert set(found) <= {"0", "1"}


def test_what_could_never_run_waits_and_it_is_said_at_once(client):
    future = client.options(resources={"gpu": 8}).submit(visible)
    assert client.submit(visible).result(60) is None  # which it does not keep from running
    (row,) = client.query("status")["cannot_run"]
    assert row["why"] == "needs gpu=8, the largest host has 2"
    assert "could ever run it" in client.query("explain", id=future.id)["why"][0]
    assert future.cancel()


def test_an_unknown_name_is_refused(client):
    future = client.options(resources={"licenec": 1}).submit(visible)
    with pytest.raises(ConfigError, match="did you mean 'licence'"):
        future.result(60)


def test_a_coordinator_that_was_killed_knows_what_is_in_use(tmp_path):
    with farm.local(workers=2, directory=tmp_path / "farm", resources={"licence": 1}) as client:
        tasks = client.options(resources={"licence": 1})
        futures = [tasks.submit(alone, str(tmp_path / "running")) for _ in range(40)]
        futures[3].result(60)
        os.kill(client._connection._loop._on_ended.__self__.coordinator.pid, 9)
        assert [future.result(60) for future in futures] == [True] * 40
