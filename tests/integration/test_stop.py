"""Stops as users meet them: real tasks that clean up, do not care, or leave others behind."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import CancelledError, wait
from pathlib import Path

import cloudpickle
import psutil
import pytest

import farm
from farm.errors import TaskStopped
from tests.integration.conftest import coordinator_of

pytestmark = pytest.mark.usefixtures("forked_services")

# Workers need not import this module, and what it imports, to run its functions.
cloudpickle.register_pickle_by_value(sys.modules[__name__])

PATIENCE = 30.0
LONG = 1000.0
"""A grace, or a nap, that no test waits for."""


@pytest.fixture(scope="module")
def client():
    """A farm that has to survive all that this module does to it."""
    with farm.local(workers=2) as client:
        yield client
        assert client.submit(abs, -1).result(PATIENCE) == 1


def write(path, text):
    """Write a file in one step, so that whoever sees it sees all of it."""
    Path(path + ".part").write_text(str(text))
    Path(path + ".part").rename(path)


def read(path):
    """What a task writes there, once it does."""
    deadline = time.monotonic() + PATIENCE
    while not Path(path).exists():
        assert time.monotonic() < deadline
        time.sleep(0.005)
    return Path(path).read_text()


def stopped(future):
    """Wait until a future is over; the error by which it says that it was stopped."""
    error = future.exception(PATIENCE)
    assert isinstance(error, CancelledError)
    assert not future.cancelled()  # it ran
    with pytest.raises(CancelledError):
        future.result()
    return str(error)


def is_gone(pid):
    with contextlib.suppress(psutil.NoSuchProcess):
        psutil.Process(int(pid)).wait(PATIENCE)
    return not psutil.pid_exists(int(pid))


def clean_up(path):
    try:  # whoever sees that it has begun may stop it at once
        write(path + ".begun", os.getpid())
        time.sleep(LONG)
    except TaskStopped:
        write(path + ".cleaned", "yes")
        return "a value that nobody gets"


def ignore(path):
    try:
        write(path, os.getpid())
        time.sleep(LONG)
    except TaskStopped:  # which is raised once
        time.sleep(LONG)


def test_a_task_cleans_up_and_its_worker_goes_on(client, tmp_path):
    path = str(tmp_path / "a")
    future = client.submit(clean_up, path)
    worker = read(path + ".begun")
    assert future.stop(grace=LONG)
    assert "it was stopped" in stopped(future)
    assert Path(path + ".cleaned").exists()
    assert psutil.pid_exists(int(worker))
    assert not future.stop()  # it is over


def test_what_does_not_care_is_ended_after_its_grace(client, tmp_path):
    path = str(tmp_path / "a")
    future = client.submit(ignore, path)
    worker = read(path)
    assert future.stop(grace=0.1)
    assert "0.1 s of grace" in stopped(future)
    assert is_gone(worker)


def test_without_a_grace_all_that_the_task_has_started_ends_at_once(client, tmp_path):
    def start_a_family(path):
        child = subprocess.Popen(["setsid", "sleep", "1000"])
        write(path, f"{os.getpid()} {child.pid}")
        child.wait()

    path = str(tmp_path / "a")
    future = client.submit(start_a_family, path)
    pids = read(path).split()
    assert future.stop(grace=0)
    stopped(future)
    assert all(map(is_gone, pids))


def test_what_hears_no_signal_is_killed(client, tmp_path):
    def hang_in_c(path):
        import itertools

        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        try:
            write(path, os.getpid())
            sum(itertools.repeat(0))
        except TaskStopped:  # it came before the loop, in which it is not heard
            sum(itertools.repeat(0))

    path = str(tmp_path / "a")
    future = client.submit(hang_in_c, path)
    worker = read(path)
    assert future.stop(grace=0.1)
    stopped(future)
    assert is_gone(worker)


def test_a_function_that_is_not_written_in_python_is_interrupted(client):
    future = client.submit(time.sleep, LONG)
    deadline = time.monotonic() + PATIENCE
    while not future.running():
        assert time.monotonic() < deadline
        time.sleep(0.005)
    assert future.stop(grace=LONG)
    stopped(future)


def test_one_item_of_a_packed_task_is_stopped_and_the_others_have_their_values(client, tmp_path):
    path = str(tmp_path / "a")

    def one_hangs(i):
        if i == 5:
            write(path, "begun")
            time.sleep(LONG)
        return i

    job = client.submit_many(one_hangs, range(10))
    read(path)
    future = list(job)[5]
    assert future.stop(grace=LONG)
    stopped(future)
    others = [one for i, one in enumerate(job) if i != 5]
    assert [one.result(PATIENCE) for one in others] == [0, 1, 2, 3, 4, 6, 7, 8, 9]


def test_a_job_of_which_some_run_is_stopped_whole(client, tmp_path):
    paths = [str(tmp_path / str(i)) for i in range(100)]
    job = client.submit_many(clean_up, paths)
    read(paths[0] + ".begun")
    assert job.stop(grace=LONG) == 100
    assert not wait(job, PATIENCE).not_done
    assert all(isinstance(_error(one), CancelledError) for one in job)
    begun = {path for path in paths if Path(path + ".begun").exists()}
    cleaned = {path for path in paths if Path(path + ".cleaned").exists()}
    assert begun <= cleaned  # one may have been stopped on the way to its first line
    assert len(cleaned) <= 4
    assert job.stop() == 0


def _error(future):
    try:
        return future.exception(PATIENCE)
    except CancelledError as error:
        return error


def test_another_client_stops_a_task_by_its_id(client, tmp_path):
    path = str(tmp_path / "a")
    future = client.submit(clean_up, path)
    read(path + ".begun")
    with farm.Client(client.address) as other:
        same = other.future(future.id)
        assert same.stop(grace=LONG)
        stopped(same)
    stopped(future)


def test_nothing_is_tried_again(client, tmp_path):
    path = str(tmp_path / "a")
    future = client.options(retries=5, max_losses=5).submit(ignore, path)
    read(path)
    assert future.stop(grace=0)
    stopped(future)
    (attempt,) = client.query("task", id=future.id)["attempts"]
    assert attempt["cause"] == "stopped"


def test_a_stop_outlives_the_coordinator(tmp_path):
    with farm.local(workers=1, directory=tmp_path / "farm") as client:
        path = str(tmp_path / "a")
        future = client.submit(ignore, path)
        worker = read(path)
        assert future.stop(grace=1.0)
        coordinator_of(client).kill()
        stopped(future)
        assert is_gone(worker)
        assert client.submit(abs, -2).result(PATIENCE) == 2
