"""What a fire calls: the function of its schedule, with what that asks for."""

import importlib
import inspect
import os
import shutil
from collections.abc import Callable
from datetime import UTC, datetime
from difflib import get_close_matches
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

from farm.imports import importing_for_the_farm
from farm_scheduler.command import run_command
from farm_scheduler.core import Kept, Row, Schedule
from farm_scheduler.cron import zone

__all__ = [
    "Call",
    "Interval",
    "Target",
    "call_of",
    "check_target",
    "find_function",
    "target_of",
]

ASKED = ("nominal", "interval", "fire_id")
"""Names of parameters that are filled in, unless ``kwargs`` do."""
AT_HOSTS = 'if only the hosts have it, ["sh", "-c", "{} …"]'
AT_HOOKS = "since hooks run beside the scheduler, have it on this machine"


class Interval(NamedTuple):
    """``[start, end)``, both aware, in UTC: from one nominal time to the next."""

    start: datetime
    end: datetime


class Call(NamedTuple):
    """What is submitted."""

    function: Callable[..., Any]
    args: tuple[Any, ...]
    kwargs: dict[str, Any]


@lru_cache(4096)
def find_function(reference: str) -> Callable[..., Any]:
    """The function that ``module:function`` names; raises ``ValueError`` saying what is wrong."""
    module_name, _, path = reference.partition(":")
    try:
        with importing_for_the_farm():
            found: Any = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name and not f"{module_name}.".startswith(f"{error.name}."):
            raise ValueError(
                f"run is {reference!r}, and its module needs {error.name!r}, which is not there; "
                "install it where the scheduler runs, and where the hosts do"
            ) from None
        raise ValueError(
            f"run is {reference!r}, and there is no module {error.name!r} where Python looks; "
            "start the scheduler in the folder that has it, or add that to PYTHONPATH"
        ) from None
    except (Exception, SystemExit) as error:  # a script that is no module ends the program
        raise ValueError(
            f"run is {reference!r}, and its module cannot be imported: "
            f"{type(error).__name__}: {error}"
        ) from error
    for name in path.split("."):
        if not hasattr(found, name):
            near = get_close_matches(name, dir(found), 1)
            hint = f"did you mean {near[0]!r}?" if near else "write the name of a function in it"
            raise ValueError(f"run is {reference!r}, and {module_name!r} has no {path!r}; {hint}")
        found = getattr(found, name)
    if getattr(found, "__farm_aggregate__", False) and hasattr(found, "error"):
        raise ValueError(f"run is {reference!r}, and {found.error}")
    if not callable(found):
        kind = type(found).__name__
        raise ValueError(  # noqa: TRY004 - as for all that is wrong with an entry
            f"run is {reference!r}, which is {kind}, not a function; write the name of one"
        )
    return found  # type: ignore[no-any-return]


class Target(NamedTuple):
    """What a schedule calls: a function or the program of a command, and the programs of hooks.

    Each is empty where there is none.
    """

    run: str
    command: str
    on_failure: str
    on_late: str


def find_program(option: str, word: str, otherwise: str) -> None:
    """Raise ``ValueError`` if there is no such program here, saying what to do."""
    if shutil.which(word) is not None:
        return
    if os.sep in word and Path(word).is_file():
        raise ValueError(f"{option} is {word!r}, which may not be executed: chmod +x {word}")
    where = "" if os.sep in word else f" where PATH says, {os.environ.get('PATH', '')}"
    raise ValueError(
        f"{option} is {word!r}, and there is no such program{where}; write its whole path, or, "
        + otherwise.format(word)
    )


def target_of(schedule: Schedule | Kept) -> Target:
    """What a schedule calls."""
    return Target(
        schedule.run,
        schedule.command[0] if schedule.command else "",
        _program(schedule.on_failure),
        _program(schedule.on_late),
    )


def _program(hook: str | tuple[str, ...]) -> str:
    return "" if isinstance(hook, str) else hook[0]


def check_target(target: Target) -> None:
    """Raise ``ValueError`` if what a schedule calls is not there, where it is asked."""
    if target.run:
        find_function(target.run)
    if target.command:
        find_program("command", target.command, AT_HOSTS)
    for option in ("on_failure", "on_late"):
        if word := getattr(target, option):
            find_program(option, word, AT_HOOKS)


@lru_cache(4096)
def _asked(function: Callable[..., Any]) -> frozenset[str]:
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):  # some built-in functions do not tell
        return frozenset()
    named = (inspect.Parameter.KEYWORD_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return frozenset(one.name for one in parameters if one.name in ASKED and one.kind in named)


def call_of(schedule: Schedule, row: Row) -> Call:
    """The call of a fire; raises ``ValueError`` if its function cannot be found."""
    end = datetime.fromtimestamp(row.nominal, UTC)
    start = datetime.fromtimestamp(row.nominal if row.since is None else row.since, UTC)
    if schedule.command:
        environment = {
            "FARM_FIRE_ID": row.fire_id,
            "FARM_NOMINAL": end.astimezone(zone(schedule.tz)).isoformat(),
            "FARM_INTERVAL_START": start.isoformat(),
            "FARM_INTERVAL_END": end.isoformat(),
        }
        return Call(run_command, (list(schedule.command), environment), {})
    function = find_function(schedule.run)
    asked = _asked(function)
    known = {
        "nominal": end.astimezone(zone(schedule.tz)),
        "interval": Interval(start, end),
        "fire_id": row.fire_id,
    }
    given = {name: known[name] for name in asked} if asked else {}
    return Call(function, tuple(schedule.args), {**given, **schedule.kwargs})
