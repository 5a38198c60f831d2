"""Modules of a project on their way to workers: ``client.upload("src/")``.

A folder becomes an archive, the same bytes for the same files, which travels with the functions
that are submitted through it. A worker unpacks it into a private folder, puts that in front of its
``sys.path``, and takes both away when it is not needed any more.
"""

import contextlib
import io
import logging
import os
import stat
import sys
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from fnmatch import fnmatch
from pathlib import Path

from farm._payload_sources import forget, is_of_user, look_again
from farm._payload_uploads import Carried, carry, digest_of, split
from farm.digest import blake2b
from farm.errors import ConfigError, PayloadError

__all__ = [
    "ARCHIVE_BYTES_MAX",
    "Upload",
    "current_upload",
    "forget",
    "is_of_user",
    "pack",
    "set_current",
    "split",
    "unpack",
]

logger = logging.getLogger("farm.client")

FILES_MAX = 10_000
BYTES_MAX = 64 << 20
"""Of all files; as many as a payload may have."""
ARCHIVE_BYTES_MAX = 16 << 20
"""Of the archive, which every function of an upload carries."""
WRAPPED_MAX = 64
"""Functions that an upload remembers with itself before them."""
CARRIED_BYTES = 256 << 20
"""When functions have carried so much of one upload, that is said, once."""
NAMED_MAX = 5
"""Large files that an error names."""
NEVER = ("__pycache__", "node_modules", "venv", "*.pyc", "*.pyo", "*.egg-info")
"""Left out, as is all that begins with a dot and every virtual environment."""
_EPOCH = (1980, 1, 1, 0, 0, 0)  # the archive is made of content and names alone
_SUFFIXES = (".py", ".so")  # of modules that are files
_OURS = frozenset({"farm", "farm_workers", "farm_scheduler"})

_current: "Upload | None" = None


class Upload:
    """An archive that functions are to carry. May be used from any thread."""

    def __init__(self, archive: bytes, digest: bytes | None = None) -> None:
        self.archive = archive
        self.digest = digest or digest_of(archive)
        self._wrapped: OrderedDict[bytes, tuple[bytes, bytes]] = OrderedDict()
        self._carried = 0  # bytes of all archives that have been put before functions

    def wrap(self, hash: bytes, data: bytes) -> tuple[bytes, bytes]:  # noqa: A002
        """The hash and bytes of a function with this upload."""
        known = self._wrapped.get(hash)
        if known is None:
            carried = carry(self.digest, self.archive, data)
            known = blake2b(carried, digest_size=16).digest(), carried
            self._wrapped[hash] = known
            self._count()
            while len(self._wrapped) > WRAPPED_MAX:
                with contextlib.suppress(KeyError):
                    self._wrapped.popitem(last=False)
        return known

    def _count(self) -> None:
        before, self._carried = self._carried, self._carried + len(self.archive)
        if before < CARRIED_BYTES <= self._carried:
            logger.warning(
                "%d different functions have carried an upload of %d KiB each: a lambda or an inner"
                " function that captures other values is another function each time; give these as"
                " arguments",
                self._carried // max(1, len(self.archive)),
                len(self.archive) >> 10,
            )


def current_upload() -> Upload | None:
    """In a task: what it has with it, for the tasks that it submits."""
    return _current


def set_current(carried: Carried | None) -> None:
    """For the worker process: with which upload the next task runs."""
    global _current  # noqa: PLW0603 - the process is what has one
    _current = None if carried is None else Upload(carried.archive, carried.digest)


def pack(path: str | os.PathLike[str], exclude: Sequence[str] = ()) -> Upload:
    """What is in a folder, or one file; raises ``ConfigError`` saying what is wrong with it.

    A folder that is a package goes in under its name, the content of any other by itself.
    """
    look_again()  # functions say of which version their modules are: of that which is read now
    root = Path(path).expanduser()
    if not root.exists():
        raise ConfigError(f"upload: there is no {root}")
    base = root.resolve()
    within = base.parent if base.is_file() or (base / "__init__.py").is_file() else base
    files = {str(one.relative_to(within)): one for one in _files(base, exclude)}
    _check_text(files)
    _check_names(files, root)
    sizes = {name: one.stat().st_size for name, one in files.items()}
    if not files or len(files) > FILES_MAX or sum(sizes.values()) > BYTES_MAX:
        raise ConfigError(_too_much(root, sizes))
    import zipfile  # noqa: PLC0415 - few upload, and it takes a while

    target = io.BytesIO()
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED, compresslevel=6) as archive:
        for name in sorted(files):
            archive.writestr(
                zipfile.ZipInfo(name, _EPOCH), _read(files[name]), zipfile.ZIP_DEFLATED
            )
    data = target.getvalue()
    if len(data) > ARCHIVE_BYTES_MAX:
        raise ConfigError(_too_much(root, sizes, packed=len(data)))
    return Upload(data)


