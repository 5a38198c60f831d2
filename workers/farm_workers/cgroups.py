"""Memory cgroups, of both versions: where groups may be made, and one group with its limit.

Nothing is changed where nobody has given this process leave: version 1 needs a folder that it can
write, version 2 one that is marked as delegated, or that is the top of what this process sees.
Whatever is read or written raises ``OSError`` if it cannot be; only ``find`` never raises.
"""

import contextlib
import errno
import fcntl
import os
import re
import signal
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

__all__ = ["SAMPLED", "Group", "Place", "find", "lock", "own_group", "prepare", "remove", "tidy"]

SAMPLED = "sampled"
"""What ``HostHello.memory_limits`` says where there are no groups."""
MAIN = "farm-main"
"""In version 2 only groups without processes may have limited ones below: they move in here."""
_NAME = re.compile(r"farm-\d+-[0-9a-f]+")
EVACUATIONS_MAX = 10
"""How often to move the processes of a group that are started while others are moved."""
NEAR_BYTES = 1 << 20
"""A group that came so near to its limit has reached it: charges are made by the batch."""


class Place(NamedTuple):
    """Where groups may be made, and of which version they are."""

    version: int
    folder: str


class _Mount(NamedTuple):
    kind: str
    root: str
    point: str
    options: list[str]


# ---------------------------------------------------------------- where


def find(root: str = "/", delegated: Callable[[str], bool] | None = None) -> Place | None:
    """Where this process may make groups with memory limits; None where it may not.

    ``root`` is where ``proc`` and ``sys`` are. Nothing is written.
    """
    base = Path(root)
    try:
        lines = (base / "proc/self/cgroup").read_text("utf-8").splitlines()
        mounts = _mounts((base / "proc/self/mountinfo").read_text("utf-8"))
    except (OSError, ValueError):
        return None
    paths: dict[str, str] = {}
    for line in lines:
        _, controllers, path = [*line.split(":", 2), "", ""][:3]
        for controller in controllers.split(","):
            paths[controller] = path
    if "memory" in paths:
        seen = [m for m in mounts if m.kind == "cgroup" and "memory" in m.options]
        _, own = _folder(base, seen, paths["memory"])
        return Place(1, str(own)) if own and _may_write(own) else None
    top, own = _folder(base, [m for m in mounts if m.kind == "cgroup2"], paths.get("", ""))
    found = top and own and _find_v2(top, own, delegated or _is_delegated)
    return Place(2, str(found)) if found else None


def _find_v2(top: Path, own: Path, delegated: Callable[[str], bool]) -> Path | None:
    """The group of this process, or the one above if that is where its unit's groups belong."""
    candidates = [own] if own == top or delegated(str(own)) else []
    if own != top and (own.name == MAIN or delegated(str(own.parent))):
        candidates.append(own.parent)
    for folder in candidates:
        with contextlib.suppress(OSError):
            if "memory" in _words(folder / "cgroup.controllers") and _may_write(folder):
                return folder
    return None


def _mounts(text: str) -> list[_Mount]:
    found = []
    for line in text.splitlines():
        left, _, right = line.partition(" - ")
        fields, more = left.split(" "), right.split(" ")
        if len(fields) > 4 and len(more) > 2 and more[0] in {"cgroup", "cgroup2"}:  # noqa: PLR2004 -- as proc(5) says
            found.append(_Mount(more[0], fields[3], fields[4], more[2].split(",")))
    return found


def _folder(base: Path, mounts: list[_Mount], path: str) -> tuple[Path | None, Path | None]:
    """The top of the mount in which a group is seen, and its folder."""
    for mount in mounts:
        root = mount.root.rstrip("/")
        if path.startswith("/") and ".." not in path and (path + "/").startswith(root + "/"):
            top = base / mount.point.strip("/")
            return top, top / path[len(root) :].strip("/")
    return None, None


def _may_write(folder: Path) -> bool:
    """Whether groups can be made there, and processes moved; false where it is read-only."""
    return all(os.access(path, os.W_OK) for path in (folder, folder / "cgroup.procs"))


def _is_delegated(folder: str) -> bool:
    """Whether systemd, or whoever acts like it, has left a group to those who are in it."""
    getxattr = getattr(os, "getxattr", None)
    for name in ("user.delegate", "trusted.delegate"):
        with contextlib.suppress(OSError):
            if getxattr is not None and getxattr(folder, name) == b"1":
                return True
    return False


# ---------------------------------------------------------------- the group of an agent


def own_group(place: Place) -> str:
    """Where this agent would have its group; the name ends in what makes it the only one."""
    return f"{place.folder}/farm-{os.getpid()}-{os.urandom(4).hex()}"


def prepare(place: Place, base: str) -> None:
    """Make the group of an agent, in which those of its workers can be made."""
    if place.version > 1:
        _open_up(Path(place.folder))
    Path(base).mkdir(exist_ok=True)
    if place.version > 1:
        _open_up(Path(base))


def _open_up(folder: Path) -> None:
    """Let the groups below have memory limits; processes move out of the way, into one group."""
    control = folder / "cgroup.subtree_control"
    if "memory" in _words(control):
        return
    for _ in range(EVACUATIONS_MAX):
        try:
            _write(control, "+memory")
        except OSError as error:
            if error.errno != errno.EBUSY:
                raise
        else:
            return
        main = folder / MAIN
        main.mkdir(exist_ok=True)
        pids = _pids(folder)
        if 0 in pids:
            raise PermissionError(errno.EPERM, "processes of another container are there", folder)
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                _write(main / "cgroup.procs", str(pid))
    raise OSError(errno.EBUSY, "its processes cannot be moved", str(folder))


