"""Real services for the long proofs: started from a settings file, logging to a file, ended by pid.

Whatever a proof starts ends with it: every service watches this process, and this process adopts
what its services leave behind, as long as the proof goes on.
"""

import contextlib
import ctypes
import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil

from farm_workers import kin, system
from tests import forked
from tests.conftest import REPOSITORY
from tests.forked_services import IMPORTS

__all__ = ["Place", "Service", "adopts_orphans", "free_ports", "own_environment"]

END_SECONDS = 20.0
SETTLE_SECONDS = 10.0
LOOK_SECONDS = 0.02
PORTS = 10_000, 32_000
PR_SET_CHILD_SUBREAPER, PR_GET_CHILD_SUBREAPER = 36, 37

_libc = ctypes.CDLL(None) if sys.platform == "linux" else None


def own_environment(folder) -> dict[str, str]:
    """This environment without what a user's farm is told, and with this checkout's modules.

    Keys are kept in the folder: those of the user who runs the tests open nothing there.
    """
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("FARM_", "XDG_"))}
    paths = [REPOSITORY / name for name in ("", "workers", "scheduler")]
    return kept | {
        "PYTHONPATH": os.pathsep.join(map(str, paths)),
        "XDG_STATE_HOME": str(Path(folder) / "state"),
    }


class Service:
    """A process that can be started again and again; ``lives`` counts how often it was.

    A word ``{life}`` of its command becomes that number.
    """

    def __init__(
        self, name, command, log, environ, folder, *, stdin=subprocess.DEVNULL, forks=False
    ):
        self.name = name
        self.command = command
        self.log = log
        self.lives = 0
        self.process = None
        self._environ = environ
        self._folder = folder
        self._stdin = stdin
        self._forks = forks

    def start(self):
        self.lives += 1
        words = [word.replace("{life}", str(self.lives)) for word in self.command]
        with self.log.open("ab") as log:
            told = {"cwd": self._folder, "env": self._environ, "stdout": log, "stderr": log}
            if self._forks:
                _, _, module, *_ = words
                self.process = forked.Adopted(words[2:], imports=IMPORTS[module], **told)
            else:
                self.process = subprocess.Popen(words, bufsize=0, stdin=self._stdin, **told)

    @property
    def pid(self):
        return self.process.pid

    @property
    def alive(self):
        return self.process is not None and self.process.poll() is None

    def signal(self, number):
        """Send a signal, if it still runs."""
        if self.alive:
            self.process.send_signal(number)

    def kill(self):
        self.signal(signal.SIGKILL)
        return self.wait()

    def end(self):
        """SIGTERM, and its exit code; by force if it does not go."""
        self.signal(signal.SIGTERM)
        try:
            return self.wait()
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise

    def wait(self, seconds=END_SECONDS):
        if self.process is None:
            return None
        code = self.process.wait(seconds)
        if self.process.stdin is not None:
            self.process.stdin.close()
        return code