def _files(base: Path, exclude: Sequence[str]) -> Iterator[Path]:
    """The regular files that are to travel, in no order."""
    if base.is_file():
        yield base
        return
    patterns = (*NEVER, *exclude)
    for folder, folders, names in os.walk(base):
        here = Path(folder)
        if here != base and (here / "pyvenv.cfg").is_file():
            folders.clear()
            continue
        folders[:] = [name for name in folders if not _left_out(here / name, base, patterns)]
        for name in names:
            one = here / name
            if not _left_out(one, base, patterns) and stat.S_ISREG(_mode(one)):
                yield one


def _left_out(path: Path, base: Path, patterns: Sequence[str]) -> bool:
    whole = path.relative_to(base).as_posix()
    return path.name.startswith(".") or any(
        fnmatch(path.name, one) or fnmatch(whole, one.rstrip("/")) for one in patterns
    )


def _mode(path: Path) -> int:
    try:
        return path.stat().st_mode
    except OSError:  # a link that leads nowhere
        return 0


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ConfigError(f"upload: {path} cannot be read: {error.strerror}") from None


def top_names(names: Sequence[str]) -> set[str]:
    """The modules that files of these names would be at the top of ``sys.path``."""
    tops = {name.partition("/")[0] for name in names}
    return {top.partition(".")[0] for top in tops if "." not in top or top.endswith(_SUFFIXES)}


def _check_text(files: dict[str, Path]) -> None:
    for name in files:
        try:
            name.encode()
        except UnicodeEncodeError:
            raise ConfigError(
                f"upload: the name of {name!r} is no UTF-8, so it cannot travel; rename it, or"
                " leave it out with exclude=[...]"
            ) from None


def _check_names(files: dict[str, Path], root: Path) -> None:
    hidden = sorted(top_names([*files]) & (sys.stdlib_module_names | _OURS))
    if hidden:
        raise ConfigError(
            f"upload: {root} has a module {hidden[0]!r}, which would hide that of Python, or of"
            " farm, from everything on the worker; rename it, or leave it out with exclude=[...]"
        )


def _too_much(root: Path, sizes: dict[str, int], packed: int = 0) -> str:
    if not sizes:
        return f"upload: {root} has no files to travel"
    largest = sorted(sizes, key=lambda name: -sizes[name])[:NAMED_MAX]
    named = ", ".join(f"{name} ({sizes[name] / 1e6:.1f} MB)" for name in largest)
    what = f"{sum(sizes.values()) / 1e6:.1f} MB in {len(sizes)} files"
    what += f", {packed / 1e6:.1f} MB packed" if packed else ""
    return (
        f"upload: {root} has {what}; there may be {BYTES_MAX >> 20} MiB in {FILES_MAX:,} files,"
        f" {ARCHIVE_BYTES_MAX >> 20} MiB packed; the largest are {named}; leave out what tasks do"
        " not import with exclude=[...], and hand data over as arguments"
    )


def unpack(carried: Carried, folder: Path) -> set[str]:
    """Write an archive into a new folder, its owner's alone; the modules that are at its top.

    Raises ``PayloadError`` if that is impossible here.
    """
    import zipfile  # noqa: PLC0415 - as above

    try:
        folder.mkdir(mode=0o700, parents=True)
        with zipfile.ZipFile(io.BytesIO(carried.archive)) as archive:
            names = archive.namelist()
            archive.extractall(folder)
    except (OSError, ValueError, zipfile.BadZipFile) as error:
        raise PayloadError(f"an upload cannot be unpacked into {folder}: {error}") from None
    return top_names(names)
