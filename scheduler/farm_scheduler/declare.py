"""Schedules in Python: a decorator, and how they are found in a module."""

from collections.abc import Callable, Iterable, Iterator
from sys import _getframe
from types import ModuleType
from typing import Any, NamedTuple, TypeVar

from farm_scheduler.core.schedule import Place, Schedule, Stopped, place_of

__all__ = ["Declared", "aggregates_in", "declared_in", "schedule"]

F = TypeVar("F", bound=Callable[..., Any])
MARK = "__farm_schedules__"


class Declared(NamedTuple):
    """A schedule that was written down and not looked at yet: one that is wrong stops no other."""

    name: str
    options: dict[str, Any]
    place: Place | None = None


def schedule(name: str = "", *, cron: str | None = None, **options: Any) -> Callable[[F], F]:
    """Run the function by cron: ``@schedule(cron="*/15 * * * *", tz="Europe/Berlin")``.

    ``options`` are those of ``Schedule``; the name is by default the function's. The function stays
    as it is. May be given several times, with several names. Whatever is wrong is said by whoever
    reads the module: ``farm scheduler``, ``farm schedules list``.
    """
    when = {} if cron is None else {"cron": cron}
    place = place_of(_getframe(1))

    def declare(function: F) -> F:
        own = name or getattr(function, "__name__", "")
        found = [*getattr(function, MARK, ()), Declared(own, {**when, **options}, place)]
        setattr(function, MARK, found)
        return function

    return declare


def declared_in(module: ModuleType) -> Iterator[Declared | Schedule]:
    """What a module declares: decorated functions, ``Schedule`` objects, and aggregates.

    ``Schedule`` objects may also stand in lists and tuples, for those made in a loop. One that has
    several names, or stands in a list and has a name, too, is one.
    """
    seen = dict[int, Any]()
    for name, value in _telling(module):
        if isinstance(value, Schedule):
            yield from _new([value], seen)
        elif getattr(value, "__farm_aggregate__", False) and not isinstance(value, type):
            if seen.setdefault(id(value), name) != name:
                continue
            if getattr(value, "error", None) is not None:
                yield Stopped.of((value.name,), {}, value.error, value.place)
            elif value.schedule:
                what = {"run": f"{module.__name__}:{name}", "cron": value.schedule}
                yield Declared(value.name, {**what, "tz": value.zone})
        elif isinstance(value, list | tuple):
            yield from _new(value, seen)
        elif callable(value) and getattr(value, "__module__", None) == module.__name__:
            for own, options, place in getattr(value, MARK, ()):
                yield Declared(own, {"run": value, **options}, place)


def _new(things: Iterable[Any], seen: dict[int, Any]) -> Iterator[Schedule]:
    """Those of some things that are schedules and were not seen before."""
    for one in things:
        if _tells(one, "__class__") and isinstance(one, Schedule) and id(one) not in seen:
            seen[id(one)] = one
            yield one


def aggregates_in(module: ModuleType) -> Iterator[Any]:
    """The aggregates of a module."""
    for _, value in _telling(module):
        if getattr(value, "__farm_aggregate__", False) and not isinstance(value, type):
            yield value


def _telling(module: ModuleType) -> list[tuple[str, Any]]:
    """What a module has, but for proxies of what is not there, which raise whatever they like."""
    asked = "__class__", "__farm_aggregate__", "__module__", MARK
    return [(name, value) for name, value in vars(module).items() if _tells(value, *asked)]


def _tells(value: Any, *names: str) -> bool:
    """Whether something can be asked whether it has attributes of these names."""
    try:
        for name in names:
            getattr(value, name, None)
    except Exception:  # noqa: BLE001 - it is a stranger's
        return False
    return True
