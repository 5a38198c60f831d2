"""Functions that may be run by name, by those who have no Python: ``@farm.task(name=…)``.

A registered function stays what it is: it is called and submitted as any other. Its name is known
in every process that has imported its module: on hosts and at a gateway, ``--import`` names it.
"""

import importlib
import inspect
import re
import sys
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple, TypeVar, overload

from farm._payload_sources import note_imports
from farm.errors import ConfigError, UnknownFunction
from farm.imports import importing_for_the_farm

__all__ = ["Registered", "find", "import_modules", "registered", "task"]

F = TypeVar("F", bound=Callable[..., Any])

NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.:-]{0,199}")
"""What a function may be called."""


class Registered(NamedTuple):
    """A function, and the name by which it is run."""

    name: str
    function: Callable[..., Any]

    @property
    def summary(self) -> str:
        """The first paragraph of its docstring."""
        return (inspect.getdoc(self.function) or "").partition("\n\n")[0]


# Bounded by the functions that modules define.
_functions: dict[str, Registered] = {}


@overload
def task(function: F, /) -> F: ...
@overload
def task(*, name: str | None = None) -> Callable[[F], F]: ...
def task(function: F | None = None, /, *, name: str | None = None) -> F | Callable[[F], F]:
    """Register a function under a name, by default ``module.function``; returns the function.

    By its name it can be run over HTTP, with arguments and a result that are JSON; annotations of
    its parameters say what they must be. Raises ``ConfigError`` for a name that another function
    has, and for what cannot be run by name.
    """

    def register(function: F) -> F:
        _register(function, name)
        return function

    return register if function is None else register(function)


def _register(function: Callable[..., Any], name: str | None) -> None:
    if not callable(function):
        raise ConfigError(f"@farm.task is for functions, and {function!r} is none")
    where = f"{function.__module__}.{getattr(function, '__qualname__', '')}"
    name = where if name is None else name
    if not (isinstance(name, str) and NAME.fullmatch(name)):
        raise ConfigError(
            f"{name!r} cannot be the name of a task: write letters, digits, '_', '.', ':' and '-', "
            "beginning with a letter, 200 at most"
        )
    if inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function):
        raise ConfigError(f"{name!r} is a coroutine function, and workers run plain ones")
    known = _functions.get(name)
    if known is not None and _place(known.function) != _place(function):
        raise ConfigError(
            f"there are two tasks {name!r}: {_place(known.function)} and {_place(function)}; "
            "give one of them another name"
        )
    _functions[name] = Registered(name, function)


def _place(function: Callable[..., Any]) -> str:
    """Where a function is defined: the same after its module was imported anew."""
    return f"{function.__module__}.{getattr(function, '__qualname__', repr(function))}"


def find(name: str) -> Registered:
    """The function of this name; raises ``UnknownFunction`` with the nearest name there is."""
    found = _functions.get(name)
    if found is None:
        raise UnknownFunction(f"there is no registered function {name!r}; {_hint(name)}")
    return found


def _hint(name: str) -> str:
    from difflib import get_close_matches  # noqa: PLC0415 - for the message only

    near = get_close_matches(name, _functions, 1)
    if near:
        return f"did you mean {near[0]!r}?"
    if _functions:
        return f"there are {', '.join(sorted(_functions))}"
    return "none is registered: name the modules that have them with --import"


def registered() -> list[Registered]:
    """All registered functions, by name."""
    return [_functions[name] for name in sorted(_functions)]


def import_modules(names: Iterable[str]) -> None:
    """Import modules, so that their functions are known; raises ``ConfigError`` for what cannot be.

    Whatever a module raises while it is imported is told in the error. Which versions they are is
    noted, for functions of theirs that are submitted from Python.
    """
    before = set(sys.modules)
    for name in names:
        try:
            with importing_for_the_farm():
                importlib.import_module(name)
        except (Exception, SystemExit) as error:  # whatever users' modules raise
            raise ConfigError(
                f"the module {name!r} cannot be imported: {type(error).__name__}: {error}"
            ) from error
    note_imports(before)
