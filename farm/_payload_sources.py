"""Which version of a user's modules a function needs, and whether this process has it.

A function that travels as its name runs whatever the worker finds under that name. So it carries,
for each module of the user that its pickle names, the hash of the module's file: a worker can
then tell an edited file from the one that it has imported. Modules of the standard library, of
``site-packages`` and of the farm itself are not looked at: they change by installation, not
between two runs of a script.
"""

import importlib.util
import os
import sys
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path
from time import monotonic
from typing import Any, NamedTuple

from farm._payload_uploads import split
from farm.digest import blake2b
from farm.errors import PayloadError
from farm.imports import importing_for_the_farm

__all__ = [
    "Source",
    "SourceDiffers",
    "SourceIsStale",
    "Sources",
    "check_sources",
    "forget",
    "is_of_user",
    "look_again",
    "module_names",
    "note_imports",
    "open_with_sources",
    "sources_of",
]

LOOK_SECONDS = 1.0
"""How often a client looks whether a file was edited since it was hashed."""
SCAN_BYTES_MAX = 1 << 18
"""In a larger pickle, whatever contains the name of a module is taken to name it."""
SUBIMPORT = ("cloudpickle.cloudpickle", "subimport")
"""What a pickle calls for a module that a function captures."""

_FARM = frozenset({"farm", "farm_workers", "farm_scheduler"})
_INSTALLED = frozenset({"site-packages", "dist-packages"})
_STANDARD = tuple(
    os.path.realpath(folder) + os.sep
    for folder in (
        Path(os.__file__).parent,
        Path(sys.base_exec_prefix, sys.platlibdir, "python{}.{}".format(*sys.version_info)),
    )
)
"""Where the standard library is; `sysconfig` knows, too, and takes longer to load than the farm."""

# By path: the time and size that the file had, and its hash. Bounded by the user's modules.
_hashes: dict[str, tuple[tuple[int, int], bytes]] = {}
_look_after = 0.0
# By module: the hash of the file that was imported. Bounded by the user's modules.
_imported: dict[str, bytes] = {}
# By module: the file it says it has, and that file if it is the user's. Bounded by the modules.
_files: dict[str, tuple[str | None, str | None]] = {}


class Source(NamedTuple):
    """A module as the client has it: its name, its file and the file's 16-byte BLAKE2b."""

    module: str
    path: str
    hash: bytes


class SourceIsStale(Exception):
    """This process has imported another version of a module: a new process is needed."""


class SourceDiffers(PayloadError):
    """The module's file is another one here."""


# ---------------------------------------------------------------- in the client


class Sources:
    """The sources of one function, and whether a file of them was edited since."""

    __slots__ = ("_looked_at", "found")

    def __init__(self, found: Sequence[Source]) -> None:
        self.found = found
        self._looked_at = monotonic()

    def changed(self) -> bool:
        """Whether one of the files has another content now; looks once a second."""
        if not self.found:
            return False
        now = monotonic()
        if now < self._looked_at + LOOK_SECONDS and self._looked_at >= _look_after:
            return False
        self._looked_at = now
        return any(_hash_of(source.path) != source.hash for source in self.found)


def look_again() -> None:
    """Files may have been edited just now: all are looked at when they are next needed."""
    global _look_after  # noqa: PLW0603 - as long as this process
    _look_after = monotonic()


def sources_of(pickled: bytes) -> list[Source]:
    """The user's modules that a pickle names, in the order of their names."""
    files = {name: path for name in [*sys.modules] if (path := _file_of_user(name))}
    names = {name for name in files if pickled.find(name.encode()) >= 0}
    if names and len(pickled) <= SCAN_BYTES_MAX:
        names &= module_names(pickled)
    return [
        Source(name, files[name], digest)
        for name in sorted(names)
        if (digest := _hash_of(files[name])) is not None
    ]


def module_names(pickled: bytes) -> set[str]:
    """The modules that a pickle of protocol 4 or 5 imports when it is opened."""
    import pickletools  # noqa: PLC0415 - only where functions name modules of the user

    found: set[str] = set()
    memo: list[object] = []
    last: deque[object] = deque([None, None], maxlen=2)  # what was pushed last
    for opcode, argument, _ in pickletools.genops(pickled):
        match opcode.name:
            case "SHORT_BINUNICODE" | "BINUNICODE" | "BINUNICODE8":
                last.append(argument)
            case "MEMOIZE":
                memo.append(last[-1])
            case "BINGET" | "LONG_BINGET":
                at = int(argument or 0)
                last.append(memo[at] if at < len(memo) else None)
            case "STACK_GLOBAL":
                module, name = last
                found |= {module} if isinstance(module, str) else set()
                last.append((module, name))
            case "TUPLE1":
                subject, name = last
                found |= {name} if subject == SUBIMPORT and isinstance(name, str) else set()
                last.append(None)
            case "FRAME" | "PROTO":
                pass
            case _:
                last.append(None)
    return found


