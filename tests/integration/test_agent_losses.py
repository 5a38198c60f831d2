"""Tasks that kill their worker, and everything else that can die, with real signals."""

import contextlib
import os
import signal
import sys
import time
from datetime import datetime
from pathlib import Path

import cloudpickle
import psutil
import pytest

from farm.model import Ending
from farm.protocol.messages import Claim, Drop, Recall
from tests.integration.agent_rig import AgentProcess, Coordinator, S, family, gone

# Workers need not import this module, and what it imports, to run its functions.
cloudpickle.register_pickle_by_value(sys.modules[__name__])


@pytest.fixture(scope="module")
def farm(tmp_path_factory):
    """An agent that has to survive all that this module does to it."""
    folder = tmp_path_factory.mktemp("agent")
    url = f"ipc://{folder}/farm"
    coordinator = Coordinator(url)
    agent = AgentProcess(folder, address=url, slots=2)
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
            agent = AgentProcess(tmp_path, address=url, **{"slots": 2, **settings})
            stack.callback(agent.end)
            return coordinator, agent

        yield start


def hold(path):
    """A task that says that it has begun, and runs until a file is there."""
    Path(path + ".began").touch()
    while not Path(path).exists():
        time.sleep(0.001)
    return "held"


def leave(code):
    os._exit(code)


def abort():
    os.abort()


def segfault():
    import ctypes

    ctypes.string_at(0)


def close_everything():
    os.closerange(3, 200)


def interrupt():
    os.kill(os.getpid(), signal.SIGKILL)


DEATHS = [
    (lambda: leave(7), "exit", 7),
    (lambda: leave(0), "exit", 0),
    (abort, "signal", -signal.SIGABRT),
    (segfault, "signal", -signal.SIGSEGV),
    (interrupt, "signal", -signal.SIGKILL),
    (close_everything, "exit", 4),
]


@pytest.mark.parametrize(("deadly", "cause", "code"), DEATHS)
def test_a_task_that_ends_its_worker_is_lost_and_the_next_one_runs(farm, deadly, cause, code):
    (counter,) = farm.submit(deadly, [()])
    ((ending, _),) = farm.results([counter])
    failure = farm.failures[counter]
    assert ending is Ending.LOST
    assert (failure.cause, failure.code, failure.host) == (cause, code, "h")
    assert farm.values(farm.submit(lambda: 1, [()] * 4)) == [1] * 4


def test_only_the_item_that_killed_the_worker_is_lost(farm):
    def poison(x):
        if x == 57:
            os._exit(1)
        return x

    before = len(farm.returned)
    counters = farm.submit_packed(poison, [(x,) for x in range(128)])
    farm.run(lambda: counters[57] in farm.outcomes)
    returned = set(farm.returned[before:])
    ended = {c for c in counters if c in farm.outcomes}
    assert farm.outcomes[counters[57]][0] is Ending.LOST
    assert ended | returned == set(counters)
    assert ended & returned == set()
    assert set(counters[58:]) <= returned


def test_a_time_limit_ends_the_task_and_all_that_it_started(farm, tmp_path):
    path = str(tmp_path / "pids")

    def start_a_family(path):
        import subprocess
        import time

        if os.fork() == 0:  # another Python may take longer to start than the limit is
            os.setsid()
            Path(path).write_text(str(os.getpid()))
            time.sleep(1000)
        subprocess.Popen(["sh", "-c", f'setsid sleep 1000 & echo $! >> "{path}.2"; sleep 1000'])
        time.sleep(1000)

    (counter,) = farm.submit(start_a_family, [(path,)], time_limit=1.0)
    ((ending, _),) = farm.results([counter])
    assert ending is Ending.TIME_LIMIT
    assert "1.0 s" in farm.failures[counter].message
    pids = [int(Path(name).read_text()) for name in (path, path + ".2")]
    assert gone(pids)
    assert farm.values(farm.submit(lambda: 1, [()] * 4)) == [1] * 4


