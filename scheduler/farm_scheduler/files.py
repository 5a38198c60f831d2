"""Reads schedules from files: TOML, and Python modules.

One entry that is wrong stops that entry alone; a file that cannot be read at all is an error of its
own, for then nobody knows what is in it.
"""

import importlib
import re
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from difflib import get_close_matches
from itertools import pairwise
from pathlib import Path
from traceback import extract_tb
from types import ModuleType
from typing import Any, NamedTuple

import tomli

from farm.client.options import Settings, merge
from farm.errors import ConfigError
from farm.imports import importing_for_the_farm
from farm_scheduler.calls import Target, check_target, find_function, target_of
from farm_scheduler.core import Schedule
from farm_scheduler.core.schedule import FIELDS, Place, Stopped
from farm_scheduler.declare import Declared, aggregates_in, declared_in

__all__ = ["DEFAULT_FILE", "Found", "Problem", "read_aggregates", "read_files"]

DEFAULT_FILE = "schedules.toml"
"""What is read where no file is named: in the current folder."""

KNOWN = tuple(field for field in FIELDS if field not in {"name", "plain", "offset"})
HEADER = re.compile(r"^\[schedules\.([A-Za-z0-9_-]+|\"[^\"\\]*\")\][ \t]*$", re.MULTILINE)
TABLE = re.compile(r"^\[", re.MULTILINE)
PIECE_TABLES = 500
NAMELESS = "(no name)"
NOT_OURS = {
    "idempotency_key": "each fire has its own",
    "unique": "overlap says what becomes of a fire while the one before runs",
    "delay": "jitter, or another cron expression, says when it is due",
    "expires": "write deadline beside cron",
    "block": "the scheduler waits",
}
"""Options of tasks that a schedule may not have, and why."""


Targets = dict[Target, str]
"""What schedules call, and what is wrong with it."""


class Problem(NamedTuple):
    """An entry that is stopped, and what is wrong with it."""

    name: str
    file: str
    message: str


class Found(NamedTuple):
    """What files have: good schedules by name, the file of each, and the others."""

    schedules: dict[str, Schedule]
    file: dict[str, str]
    problems: list[Problem]


def read_files(names: Sequence[str], *, check: bool = True) -> Found:
    """All schedules of some files: ``*.toml``, ``*.py``, or the names of modules.

    With ``check`` functions are imported and programs looked for, to see whether they are there.
    Raises ``ConfigError`` naming the file that is none.
    """
    found = Found({}, {}, [])
    importlib.invalidate_caches()
    targets: Targets | None = {} if check else None
    for name in names:
        for own, made in _entries(name):
            message = made if isinstance(made, str) else _problem(made, found, targets)
            if message or isinstance(made, str):
                found.problems.append(Problem(own, name, message))
            else:
                found.schedules[own] = made
                found.file[own] = name
    return found


def _problem(schedule: Schedule, found: Found, targets: Targets | None) -> str:
    """What is wrong with a schedule besides what it says itself."""
    name = schedule.name
    if name in found.schedules:
        return f"schedule {name!r} is in {found.file[name]} already; give one of them another name"
    try:
        if schedule.options:
            _check_options(schedule.options)
    except (ValueError, TypeError) as error:
        return f"schedule {name!r}: {error}"
    wrong = "" if targets is None else _missing(target_of(schedule), targets)
    return wrong and f"schedule {name!r}: {wrong}"


def _missing(target: Target, known: Targets) -> str:
    """What is wrong with what a schedule calls; each is looked for once."""
    if target not in known:
        known[target] = ""
        try:
            check_target(target)
        except ValueError as error:
            known[target] = str(error)
    return known[target]


def _check_options(options: Mapping[str, Any]) -> None:
    for option, why in NOT_OURS.items():
        if option in options:
            raise ValueError(f"options.{option}: leave it out; {why}")
    merge(Settings(), options)  # type: ignore[arg-type]


Entries = Iterable[tuple[str, Schedule | str]]
"""Names, and what they are: a schedule, or what is wrong with it."""