def _file_of_user(name: str) -> str | None:
    """The file of an imported module, if the module is the user's own."""
    path = getattr(sys.modules.get(name), "__file__", None)
    known = _files.get(name)
    if known is None or known[0] is not path:
        known = _files[name] = path, _if_of_user(name, path)
    return known[1]


def _if_of_user(name: str, path: str | None) -> str | None:
    if not path or name in {"__main__", "__mp_main__"} or name.partition(".")[0] in _FARM:
        return None
    real = os.path.realpath(path)
    if not _INSTALLED.isdisjoint(Path(real).parts) or real.startswith(_STANDARD):
        return None
    return real


def _hash_of(path: str) -> bytes | None:
    """The hash of a file, which is read again only if it has changed; None if it is gone."""
    try:
        stat = Path(path).stat()
        at = stat.st_mtime_ns, stat.st_size
        known = _hashes.get(path)
        if known is None or known[0] != at:
            known = _hashes[path] = at, blake2b(Path(path).read_bytes(), digest_size=16).digest()
    except OSError:
        return None
    return known[1]


# ---------------------------------------------------------------- in the worker


@importing_for_the_farm()
def open_with_sources(data: bytes, load: Callable[[bytes], Any], *, fresh: bool | None) -> Any:
    """What a pickle has, once its sources are seen to be the same here; see ``check_sources``.

    With ``fresh`` None they are not looked at. Modules are imported for the farm; see
    ``farm.imports``.
    """
    opened = load(split(data)[1])
    if type(opened) is not tuple:  # a function that has no sources
        return opened
    sources, pickled = opened
    if fresh is not None:
        check_sources([Source(*source) for source in sources], fresh=fresh)
    before = set(sys.modules)
    opened = load(pickled)
    note_imports(before)
    return opened


def note_imports(before: set[str]) -> None:
    """Remember the versions of the user's modules imported just now, since ``before``."""
    for name in [name for name in sys.modules if name not in before]:
        path = _file_of_user(name)
        if path is not None and (digest := _hash_of(path)) is not None:
            _imported[name] = digest


def check_sources(sources: Sequence[Source], *, fresh: bool) -> None:
    """Return if a function that needs these modules may be opened here.

    Raises ``SourceDiffers`` if this machine has another file, ``SourceIsStale`` if this process
    has imported another version of it. ``fresh``: no task has run in this process yet, so what
    was imported ahead of the first is forgotten instead, to be imported anew.
    """
    for source in sources:
        path = _path_here(source.module)
        if path is None:
            continue  # opening the function says that it is missing
        if _hash_of(path) != source.hash:
            raise SourceDiffers(
                f"the module {source.module!r} is not the one that was submitted: {path} here "
                f"differs from {source.path} at the client; bring the same version to both"
            )
        if source.module in sys.modules and _imported.get(source.module) != source.hash:
            if not fresh:
                raise SourceIsStale(source.module)
            forget(source.module)


def _path_here(name: str) -> str | None:
    module = sys.modules.get(name)
    if module is not None:
        path: str | None = getattr(module, "__file__", None)
        return os.path.realpath(path) if path else None
    try:
        spec = importlib.util.find_spec(name)
    except (ImportError, ValueError, AttributeError):
        return None
    if spec is None or not spec.origin or not spec.has_location:
        return None
    return os.path.realpath(spec.origin)


def is_of_user(name: str) -> bool:
    """Whether an imported module is the user's own, and so may have another version elsewhere."""
    return _file_of_user(name) is not None or name in {"__main__", "__mp_main__"}


def forget(name: str) -> None:
    """Forget a module and all below it, as if they had never been imported."""
    for known in [one for one in sys.modules if one == name or one.startswith(f"{name}.")]:
        del sys.modules[known]
        parent, _, last = known.rpartition(".")
        if parent in sys.modules:
            vars(sys.modules[parent]).pop(last, None)
    importlib.invalidate_caches()
