"""Leases, with real signals and a real network: a host that is cut off or stopped loses its tasks.

They are fenced off when it comes back, and counted. A task that only runs long is never taken.
"""

import signal
import time

import pytest

from tests.acceptance.conftest import WAIT_SECONDS
from tests.acceptance.proxy import Proxy

SHORT = ("--lease", "1s", "--beat", "200ms", "--store", "memory:")


@pytest.fixture
def proxy(machine):
    port = int(machine.address.rpartition(":")[2])
    found = Proxy(port + 1)  # where hosts connect
    yield found
    found.close()


def wait_for(machine, what, *words):
    """Ask until an answer is as wanted; the last answer."""
    until = time.monotonic() + WAIT_SECONDS
    while time.monotonic() < until:
        answer = machine.ask(*words)
        if what(answer):
            return answer
    raise AssertionError(f"it does not come to that: {answer}")


def counted(name):
    return lambda status: status["counters"].get(name, 0) > 0


def start_host(machine, name, address=None):
    host = machine.start("worker", *filter(None, [address]), "--slots", "1", "--name", name)
    host.log("connected")
    return host


def submit(machine, gate):
    code, out, err = machine.farm("submit", "--detach", "gates:hold", gate.path)
    assert (code, err) == (0, "")
    return out.strip()


def check_nobody_paid(machine, task):
    row = machine.ask("explain", task)
    assert row["state"] in {"succeeded", "delivered"}
    assert machine.ask("status")["counters"].get("lost", 0) == 0


def test_a_host_that_is_stopped_and_continued_is_fenced_off(machine):
    gate = machine.gate()
    machine.coordinator(*SHORT)
    first = start_host(machine, "first")
    task = submit(machine, gate)
    gate.wait_begun()
    first.signal(signal.SIGSTOP)
    start_host(machine, "second")
    gate.wait_begun()  # on the second host, when the lease of the first has ended
    gate.open()  # the worker of the first ends its task, too, while its agent is stopped
    assert machine.farm("result", "--wait", task) == (0, "seen\n", "")
    first.signal(signal.SIGCONT)
    wait_for(machine, counted("fenced"), "status")
    wait_for(machine, lambda rows: all(r["connected"] and not r["held"] for r in rows), "hosts")
    check_nobody_paid(machine, task)


def test_a_host_that_is_cut_off_runs_on_and_is_fenced_off_when_it_is_back(machine, proxy):
    gate = machine.gate()
    machine.coordinator(*SHORT)
    first = start_host(machine, "first", f"tcp://127.0.0.1:{proxy.port - 1}")
    task = submit(machine, gate)
    gate.wait_begun()
    family = first.family()
    proxy.cut.set()
    start_host(machine, "second")
    gate.wait_begun()
    assert all(one.is_running() for one in family)  # nobody has told it yet
    proxy.heal()
    wait_for(machine, counted("fenced"), "status")
    rows = wait_for(machine, lambda rows: all(r["connected"] for r in rows), "hosts")
    assert {row["name"]: row["held"] for row in rows} == {"first": 0, "second": 1}
    gate.open()
    assert machine.farm("result", "--wait", task) == (0, "seen\n", "")
    check_nobody_paid(machine, task)


def test_a_task_is_never_taken_from_its_host_because_it_runs_long(machine):
    gate = machine.gate()
    machine.coordinator("--lease", "400ms", "--beat", "100ms", "--store", "memory:")
    start_host(machine, "first")
    task = submit(machine, gate)
    gate.wait_begun()
    start_host(machine, "second")
    wait_for(machine, lambda row: row["running_seconds"] > 5 * 0.4, "explain", task)
    row = machine.ask("explain", task)
    assert (row["host"], row["attempt"], row["losses"][0]) == ("first", 1, 0)
    gate.open()
    assert machine.farm("result", "--wait", task) == (0, "seen\n", "")
    counters = machine.ask("status")["counters"]
    assert not any(counters.get(name) for name in ("fenced", "stale", "lost"))


def test_a_lease_that_is_no_two_beats_long_is_refused(machine):
    for command in ("coordinator", "up"):
        code, out, err = machine.farm(command, "--lease", "5s", "--beat", "4s")
        assert (code, out) == (3, "")
        assert "lease_seconds is 5 and beat_seconds 4" in err
