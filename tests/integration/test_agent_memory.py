"""Memory limits by the kernel, for what is faster than the agent looks. Needs a memory cgroup.

The tasks here stop the agent while they grow, so that it sees nothing until all has happened.
"""

# ruff: noqa: PTH123 -- tasks do what tasks do

import contextlib
import os
import signal
import sys
import time
from pathlib import Path

import cloudpickle
import pytest

from farm.model import Ending
from farm_workers import cgroups, kin
from tests.integration.agent_rig import PATIENCE, AgentProcess, Coordinator, gone

# Workers need not import this module, and what it imports, to run its functions.
cloudpickle.register_pickle_by_value(sys.modules[__name__])

MIB = 1 << 20
PLACE = cgroups.find()
pytestmark = pytest.mark.skipif(
    PLACE is None,
    reason="no memory cgroup can be made here: none is writable, or delegated to this process",
)


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


def until(true):
    deadline = time.monotonic() + PATIENCE
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def groups():
    """The groups of agents, and of workers below them."""
    found = Path(PLACE.folder).glob("farm-[0-9]*")
    return {path: [one for one in path.iterdir() if one.is_dir()] for path in found}


def groups_of(agent):
    return {path: found for path, found in groups().items() if f"-{agent.pid}-" in path.name}


def grow(size):
    """Touch so much memory, and stay."""
    data = bytearray(size)
    data[::4096] = b"x" * len(data[::4096])
    return data


def stop_agent():
    """Stop the agent; returns what tells a test that it may go on."""
    with open(f"/proc/{os.getppid()}/stat") as file:
        agent = int(file.read().rpartition(")")[2].split()[1])
    os.kill(agent, signal.SIGSTOP)
    return agent


def fork_many(path, size, count, stay=0):
    """Children, each in a session of its own, that all grow; the task is fine, and says so."""
    agent = stop_agent()
    pids = []
    for _ in range(count):
        pid = os.fork()
        if pid == 0:
            os.setsid()
            kept = grow(size)
            time.sleep(1000)
            os._exit(len(kept) & 1)
        pids.append(pid)
    pid, status = os.wait()
    Path(path).write_text(str(os.waitstatus_to_exitcode(status)))
    for one in pids:
        if one != pid:
            os.kill(one, signal.SIGTERM)
            os.waitpid(one, 0)
    os.kill(agent, signal.SIGCONT)
    time.sleep(stay)
    return "all is well"


def grow_alone(path, size):
    """The worker itself is ended."""
    stop_agent()
    Path(path + ".part").write_text(str(os.getpid()))
    Path(path + ".part").rename(path)
    return len(grow(size))


@pytest.mark.parametrize("place", ["children", "stuck", "worker"])
def test_what_grows_faster_than_anybody_looks_is_ended_for_its_memory(start, tmp_path, place):
    farm, agent = start(slots=2)
    busy = str(tmp_path / "busy")

    def go_on(path):
        Path(path).touch()
        while not Path(path + ".end").exists():
            time.sleep(0.01)
        return "untouched"

    (other,) = farm.submit(go_on, [(busy,)])
    farm.run(lambda: Path(busy).exists())
    said = tmp_path / "said"
    if place != "worker":
        call = str(said), 80 * MIB, 8, 1000 * (place == "stuck")
        (large,) = farm.submit(fork_many, [call], memory_limit=100 * MIB)
    else:
        (large,) = farm.submit(grow_alone, [(str(said), 2000 * MIB)], memory_limit=100 * MIB)
        farm.run(said.exists)
        until(lambda: not kin.exists(int(said.read_text())))
        agent.signal(signal.SIGCONT)
    ((ending, _),) = farm.results([large])
    Path(busy + ".end").touch()
    assert farm.values([other]) == ["untouched"]
    failure = farm.failures[large]
    assert ending is Ending.MEMORY_LIMIT
    assert failure.cause == "memory_limit"
    assert "100.0 MiB" in failure.message
    assert "faster" in failure.message
    assert failure.peak_bytes >= 100 * MIB
    if place != "worker":
        assert said.read_text() == "-9"
    else:
        assert failure.code == -signal.SIGKILL
        assert failure.peak_bytes < 400 * MIB
    assert farm.hello.memory_limits == f"cgroup v{PLACE.version}"
    assert farm.values(farm.submit(lambda: 1, [()] * 5)) == [1] * 5
    assert "Traceback" not in agent.text()


