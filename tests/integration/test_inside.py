"""Looking into tasks of a real farm: where they are."""

import logging
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import cloudpickle
import pytest

import farm
from farm.cli.words import without_own_frames
from farm.errors import FarmError

# Workers need not import this module, and what it imports, to run its functions.
cloudpickle.register_pickle_by_value(sys.modules[__name__])

pytestmark = pytest.mark.usefixtures("forked_services")

PATIENCE = 60


@pytest.fixture(scope="module")
def client():
    with farm.local(workers=2) as client:
        yield client


def until(look, patience=PATIENCE):
    """What is found in the end; looks again and again."""
    deadline = time.monotonic() + patience
    while not (found := look()):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    return found


def stay(began, leave, *, how="sleep"):
    """Run until a file is there."""
    if how == "deaf":
        signal.signal(signal.SIGURG, signal.SIG_IGN)
    Path(began).touch()
    if how == "holds the lock":
        pattern = "(a+)+b"
        import re

        threading.Timer(0, lambda: None).start()
        re.match(pattern, "a" * 25)  # never looks up for a second or more
    while not Path(leave).exists():
        time.sleep(0.01)
    return how


@pytest.mark.parametrize("how", ["sleep", "holds the lock"])
def test_the_stack_of_a_running_task_is_told_and_the_task_goes_on(client, tmp_path, how):
    began, leave = tmp_path / "began", tmp_path / "leave"
    future = client.submit(stay, str(began), str(leave), how=how)
    until(began.exists)
    said = client.query("stack", id=future.id)
    assert (said["host"], said["attempt"]) == ("local", 1)
    assert "in stay" in said["stack"]
    assert "in _run_each" in said["stack"]
    assert "in _run_each" not in without_own_frames(said["stack"])
    assert "in stay" in without_own_frames(said["stack"])
    again = client.query("stack", id=future.id)
    assert "in stay" in again["stack"]
    leave.touch()
    assert future.result(PATIENCE) == how


def test_a_task_that_took_the_signal_is_not_hurt_and_the_next_can_be_asked(client, tmp_path):
    began, leave = tmp_path / "began", tmp_path / "leave"
    future = client.submit(stay, str(began), str(leave), how="deaf")
    until(began.exists)
    with pytest.raises(FarmError, match="SIGURG"):
        client.query("stack", id=future.id)
    leave.touch()
    assert future.result(PATIENCE) == "deaf"
    with pytest.raises(FarmError, match="does not run"):
        client.query("stack", id=future.id)
    files = [(tmp_path / f"began{n}", tmp_path / f"leave{n}") for n in range(2)]
    futures = [client.submit(stay, str(b), str(e)) for b, e in files]  # on every worker
    for (began, leave), future in zip(files, futures, strict=True):
        until(began.exists)
        assert "in stay" in client.query("stack", id=future.id)["stack"]
        leave.touch()
        assert future.result(PATIENCE) == "sleep"


def speak(words, began="", leave=""):
    """Print, one way or another, and perhaps wait."""
    print("out", words)  # noqa: T201
    print("err", words, file=sys.stderr)  # noqa: T201
    logging.getLogger("user").warning("log %s", words)
    os.write(1, b"raw\n")
    if began:
        stay(began, leave)
        print("bye", words)  # noqa: T201
    return words


def test_what_a_task_prints_is_told_when_it_is_over_also_to_others(client):
    view = client.options(result_ttl=60)
    future = view.submit(speak, "hello")
    assert future.result(PATIENCE) == "hello"
    (own,) = future.logs()
    assert {"out hello", "err hello", "log hello", "raw"} == set(own.text.split("\n")[:-1])
    assert (own.attempt, own.host, own.over) == (1, "local", True)
    with farm.Client(client.address) as other:
        assert other.future(future.id).logs() == [own]
        assert other.future(future.id).logs() == [own]


