"""The demo, on a part of the standard library: the whole of it is `make demo`."""

import email
import json
from pathlib import Path

FOLDER = str(Path(email.__file__).parent)


def test_the_demo_survives_a_killed_worker(machine):
    code, out, err = machine.farm("demo", "--path", FOLDER, "--workers", "2", timeout=60)
    assert code == 0
    assert "killed with SIGKILL" in err
    assert "every result is here" in err
    assert "times as fast" in err
    assert "all " in out
    assert "A read takes" in err


def test_the_demo_for_a_program(machine):
    code, out, err = machine.farm("demo", "--path", FOLDER, "--json", timeout=60)
    data = json.loads(out)
    assert (code, err) == (0, "")
    assert data["files"] == sum(row["files"] for row in data["packages"]) > 20
    assert data["killed_worker"] > 0
    assert data["speed_up"] > 0
    assert [plan.split(",")[0] for plan in data["aggregate"]["plans"]] == [
        "2 of 2 partitions changed",
        "1 of 2 partitions changed",
        "1 of 2 partitions changed",
    ]
