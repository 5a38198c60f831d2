"""Real processes: the `farm` command, its imports done before, and scripts as people start them."""

import contextlib
import json
import os
import queue
import select
import signal
import subprocess
import sys
import threading

import psutil
import pytest

from tests import forked
from tests.conftest import REPOSITORY
from tests.forked_services import IMPORTS
from tests.processes import free_ports

WAIT_SECONDS = 60
"""How long anything here may take before the test fails: a farm that starts on a machine with ten
times the work it can do was seen to take half of it."""


LINKS = tuple(dict.fromkeys(IMPORTS.values()))
"""What the services of a farm have imported."""


class Running:
    """A process that goes on while a test talks to it."""

    def __init__(self, process):
        self.process = process
        self.pid = process.pid
        self.lines = queue.Queue()  # bounded by what one test's process prints
        self.errors = []
        self.logged = queue.Queue()  # bounded in the same way
        threading.Thread(target=self._read, daemon=True).start()
        threading.Thread(target=self._read_errors, daemon=True).start()

    def _read(self):
        for line in self.process.stdout:
            self.lines.put(line.rstrip("\n"))
        self.lines.put(None)

    def _read_errors(self):
        for line in self.process.stderr:
            self.errors.append(line)
            self.logged.put(line)
        self.logged.put(None)

    def line(self):
        """The next line that it prints; fails the test if there is none."""
        try:
            line = self.lines.get(timeout=WAIT_SECONDS)
        except queue.Empty:
            line = None
        if line is None:
            pytest.fail(f"it printed nothing more; on stderr: {''.join(self.errors)}")
        return line

    def say(self, line):
        """Write a line to its standard input."""
        self.process.stdin.write(f"{line}\n")
        self.process.stdin.flush()

    def log(self, text):
        """The next line on stderr that has the text; fails the test if there is none."""
        while True:
            try:
                line = self.logged.get(timeout=WAIT_SECONDS)
            except queue.Empty:
                line = None
            if line is None:
                pytest.fail(f"it did not log {text!r}, but: {''.join(self.errors)}")
            if text in line:
                return line

    def signal(self, number):
        self.process.send_signal(number)

    def kill(self):
        self.process.kill()
        self.process.wait(WAIT_SECONDS)

    def wait(self):
        """Its exit code."""
        return self.process.wait(WAIT_SECONDS)

    def stderr(self):
        """All that it wrote to stderr, once it has ended."""
        while self.logged.get(timeout=WAIT_SECONDS) is not None:
            pass
        return "".join(self.errors)

    def family(self):
        """It and all its descendants."""
        with contextlib.suppress(psutil.NoSuchProcess):
            parent = psutil.Process(self.pid)
            return [parent, *parent.children(recursive=True)]
        return []


class Gate:
    """Holds tasks up: they say that they have begun, and end when the gate is opened."""

    def __init__(self, path):
        self.path = path
        self._fds = []
        for name in (f"{path}.begun", f"{path}.go"):
            os.mkfifo(name)
            self._fds.append(os.open(name, os.O_RDWR | os.O_NONBLOCK))

    def wait_begun(self, count=1):
        """Wait until so many tasks more have begun."""
        poller = select.poll()
        poller.register(self._fds[0], select.POLLIN)
        for _ in range(count):
            if not poller.poll(WAIT_SECONDS * 1000):
                pytest.fail("no task has begun")
            os.read(self._fds[0], 1)

    def open(self):
        """Let all tasks end, those that begin later, too."""
        os.write(self._fds[1], b"x" * 1000)

    def close(self):
        for fd in self._fds:
            os.close(fd)


GATE_MODULE = """\
def hold(path):
    with open(path + ".begun", "ab", buffering=0) as begun:
        begun.write(b"x")
    with open(path + ".go", "rb", buffering=0) as go:
        go.read(1)
    return "seen"
"""


