"""What is wrong is one line that says what to do, and an exit code that names its kind."""

import json
import signal

import pytest

# A command line, its exit code, and what its line says. {address} is that of the machine.
SLIPS = [
    (["coordinator", "--listen", "7070"], 3, "'7070' is not an address: write tcp://HOST:PORT"),
    (["coordinator", "--listen", "tcp://0.0.0.0:7070"], 11, "allow it with --insecure"),
    (["coordinator", "--store", "redis://h"], 3, "the store is 'redis://h'; write a path"),
    (["coordinator", "--store", "garbage.db"], 10, "garbage.db"),
    (["coordinator", "--log-format", "xml"], 3, "log.format is 'xml'; expected one of 'text', "),
    (["status", "--config", "none.toml"], 3, "none.toml: no such file"),
    (["status", "--address", "7070"], 3, "'7070' is not an address: write tcp://HOST:PORT"),
    (["status", "--address", "http://h:1"], 3, "begins with http://; a farm's address is tcp://"),
    (["tasks", "--state", "lost"], 2, "'lost' is no state"),
    (["submit", "math:factoral", "3"], 2, "did you mean 'factorial'?"),
    (["submit", "nowhere:f"], 2, "there is no module 'nowhere'"),
    (["submit", "broken:f"], 1, "'broken' cannot be imported: ZeroDivisionError"),
    (["demo", "--path", "empty"], 2, "empty has no Python files"),
    (["demo", "--path", "nowhere"], 2, "nowhere is not a folder"),
]


@pytest.mark.parametrize(
    ("words", "code", "says"), SLIPS, ids=[" ".join(slip[0]) for slip in SLIPS]
)
def test_a_slip(machine, words, code, says):
    (machine.folder / "broken.py").write_text("1 / 0")
    (machine.folder / "garbage.db").write_bytes(b"this is no store" * 1000)
    (machine.folder / "empty").mkdir()
    found, out, err = machine.farm(*words)
    assert (found, out) == (code, "")
    # Without spaces: how lines are folded depends on how long the path of the folder is.
    assert "".join(says.split()) in "".join(err.replace("│", " ").split())
    assert "Traceback" not in err


def test_an_unknown_key_names_file_key_and_the_nearest(machine):
    (machine.folder / "farm.toml").write_text('[client]\nadress = "tcp://h:1"')
    code, out, err = machine.farm("status")
    assert (code, out) == (3, "")
    assert err == (
        f"farm: {machine.folder}/farm.toml: [client] has no 'adress'; did you mean 'address'?\n"
    )


def test_no_farm_at_the_address(machine):
    machine.environ["FARM_CONNECT_TIMEOUT"] = "300ms"
    code, out, err = machine.farm("status")
    assert (code, out) == (4, "")
    assert f"no farm answered at {machine.address} within 0.3 s" in err
    assert err.count("\n") == 1
    code, _, err = machine.farm("submit", "math:factorial", "3", "--json")
    assert code == 4
    assert json.loads(err)["kind"] == "no_farm"


def test_a_farm_of_two_coordinators_is_refused(machine):
    first = machine.coordinator("--store", "farm.db")
    code, _, err = machine.farm("coordinator", "--store", "other.db")
    assert code == 11
    assert machine.address in err
    code, _, err = machine.farm(
        "coordinator", "--store", "farm.db", "--listen", "ipc://" + str(machine.folder / "x")
    )
    assert code == 10
    assert str(first.pid) in err
    assert first.process.poll() is None


def test_a_coordinator_stops_in_order(machine):
    for number in (signal.SIGTERM, signal.SIGINT):
        running = machine.coordinator("--store", "farm.db")
        running.signal(number)
        assert running.wait() == 0
