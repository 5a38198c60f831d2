"""Keeps a service of the farm running as a child process.

Promises: the service is started again when it dies, with growing pauses, and given up with an
error that carries its last words when it fails again and again; it ends when it is stopped, and
when this process ends, however that happens; it sees neither the terminal's signals (it has a
session of its own) nor the user's modules (see ``farm/_start.py``).
"""

import contextlib
import importlib.util
import json
import logging
import os
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import msgspec

from farm.errors import ServiceFailed

__all__ = ["Launch", "Service"]

logger = logging.getLogger(__name__)

PAUSE_SECONDS = (0.0, 0.1, 0.3, 1.0, 3.0)
"""How long to wait before each new start in a row; after the last the service is given up."""
STEADY_SECONDS = 10.0
"""A service that ran this long has not failed to start."""
START_SECONDS = 60.0
"""A service that has to say that it is ready, and does not for so long, has failed."""
STOP_SECONDS = 5.0
"""A service that was told to stop and still runs after this is killed."""

Launch = Callable[[int, int | None], Mapping[str, Any]]
"""Makes the settings of a start from ``parent_fd`` and ``ready_fd``."""

# Ends of pipes that say "the parent lives"; a process forked from here must not hold them open.
# Bounded by the services that run.
_alive: set[int] = set()


def _forget_pipes() -> None:
    for fd in _alive:
        with contextlib.suppress(OSError):
            os.close(fd)
    _alive.clear()


os.register_at_fork(after_in_child=_forget_pipes)


class Service:
    """One child process, and the thread that keeps it.

    ``module`` is run with ``--settings FILE``; ``launch`` makes what stands in the file. With
    ``says_ready``, the service writes one line of JSON to its ``ready_fd``, with a key ``error`` if
    it cannot serve; ``on_ready`` gets it. ``on_failed`` gets the error when it is given up. Both
    are called on the service's thread.
    """

    def __init__(  # noqa: PLR0913 - one per thing that differs between services
        self,
        name: str,
        module: str,
        folder: Path,
        launch: Launch,
        *,
        says_ready: bool = False,
        flags: tuple[str, ...] = (),
        on_ready: Callable[[dict[str, Any]], None] | None = None,
        on_failed: Callable[[ServiceFailed], None] | None = None,
    ) -> None:
        self.name = name
        self.pid = 0
        """Of the process that runs now, or ran last."""
        self.starts = 0
        self.failed: ServiceFailed | None = None
        self._module = module
        self._folder = folder
        self._launch = launch
        self._says_ready = says_ready
        self._flags = flags
        self._on_ready = on_ready
        self._on_failed = on_failed
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        self._launched = threading.Event()
        self._settled = threading.Event()
        self._first_error: ServiceFailed | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._parent = -1
        self._thread = threading.Thread(target=self._keep, name=f"farm-{name}", daemon=True)

    def start(self) -> None:
        """Start the process and return; ``wait`` says whether it serves."""
        self._thread.start()
        self._launched.wait()

    def wait(self, timeout: float = START_SECONDS) -> None:
        """Wait until the service has started once; raises ``ServiceFailed`` if it could not."""
        if not self._settled.wait(timeout):
            raise ServiceFailed(f"the {self.name} did not start within {timeout:.0f} s")
        if self._first_error is not None:
            raise self._first_error

    def tell(self, number: int = signal.SIGTERM) -> None:
        """Send a signal to the process, if it runs."""
        with self._lock:
            if self._process is not None:
                os.kill(self._process.pid, number)

    def end(self, *, at_once: bool) -> None:
        """Have it stop, and not started again: by SIGTERM, or as if this process had ended."""
        self._stopping.set()
        if at_once:
            self._let_go()
        else:
            self.tell()

    def join(self, timeout: float | None = STOP_SECONDS) -> None:
        """Wait for the end; a process that runs on after the timeout is killed with its group."""
        if self._thread.ident is None:
            return
        self._thread.join(timeout)
        if self._thread.is_alive():
            with self._lock:
                if self._process is not None:
                    _kill_group(self._process.pid)
            self._thread.join()

    # ------------------------------------------------------------ on the service's thread

    def _keep(self) -> None:
        failures = 0
        while not self._stopping.is_set():
            began = time.monotonic()
            error = self._run_once()
            if self._stopping.is_set():
                break
            steady = time.monotonic() - began > STEADY_SECONDS
            failures = 1 if steady else failures + 1
            if not self._settled.is_set():
                self._first_error = error
                break
            if failures >= len(PAUSE_SECONDS):
                self.failed = error
                logger.error("%s; it is given up", error)
                if self._on_failed is not None:
                    self._on_failed(error)
                break
            logger.warning("%s; it is started again", error)
            self._stopping.wait(PAUSE_SECONDS[failures - 1])
        self._launched.set()  # it may have been told to end before
        self._settled.set()

    def _run_once(self) -> ServiceFailed:
        """One life of the process, until it is reaped; returns how it ended."""
        errors = self._folder / f"{self.name}.errors"
        ready = -1
        try:
            errors.unlink(missing_ok=True)
            process, ready = self._spawn(errors)
        except Exception as error:  # noqa: BLE001 - whoever waits is told
            return ServiceFailed(f"the {self.name} could not be started: {error}")
        finally:
            self._launched.set()
        try:
            word = self._hear(process, ready) if self._says_ready else {}
            if word is not None and not word.get("error"):
                if self._on_ready is not None:
                    self._on_ready(word)
                self._settled.set()
            _await_end(process)
        finally:
            self._let_go()
            _kill_group(process.pid)  # whatever it left behind; its number is not free yet
            with self._lock:
                process.wait()
                self._process = None
            if ready >= 0:
                os.close(ready)
        word = word or {}
        last = word.get("message") or _read(errors)
        how = _how_it_ended(process.returncode)
        return ServiceFailed(
            f"the {self.name} {how}" + (f": {last}" if last else ""), word.get("error", "")
        )

    def _spawn(self, errors: Path) -> tuple["subprocess.Popen[bytes]", int]:
        """Start the process; returns it and the end of the pipe on which it says it is ready."""
        theirs, ours = os.pipe()
        ready, say = os.pipe() if self._says_ready else (-1, -1)
        try:
            settings = self._folder / f"{self.name}.json"
            content = self._launch(theirs, say if self._says_ready else None)
            settings.write_bytes(msgspec.json.encode(content))
            start = Path(__file__).with_name("_start.py")
            command = [sys.executable, *self._flags, str(start), self._module]
            with self._lock:
                process = subprocess.Popen(
                    [*command, "--settings", str(settings)],
                    stdin=subprocess.DEVNULL,
                    env=_environment(errors),
                    pass_fds=[fd for fd in (theirs, say) if fd >= 0],
                    start_new_session=True,
                )
                self._process, self.pid = process, process.pid
                self.starts += 1
                self._parent = ours
                _alive.add(ours)
        except BaseException:
            os.close(ours)
            if ready >= 0:
                os.close(ready)
            raise
        finally:
            os.close(theirs)
            if say >= 0:
                os.close(say)
        if self._stopping.is_set():  # it was told to end while it was being started
            self._let_go()
        return process, ready

    def _hear(self, process: "subprocess.Popen[bytes]", ready: int) -> dict[str, Any] | None:
        """What the service says of itself; None if it ends, or is silent for too long."""
        said = b""
        until = time.monotonic() + START_SECONDS
        poller = select.poll()
        poller.register(ready, select.POLLIN)
        while time.monotonic() < until:
            # The pipe ends with the process, unless something forked from here holds it open.
            if _has_ended(process) and not poller.poll(0):
                break
            if not poller.poll(100):
                continue
            part = os.read(ready, 65_536)
            said += part
            if not part or said.endswith(b"\n"):
                break
        with contextlib.suppress(ValueError):
            word: dict[str, Any] = json.loads(said)
            return word
        self.tell(signal.SIGKILL)
        return None

    def _let_go(self) -> None:
        """Close our end of the pipe, which the service takes for the end of this process."""
        with self._lock:
            fd, self._parent = self._parent, -1
            if fd in _alive:
                _alive.discard(fd)
                os.close(fd)


