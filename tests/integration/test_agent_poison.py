"""Tasks that spoil their process: the next task never notices."""

# ruff: noqa: PTH106, PTH109, PTH123, SIM115, T201 -- tasks print, and do what tasks do

import contextlib
import faulthandler
import fcntl
import gc
import io
import locale
import os
import pickle
import resource
import signal
import socket
import sys
import tempfile
import threading
import time
from pathlib import Path

import cloudpickle
import pytest

from farm.model import Ending
from tests.integration.agent_rig import AgentProcess, Coordinator

cloudpickle.register_pickle_by_value(sys.modules[__name__])


@pytest.fixture(scope="module")
def farm(tmp_path_factory):
    """One worker, whose agent has to survive all that this module does to it."""
    folder = tmp_path_factory.mktemp("agent")
    url = f"ipc://{folder}/farm"
    coordinator = Coordinator(url)
    agent = AgentProcess(folder, address=url, slots=1)
    coordinator.agent = agent
    yield coordinator
    assert agent.process.poll() is None
    assert "Traceback" not in agent.log.read_text()
    agent.end()
    coordinator.close()


def one(farm, function, *args, **more):
    (outcome,) = farm.results(farm.submit(function, [args], **more))
    return outcome


def look():
    """What a task may expect of its process."""
    mask = os.umask(0)
    os.umask(mask)
    print("still printing")
    return {
        "cwd": os.getcwd(),
        "environment": dict(os.environ),
        "handlers": [str(signal.getsignal(number)) for number in range(1, 32)],
        "mask": signal.pthread_sigmask(signal.SIG_BLOCK, ()),
        "alarm": signal.getitimer(signal.ITIMER_REAL),
        "locale": locale.setlocale(locale.LC_ALL),
        "recursion": sys.getrecursionlimit(),
        "pickle": pickle.DEFAULT_PROTOCOL,
        "umask": mask,
        "streams": [(s.fileno(), s.closed) for s in (sys.stdin, sys.stdout, sys.stderr)],
        "files": [os.fstat(fd).st_ino for fd in range(3)],
        "flags": [fcntl.fcntl(fd, fcntl.F_GETFL) for fd in range(3)],
        "timeout": socket.getdefaulttimeout(),
        "collects": gc.isenabled(),
        "trace": sys.gettrace(),
        "limits": resource.getrlimit(resource.RLIMIT_NOFILE),
        "niceness": os.getpriority(os.PRIO_PROCESS, 0),
    }


def change_directory():
    folder = tempfile.mkdtemp()
    os.chdir(folder)
    os.rmdir(folder)


def change_environment():
    os.environ["FARM_POISON"] = "yes"
    del os.environ["PATH"]
    os.umask(0o777)


def change_signals():
    for number in range(1, 32):
        with contextlib.suppress(OSError):
            signal.signal(number, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGUSR1})
    signal.set_wakeup_fd(-1)


def leave_an_alarm():
    signal.alarm(1)


def change_the_interpreter():
    locale.setlocale(locale.LC_ALL, "C.UTF-8" if locale.setlocale(locale.LC_ALL) == "C" else "C")
    sys.setrecursionlimit(200)
    pickle.DEFAULT_PROTOCOL = 0
    socket.setdefaulttimeout(0.001)
    gc.disable()
    sys.settrace(lambda *_: None)


def replace_stdout():
    sys.stdout = open(os.devnull, "w")
    os.dup2(sys.stdout.fileno(), 1)


def detach_stderr():
    sys.stderr.detach()


def detach_both():
    sys.stdout = io.TextIOWrapper(sys.stdout.detach(), encoding="latin-1")
    sys.stderr = io.TextIOWrapper(sys.stderr.detach(), encoding="latin-1")


def have_stdout_wait_for_nobody():
    os.set_blocking(1, False)
    os.set_blocking(2, False)


def leave_a_watchdog():
    faulthandler.dump_traceback_later(1, exit=True)


def close_stdout_and_have_another():
    sys.stdout.close()
    sys.stdout = open(os.devnull, "w")


def close_stdout():
    sys.stdout.close()
    sys.stderr.close()


def close_descriptors():
    for fd in range(3):
        os.close(fd)
    return [os.open(os.devnull, os.O_RDONLY) for _ in range(3)]