def test_what_is_forgotten_by_the_farm_is_still_known_to_its_owner(client):
    future = client.submit(speak, "mine")
    assert future.result(PATIENCE) == "mine"

    def forgotten():
        try:
            client.query("logs", id=future.id)
        except FarmError:
            return True
        return False

    until(forgotten)
    (own,) = future.logs()
    assert "out mine\n" in own.text
    silent = client.submit(len, "abc")
    silent.result(PATIENCE)
    assert not any(one.text for one in silent.logs())


def test_a_running_task_is_heard_while_it_runs(client, tmp_path):
    began, leave = tmp_path / "began", tmp_path / "leave"
    future = client.submit(speak, "now", str(began), str(leave))
    until(began.exists)
    (so_far,) = until(lambda: [one for one in future.logs() if "raw" in one.text])
    assert "out now\n" in so_far.text
    assert not so_far.over
    leave.touch()
    assert future.result(PATIENCE) == "now"
    assert future.logs()[0].text.endswith("bye now\n")


def shout_and_fail(lines):
    attempt = farm.current_task().attempt
    print(f"attempt {attempt}")  # noqa: T201
    print("x" * 99 + "\n" * 1, end="", flush=True)  # noqa: T201
    print(("y" * 99 + "\n") * lines, end="")  # noqa: T201
    if attempt < 3:
        raise OSError(attempt)
    return attempt


def test_all_attempts_are_told_and_each_is_bounded(client):
    future = client.options(retries=3, backoff=0, result_ttl=60).submit(shout_and_fail, 1)
    assert future.result(PATIENCE) == 3
    found = future.logs()
    assert [one.text.split("\n")[0] for one in found] == ["attempt 1", "attempt 2", "attempt 3"]
    assert [one.cause for one in found] == ["exception", "exception", ""]
    loud = client.options(retries=3, backoff=0, result_ttl=60).submit(shout_and_fail, 5_000)
    assert loud.result(PATIENCE) == 3
    assert {len(one.text) for one in loud.logs()} == {64 << 10}


def test_the_command_line_follows_until_the_end(client, tmp_path):
    began, leave = tmp_path / "began", tmp_path / "leave"
    future = client.submit(speak, "line", str(began), str(leave))
    until(began.exists)
    command = [sys.executable, "-m", "farm", "logs", "--follow", "-a", client.address, future.id]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        first = [process.stdout.readline() for _ in range(4)]
        assert "out line\n" in first
        leave.touch()
        assert process.stdout.read() == "bye line\n"
        assert process.wait(PATIENCE) == 0


def divide(top, bottom):
    return top / bottom


def replay(client, task, *options, said=""):
    command = [sys.executable, "-m", "farm", "replay", *options, "-a", client.address, task]
    return subprocess.run(
        command, check=False, capture_output=True, text=True, input=said, timeout=PATIENCE
    )


def test_a_failed_call_is_made_again_in_the_foreground(client):
    future = client.options(result_ttl=60).submit(divide, 1, bottom=0)
    assert isinstance(future.exception(PATIENCE), ZeroDivisionError)
    done = replay(client, future.id)
    assert done.returncode == 1
    assert "ZeroDivisionError: division by zero" in done.stderr
    assert "in divide" in done.stderr
    done = replay(client, future.id, "--pdb", said="print('top is', top + 41)\nq\n")
    assert "top is 42" in done.stdout
    assert done.returncode == 1


def test_an_item_of_a_map_is_called_alone(client):
    calls = client.options(max_losses=0).map(lambda n: os._exit(9) if n == 3 else n, range(4))
    with pytest.raises(farm.WorkerLost):
        list(calls)
    (row,) = client.query("dead")
    assert replay(client, row["id"]).returncode == 9
    client.query("drop_dead", ids=[row["id"]])


def test_what_is_gone_cannot_be_called(client):
    done = replay(client, "0" * 31 + "1-1")
    assert (done.returncode, done.stdout) == (5, "")
