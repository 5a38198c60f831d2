"""Tasks that submit tasks and wait for them, on real farms of very few slots."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import CancelledError, as_completed, wait
from pathlib import Path

import cloudpickle
import pytest

import farm
from farm.local import LocalFarm

pytestmark = pytest.mark.usefixtures("forked_services")

# Workers need not import this module, and what it imports, to run its functions.
cloudpickle.register_pickle_by_value(sys.modules[__name__])

PATIENCE = 60.0


@pytest.fixture(scope="module")
def client():
    """A farm of one slot, which has to survive all that this module does to it."""
    with farm.local(workers=1) as client:
        yield client
        assert client.submit(abs, -1).result(PATIENCE) == 1


def seen(path, text=None):
    """What is written there, once it is, and is this."""
    deadline = time.monotonic() + PATIENCE
    while not (path.exists() and text in (None, path.read_text())):
        assert time.monotonic() < deadline
        time.sleep(0.005)
    return path.read_text()


def write(path, text):
    part = Path(f"{path}.part")
    part.write_text(str(text))
    part.rename(path)


# ---------------------------------------------------------------- what tasks do


def fib(n):
    if n < 2:
        return n
    client = farm.current_client()
    parts = [client.submit(fib, n - 1), client.submit(fib, n - 2)]
    return sum(part.result() for part in parts)


def chain(n):
    return 0 if n == 0 else 1 + farm.current_client().submit(chain, n - 1).result()


def children(count):
    client = farm.current_client()
    return sum(future.result() for future in [client.submit(abs, -n) for n in range(count)])


def by_as_completed(count):
    client = farm.current_client()
    return sum(f.result() for f in as_completed([client.submit(abs, n) for n in range(count)]))


def by_wait(count):
    client = farm.current_client()
    done, _ = wait([client.submit(abs, n) for n in range(count)])
    return sum(future.result() for future in done)


def by_map(count):
    return sum(farm.current_client().map(abs, range(count)))


def by_await(count):
    async def main():
        client = farm.current_client()
        return sum([await client.submit(abs, n) for n in range(count)])

    return asyncio.run(main())


def by_exception(count):
    client = farm.current_client()
    errors = [client.submit(int, "x").exception() for _ in range(count)]
    return 2 * sum(isinstance(error, ValueError) for error in errors)


def by_shutdown(count):
    with farm.current_client() as client:
        futures = [client.submit(abs, n) for n in range(count)]
    return sum(future.result() for future in futures)


def leave_some(count):
    client = farm.current_client()
    return [client.options(result_ttl=60).submit(abs, n).id for n in range(count)]


def gate(folder):
    """Says that it runs, and ends when it may."""
    write(f"{folder}/child.{farm.current_task().id}", os.getpid())
    while not Path(folder, "open").exists():
        time.sleep(0.005)
    return "through"


def wait_for_gate(folder):
    attempt = farm.current_task().attempt
    future = farm.current_client().submit(gate, folder)
    write(f"{folder}/parent.{attempt}", os.getpid())
    return attempt, future.result()


# ---------------------------------------------------------------- parents and children


@pytest.mark.parametrize(
    "parent", [children, by_as_completed, by_wait, by_map, by_await, by_exception, by_shutdown]
)
def test_a_parent_on_the_only_slot_gets_what_it_waits_for(client, parent):
    expected = 10
    assert client.submit(parent, 5).result(PATIENCE) == expected


def test_a_chain_of_parents_on_one_slot_ends(client):
    assert client.submit(chain, 8).result(PATIENCE) == 8


def test_a_chain_that_is_too_deep_says_so():
    with (
        pytest.raises(RecursionError, match="host local lends 4 slots at most"),
        farm.local(workers=1, max_lent=4) as client,
    ):
        client.submit(chain, 8).result(PATIENCE)


def test_recursion_on_two_slots_ends():
    with farm.local(workers=2) as client:
        assert client.submit(fib, 6).result(PATIENCE) == 8
        lent = [row["lent"] for row in client.query("hosts")]
        assert lent == [0]


def test_a_hundred_parents_on_two_slots_end():
    with farm.local(workers=2) as client:
        parents = [client.submit(children, 10) for _ in range(100)]
        assert [parent.result(PATIENCE) for parent in parents] == [45] * 100


def test_parents_whose_workers_run_one_task_each_end():
    with farm.local(workers=1, max_tasks_per_worker=1) as client:
        assert client.submit(chain, 4).result(PATIENCE) == 4
        assert list(client.map(children, [3, 3, 3])) == [3, 3, 3]


def test_what_a_task_has_submitted_is_accepted_before_its_outcome_counts(client):
    ids = client.submit(leave_some, 20).result(PATIENCE)
    assert [client.future(one).result(PATIENCE) for one in ids] == list(range(20))


def test_outside_a_task_there_is_no_current_client():
    with pytest.raises(RuntimeError, match="called outside a task"):
        farm.current_client()


def test_waiting_counts_as_running(client, tmp_path):
    limited = client.options(time_limit=0.7)
    with pytest.raises(farm.TimeLimitExceeded):
        limited.submit(wait_for_gate, str(tmp_path)).result(PATIENCE)
    (tmp_path / "open").touch()


def test_what_a_stopped_parent_has_submitted_is_stopped(client, tmp_path):
    future = client.submit(wait_for_gate, str(tmp_path))
    seen(tmp_path / "parent.1")
    deadline = time.monotonic() + PATIENCE
    while not (begun := list(tmp_path.glob("child.*[0-9]"))):
        assert time.monotonic() < deadline
        time.sleep(0.005)
    assert future.stop()
    with pytest.raises(CancelledError):
        future.result(PATIENCE)
    child = client.future(begun[0].name.removeprefix("child."))
    assert isinstance(child.exception(PATIENCE), CancelledError)


# ---------------------------------------------------------------- no room


class Local:
    """A farm with settings that ``farm.local`` does not have, and its client."""

    def __init__(self, **settings):
        self.farm = LocalFarm(**settings)

    def __enter__(self):
        self.farm.start()
        self.client = farm.Client(self.farm.address, connect_timeout=PATIENCE)
        return self.client

    def __exit__(self, *_):
        self.client.shutdown(wait=False)
        self.farm.stop()


def too_many(count):
    """Submits more than there is room for: what comes of it."""
    client = farm.current_client()
    futures, refused = [], 0
    for n in range(count):
        try:
            futures.append(client.submit(abs, n))
        except farm.Busy as busy:
            refused += busy.retry_after > 0
    return refused, [future.result() for future in futures]


def map_more(count):
    return sum(farm.current_client().map(abs, range(count), chunksize=1))


def test_a_submit_that_would_block_raises():
    with Local(slots=1, coordinator={"core": {"max_tasks": 4}}) as client:
        refused, values = client.submit(too_many, 10).result(PATIENCE)
        assert refused >= 1
        assert values == list(range(10 - refused))[: len(values)]
        assert client.submit(map_more, 30).result(PATIENCE) == 435


def test_parents_that_fill_the_farm_are_told():
    with Local(slots=2, coordinator={"core": {"max_tasks": 2}}) as client:
        parents = [client.submit(children, 1) for _ in range(2)]
        errors = [parent.exception(PATIENCE) for parent in parents]
        assert all(error is None or isinstance(error, farm.Busy) for error in errors)


# ---------------------------------------------------------------- deaths


def test_a_parent_whose_worker_is_killed_begins_again(client, tmp_path):
    future = client.submit(wait_for_gate, str(tmp_path))
    os.kill(int(seen(tmp_path / "parent.1")), signal.SIGKILL)
    (tmp_path / "open").touch()  # its child runs on, on the only slot
    assert future.result(PATIENCE) == (2, "through")


def test_a_parent_waits_on_while_the_coordinator_is_started_again(tmp_path):
    with (running := Local(slots=1, store=str(tmp_path / "farm.db"))) as client:
        future = client.submit(wait_for_gate, str(tmp_path))
        seen(tmp_path / "parent.1")
        os.kill(running.farm.pids[0], signal.SIGKILL)
        (tmp_path / "open").touch()
        assert future.result(PATIENCE) == (1, "through")
        assert client.submit(children, 3).result(PATIENCE) == 3


def test_a_host_is_drained_while_its_slot_is_lent(tmp_path):
    with farm.local(workers=1) as client:
        future = client.submit(wait_for_gate, str(tmp_path))
        seen(tmp_path / "parent.1")
        settings = tmp_path / "second.json"
        settings.write_text(json.dumps({"address": client.address, "slots": 1, "name": "second"}))
        words = [sys.executable, "-m", "farm_workers", "--settings", str(settings)]
        second = subprocess.Popen(words)
        try:
            while len(client.query("hosts")) < 2:
                time.sleep(0.01)
            client.connection.drain_host("local", PATIENCE)
            more = client.submit(gate, str(tmp_path))
            (tmp_path / "open").touch()
            assert future.result(PATIENCE) == (1, "through")
            assert more.result(PATIENCE) == "through"
        finally:
            second.kill()
            second.wait()


def test_the_only_host_leaves_when_its_parent_and_its_children_are_over(tmp_path):
    with Local(slots=1) as client:
        future = client.submit(wait_for_gate, str(tmp_path))
        seen(tmp_path / "parent.1")
        instance = client.query("hosts")[0]["instance"]
        client.connection.drain_host("local", PATIENCE)
        (tmp_path / "open").touch()
        assert future.result(PATIENCE) == (1, "through")
        while any(row["instance"] == instance for row in client.query("hosts")):
            time.sleep(0.01)
