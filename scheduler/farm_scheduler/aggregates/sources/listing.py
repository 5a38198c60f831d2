"""Files of this machine that match a pattern.

What is there and cannot be told or opened is listed all the same, so that it is named and not
missed; a folder that cannot be listed stops everything, for what was in it is not removed.
"""

import os
import re
import stat
from collections.abc import Iterator, Sequence

from farm.errors import ConfigError
from farm_scheduler.aggregates.sources.base import Partition

__all__ = ["NOWHERE", "local_files", "mark_of", "matcher"]

NOWHERE = "0:0:0:0"
"""The mark of a file that is listed and cannot be opened by its name."""
_MAGIC = re.compile(r"\{\w+\}|[*?]")


def local_files(pattern: str) -> Iterator[Partition]:
    """One for each file that matches an absolute pattern. Links are followed, not below ``**``."""
    parts = pattern.split("/")
    plain = next((at for at, part in enumerate(parts) if _MAGIC.search(part)), len(parts) - 1)
    whole = matcher(pattern)
    for path in _below("/".join(parts[:plain]) or "/", parts[plain:]):
        name = os.fsencode(path).decode(errors="backslashreplace")
        if (match := whole.fullmatch(name)) and (mark := _mark_at(path)):
            yield Partition(name, mark if name == path else NOWHERE, match.groupdict())


def _below(folder: str, parts: Sequence[str]) -> Iterator[str]:
    """Paths below a folder that may match these parts of a pattern."""
    deep, own = "**" in parts[0], matcher(parts[0])
    try:
        with os.scandir(folder) as found:
            entries = list(found)
    except (FileNotFoundError, NotADirectoryError):  # removed just now
        return
    except OSError as error:
        raise ConfigError(f"the folder {folder} cannot be listed: {error.strerror}") from error
    for entry in entries:
        if deep:
            yield entry.path
            if entry.is_dir(follow_symlinks=False):
                yield from _below(entry.path, parts)
        elif own.fullmatch(entry.name):
            if len(parts) == 1:
                yield entry.path
            elif os.path.isdir(entry.path):  # noqa: PTH112 - of very many
                yield from _below(entry.path, parts[1:])


def _mark_at(path: str) -> str:
    """The mark of a file; nothing if it is none, or was removed just now."""
    try:
        found = os.stat(path)  # noqa: PTH116 - of very many
    except OSError:
        return NOWHERE if os.path.lexists(path) else ""
    return mark_of(found) if stat.S_ISREG(found.st_mode) else ""


def mark_of(found: os.stat_result) -> str:
    """What changes when a file may have changed."""
    return f"{found.st_size}:{found.st_mtime_ns}:{found.st_ctime_ns}:{found.st_ino}"


def matcher(pattern: str) -> re.Pattern[str]:
    """``{name}`` and ``*`` match within a part of a path, ``**`` any parts, ``?`` a character."""
    parts = re.split(r"(\{\w+\}|\*\*/?|\*|\?)", pattern)
    seen: set[str] = set()
    text = ""
    for part in parts:
        if re.fullmatch(r"\{\w+\}", part):
            name = part[1:-1]
            text += f"(?P={name})" if name in seen else f"(?P<{name}>[^/]+?)"
            seen.add(name)
        else:
            text += {"**": ".*", "**/": "(?:.*/)?", "*": "[^/]*", "?": "[^/]"}.get(
                part
            ) or re.escape(part)
    return re.compile(text, re.DOTALL)
