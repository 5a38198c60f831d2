"""Limits, evidence and dead tasks on whole farms, as their clients see them."""

import os
import subprocess
import sys
import tempfile
import textwrap
from pathlib import Path

import cloudpickle
import pytest

import farm
from farm.client.dead import retry_dead
from farm.errors import FarmError

# Workers need not import this module, and what it imports, to run its functions.
cloudpickle.register_pickle_by_value(sys.modules[__name__])

pytestmark = pytest.mark.usefixtures("forked_services")

PATIENCE = 60


@pytest.fixture(scope="module")
def client():
    with farm.local(workers=2, kill_after=0.5) as client:
        yield client


def crash_unless(path):
    print("looking for", path)  # noqa: T201
    if not Path(path).exists():
        os._exit(7)
    return "survived"


class Own(Exception):
    """Of the client's program."""

    def __reduce__(self):
        raise TypeError("not this one")


def fail():
    raise Own(farm.current_task().attempt)


def test_a_dead_task_tells_everything_and_runs_again_as_a_new_one(client, tmp_path):
    path = str(tmp_path / "file")
    future = client.options(max_losses=1).submit(crash_unless, path)
    with pytest.raises(farm.WorkerLost, match=r"exited with code 7.*2 times \(attempt 2, after"):
        future.result(PATIENCE)
    shown = client.query("task", id=future.id)
    assert [one["attempt"] for one in shown["attempts"]] == [1, 2]
    for attempt in shown["attempts"]:
        assert (attempt["cause"], attempt["code"], attempt["host"]) == ("exit", 7, "local")
        assert attempt["output"] == f"looking for {path}\n"
        assert attempt["peak_bytes"] > 1 << 20
    assert [row["id"] for row in client.query("dead")] == [future.id]
    Path(path).touch()
    again = retry_dead(client, future.id)
    assert again.result(PATIENCE) == "survived"
    assert again.id != future.id
    assert client.query("dead") == []
    with pytest.raises(farm.WorkerLost):  # its outcome stands
        future.result()
    with pytest.raises(FarmError, match="not among the dead"):
        retry_dead(client, future.id)


def test_an_item_of_a_map_runs_again_alone(client, tmp_path):
    path = str(tmp_path / "file")

    def work(n):
        return n if n != 3 else crash_unless(path)

    results = client.options(max_losses=0).map(work, range(6), chunksize=6)
    with pytest.raises(farm.WorkerLost):
        list(results)
    (row,) = client.query("dead")
    Path(path).touch()
    assert retry_dead(client, row["id"]).result(PATIENCE) == "survived"


def test_the_dead_outlive_the_farm(tmp_path):
    with farm.local(workers=1, directory=tmp_path / "farm") as first:
        future = first.options(max_losses=0).submit(crash_unless, str(tmp_path / "no"))
        assert isinstance(future.exception(PATIENCE), farm.WorkerLost)
    with farm.local(workers=1, directory=tmp_path / "farm") as second:
        (row,) = second.query("dead")
        assert row["id"] == future.id
        (attempt,) = second.query("task", id=future.id)["attempts"]
        assert "looking for" in attempt["output"]
        assert second.query("drop_dead", ids=[future.id]) == 1
        assert second.query("dead") == []


def test_types_that_do_not_travel_decide_about_retries_all_the_same(client):
    view = client.options(retries=2, backoff=0)
    for options, attempts in (({}, 3), ({"never_on": Own}, 1), ({"retry_on": (Own, OSError)}, 3)):
        error = view.options(**options).submit(fail).exception(PATIENCE)
        assert str(attempts) in str(error), options
    assert "1" in str(view.options(retry_on="ConnectionError").submit(fail).exception(PATIENCE))


def test_a_result_that_the_client_cannot_read_is_that_futures_error(client):
    def hostile():
        class Hostile:
            def __reduce__(self):
                return exec, ("raise RuntimeError('not here')",)

        return Hostile()

    assert isinstance(client.submit(hostile).exception(PATIENCE), farm.errors.PayloadError)
    assert client.submit(len, "abc").result(PATIENCE) == 3


def test_limits_of_workers_are_settings_of_a_local_farm():
    with farm.local(workers=1, max_tasks_per_worker=1, max_memory_per_worker="1GB") as client:
        pids = [client.submit(os.getpid).result(PATIENCE) for _ in range(4)]
        assert len(set(pids)) == 4
    for wrong in ({"max_tasks_per_worker": -1}, {"max_memory_per_worker": "x"}, {"kill_after": -1}):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            farm.local(**wrong)


def test_what_a_task_printed_is_seen_though_its_farm_ends_at_once(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(
        textwrap.dedent(
            """
            import farm, sys

            def speak(n):
                print("line", n)
                print("word", n, file=sys.stderr)

            with farm.local(workers=2) as client:
                list(client.map(speak, range(100)))
            """
        )
    )
    with tempfile.TemporaryDirectory(prefix="t-", dir="/tmp") as short:
        found = subprocess.run(
            [sys.executable, str(script)],
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=True,
            env={**os.environ, "TMPDIR": short},
        )
    assert sorted(found.stdout.split("\n"))[1:] == sorted(f"line {n}" for n in range(100))
    assert sorted(found.stderr.split("\n"))[1:] == sorted(f"word {n}" for n in range(100))
