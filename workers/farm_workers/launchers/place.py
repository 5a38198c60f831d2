"""Where agents that a launcher has started find each other: files in the user's state folder.

Two locks for each name on a machine: the *agent's*, held as long as it runs, and the *keeper's*,
held by the process that a launcher is connected to, which need not be the agent's own. Locks of
``flock`` end with the process that has them, however it ends.
"""

import contextlib
import fcntl
import os
import platform
import signal
from pathlib import Path

import msgspec
import psutil

from farm.digest import blake2b
from farm.errors import ConfigError
from farm_workers.launchers.orders import Said

__all__ = ["Found", "Place"]


class Found(msgspec.Struct, frozen=True):
    """What the agent that has, or had, the lock says of itself; ``ended`` is its exit code.

    ``born`` is when the process began: numbers are given again.
    """

    pid: int = 0
    born: float = 0.0
    digest: str = ""
    ended: int | None = None


class Place:
    """The files of one name; ``told`` stands for what the launcher has said.

    ``found`` is what the agent before has written.
    """

    def __init__(self, name: str, start: bytes) -> None:
        home = os.environ.get("XDG_STATE_HOME") or "~/.local/state"
        folder = Path(home).expanduser() / "farm" / "launched"
        # Home folders may be shared: the machine's name is a part of it.
        stem = folder / f"{name}@{platform.node()}"
        self.told = blake2b(start, digest_size=16).hexdigest()
        self.found = Found()
        self._drained: Found | None = None
        self._said = stem.with_name(f"{stem.name}.said")
        self._keeper_path = stem.with_name(f"{stem.name}.keeper")
        self._keeper: int | None = None
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._agent = _open(stem.with_name(f"{stem.name}.agent"))
        except OSError as error:
            raise ConfigError(
                f"{folder} cannot be used: {error.strerror}; set XDG_STATE_HOME to another"
            ) from None

    # ------------------------------------------------------------ the agent's lock

    def take(self) -> bool:
        """Become the agent of this name; False while another is."""
        taken = _lock(self._agent)
        self.found = self._read()
        if taken:
            self._write(None)
            self._said.unlink(missing_ok=True)
        return taken

    def ended(self, code: int) -> None:
        """This process's agent has ended, or is about to."""
        self._write(int(code))

    def drain_former(self) -> None:
        """Have the agent that is there leave; it is told once."""
        if self._drained != self.found and self._signal(signal.SIGTERM):
            self._drained = self.found

    def kill_former(self) -> None:
        """End the agent that is there; its workers end with it."""
        self._signal(signal.SIGKILL)

    def former_says(self) -> Said:
        """How the agent that is there says it is."""
        try:
            return msgspec.json.decode(self._said.read_bytes(), type=Said)
        except (OSError, msgspec.MsgspecError):
            return Said(state="starting", text="an agent is there already", pid=self.found.pid)

    def _signal(self, number: int) -> bool:
        found = self.found
        try:  # what stands there may be of the one before, if this one has just begun
            process = psutil.Process(found.pid)
            if not found.pid or process.create_time() != found.born:
                return False
            process.send_signal(number)
        except psutil.Error:
            return False
        return True

    def _read(self) -> Found:
        try:
            return msgspec.json.decode(os.pread(self._agent, 4096, 0), type=Found)
        except msgspec.MsgspecError:
            return Found()

    def _write(self, ended: int | None) -> None:
        born = psutil.Process().create_time()
        data = msgspec.json.encode(Found(os.getpid(), born, self.told, ended))
        os.ftruncate(self._agent, 0)
        os.pwrite(self._agent, data, 0)

    # ------------------------------------------------------------ the keeper's lock

    def keep(self) -> None:
        """Be the one that keeps the agent, as soon as nobody else is."""
        if self._keeper is None:
            self._keeper = self._take_keeper()

    def is_kept(self, said: Said) -> bool:
        """Whether somebody else keeps the agent of this process, who is then told how it is."""
        self._close(self._keeper)
        self._keeper = None
        fd = self._take_keeper()
        self._close(fd)
        if fd is None:
            part = self._said.with_name(f"{self._said.name}.part")
            with contextlib.suppress(OSError):
                part.write_bytes(msgspec.json.encode(said))
                part.replace(self._said)
        return fd is None

    def _take_keeper(self) -> int | None:
        fd = _open(self._keeper_path)
        if _lock(fd):
            return fd
        os.close(fd)
        return None

    def _close(self, fd: int | None) -> None:
        if fd is not None:
            os.close(fd)


def _open(path: Path) -> int:
    return os.open(path, os.O_RDWR | os.O_CREAT, 0o600)


def _lock(fd: int) -> bool:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True
