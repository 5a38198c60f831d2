"""Nothing that was accepted is lost, whoever is killed: clients, the coordinator, hosts."""

import os
import signal

from tests.acceptance.conftest import LINKS

FETCH = """\
import farm

client = farm.Client()
job = client.job("nightly")
results = [future.result() for future in job]
print(job.state, len(results), sum(results))
"""

SUBMIT_JOB = """\
import time, farm

def square(n):
    time.sleep(0.001)
    return n * n

client = farm.Client()
job = client.options(name="nightly").submit_many(square, range(1000))
for number, future in enumerate(job):
    future.result()
    if number == 300:
        print("some", flush=True)
"""

SUBMIT_MANY = """\
import time, farm
from concurrent.futures import as_completed

def square(n):
    time.sleep(0.001)
    return n, n * n

client = farm.Client()
futures = [client.submit(square, n) for n in range(2_000)]
seen = {}
for done, future in enumerate(as_completed(futures)):
    n, squared = future.result()
    assert seen.setdefault(n, squared) == squared
    if done == 500:
        print("some", flush=True)
print(len(seen), sum(seen.values()), flush=True)
"""

ALL = f"2000 {sum(n * n for n in range(2_000))}"
# Most of them are still to run when the coordinator is killed.
SUBMIT_VERY_MANY = SUBMIT_MANY.replace("2_000", "10_000")
ALL_OF_VERY_MANY = f"10000 {sum(n * n for n in range(10_000))}"


def test_a_script_that_is_killed_loses_nothing(machine):
    machine.up("--slots", "2")
    script = machine.script(SUBMIT_JOB)
    assert script.line() == "some"
    script.kill()
    fetch = machine.script(FETCH)
    assert fetch.line() == f"sealed 1000 {sum(n * n for n in range(1000))}"
    assert fetch.wait() == 0
    # Reading did not consume them.
    again = machine.script(FETCH)
    assert again.line().startswith("sealed 1000 ")
    (job,) = machine.ask("jobs")
    assert job["counts"].get("queued", 0) == job["counts"].get("leased", 0) == 0


def test_a_coordinator_that_is_killed_loses_nothing(machine):
    first = machine.coordinator("--store", "farm.db")
    machine.start("worker", "--slots", "4").log("connected")
    script = machine.script(SUBMIT_VERY_MANY)
    assert script.line() == "some"
    first.kill()
    machine.coordinator("--store", "farm.db")
    assert script.line() == ALL_OF_VERY_MANY
    assert script.wait() == 0
    # On a slow machine it may say that it waits, and nothing else.
    said = script.stderr().splitlines()
    assert [line for line in said if " tasks wait: " not in line] == []


def test_a_coordinator_that_up_keeps_is_started_again(machine):
    running = machine.start("up", "--json", "--slots", "4", links=LINKS)
    coordinator, _ = machine.ready(running)["pids"]
    script = machine.script(SUBMIT_MANY)
    assert script.line() == "some"
    os.kill(coordinator, signal.SIGKILL)
    assert script.line() == ALL
    assert script.wait() == 0
    assert running.process.poll() is None


def test_a_host_that_is_killed_loses_nothing(machine):
    machine.environ["FARM_COORDINATOR_BEAT_SECONDS"] = "200ms"
    machine.environ["FARM_COORDINATOR_LEASE_SECONDS"] = "1s"
    machine.coordinator("--store", "farm.db")
    first = machine.start("worker", "--slots", "2", "--name", "first")
    first.log("connected")
    script = machine.script(SUBMIT_MANY)
    assert script.line() == "some"
    machine.start("worker", "--slots", "4", "--name", "second").log("connected")
    family = first.family()
    first.kill()
    assert script.line() == ALL
    assert script.wait() == 0
    machine.gone(family)


def test_a_host_that_is_drained_gives_its_tasks_back(machine):
    machine.coordinator("--store", "memory:")
    first = machine.start("worker", "--slots", "2")
    first.log("connected")
    script = machine.script(SUBMIT_MANY)
    assert script.line() == "some"
    first.signal(signal.SIGTERM)
    assert first.wait() == 0
    machine.start("worker", "--slots", "4").log("connected")
    assert script.line() == ALL
    assert machine.ask("status")["counters"].get("lost", 0) == 0
