"""The store of a farm is backed up while it runs, and restored under its peers."""

import json
import signal

from tests.acceptance.test_leases import start_host, wait_for

SCRIPT = """\
import sys, farm
from gates import hold

def show(name, future):
    try:
        print(name, future.result(60), flush=True)
    except Exception as error:
        print(name, type(error).__name__, flush=True)

client = farm.Client()
before = client.submit(hold, {gate!r})
client.connection.wait_acknowledged()
print(before.id, flush=True)
sys.stdin.readline()
done = client.submit(max, 3, 4)
show("done", done)
after = client.options(retries=3).submit(hold, {other!r})
many = [client.submit(hold, {other!r}) for _ in range(50)]
client.connection.wait_acknowledged()
print(after.id, flush=True)
sys.stdin.readline()
show("after", after)
print(sum(type(one.exception(60)).__name__ == "UnknownTask" for one in many), flush=True)
show("before", before)
show("new", client.submit(min, 3, 4))
"""


def test_a_farm_goes_on_with_an_old_copy_of_its_store(machine):
    gate, other = machine.gate(), machine.gate()
    coordinator = machine.coordinator("--store", "farm.db")
    start_host(machine, "first")
    script = machine.script(SCRIPT.format(gate=gate.path, other=other.path), stdin=True)
    before = script.line()
    gate.wait_begun()
    start_host(machine, "second")
    copied = machine.ask("store", "backup", "--store", "farm.db", "copies/old.db")
    assert copied["records"] > 0
    assert machine.farm("store", "check", "copies/old.db")[0] == 0
    script.say("go on")
    assert script.line() == "done 4"
    after = script.line()
    other.wait_begun()
    seen = machine.ask("status")["epoch"]
    code, _, err = machine.farm("store", "restore", "--force", "copies/old.db", "farm.db")
    assert code == 10
    assert "in use" in err
    coordinator.signal(signal.SIGKILL)
    coordinator.wait()
    code, _, err = machine.farm("store", "restore", "copies/old.db", "farm.db")
    assert code == 10
    assert "--force" in err
    restored = machine.ask("store", "restore", "--force", "copies/old.db", "farm.db")
    assert (machine.folder / restored["aside"]).exists()
    machine.coordinator("--store", "farm.db")
    status = wait_for(machine, lambda status: status["hosts"] == 2, "status")
    assert status["epoch"] > restored["epoch"] > seen
    script.say("go on")
    assert script.line() == "after UnknownTask"
    assert script.line() == "50"
    gate.open()  # it was fenced off, and runs again
    assert script.line() == "before seen"
    assert script.line() == "new 3"
    assert script.wait() == 0
    assert "seen" not in machine.ask("explain", before)["error"]
    code, _, err = machine.farm("explain", after)
    assert code == 5
    assert "restored from a copy" in err


def test_what_is_wrong_with_a_store_is_named(machine):
    machine.coordinator("--store", "farm.db").signal(signal.SIGTERM)
    machine.running[-1].wait()
    assert machine.ask("store", "check", "farm.db")["problems"] == []
    with (machine.folder / "farm.db").open("r+b") as file:
        file.truncate(20_000)
    code, out, _ = machine.farm("store", "check", "--json", "farm.db")
    assert code == 10
    (problem,) = json.loads(out)["problems"]
    assert "farm.db is cut off" in problem
    code, out, err = machine.farm("store", "backup", "--store", "farm.db", "copy.db")
    assert (code, out) == (10, "")
    assert "farm.db is cut off" in err
    assert not (machine.folder / "copy.db").exists()


def test_a_store_in_memory_has_no_file(machine):
    code, _, err = machine.farm("store", "check", "memory:")
    assert code == 3
    assert "in memory" in err
