"""The session of docs/security.md, word for word, with a namespace for each of its machines."""

import re
import subprocess
import sys
import time

import pytest

from tests.conftest import REPOSITORY
from tests.hosts.net import Network, why_not
from tests.processes import own_environment

WAIT_SECONDS = 60.0
PAGE = (REPOSITORY / "docs" / "security.md").read_text("utf-8")
PROMPT = re.compile(r"^([a-z-]+)\$ (.+)$", re.MULTILINE)


def block(kind):
    [found] = re.findall(rf"^```{kind}\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
    return found


class Machines:
    """Runs each command where its prompt says, and keeps what a person would have seen."""

    def __init__(self, folder, network):
        self._folder, self._network = folder, network
        self._environ = own_environment(folder) | {"HOME": str(folder)}
        self._environ["PATH"] = f"{folder}:{self._environ['PATH']}"
        self.seen = []
        self.left = {}
        for name, words in {"farm": "-m farm", "python": ""}.items():
            (folder / name).write_text(f'#!/bin/sh\nexec {sys.executable} {words} "$@"\n')
            (folder / name).chmod(0o755)

    def run(self, machine, command):
        """What it prints; of one that is left in the background, what it has so far is in a log."""
        self.seen.append(f"{machine}$ {command}")
        if not command.endswith(" &"):
            output = self._process(machine, command, subprocess.PIPE).communicate(
                None, WAIT_SECONDS
            )
            self.seen.append(output[0].decode())
            return output[0].decode()
        log = self._folder / f"{len(self.left)}.log"
        with log.open("wb") as file:
            self.left[self._process(machine, f"exec env {command[:-2]}", file)] = log
        return log

    def _process(self, machine, command, output):
        words = self._network.command(machine, ["sh", "-c", command])
        return subprocess.Popen(
            words, cwd=self._folder, env=self._environ, stdout=output, stderr=subprocess.STDOUT
        )

    def wait_for(self, log, text):
        until = time.monotonic() + WAIT_SECONDS
        while text not in log.read_text():
            assert time.monotonic() < until, f"no {text!r} in: {log.read_text()}"
            time.sleep(0.02)


@pytest.fixture
def machines(tmp_path):
    if reason := why_not():
        pytest.skip(reason)
    with Network(tmp_path) as network:
        for number, name in enumerate(("farm-host", "north", "south"), 1):
            network.add(name, number)
        network.name_them({"farm-host": network.addresses["farm-host"]})
        made = Machines(tmp_path, network)
        yield made
        for process in made.left:
            process.kill()
            process.wait()


@pytest.mark.slow
def test_what_the_page_says_is_what_happens(machines, tmp_path):
    (tmp_path / "job.py").write_text(block("python"))
    said = {}
    for machine, command in PROMPT.findall(block("console")):
        if "revoke" in command:
            machines.wait_for(said["job.py"], "20 of 60")
        said[command.removesuffix(" &").split()[-1]] = machines.run(machine, command)
        if "coordinator" in command:
            machines.wait_for(said["'tcp://*:7070'"], "serving at")
        if "--name north" in command:
            north = said["2"]
    machines.wait_for(north, "does not let this key in")
    machines.wait_for(said["job.py"], f"the sum is {sum(n * n for n in range(60))}")
    machines.seen += [log.read_text() for log in machines.left.values()]
    (tmp_path / "session.txt").write_text("\n".join(machines.seen))
    assert "south" in said["hosts"]
    assert "north" not in said["hosts"]
    [row] = [line.split() for line in said["list"].splitlines() if line.startswith("north")]
    assert row[4] == "revoked"
    assert "farm1-" not in "\n".join(machines.seen)
