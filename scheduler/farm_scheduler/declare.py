"""Schedules in Python: a decorator, and how they are found in a module."""

from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any, NamedTuple, TypeVar

from farm_scheduler.core.schedule import Schedule

__all__ = ["Declared", "aggregates_in", "declared_in", "schedule"]

F = TypeVar("F", bound=Callable[..., Any])
MARK = "__farm_schedules__"


class Declared(NamedTuple):
    """A schedule that was written down and not looked at yet: one that is wrong stops no other."""

    name: str
    options: dict[str, Any]


def schedule(name: str = "", *, cron: str | None = None, **options: Any) -> Callable[[F], F]:
    """Run the function by cron: ``@schedule(cron="*/15 * * * *", tz="Europe/Berlin")``.

    ``options`` are those of ``Schedule``; the name is by default the function's. The function stays
    as it is. May be given several times, with several names. Whatever is wrong is said by whoever
    reads the module: ``farm scheduler``, ``farm schedules list``.
    """
    when = {} if cron is None else {"cron": cron}

    def declare(function: F) -> F:
        own = name or getattr(function, "__name__", "")
        found = [*getattr(function, MARK, ()), Declared(own, {**when, **options})]
        setattr(function, MARK, found)
        return function

    return declare


def declared_in(module: ModuleType) -> Iterator[Declared | Schedule]:
    """What a module declares: decorated functions, ``Schedule`` objects, and aggregates.

    The latter may also stand in lists and tuples, for those made in a loop.
    """
    for name, value in list(vars(module).items()):
        if isinstance(value, Schedule):
            yield value
        elif getattr(value, "__farm_aggregate__", False) and not isinstance(value, type):
            if value.schedule:
                what = {"run": f"{module.__name__}:{name}", "cron": value.schedule}
                yield Declared(value.name, {**what, "tz": value.zone})
        elif isinstance(value, list | tuple):
            yield from (one for one in value if isinstance(one, Schedule))
        elif callable(value) and getattr(value, "__module__", None) == module.__name__:
            for own, options in getattr(value, MARK, ()):
                yield Declared(own, {"run": value, **options})


def aggregates_in(module: ModuleType) -> Iterator[Any]:
    """The aggregates of a module."""
    for value in list(vars(module).values()):
        if getattr(value, "__farm_aggregate__", False) and not isinstance(value, type):
            yield value
