"""Schedules from their files or, where these are unchanged, as the last scheduler had them."""

import contextlib
import zoneinfo
from collections.abc import Collection, Mapping, Sequence
from hashlib import sha256
from importlib import import_module
from pathlib import Path

from farm.errors import ConfigError
from farm_scheduler.calls import Target, check_target, target_of
from farm_scheduler.core import Entry, Schedule
from farm_scheduler.files import Problem, read_files
from farm_scheduler.state import State

__all__ = ["Loader"]


class Loader:
    """``file``: the file of each schedule; ``problems``: entries that are stopped."""

    def __init__(self, files: Sequence[str], state: State) -> None:
        self.file: dict[str, str] = {}
        self.problems: list[Problem] = []
        self._files = files
        self._state = state
        self._turn = -1
        self._hashes: dict[str, str] = {}
        self._targets: set[Target] = set()
        self._warm: set[Target] = set()

    @staticmethod
    def check(files: Sequence[str]) -> None:
        """Raise ``ConfigError`` if one of them is not there."""
        for name in files:
            if Path(name).suffix in {".toml", ".py"} and not Path(name).is_file():
                raise ConfigError(f"{name}: no such file")

    def follow(self) -> list[Entry]:
        """Entries as schedulers have kept them since the last call; at first all."""
        changed, self._turn = self._state.changes(self._turn)
        for entry, file in changed:
            if entry.retired is None:
                self.file[entry.name] = file
                self._targets.add(target_of(entry.told))
            else:
                self.file.pop(entry.name, None)
        return [entry for entry, _ in changed]

    def gone(self) -> list[str]:
        """Schedules among those followed that were retired, and forgotten before that was seen."""
        gone = sorted(self.file.keys() - set(self._state.names()))
        for name in gone:
            del self.file[name]
        return gone

    def warm_up(self) -> None:
        """Import what schedules run: whoever stands by has the time."""
        for target in self._targets - self._warm:
            with contextlib.suppress(ValueError):
                check_target(target)
        self._warm |= self._targets

    def zones(self) -> str:
        """Which rules of time zones there are, if next times were found by others; else empty."""
        version = zones_version()
        return "" if self._state.meta("zones") == version else version

    def read(self, entries: Collection[Entry]) -> Mapping[str, Schedule] | None:
        """All schedules there are now; None if they are those of ``entries``, and all is well.

        Raises ``ConfigError`` if a file cannot be read; then all stays as it was.
        """
        hashes = {name: _hash(name) for name in self._files}
        known = "" not in hashes.values() and hashes == self._state.files()
        if known and self._all_is_well(entries):
            return None
        found = read_files(self._files)
        self.file, self.problems, self._hashes = found.file, found.problems, hashes
        self._targets = {target_of(one) for one in found.schedules.values()}
        return found.schedules

    def _all_is_well(self, entries: Collection[Entry]) -> bool:
        """Whether no entry was stopped, and what the others call is still there."""
        if self._state.problems():
            return False
        missing = {target for target in self._targets if _is_missing(target)}
        return not missing or not any(
            entry.retired is None and target_of(entry.told) in missing for entry in entries
        )

    def finish(self) -> None:
        """Remember that they have been read."""
        self._state.put_files(self._hashes, self.problems)


def _is_missing(target: Target) -> bool:
    try:
        check_target(target)
    except ValueError:
        return True
    return False


def _hash(name: str) -> str:
    """Of a TOML file that needs no others to be looked at; a module may import what has changed."""
    if Path(name).suffix != ".toml":
        return ""
    try:
        return sha256(Path(name).read_bytes()).hexdigest()
    except OSError:
        return ""


def zones_version() -> str:
    """Which rules of time zones there are."""
    for folder in zoneinfo.TZPATH:
        for name in ("tzdata.zi", "+VERSION"):
            path = Path(folder) / name
            if path.is_file():
                with path.open(encoding="utf-8", errors="replace") as file:
                    return file.readline().strip()
    try:
        return str(import_module("tzdata").IANA_VERSION)
    except (ImportError, AttributeError):
        return "unknown"