def _environment(errors: Path) -> dict[str, str]:
    """This process's environment, with what ``farm/_start.py`` reads instead of PYTHONPATH."""
    environment = dict(os.environ)
    start = {
        "path": _roots(),
        "python_path": environment.pop("PYTHONPATH", None),
        "errors": str(errors),
    }
    return environment | {"FARM_START": json.dumps(start)}


def _roots() -> list[str]:
    """Where this farm, its workers and what they stand on are found."""
    home = Path(__file__).resolve().parents[1]
    folders = [home, home / "workers"]  # installed side by side, or in a source tree
    found = [folder for folder in folders if (folder / "farm_workers" / "__init__.py").exists()]
    if not found:
        raise FileNotFoundError(
            f"there is no farm_workers beside {home}: install compute-farm anew"
        )
    roots = [home, found[0], *_scheduler(home)]
    for name in ("msgspec", "zmq", "cloudpickle"):
        module = sys.modules.get(name)
        spec = module.__spec__ if module else importlib.util.find_spec(name)
        if spec is not None and spec.origin is not None:
            roots.append(Path(spec.origin).parents[1])
    return list(dict.fromkeys(map(str, roots)))


def _scheduler(home: Path) -> list[Path]:
    """The same of the scheduler, in a source tree."""
    folder = home / "scheduler"
    return [folder] if (folder / "farm_scheduler" / "__init__.py").exists() else []


def _await_end(process: "subprocess.Popen[bytes]") -> None:
    """Wait until it has ended; where that is possible without reaping it."""
    if hasattr(os, "waitid"):
        with contextlib.suppress(ChildProcessError):
            os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    else:
        process.wait()


def _has_ended(process: "subprocess.Popen[bytes]") -> bool:
    if not hasattr(os, "waitid"):
        return process.poll() is not None
    try:
        return os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT | os.WNOHANG) is not None
    except ChildProcessError:
        return True


def _kill_group(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signal.SIGKILL)


def _how_it_ended(code: int) -> str:
    if code >= 0:
        return f"ended with exit code {code}"
    try:
        return f"was killed by {signal.Signals(-code).name}"
    except ValueError:
        return f"was killed by signal {-code}"


def _read(path: Path) -> str:
    try:
        return path.read_text("utf-8", "replace").strip()
    except OSError:
        return ""