def test_what_a_dead_worker_left_running_is_ended(farm, tmp_path):
    path = str(tmp_path / "pid")

    def orphan(path):
        import subprocess

        child = subprocess.Popen(["setsid", "sleep", "1000"])
        Path(path).write_text(str(child.pid))
        os._exit(1)

    farm.results(farm.submit(orphan, [(path,)]))
    assert gone([int(Path(path).read_text())])


def test_tasks_behind_a_slow_one_can_be_recalled(farm, tmp_path):
    path = str(tmp_path / "go")

    def maybe(path, waits):
        if waits:
            hold(path)
        return waits

    calls = [(path, True), (path, True), *[(path, False)] * 20]
    (a, b, *rest) = farm.submit(maybe, calls, expected=1e-5)
    farm.run(lambda: {a} <= set(farm.started) or {b} <= set(farm.started))
    farm.say(Recall([(1, farm.leases, a, len(calls))]))
    farm.run(lambda: set(rest) <= set(farm.returned) | farm.outcomes.keys())
    Path(path).touch()
    farm.run(lambda: {a, b, *rest} <= set(farm.returned) | farm.outcomes.keys())
    assert not set(farm.returned) & farm.outcomes.keys()


def test_a_fenced_task_is_ended(farm, tmp_path):
    path = str(tmp_path / "pid")

    def note(path):
        Path(path + ".part").write_text(str(os.getpid()))
        Path(path + ".part").rename(path)
        time.sleep(1000)

    (counter,) = farm.submit(note, [(path,)])
    farm.run(Path(path).exists)
    farm.say(Drop([Claim(1, farm.leases, 1, S, counter, 1)]))
    farm.held -= 1
    assert farm.values(farm.submit(lambda: 1, [()] * 4)) == [1] * 4
    assert gone([int(Path(path).read_text())])
    assert counter not in farm.outcomes


def test_sigterm_drains(start, tmp_path):
    farm, agent = start(slots=1)
    path = tmp_path / "go"
    (first, second) = farm.submit(hold, [(str(path),), (str(path),)])
    farm.run((tmp_path / "go.began").exists)
    agent.signal(signal.SIGTERM)
    farm.run(lambda: second in farm.returned)
    assert farm.window == 0
    assert farm.bye is None
    path.touch()
    farm.run(lambda: farm.bye is not None)
    assert farm.outcomes[first] == (Ending.OK, "held")
    assert agent.wait() == 0
    assert "Traceback" not in agent.text()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_second_signal_stops_at_once(start, tmp_path, number):
    farm, agent = start()
    counters = farm.submit(hold, [(str(tmp_path / "never"),)] * 2)
    farm.run(lambda: set(counters) <= set(farm.started))
    pids = family(agent.process.pid)
    assert len(pids) == 3
    agent.signal(number)
    farm.run(lambda: farm.window == 0)
    agent.signal(number)
    assert agent.wait() == 128 + number
    assert gone(pids)
    assert "Traceback" not in agent.text()


def test_workers_do_not_outlive_an_agent_that_is_killed(start, tmp_path):
    farm, agent = start()
    counters = farm.submit(hold, [(str(tmp_path / "never"),)] * 2)
    farm.run(lambda: set(counters) <= set(farm.started))
    pids = family(agent.process.pid)
    agent.signal(signal.SIGKILL)
    agent.wait()
    assert gone(pids)


def test_an_agent_ends_with_its_parent(start, tmp_path):
    reading, writing = os.pipe()
    farm, agent = start(parent_fd=reading)
    os.close(reading)
    (counter,) = farm.submit(hold, [(str(tmp_path / "never"),)])
    farm.run(lambda: counter in farm.started)
    pids = family(agent.process.pid)
    os.close(writing)
    assert agent.wait() == 0
    assert gone(pids)