def _entries(name: str) -> Entries:
    path = Path(name)
    if path.suffix == ".toml":
        return _from_toml(path)
    if path.suffix == ".py":
        if not path.is_file():
            raise ConfigError(f"{name}: no such file")
        return _from_module(path.stem, str(path.parent.absolute()), name)
    if "/" in name or not all(part.isidentifier() for part in name.split(".")):
        raise ConfigError(
            f"{name}: schedules are read from files that end in .toml or .py, or from a module by "
            "its name"
        )
    return _from_module(name, str(Path.cwd()), name)


def read_aggregates(names: Sequence[str]) -> dict[str, Any]:
    """The aggregates of some modules, by name: ``*.py``, or the names of modules.

    One that is wrong is a ``StoppedAggregate``, and gives way to a good one of its name.
    """
    found: dict[str, Any] = {}
    for name in names:
        path = Path(name)
        if path.suffix == ".py":
            if not path.is_file():
                raise ConfigError(f"{name}: no such file")
            module = _import(path.stem, str(path.parent.absolute()), name)
        else:
            module = _import(name, str(Path.cwd()), name)
        for one in aggregates_in(module):
            if hasattr(one, "error"):
                found.setdefault(one.name, one)
                continue
            other = found.get(one.name, one)
            if other is not one and not hasattr(other, "error"):
                raise ConfigError(
                    f"{name}: there is an aggregate {one.name!r} already; "
                    "give one of them another name"
                )
            found[one.name] = one
    return found


# ---------------------------------------------------------------- TOML


def _from_toml(path: Path) -> Entries:
    text = _text(path)
    try:
        return _by_pieces(path, text)
    except (ValueError, RecursionError, KeyError):
        pass  # no piece can say where in the file it is wrong, and the whole may be right
    try:
        tables = tomli.loads(text)
    except (ValueError, RecursionError) as error:  # too many brackets, or digits
        is_toml = isinstance(error, tomli.TOMLDecodeError)
        if not is_toml or (found := _without_repeats(path, text)) is None:
            raise ConfigError(f"{path}: not valid TOML: {error}") from None
        return found
    return list(_from_tables(path, tables, {}))


def _without_repeats(path: Path, text: str) -> Entries | None:
    """The same, if all that is wrong is that some names come more than once: the first counts."""
    tables = [match.start() for match in TABLE.finditer(text)]
    seen: set[str] = set()
    kept = [text[: tables[0]] if tables else text]
    repeats: list[tuple[str, str]] = []
    for begin, end in pairwise([*tables, len(text)]):
        header = HEADER.match(text, begin)
        name = header[1].strip('"') if header else ""
        if not header or name not in seen:
            kept.append(text[begin:end])
            seen.add(name)
        else:
            message = f"schedule {name!r} is in {path} twice; give one of them another name"
            repeats.append((name, message))
    try:
        return [*_from_tables(path, tomli.loads("".join(kept)), {}), *repeats] if repeats else None
    except tomli.TOMLDecodeError:
        return None


def _by_pieces(path: Path, text: str) -> Entries:
    """The same, in a fraction of the memory: some hundred schedules at a time.

    A piece that is valid does not end inside a string or a list, so the next one begins where a
    table does. Raises ``KeyError`` if what stands in one piece might belong to another.
    """
    found: dict[str, Schedule | str] = {}
    starts = [match.start() for match in HEADER.finditer(text)][::PIECE_TABLES]
    edges = [0, *starts[1:], len(text)]
    defaults: dict[str, Any] = {}
    for number, (begin, end) in enumerate(pairwise(edges)):
        tables = tomli.loads(text[begin:end])
        if number and set(tables) - {"schedules"}:
            raise KeyError(begin)
        for name, made in _from_tables(path, tables, defaults):
            if name in found:
                raise KeyError(name)
            found[name] = made
        defaults = defaults or tables.get("defaults", {})
    return list(found.items())


