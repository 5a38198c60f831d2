"""Keys of tasks on a real farm: one task a key, whoever submits it, restarts or is restored."""

import signal

from tests.acceptance.test_leases import start_host

SUBMIT = """\
import sys, farm
from gates import hold

client = farm.Client()
once = client.options(**{{{option!r}: {key!r}}})
future = once.submit(hold, {gate!r})
client.connection.wait_acknowledged()
print(future.id, flush=True)
print(future.result(60), flush=True)
"""

AGAIN = """\
import farm
from gates import hold

client = farm.Client()
once = client.options(idempotency_key="order 7")
print(once.submit(hold, {gate!r}).result(60), flush=True)
try:
    once.submit(hold, "elsewhere").result(60)
except farm.KeyConflict as error:
    print("order 7" in str(error), flush=True)
"""

INGEST = """\
import farm

def digest(line):
    return len(line)

with farm.Client() as client:
    keyed = client.options(name="ingest", idempotency_key=lambda line: f"line {line}")
    job = keyed.submit_many(digest, [str(n) for n in range(2000)])
    print(sum(future.result() for future in job), flush=True)
    print(client.query("status")["counters"]["duplicates"], flush=True)
"""


def test_two_scripts_with_one_key_are_one_task_although_the_coordinator_is_killed(machine):
    gate = machine.gate()
    coordinator = machine.coordinator("--store", "farm.db")
    host = start_host(machine, "host")
    text = SUBMIT.format(option="idempotency_key", key="order 7", gate=gate.path)
    scripts = [machine.script(text) for _ in range(2)]
    ids = [script.line() for script in scripts]
    gate.wait_begun()
    coordinator.signal(signal.SIGKILL)
    coordinator.wait()
    coordinator = machine.coordinator("--store", "farm.db")
    late = machine.script(text)
    ids.append(late.line())
    assert len(set(ids)) == 3
    copied = machine.ask("store", "backup", "--store", "farm.db", "copy.db")
    assert copied["records"] > 0
    gate.open()
    assert [script.line() for script in (*scripts, late)] == ["seen"] * 3
    again = AGAIN.format(gate=gate.path)
    script = machine.script(again)
    assert [script.line(), script.line()] == ["seen", "True"]
    coordinator.signal(signal.SIGKILL)
    coordinator.wait()
    machine.coordinator("--store", "farm.db")
    script = machine.script(again)
    assert [script.line(), script.line()] == ["seen", "True"]
    assert machine.ask("status")["counters"].get("ok", 0) == 1  # a duplicate, since this start
    host.signal(signal.SIGTERM)
    assert host.wait() == 0


def test_a_restored_store_has_its_keys(machine):
    gate = machine.gate()
    coordinator = machine.coordinator("--store", "farm.db")
    script = machine.script(SUBMIT.format(option="unique", key="sync", gate=gate.path))
    script.line()
    machine.ask("store", "backup", "--store", "farm.db", "copy.db")
    coordinator.signal(signal.SIGKILL)
    coordinator.wait()
    machine.ask("store", "restore", "--force", "copy.db", "farm.db")
    machine.coordinator("--store", "farm.db")
    other = machine.script(SUBMIT.format(option="unique", key="sync", gate=gate.path))
    other.line()
    host = start_host(machine, "host")
    gate.wait_begun()
    gate.open()
    assert [one.line() for one in (script, other)] == ["seen", "seen"]
    assert machine.ask("status")["counters"]["duplicates"] == 1
    host.signal(signal.SIGTERM)
    assert host.wait() == 0


def test_an_ingest_that_is_run_again_has_the_outcomes_of_the_first_time(machine):
    machine.up("--slots", "2")
    total = str(sum(len(str(n)) for n in range(2000)))
    first = machine.script(INGEST.replace('["duplicates"]', '.get("duplicates")'))
    assert [first.line(), first.line()] == [total, "None"]
    again = machine.script(INGEST)
    assert [again.line(), again.line()] == [total, "2000"]


def test_the_command_line_has_keys_too(machine):
    machine.up("--slots", "1")
    words = ("submit", "math:factorial", "5", "--idempotency-key", "f5")
    ids = {machine.ask(*words)["id"] for _ in range(2)}
    assert len(ids) == 2
    assert machine.ask("status")["counters"]["duplicates"] == 1
    code, _, err = machine.farm("submit", "math:factorial", "6", "--idempotency-key", "f5")
    assert code == 1
    assert "another function or other arguments" in err
    assert machine.ask("submit", "math:factorial", "6", "--unique", "f5")["result"] == 720