def test_a_fork_server_that_dies_is_replaced_with_its_workers(start, tmp_path):
    farm, agent = start()
    counters = farm.submit(hold, [(str(tmp_path / name),) for name in "ab"])
    # Said to be started, a task may not have begun: then nobody pays for it, and it is given back.
    farm.run(lambda: len([*tmp_path.glob("*.began")]) == 2)
    pids = family(agent.process.pid)
    (server,) = [child.pid for child in psutil.Process(agent.process.pid).children()]
    os.kill(server, signal.SIGKILL)
    assert {ending for ending, _ in farm.results(counters)} == {Ending.LOST}
    assert farm.values(farm.submit(lambda: 1, [()] * 4)) == [1] * 4
    assert gone(pids)


def test_a_worker_that_is_stopped_loses_nothing(start):
    farm, _ = start(slots=1)
    pid = farm.values(farm.submit(os.getpid, [()]))[0]
    os.kill(pid, signal.SIGSTOP)
    counters = farm.submit(os.getpid, [()])
    farm.run(lambda: set(counters) <= set(farm.started))
    os.kill(pid, signal.SIGCONT)
    assert farm.values(counters) == [pid]


def test_work_survives_a_restart_of_the_coordinator(start, tmp_path):
    farm, _ = start(slots=2)
    farm.noting = False
    path = tmp_path / "go"
    done = farm.submit(lambda: "done", [()])
    (running,) = farm.submit(hold, [(str(path),)])
    farm.run(lambda: running in farm.started and farm.outcomes.keys() >= set(done))
    farm.close()
    path.touch()
    later = Coordinator(f"ipc://{tmp_path}/farm", epoch=2)
    try:
        later.grants, later.leases, later.counter = farm.grants, farm.leases, farm.counter
        later.run(lambda: {*done, running} <= later.outcomes.keys())
        assert later.outcomes[running] == (Ending.OK, "held")
        assert later.hellos[0].connection > farm.hello.connection
        claimed = {(c.epoch, c.lease, c.first, c.started) for c in later.hellos[0].claims}
        assert claimed == {(1, 1, done[0], True), (1, 2, running, True)}
        assert later.hellos[0].epoch_seen == 1
        assert later.values(later.submit(lambda: 1, [()])) == [1]
    finally:
        later.close()


def test_a_worker_that_dies_idle_is_replaced(start):
    farm, _ = start(slots=1)
    pid = farm.values(farm.submit(os.getpid, [()]))[0]
    os.kill(pid, signal.SIGKILL)
    assert gone([pid])
    (counter,) = farm.submit(os.getpid, [()])
    farm.run(lambda: counter in farm.outcomes or counter in farm.returned)
    (other,) = farm.values(farm.submit(os.getpid, [()]))
    assert other != pid


@pytest.mark.parametrize(
    ("settings", "word"),
    [
        ({"address": "nonsense"}, "tcp://HOST:PORT"),
        ({"slots": 0}, "slots is 0"),
        ({"colour": "red"}, "colour"),
    ],
)
def test_wrong_settings_are_refused_by_name(tmp_path, settings, word):
    agent = AgentProcess(tmp_path, **{"address": f"ipc://{tmp_path}/farm", **settings})
    assert agent.wait() == 3
    assert word in agent.text()
    assert "Traceback" not in agent.text()


def test_a_host_that_starts_before_its_coordinator_complains_only_after_a_while(tmp_path):
    agent = AgentProcess(tmp_path, address=f"ipc://{tmp_path}/farm")
    try:
        deadline = time.monotonic() + 20.0
        while "no connection: nothing answers" not in agent.text():
            assert time.monotonic() < deadline
            time.sleep(0.05)
        at = [
            datetime.fromisoformat(line.split()[0])
            for word in ("a host of", "no connection")
            for line in agent.text().splitlines()
            if word in line
        ]
        assert len(at) == 2  # and it is said once
        assert (at[1] - at[0]).total_seconds() > 0.9
    finally:
        agent.end()