def test_of_many_items_only_the_one_that_grew_has_passed_its_limit(start, tmp_path):
    farm, _ = start()

    def some(number, path, size):
        return fork_many(path, size, 4) if number == 2 else number

    items = [(number, str(tmp_path / "said"), 80 * MIB) for number in range(5)]
    outcomes = farm.results(farm.submit_packed(some, items, memory_limit=100 * MIB)[:3])
    assert outcomes == [(Ending.OK, 0), (Ending.OK, 1), (Ending.MEMORY_LIMIT, None)]
    farm.run(lambda: farm.returned == [4, 5])


def test_another_sigkill_is_no_matter_of_memory(start):
    farm, _ = start()

    def die():
        grow(50 * MIB)
        os.kill(os.getpid(), signal.SIGKILL)

    (counter,) = farm.submit(die, [()], memory_limit=100 * MIB)
    ((ending, _),) = farm.results([counter])
    assert (ending, farm.failures[counter].cause) == (Ending.LOST, "signal")


def test_pages_of_files_and_what_the_worker_kept_are_no_matter_of_the_kernels_limit(
    start, tmp_path
):
    farm, _ = start()

    def keep(size):
        import builtins

        builtins.kept = grow(size)
        return os.getpid()

    def use(path, size):
        data = grow(size)
        with open(path, "wb") as file:
            for _ in range(150):
                file.write(bytes(MIB))
        with open(path, "rb") as file:
            while file.read(MIB):
                pass
        return os.getpid(), len(data)

    # Kept before it is in its group, and after; and then more than either limit, without one.
    (pid,) = farm.values(farm.submit(keep, [(40 * MIB,)]))
    assert farm.values(farm.submit(keep, [(70 * MIB,)], memory_limit=200 * MIB)) == [pid]
    used = farm.submit(use, [(str(tmp_path / "file"), 60 * MIB)], memory_limit=160 * MIB)
    assert farm.values(used) == [(pid, 60 * MIB)]
    free = farm.submit(use, [(str(tmp_path / "file"), 400 * MIB)])
    assert farm.values(free) == [(pid, 400 * MIB)]


def test_a_group_goes_with_its_worker_and_the_last_with_its_agent(start):
    farm, agent = start(max_tasks_per_worker=2)
    pids = farm.values(farm.submit(os.getpid, [()] * 5, memory_limit=100 * MIB))
    assert len(set(pids)) == 3
    until(lambda: len([one for found in groups_of(agent.process).values() for one in found]) == 1)
    agent.signal(signal.SIGTERM)
    farm.run(lambda: farm.bye is not None)
    agent.wait()
    assert groups_of(agent.process) == {}


def test_the_last_goes_with_an_agent_whose_parent_ends(start):
    reading, writing = os.pipe()
    farm, agent = start(parent_fd=reading)
    os.close(reading)
    farm.submit(time.sleep, [(1000,)], memory_limit=100 * MIB)
    farm.run(lambda: any(groups_of(agent.process).values()))
    os.close(writing)
    agent.wait()
    assert groups_of(agent.process) == {}


def test_the_next_agent_ends_and_removes_what_a_killed_one_left(start, tmp_path):
    farm, agent = start()
    path = tmp_path / "pid"

    def leave(path):
        if os.fork() == 0:
            os.setsid()
            Path(path + ".part").write_text(str(os.getpid()))
            Path(path + ".part").rename(path)
            time.sleep(1000)
        time.sleep(1000)

    farm.submit(leave, [(str(path),)], memory_limit=100 * MIB)
    farm.run(path.exists)
    # Neither the agent nor its fork server has the time to end anything.
    (server,) = (
        Path(f"/proc/{agent.process.pid}/task/{agent.process.pid}/children").read_text().split()
    )
    for pid in (agent.process.pid, int(server)):
        os.kill(pid, signal.SIGSTOP)
    for pid in (int(server), agent.process.pid):
        os.kill(pid, signal.SIGKILL)
    agent.wait()
    left = int(path.read_text())
    os.kill(left, 0)
    assert len(groups_of(agent.process)) == 1
    second = tmp_path / "second"
    second.mkdir()
    other = AgentProcess(second, address=f"ipc://{second}/farm", slots=1)
    try:
        assert gone([left])
        third = tmp_path / "third"  # the process may have ended too late for its group to go
        third.mkdir()
        last = AgentProcess(third, address=f"ipc://{third}/farm", slots=1)
        try:
            until(lambda: groups_of(agent.process) == {})
        finally:
            last.end()
    finally:
        other.end()
