"""What a host says of the environment in which its tasks run: platform and packages."""

import os
import platform
import re
import sys
from collections.abc import Iterable
from pathlib import Path

__all__ = ["ALWAYS", "package_versions", "platform_name"]

ALWAYS = ("cloudpickle", "numpy")
"""Told of without being named: on the first, functions depend that travel by value."""
_TOLD = (".dist-info", ".egg-info", ".egg")
"""How the names of folders and files end that say what is installed; only of the first is known
here how it is said."""


def platform_name() -> str:
    """The system and the processor: ``linux-x86_64``."""
    return f"{sys.platform}-{platform.machine().lower() or 'unknown'}"


def package_versions(names: Iterable[str]) -> dict[str, str]:
    """Those of these packages that are installed, with their versions, each as it is named here.

    Only what is told about them is read; nothing is imported.
    """
    told, has_archives = _told()
    found = {}
    for name in dict.fromkeys((*ALWAYS, *names)):
        plain = _plain(name)
        version = _version(told[plain]) if plain in told else ""
        if not version and (plain in told or has_archives):
            version = _looked_up(name)
        if version:
            found[name] = version
    return found


def _plain(name: str) -> str:
    """A name as all its spellings are: ``Zope.Interface`` is ``zope_interface``."""
    return re.sub(r"[-_.]+", "_", name).lower()


def _told() -> tuple[dict[str, Path], bool]:
    """Where it is said what is installed, by name; and whether archives may have more.

    What finds all of it, ``importlib.metadata``, loads what reads mail and archives, too: a tenth
    of what it takes to start an agent.
    """
    told: dict[str, Path] = {}
    has_archives = False
    for place in sys.path:
        try:
            entries = os.listdir(place or ".")  # noqa: PTH208 - names only
        except FileNotFoundError:
            continue
        except OSError:
            has_archives = True
            continue
        for entry in entries:
            stem, dot, kind = entry.rpartition(".")
            if dot + kind in _TOLD:
                told.setdefault(_plain(stem.partition("-")[0]), Path(place, entry))
    return told, has_archives


def _version(folder: Path) -> str:
    """What the headers of the metadata say; empty if they do not, or are elsewhere."""
    try:
        headers, _, _ = (folder / "METADATA").read_text("utf-8", "replace").partition("\n\n")
    except OSError:
        return ""
    found = re.search(r"(?mi)^version:[ \t]*(\S+)", headers)
    return found[1] if found else ""


def _looked_up(name: str) -> str:
    from importlib.metadata import PackageNotFoundError, version  # noqa: PLC0415 - see above

    try:
        return version(name) or ""
    except (PackageNotFoundError, ValueError):
        return ""
