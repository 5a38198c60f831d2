"""Limits of real workers: who passes one is ended with all that it started, and leaves word."""

# ruff: noqa: PTH123, T201 -- tasks print, and do what tasks do

import contextlib
import os
import signal
import sys
import time
from pathlib import Path

import cloudpickle
import pytest

from farm.errors import SoftTimeLimitExceeded
from farm.model import Ending
from tests.integration.agent_rig import AgentProcess, Coordinator, gone

# Workers need not import this module, and what it imports, to run its functions.
cloudpickle.register_pickle_by_value(sys.modules[__name__])

MIB = 1 << 20


@pytest.fixture(scope="module")
def farm(tmp_path_factory):
    """An agent that has to survive all that this module does to it."""
    folder = tmp_path_factory.mktemp("agent")
    url = f"ipc://{folder}/farm"
    coordinator = Coordinator(url)
    agent = AgentProcess(folder, address=url, slots=2, kill_seconds=0.5)
    coordinator.agent = agent
    yield coordinator
    assert agent.process.poll() is None
    agent.end()
    coordinator.close()


@pytest.fixture
def start(tmp_path):
    """Starts a coordinator and an agent for one test, ended whatever happens."""
    with contextlib.ExitStack() as stack:

        def start(**settings):
            url = f"ipc://{tmp_path}/farm"
            coordinator = Coordinator(url)
            stack.callback(coordinator.close)
            agent = AgentProcess(tmp_path, address=url, **{"slots": 1, **settings})
            stack.callback(agent.end)
            return coordinator, agent

        yield start


def run(farm, function, *args, **more):
    """How one task ended, and its evidence."""
    (counter,) = farm.submit(function, [args], **more)
    ((ending, value),) = farm.results([counter])
    return ending, value, farm.failures.get(counter)


def write(path, text):
    """Write a file in one step, so that whoever sees it sees all of it."""
    Path(path + ".part").write_text(str(text))
    Path(path + ".part").rename(path)