def _from_tables(
    path: Path, tables: Mapping[str, Any], defaults: Mapping[str, Any]
) -> Iterator[tuple[str, Schedule | str]]:
    for key in tables:
        if key not in {"schedules", "defaults"}:
            raise ConfigError(
                f"{path}: there is no [{key}]; write each schedule as [schedules.NAME], and what "
                "all have in common as [defaults]"
            )
    defaults, schedules = tables.get("defaults", defaults), tables.get("schedules", {})
    for part, table in (("defaults", defaults), ("schedules", schedules)):
        if not isinstance(table, dict):
            raise ConfigError(f"{path}: {part} is {table!r}; it must be a table")
    for option in defaults:
        if option not in KNOWN or option in {"run", "command"}:
            raise ConfigError(f"{path}: [defaults] has {option!r}; {_hint(option)}")
    for name, table in schedules.items():
        yield name, _made(name, table, defaults)


def _text(path: Path) -> str:
    try:
        return path.read_text("utf-8")
    except FileNotFoundError:
        raise ConfigError(
            f"{path}: no such file; write one, or make it of a crontab with "
            "`farm schedules import-crontab`"
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read: {error}") from None


def _made(name: str, options: object, defaults: Mapping[str, Any]) -> Schedule | str:
    """The schedule of an entry, or what is wrong with it."""
    if not isinstance(options, dict):
        return f"schedule {name!r} is {options!r}; write [schedules.{name}] and its options below"
    merged = {**defaults, **options} if defaults else options
    try:
        return Schedule(name, **merged)
    except (ValueError, TypeError) as error:
        return _explained(name, merged, error)


def _explained(name: object, options: Mapping[str, Any], error: Exception) -> str:
    """What is wrong with an entry."""
    if isinstance(error, ValueError):
        return str(error)
    if name == "":
        return 'a schedule has no name; write it first, as in Schedule("report", cron=…)'
    strange = [option for option in options if option not in KNOWN]
    if strange:
        return f"schedule {name!r} has no option {strange[0]!r}; {_hint(strange[0])}"
    if "cron" not in options:
        return f'schedule {name!r} does not say when: write cron = "0 * * * *", for example'
    return f"schedule {name!r}: {error}"


def _hint(option: str) -> str:
    near = get_close_matches(option, KNOWN, 1)
    return f"did you mean {near[0]!r}?" if near else f"there are {', '.join(KNOWN)}"


# ---------------------------------------------------------------- Python


def _from_module(name: str, folder: str, said: str) -> Iterator[tuple[str, Schedule | str]]:
    module = _import(name, folder, said)
    for one in declared_in(module):
        if isinstance(one, Declared):
            made = _made(one.name, one.options, {})
            if isinstance(made, str) and one.place is not None:
                made += _where(one.place, module)
            yield one.name, made
        elif isinstance(one, Stopped):
            options = {key: value for key, value in one.given.items() if key != "name"}
            wrong = _explained(one.name, options, one.error)
            yield str(one.name) or NAMELESS, wrong + _where(one.place, module)
        else:
            yield one.name, one


def _where(place: Place, module: ModuleType) -> str:
    """Where in a module, or in another one that it imports, something is said."""
    file = "" if place.file == module.__file__ else f"{place.file}, "
    return f" ({file}line {place.line})"


def _import(name: str, folder: str, said: str) -> ModuleType:
    """The module as its file is now."""
    if folder not in sys.path:
        sys.path.insert(0, folder)
    importlib.invalidate_caches()
    find_function.cache_clear()
    try:
        sys.modules.pop(name, None)  # not reloaded: what is no longer in it would stay
        with importing_for_the_farm():
            return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name and f"{name}.".startswith(f"{error.name}."):
            raise ConfigError(
                f"{said}: there is no module {error.name!r} in {folder}; schedules are read from "
                "files that end in .toml or .py, or from a module by its name"
            ) from None
        raise ConfigError(f"{said}: cannot be imported: {error}") from None
    except (Exception, SystemExit) as error:  # a script that is no module ends the program
        text = f"{type(error).__name__}: {error}"
        raise ConfigError(f"{said}{_line(error, said)}: cannot be imported: {text}") from error


def _line(error: BaseException, file: str) -> str:
    """Where in a file that is no TOML something was raised."""
    path = str(Path(file).absolute())
    lines = [one.lineno for one in extract_tb(error.__traceback__) if one.filename == path]
    return f", line {lines[-1]}" if lines else ""
