"""Schedules from their files or, where these are unchanged, as the last scheduler had them."""

import contextlib
import logging
import sqlite3
import zoneinfo
from collections.abc import Mapping, Sequence
from hashlib import sha256
from importlib import import_module
from pathlib import Path

from farm.errors import ConfigError, FarmError
from farm_scheduler.calls import check_target, target_of
from farm_scheduler.core import Entry, Row, Schedule
from farm_scheduler.files import Problem, read_files
from farm_scheduler.state import State

__all__ = ["Loader"]

logger = logging.getLogger("farm.scheduler")


class Loader:
    """``file``: the file of each schedule; ``problems``: entries that are stopped."""

    def __init__(
        self, files: Sequence[str], state: State, known: dict[bytes, Schedule] | None = None
    ) -> None:
        self.file: dict[str, str] = {}
        self.problems: list[Problem] = []
        self._files = files
        self._state = state
        self._known = known or {}
        self._hashes: dict[str, str] = {}
        self._targets: set[tuple[str, str]] = set()

    @staticmethod
    def prepare(path: Path) -> dict[bytes, Schedule]:
        """For whoever stands by: the schedules of a state file, and what they run imported.

        Nothing if the file cannot be read yet; what is wrong with it is said by who decides.
        """
        try:
            state = State(path, must_exist=True)
            known = state.schedules()
            state.close()
        except (FarmError, sqlite3.Error):
            return {}
        for target in {target_of(one) for one in known.values()}:
            with contextlib.suppress(ValueError):
                check_target(target)
        return known

    @staticmethod
    def check(files: Sequence[str]) -> None:
        """Raise ``ConfigError`` if one of them is not there."""
        for name in files:
            if Path(name).suffix in {".toml", ".py"} and not Path(name).is_file():
                raise ConfigError(f"{name}: no such file")

    def restore(self, now: float) -> tuple[list[Entry], list[Row]]:
        """What the last scheduler has kept; next times are looked up anew if zones have changed."""
        entries, rows = self._state.load(self._known)
        self._known.clear()
        self.file = {entry.schedule.name: file for entry, file in entries if entry.retired is None}
        self._targets = {target_of(one.schedule) for one, _ in entries if one.retired is None}
        version = zones_version()
        if self._state.meta("zones", version) != version:
            for entry, _ in entries:
                entry.next = entry.schedule.timing.next(entry.cursor)
        return [entry for entry, _ in entries], rows

    def read(self) -> Mapping[str, Schedule] | None:
        """All schedules there are now; None if that is what there was the last time.

        Raises ``ConfigError`` if a file cannot be read; then all stays as it was.
        """
        hashes = {name: _hash(name) for name in self._files}
        if "" not in hashes.values() and hashes == self._state.files() and self._all_is_well():
            return None
        found = read_files(self._files)
        self.file, self.problems, self._hashes = found.file, found.problems, hashes
        self._targets = {target_of(one) for one in found.schedules.values()}
        return found.schedules

    def _all_is_well(self) -> bool:
        """Whether no entry was stopped, and what the others run is still there."""
        if self._state.problems():
            return False
        try:
            for target in self._targets:
                check_target(target)
        except ValueError:
            return False
        return True

    def finish(self) -> None:
        """Remember that they have been read."""
        self._state.put_files(self._hashes, self.problems)


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