class Machine:
    """A folder, an environment and free ports of one test's own."""

    def __init__(self, folder):
        self.folder = folder
        self.address = f"tcp://127.0.0.1:{free_ports()}"
        self.running = []
        self.gates = []
        paths = [REPOSITORY / name for name in ("", "workers", "scheduler")]
        self.environ = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("FARM_", "XDG_"))
        } | {
            "HOME": str(folder),
            "PYTHONPATH": os.pathsep.join(map(str, paths)),
            "FARM_ADDRESS": self.address,
            "FARM_COORDINATOR_LISTEN": self.address,
        }

    def gate(self):
        """A gate for tasks of ``gates:hold``."""
        (self.folder / "gates.py").write_text(GATE_MODULE)
        self.gates.append(Gate(str(self.folder / f"gate{len(self.gates)}")))
        return self.gates[-1]

    def farm(self, *words, **options):
        """Run a `farm` command to its end: its exit code, stdout and stderr."""
        told = {"cwd": self.folder, "env": self.environ}
        done = forked.run(["farm", *words], timeout=options.get("timeout", WAIT_SECONDS), **told)
        return done.returncode, done.stdout, done.stderr

    def ask(self, *words):
        """What a `farm` command answers a program."""
        code, out, err = self.farm(*words, "--json")
        assert (code, err) == (0, "")
        return json.loads(out)

    def start(self, *words, links=()):
        """Start a `farm` command that goes on."""
        pipe = subprocess.PIPE
        told = {"cwd": self.folder, "env": self.environ, "links": links}
        return self._runs(forked.Forked(["farm", *words], stdout=pipe, stderr=pipe, **told))

    def script(self, text, *, stdin=False):
        """Start a Python script that goes on; with ``stdin`` it can be told something."""
        path = self.folder / f"script_{len(self.running)}.py"
        path.write_text(text)
        return self._start([sys.executable, str(path)], stdin=stdin)

    def _start(self, command, *, stdin=False):
        process = subprocess.Popen(
            command,
            cwd=self.folder,
            env=self.environ,
            stdin=subprocess.PIPE if stdin else None,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        return self._runs(process)

    def _runs(self, process):
        self.running.append(Running(process))
        return self.running[-1]

    def up(self, *words, forks=True):
        """A whole farm, once it is ready.

        With ``forks`` its services are forked, and no descendants of it.
        """
        running = self.start("up", "--json", *words, links=LINKS if forks else ())
        self.ready(running)
        return running

    def ready(self, running):
        """What `farm up --json` says once it is ready."""
        said = json.loads(running.line())
        assert said["address"] == self.address
        return said

    def gone(self, family):
        """Wait until processes, of a list made when they ran, have ended."""
        _, alive = psutil.wait_procs(family, timeout=WAIT_SECONDS)
        assert alive == []

    def coordinator(self, *words):
        """A coordinator, once it serves."""
        running = self.start("coordinator", *words)
        running.log("serving at")
        return running

    def stop(self):
        for gate in self.gates:
            gate.open()
        families = [one for running in self.running for one in running.family()]
        for running in self.running:
            if running.process.poll() is None:
                running.signal(signal.SIGTERM)
        _, alive = psutil.wait_procs(families, timeout=5)
        for one in alive:
            with contextlib.suppress(psutil.NoSuchProcess):
                one.kill()
        for running in self.running:
            running.process.wait(WAIT_SECONDS)
            if running.process.stdin is not None:
                running.process.stdin.close()
            running.process.stdout.close()
            running.process.stderr.close()
        for gate in self.gates:
            gate.close()


@pytest.fixture
def machine(tmp_path):
    found = Machine(tmp_path)
    yield found
    found.stop()


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    """A machine with a farm of two slots that all tests of a module share."""
    found = Machine(tmp_path_factory.mktemp("shared"))
    try:
        found.up("--slots", "2")
        yield found
    finally:
        found.stop()