def lock(base: str) -> int:
    """Say that a group is in use, as long as the descriptor is open; -1 if another process does."""
    fd = os.open(base, os.O_RDONLY | os.O_CLOEXEC)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.path.samestat(os.stat(base), os.fstat(fd)):  # noqa: PTH116 - a Path costs more
            return fd
    except OSError as error:
        os.close(fd)
        if isinstance(error, BlockingIOError):
            return -1
        raise
    os.close(fd)
    return -1


def tidy(place: Place) -> None:
    """Remove what agents have left that were killed, and end what is still in there."""
    with contextlib.suppress(OSError):
        for name in filter(_NAME.fullmatch, os.listdir(place.folder)):  # noqa: PTH208 - names only
            base = f"{place.folder}/{name}"
            with contextlib.suppress(OSError):
                if (fd := lock(base)) >= 0:
                    try:
                        remove(base)
                    finally:
                        os.close(fd)


def remove(folder: str) -> bool:
    """Remove a group with those in it, and end its processes by force; whether it is gone.

    Processes need a moment to end, and keep their group until then.
    """
    try:
        with os.scandir(folder) as entries:
            below = [entry.path for entry in entries if entry.is_dir(follow_symlinks=False)]
    except OSError:
        return not Path(folder).exists()
    for one in below:
        remove(one)
    for _ in range(2):
        try:
            os.rmdir(folder)  # noqa: PTH106 - no file of a group can be unlinked, nor need be
        except OSError:
            _kill(Path(folder))
        else:
            return True
    return False


def _kill(folder: Path) -> None:
    with contextlib.suppress(OSError):
        for pid in _pids(folder):
            if pid and pid != os.getpid():
                with contextlib.suppress(OSError):
                    os.kill(pid, signal.SIGKILL)


# ---------------------------------------------------------------- the group of a worker


class Group:
    """One group: its processes, its limit, and what the kernel has ended for it."""

    def __init__(self, version: int, folder: str) -> None:
        self.version = version
        self.folder = folder
        self._limits, self._usage, self._kills = (
            (
                ("memory.limit_in_bytes", "memory.memsw.limit_in_bytes"),
                "memory.usage_in_bytes",
                "memory.oom_control",
            )
            if version == 1
            else (("memory.max", "memory.swap.max"), "memory.current", "memory.events")
        )

    def make(self) -> None:
        """Make it, without any limit."""
        Path(self.folder).mkdir(exist_ok=True)

    def enter(self) -> None:
        """Move this process into it, and whatever it starts from now on."""
        self._put("cgroup.procs", "0")

    def usage(self) -> int:
        """All memory that it is charged for, in bytes."""
        return int(self._get(self._usage))

    def floor(self) -> int:
        """What of that cannot be taken away without ending something: all but pages of files."""
        stat = self._fields("memory.stat")
        return max(0, self.usage() - stat.get("inactive_file", 0) - stat.get("active_file", 0))

    def limit(self, size: int) -> None:
        """Limit it to so many bytes, in memory and swapped out; -1: not at all."""
        memory, swap = self._limits
        if self.version > 1:
            # What cannot be swapped out is all in memory, and so all within the one limit.
            with contextlib.suppress(FileNotFoundError):
                self._put(swap, "max" if size < 0 else "0")
            self._put(memory, "max" if size < 0 else str(size))
            return
        try:
            self._put(memory, str(size))
        except OSError as error:  # above that of memory and swap together, which has to be first
            if error.errno != errno.EINVAL:
                raise
            self._put(swap, str(size))
            self._put(memory, str(size))
            return
        with contextlib.suppress(FileNotFoundError):  # a kernel that does not count swap
            self._put(swap, str(size))

    def watch(self) -> None:
        """Let ``ooms`` see from now on whether the limit is reached."""
        if self.version == 1:
            self._put("memory.max_usage_in_bytes", "0")
            with contextlib.suppress(FileNotFoundError):
                self._put("memory.memsw.max_usage_in_bytes", "0")

    def ooms(self) -> tuple[int, bool]:
        """How many processes were ended for want of memory, and if the limit here was reached.

        If not, it was the memory of the machine, or of a group above, that ran out.
        """
        events = self._fields(self._kills)
        kills = events.get("oom_kill", 0)  # a v1 kernel before 4.13 does not say
        if not kills:
            return 0, False
        if self.version > 1:
            return kills, events.get("oom", 0) > 0
        return kills, any(map(self._is_reached, ("memory.", "memory.memsw.")))

    def _is_reached(self, kind: str) -> bool:
        try:
            most = int(self._get(f"{kind}max_usage_in_bytes"))
            return most >= int(self._get(f"{kind}limit_in_bytes")) - NEAR_BYTES
        except FileNotFoundError:
            return False

    def _fields(self, name: str) -> dict[str, int]:
        words = self._get(name).split()
        return dict(zip(words[::2], map(int, words[1::2]), strict=False))

    def _get(self, name: str) -> str:
        fd = os.open(f"{self.folder}/{name}", os.O_RDONLY | os.O_CLOEXEC)
        try:
            return os.read(fd, 1 << 16).decode("ascii")
        finally:
            os.close(fd)

    def _put(self, name: str, value: str) -> None:
        _write(f"{self.folder}/{name}", value)


def _write(path: str | Path, value: str) -> None:
    """One write, as these files want it; a file that is not there is not made."""
    fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(fd, value.encode("ascii"))
    finally:
        os.close(fd)


def _words(path: Path) -> list[str]:
    return path.read_text("ascii").split()


def _pids(folder: Path) -> list[int]:
    return [int(pid) for pid in _words(folder / "cgroup.procs")]