def start_a_stubborn_family(path):
    """Ignores SIGTERM, and so does a grandchild with a session and a parent of its own."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if os.fork() == 0:
        if os.fork() == 0:
            os.setsid()
            write(path + ".2", os.getpid())
            time.sleep(1000)
        os._exit(0)
    print("I do not care")
    write(path, os.getpid())
    time.sleep(1000)


def sees_it_gone(path):
    """Whether neither process of the family is there any more."""
    found = []
    for name in (path, path + ".2"):
        with contextlib.suppress(ProcessLookupError):
            os.kill(int(Path(name).read_text()), 0)
            found.append(name)
    return found


# ---------------------------------------------------------------- time


def test_who_ignores_sigterm_is_killed_with_all_it_started_before_the_slot_is_free(start, tmp_path):
    farm, agent = start(kill_seconds=0.5)
    path = str(tmp_path / "pid")
    (stubborn,) = farm.submit(start_a_stubborn_family, [(path,)], time_limit=1.0)
    (after,) = farm.submit(sees_it_gone, [(path,)])
    ((ending, _), (_, found)) = farm.results([stubborn, after])
    failure = farm.failures[stubborn]
    assert ending is Ending.TIME_LIMIT
    assert found == []
    assert failure.seconds >= 1.5  # the limit and the grace period
    assert (failure.cause, failure.code, failure.attempt) == ("time_limit", -9, 1)
    assert b"I do not care" in failure.output
    assert "Traceback" not in agent.text()


def test_whoever_heeds_sigterm_is_not_killed(farm, tmp_path):
    path = str(tmp_path / "said")

    def clean_up(path):
        import subprocess

        child = "import signal, sys, time; signal.signal(15, lambda *_: sys.exit()); "
        child += f"print('up', file=open({path!r}, 'w'), flush=True); time.sleep(1000)"
        subprocess.Popen([sys.executable, "-c", child], start_new_session=True)
        time.sleep(1000)

    ending, _, failure = run(farm, clean_up, path, time_limit=1.0)
    assert (ending, failure.code) == (Ending.TIME_LIMIT, -signal.SIGTERM)
    assert Path(path).read_text() == "up\n"


def test_the_stack_of_a_task_that_ran_too_long_is_evidence(farm):
    def stuck_here():
        time.sleep(1000)

    _, _, failure = run(farm, stuck_here, time_limit=0.3)
    assert b"in stuck_here" in failure.output


def test_the_soft_limit_interrupts_a_blocking_call_and_lets_it_clean_up(farm, tmp_path):
    path = str(tmp_path / "clean")

    def wait(path):
        try:
            time.sleep(1000)
        finally:
            Path(path).touch()

    ending, error, failure = run(farm, wait, path, soft_time_limit=0.2, time_limit=60.0)
    assert ending is Ending.EXCEPTION
    assert isinstance(error, SoftTimeLimitExceeded)
    assert (failure.cause, failure.final) == ("soft_time_limit", False)
    assert "in wait" in failure.traceback
    assert Path(path).exists()


def test_the_soft_limit_works_though_tasks_use_alarms_and_replace_handlers(farm):
    def meddle():
        for number in range(1, signal.NSIG):
            with contextlib.suppress(OSError, ValueError):
                signal.signal(number, signal.SIG_DFL)

    def wait():
        signal.signal(signal.SIGALRM, lambda *_: None)
        signal.setitimer(signal.ITIMER_REAL, 0.01, 0.01)
        time.sleep(1000)

    for _ in range(2):
        assert run(farm, meddle)[0] is Ending.OK
    for _ in range(2):
        ending, error, _ = run(farm, wait, soft_time_limit=0.2, time_limit=30.0)
        assert isinstance(error, SoftTimeLimitExceeded), ending


def test_the_soft_limit_never_hits_anything_but_its_task(start):
    farm, agent = start()

    def work(seconds):
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            pass
        return "done"

    limit = 0.002
    calls = [(limit * (0.9 + 0.2 * i / 200),) for i in range(200)]
    outcomes = farm.results(farm.submit(work, calls, soft_time_limit=limit), 60.0)
    kinds = {type(value) for _, value in outcomes}
    assert kinds <= {str, SoftTimeLimitExceeded}
    assert farm.values(farm.submit(lambda: 1, [()] * 50)) == [1] * 50
    assert "exit" not in agent.text()
    assert "Traceback" not in agent.text()


# ---------------------------------------------------------------- memory


def hog(size, seconds=0.0):
    data = bytearray(os.urandom(1)) * size
    time.sleep(seconds)
    return len(data)


def test_a_task_over_its_memory_limit_is_ended(farm):
    ending, _, failure = run(farm, hog, 300 * MIB, 1000, memory_limit=150 * MIB)
    assert ending is Ending.MEMORY_LIMIT
    assert failure.cause == "memory_limit"
    assert failure.peak_bytes > 150 * MIB
    assert "150.0 MiB" in failure.message


def test_what_its_children_use_counts_and_what_it_shares_with_them_once(farm):
    def with_children(size):
        data = bytearray(os.urandom(1)) * size
        children = []
        for _ in range(4):
            pid = os.fork()
            if pid == 0:
                time.sleep(1000)
                os._exit(len(data))
            children.append(pid)
        time.sleep(0.5)
        for pid in children:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
        return "fits"

    def large_child(size):
        import subprocess

        code = f"data = bytearray({size}); data[::4096] = data[::4096]; input()"
        with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE):
            time.sleep(1000)

    assert run(farm, with_children, 100 * MIB, memory_limit=250 * MIB)[1] == "fits"
    ending, _, _ = run(farm, large_child, 200 * MIB, memory_limit=100 * MIB)
    assert ending is Ending.MEMORY_LIMIT


def test_pages_of_files_and_memory_of_others_cost_nothing(farm, tmp_path):
    path = tmp_path / "file"
    path.write_bytes(bytes(200 * MIB))

    def read(path):
        import mmap

        with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ) as data:
            found = sum(data[::4096])
            time.sleep(0.5)
            return found

    assert run(farm, read, str(path), memory_limit=100 * MIB)[:2] == (Ending.OK, 0)


@pytest.mark.parametrize("where", ["the worker", "a child"])
def test_a_task_does_not_pay_for_what_others_left_in_its_worker(start, where):
    farm, agent = start()

    def leave(size):
        import builtins

        builtins.left_behind = bytearray(os.urandom(1)) * size
        return os.getpid()

    def leave_a_child(size):
        told, tell = os.pipe()
        if os.fork() == 0:
            grown = bytearray(os.urandom(1)) * size
            os.write(tell, b"%d" % grown[0])
            time.sleep(1000)
        os.read(told, 9)
        return os.getpid()

    def work():
        time.sleep(0.5)  # it is measured
        return os.getpid()

    leaves = leave if where == "the worker" else leave_a_child
    (pid,) = farm.values(farm.submit(leaves, [(200 * MIB,)]))
    ending, other, _ = run(farm, work, memory_limit=150 * MIB)
    assert ending is Ending.OK
    assert other != pid
    assert farm.returned == []
    assert "ended with exit code" not in agent.text()


# ---------------------------------------------------------------- recycling


def test_workers_are_replaced_after_so_many_tasks_and_nothing_is_lost(start):
    farm, agent = start(max_tasks_per_worker=5)
    calls = [()] * 100
    pids = farm.values(farm.submit(os.getpid, calls, expected=1e-5))
    counts = [pids.count(pid) for pid in dict.fromkeys(pids)]
    assert max(counts) <= 5
    assert len(counts) >= 20
    assert farm.returned == []
    assert farm.failures == {}
    assert "warning" not in agent.text()


def test_a_worker_that_has_grown_is_replaced(start):
    farm, _ = start(max_memory_per_worker=150 * MIB)

    def grow():
        import builtins

        builtins.left_behind = bytearray(os.urandom(1)) * (200 * MIB)
        return os.getpid()

    (first,) = farm.values(farm.submit(grow, [()]))
    assert gone([first])
    (second,) = farm.values(farm.submit(os.getpid, [()]))
    assert second != first


# ---------------------------------------------------------------- evidence


def test_an_attempt_leaves_the_end_of_its_output_and_nobody_elses(farm):
    def talk(word):
        import subprocess

        print("x" * 200_000)
        print(f"this is {word}")
        subprocess.run(["sh", "-c", f"echo child of {word} >&2"], check=True)
        raise ValueError(word)

    for word in ("one", "two"):
        _, _, failure = run(farm, talk, word)
        assert len(failure.output) <= 64 << 10
        assert f"this is {word}".encode() in failure.output
        assert f"child of {word}".encode() in failure.output
        assert failure.message == word
        assert failure.host == "h"
        assert 0 < failure.peak_bytes < 1 << 40
    assert b"this is one" not in failure.output
    farm.values(farm.submit(lambda: print("between"), [()]))
    assert b"between" not in run(farm, talk, "three")[2].output


def test_a_crash_says_where_it_was(farm):
    def crash_here():
        import ctypes

        print("not flushed", end="")
        sys.stdout.flush()
        ctypes.string_at(0)

    ending, _, failure = run(farm, crash_here)
    assert (ending, failure.cause, failure.code) == (Ending.LOST, "signal", -signal.SIGSEGV)
    assert b"not flushed" in failure.output
    assert b"in crash_here" in failure.output
    assert failure.peak_bytes > MIB
    assert failure.attempt == 1


def test_prints_reach_the_agents_own_streams(farm):
    def speak(words):
        print(words, "out")
        print(words, "err", file=sys.stderr)

    farm.values(farm.submit(speak, [("loud and clear",)]))
    deadline = time.monotonic() + 20
    while "loud and clear err" not in farm.agent.log.read_text():
        assert time.monotonic() < deadline
    while "loud and clear out" not in farm.agent.out.read_text():
        assert time.monotonic() < deadline


def test_a_stream_that_nobody_reads_stops_only_who_prints(tmp_path):
    import subprocess

    url = f"ipc://{tmp_path}/farm"
    coordinator = Coordinator(url)
    reading, writing = os.pipe()
    agent = AgentProcess(tmp_path, address=url, slots=2, out=writing)
    os.close(writing)
    try:
        (flood,) = coordinator.submit(lambda: print("x" * (8 << 20)), [()])
        coordinator.run(lambda: flood in coordinator.started)
        for _ in range(20):
            assert coordinator.values(coordinator.submit(lambda: 1, [()])) == [1]
        assert flood not in coordinator.outcomes
        drain = subprocess.Popen(["cat"], stdin=reading, stdout=subprocess.DEVNULL)
        assert coordinator.values([flood]) == [None]
        drain.kill()
        drain.wait()
    finally:
        os.close(reading)
        agent.end()
        coordinator.close()


def test_workers_go_first_when_memory_runs_out(farm):
    def score():
        return int(Path("/proc/self/oom_score_adj").read_text())

    own = int(Path(f"/proc/{farm.agent.process.pid}/oom_score_adj").read_text())
    assert farm.values(farm.submit(score, [()])) == [max(own, 500)]
