"""Looking into tasks of a real farm: where they are."""

import signal
import threading
import time
from pathlib import Path

import pytest

import farm
from farm.errors import FarmError

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
        re.match(pattern, "a" * 26)  # never looks up for a second or more
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
    assert "worker.py" in said["stack"]
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
