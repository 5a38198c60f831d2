"""docs/schedules.md is true: its sessions print what they promise."""

import os
import re
import signal
import subprocess
import sys

from tests.conftest import REPOSITORY

PAGE = (REPOSITORY / "docs" / "schedules.md").read_text()
SIMULATED, IMPORTED, ASKED = [
    block
    for block in re.findall(r"^```sh\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
    if re.search(r"^# .*(ran: succeeded|not carried over)", block, re.MULTILINE)
]


def check(machine, block):
    """Run a session, and look for what it promises, in this order."""
    tools = machine.folder / "bin"
    tools.mkdir(exist_ok=True)
    (tools / "farm").write_text(f'#!/bin/sh\nexec {sys.executable} -m farm "$@"\n')
    (tools / "farm").chmod(0o700)
    if not (machine.folder / "configs").exists():
        (machine.folder / "configs").symlink_to(REPOSITORY / "configs")
    done = subprocess.run(
        ["bash", "-eu", "-o", "pipefail", "-c", block],
        cwd=machine.folder,
        env=machine.environ
        | {"PATH": f"{tools}{os.pathsep}{os.environ['PATH']}", "COLUMNS": "200"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    at = 0
    for promise in re.findall(r"^# (.+)$", block, re.MULTILINE):
        parts = [r"\s+".join(map(re.escape, part.split())) for part in promise.split("…")]
        found = re.compile(".*".join(parts)).search(done.stdout, at)
        assert found, f"it promises {promise!r}, and printed {done.stdout}"
        at = found.end()
    return done.stdout


def test_changes_of_the_clocks_are_simulated(machine):
    said = check(machine, SIMULATED)
    assert "gap-left-out" not in said


def test_from_a_crontab_to_a_farm(machine):
    check(machine, IMPORTED)
    up = machine.up("--slots", "1", "--no-gateway")
    up.log("decides about 1 schedule,")
    check(machine, ASKED)
    up.signal(signal.SIGTERM)
    assert up.wait() == 0
