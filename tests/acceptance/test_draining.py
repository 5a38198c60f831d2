"""Draining: hosts and coordinators that stop in order, and cost nobody anything."""

import signal

from tests.acceptance.test_leases import start_host, submit, wait_for
from tests.acceptance.test_survival import ALL, SUBMIT_MANY


def test_a_host_gives_back_what_runs_longer_than_its_grace(machine):
    gate = machine.gate()
    machine.coordinator("--store", "memory:")
    words = ("worker", "--slots", "1", "--name", "first", "--grace", "200ms")
    first = machine.start(*words)
    first.log("connected")
    task = submit(machine, gate)
    gate.wait_begun()
    family = first.family()
    first.signal(signal.SIGTERM)
    assert first.wait() == 0
    machine.gone(family)
    row = machine.ask("explain", task)
    assert (row["state"], row["attempt"]) == ("queued", 2)
    assert row["losses"][0] == row["retries"][0] == 0
    start_host(machine, "second")
    gate.wait_begun()
    gate.open()
    assert machine.farm("result", "--wait", task) == (0, "seen\n", "")


def test_a_host_is_drained_from_the_command_line(machine):
    gate = machine.gate()
    machine.coordinator("--store", "memory:")
    first = start_host(machine, "first")
    tasks = [submit(machine, gate) for _ in range(2)]
    gate.wait_begun()
    waits = machine.start("hosts", "drain", "--wait", "first")
    first.log("draining")
    code, out, err = machine.farm("hosts", "drain", "first")  # again, which changes nothing
    assert (code, err) == (0, "")
    assert out.startswith("host first: it drains")
    assert "drains" in machine.farm("hosts")[1]
    gate.open()
    assert waits.line() == "host first: it has left"
    assert first.wait() == 0
    assert machine.ask("hosts") == []
    assert machine.ask("explain", tasks[0])["attempt"] == 1
    start_host(machine, "second")
    for task in tasks:
        assert machine.farm("result", "--wait", task) == (0, "seen\n", "")


def test_a_host_that_is_not_there_cannot_be_drained(machine):
    machine.coordinator("--store", "memory:")
    code, out, err = machine.farm("hosts", "drain", "nobody")
    assert (code, out) == (1, "")
    assert "the farm has no host 'nobody'" in err


def test_a_coordinator_that_is_stopped_in_order_is_come_back_to(machine):
    first = machine.coordinator("--store", "farm.db")
    start_host(machine, "first")
    script = machine.script(SUBMIT_MANY)
    assert script.line() == "some"
    first.signal(signal.SIGTERM)
    assert first.wait() == 0
    machine.coordinator("--store", "farm.db")
    assert script.line() == ALL
    assert script.wait() == 0
    status = wait_for(machine, lambda status: status["hosts"] == 1, "status")
    assert status["counters"].get("lost", 0) == 0