def leave_things_behind():
    import subprocess

    threading.Thread(target=time.sleep, args=(1000,)).start()
    subprocess.Popen(["sleep", "1000"])
    tempfile.mkstemp()


def print_megabytes():
    for _ in range(5):
        print("x" * (1 << 20))


def fork_and_come_back():
    os.fork()


def fork_and_fail():
    if os.fork() == 0:
        raise RuntimeError("in the child")


@pytest.mark.parametrize(
    "poison",
    [
        change_directory,
        change_environment,
        change_signals,
        leave_an_alarm,
        change_the_interpreter,
        replace_stdout,
        close_stdout_and_have_another,
        detach_stderr,
        detach_both,
        have_stdout_wait_for_nobody,
        leave_a_watchdog,
        close_stdout,
        close_descriptors,
        leave_things_behind,
        print_megabytes,
        fork_and_come_back,
        fork_and_fail,
    ],
    ids=lambda poison: poison.__name__,
)
def test_the_worker_survives_and_the_next_task_never_notices(farm, poison):
    before = farm.values(farm.submit(look, [()]))
    (pid,) = farm.values(farm.submit(os.getpid, [()]))
    assert one(farm, poison)[0] is Ending.OK
    assert farm.values(farm.submit(look, [()])) == before
    assert farm.values(farm.submit(os.getpid, [()])) == [pid]
    assert one(farm, time.sleep, 1.1) == (Ending.OK, None)  # no alarm comes later


def lower_its_limits():
    resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))


def become_nice():
    os.nice(5)
    resource.setrlimit(resource.RLIMIT_CPU, (3000, 3000))


def leave_zombies():
    for _ in range(50):
        if os.fork() == 0:
            os._exit(0)


@pytest.mark.parametrize(
    "poison", [lower_its_limits, become_nice, leave_zombies], ids=lambda poison: poison.__name__
)
def test_a_process_that_is_spoilt_is_right_for_the_next_task(farm, poison):
    (before,) = farm.values(farm.submit(look, [()]))
    failures, returned = len(farm.failures), len(farm.returned)
    assert one(farm, poison)[0] is Ending.OK
    (after,) = farm.values(farm.submit(look, [()]))
    assert after | {"files": 0} == before | {"files": 0}  # a new process has pipes of its own
    assert (len(farm.failures), len(farm.returned)) == (failures, returned)  # nobody paid


def test_a_task_that_closes_the_workers_pipe_is_lost_and_the_next_runs(farm):
    def close_all():
        os.closerange(0, 4096)

    assert one(farm, close_all)[0] is Ending.LOST
    assert farm.values(farm.submit(lambda: 1, [()] * 3)) == [1] * 3


@pytest.mark.parametrize("kind", [SystemExit, KeyboardInterrupt, BaseException, GeneratorExit])
def test_whatever_a_task_raises_is_its_outcome(farm, kind):
    def fail(kind):
        raise kind("no")

    (pid,) = farm.values(farm.submit(os.getpid, [()]))
    ending, error = one(farm, fail, kind)
    assert (ending, type(error)) == (Ending.EXCEPTION, kind)
    assert farm.values(farm.submit(os.getpid, [()])) == [pid]


@pytest.mark.parametrize("way", ["__str__", "__reduce__"])
def test_an_exception_that_ends_the_program_when_it_is_looked_at_is_an_outcome(farm, way):
    def fail(way):
        def leave(_self):
            raise SystemExit(7)

        raise type("Leaving", (Exception,), {way: leave})

    (pid,) = farm.values(farm.submit(os.getpid, [()]))
    ending, error = one(farm, fail, way)
    assert ending is Ending.EXCEPTION
    assert "Leaving" in str(error)
    assert farm.values(farm.submit(os.getpid, [()])) == [pid]


def test_the_child_of_a_fork_runs_nothing_of_its_parents_slice(farm, tmp_path):
    path = str(tmp_path / "ran")

    def note(path, n):
        child = os.fork() if n == 0 else 0
        if child:
            os.waitpid(child, 0)
        with open(path, "a") as file:
            file.write(f"{n}\n")

    farm.values(farm.submit(note, [(path, n) for n in range(20)], expected=1e-6))
    ran = Path(path).read_text().split()
    assert sorted(map(int, ran)) == [0, *range(20)]