class Place:
    """A folder, an address and the services in it; a context that leaves nothing behind.

    With ``forks``, services of the farm are forked from what has imported already.
    """

    def __init__(self, kind, *, tcp=False, store=None, forks=False):
        self._adopted_before = adopts_orphans()
        system.adopt_orphans()
        self._temporary = tempfile.TemporaryDirectory(prefix=f"farm-{kind}-")
        self.folder = Path(self._temporary.name)
        self.address = f"tcp://127.0.0.1:{free_ports()}" if tcp else f"ipc://{self.folder}/s"
        self.store = store or self.folder / "store" / "farm.db"
        self.services = []
        self.log_level = "info"
        self.forks = forks and hasattr(os, "pidfd_open")
        self.spare_children()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for service in self.services:
            service.signal(signal.SIGCONT)
            service.signal(signal.SIGKILL)
            service.wait()
        self._end_orphans()
        if not self._adopted_before:  # orphans of others would stay here as zombies
            _adopt_no_more()
        self._temporary.cleanup()

    def spare_children(self):
        """What runs at this moment is not the place's to end."""
        self._before = set(kin.children(os.getpid()))

    def service(self, name, command, *, stdin=subprocess.DEVNULL, forks=False, **environ):
        log, environment = self.folder / f"{name}.log", own_environment(self.folder) | environ
        made = Service(name, command, log, environment, REPOSITORY, stdin=stdin, forks=forks)
        self.services.append(made)
        return made

    def module(self, name, module, settings, **environ):
        """A service of the farm, by the module that runs it and its settings."""
        path = self.folder / f"{name}.json"
        told = {"parent_pid": os.getpid(), "log_level": self.log_level, **settings}
        path.write_text(json.dumps(told))
        command = [sys.executable, "-m", module, "--settings", str(path)]
        forks = self.forks and module in IMPORTS
        return self.service(name, command, forks=forks, **environ)

    def address_for(self, _name):
        """Where the service of this name finds the coordinator."""
        return self.address

    def coordinator(self, core=None, **settings):
        told = {"listen": self.address, "store": str(self.store), "core": core or {}}
        return self.module("coordinator", "farm.coordinator", told | settings)

    def agent(self, name, slots=2, imports=(), **environ):
        address = self.address_for(name)
        told = {"address": address, "name": name, "slots": slots, "imports": list(imports)}
        return self.module(name, "farm_workers", told, **environ)

    def copy(self, folder):
        """Keep what is here, for somebody to look at."""
        shutil.copytree(self.folder, folder, dirs_exist_ok=True, ignore=lambda *_: ("s", "s.hosts"))

    def complaints(self):
        """Lines of the logs that tell of a bug."""
        found = []
        for service in self.services:
            if service.log.exists():
                lines = service.log.read_text("utf-8", "replace").splitlines()
                told = [line for line in lines if "a bug" in line or line.startswith("Traceback")]
                found += [f"{service.name}: {line}" for line in told]
        return found

    def settle(self):
        """Wait until nothing is left of services that have ended; returns what stays."""
        until = time.monotonic() + SETTLE_SECONDS
        while (left := self._left()) and time.monotonic() < until:
            time.sleep(LOOK_SECONDS)
        return [" ".join(one.cmdline()) for one in left if one.is_running()]

    def _left(self):
        """Descendants of this process that are not of services that run."""
        ours = {service.pid for service in self.services if service.alive}
        left = []
        for pid in set(kin.children(os.getpid())) - self._before - ours - forked.parents():
            with contextlib.suppress(ChildProcessError):
                os.waitpid(pid, os.WNOHANG)  # it was adopted, so nobody else does
            with contextlib.suppress(psutil.Error):
                left += [one := psutil.Process(pid), *one.children(recursive=True)]
        return left

    def _end_orphans(self):
        until = time.monotonic() + END_SECONDS
        while (left := self._left()) and time.monotonic() < until:
            for one in left:
                with contextlib.suppress(psutil.Error):
                    one.kill()
            time.sleep(LOOK_SECONDS)


def adopts_orphans():
    """Whether descendants whose parents end become children of this process."""
    if _libc is None:
        return False
    adopts = ctypes.c_int()
    _libc.prctl(PR_GET_CHILD_SUBREAPER, ctypes.byref(adopts), 0, 0, 0)
    return bool(adopts.value)


def _adopt_no_more():
    if _libc is not None:
        _libc.prctl(PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0)


def free_ports() -> int:
    """A port that is free, and so is the next.

    Neither is one that the system gives to whoever connects: they stay free until somebody listens.
    """
    while True:
        port = random.SystemRandom().randrange(*PORTS, 2)
        with contextlib.suppress(OSError), socket.socket() as first, socket.socket() as second:
            first.bind(("127.0.0.1", port))
            second.bind(("127.0.0.1", port + 1))
            return port
