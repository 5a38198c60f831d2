"""Why something cannot be pickled: its smallest part that cannot, and the path to it.

The walk is bounded in depth and in the number of attempts; past a bound it names the part it has
come to. A part among many is found by halving, so a long list costs a few pickles of it, not one
for each element. This module pickles nothing itself: it is handed a function that does.
"""

import functools
import itertools
import traceback
from collections.abc import Callable, Sequence
from pathlib import PurePath
from types import FunctionType, MethodType
from typing import Any

from farm._payload_captures import global_names
from farm._payload_exceptions import message_of
from farm.errors import PayloadError

__all__ = ["argument_namer", "find_culprit", "refusal_of", "without_frames"]

DEPTH_MAX = 32
ATTEMPTS_MAX = 1_000
PARTS_MAX = 1_000_000
NAME_CHARS_MAX = 60
FRAMES_MAX = 8
"""Frames of users' code that an error tells as text."""

Failing = Callable[[Any], Exception | None]
Parts = tuple[list[Any], Callable[[int], str]]
"""The parts of an object, and how each is written behind the name of the whole."""


def argument_namer(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Callable[[int], str]:
    """How the arguments of a call are called, by their place among all of them."""
    names = [f"argument {i + 1}" for i in range(len(args))] + [f"argument {k!r}" for k in kwargs]
    return names.__getitem__


def refusal_of(
    values: Sequence[Any],
    name: Callable[[int], str],
    error: Exception,
    dumps: Callable[[Any], bytes],
) -> PayloadError:
    """What to raise for ``values`` that ``dumps`` failed to pickle with ``error``."""

    def failing(value: Any) -> Exception | None:
        try:
            dumps(value)
        except Exception as found:  # noqa: BLE001 -- whatever users' __reduce__ raises
            return found
        return None

    culprit = find_culprit(values, name, failing)
    path, cause = culprit or (name(0) if values else "it", error)
    text = f"{path}: {message_of(cause) or type(cause).__name__}"
    remedy = "pass what is needed to make it, and make it inside the task"
    return without_frames(PayloadError(f"{text}; {remedy}"), cause)


def without_frames(refusal: PayloadError, cause: Exception) -> PayloadError:
    """Chain an error whose frames are left behind, as text, since they hold arguments."""
    trace = cause.__traceback__
    while trace is not None and _is_pickling(trace.tb_frame.f_code.co_filename):
        trace = trace.tb_next
    if trace is not None:
        lines = traceback.format_exception(type(cause), cause, trace, limit=-FRAMES_MAX)
        refusal.add_note("".join(lines).rstrip())
    cause.__context__ = None
    refusal.__cause__ = cause.with_traceback(None)
    return refusal


def _is_pickling(path: str) -> bool:
    name = PurePath(path).name
    return name in {"payload.py", "pickle.py", "cloudpickle.py"} or name.startswith("_payload_")


def find_culprit(
    values: Sequence[Any], name: Callable[[int], str], failing: Failing
) -> tuple[str, Exception] | None:
    """The path to the smallest part of ``values`` that ``failing`` gives an error for, and that.

    ``name(i)`` is how the path to ``values[i]`` begins. None if nothing fails any more.
    """
    search = _Search(failing)
    found = search.first(list(values), name)
    if found is None:
        return None
    path, value, error = found
    for _ in range(DEPTH_MAX):
        inner = search.first(*_parts(value))
        if inner is None:
            break
        part, value, error = inner
        path += part
    return path, error


class _Search:
    def __init__(self, failing: Failing) -> None:
        self._failing = failing
        self._attempts_left = ATTEMPTS_MAX

    def _error(self, value: Any) -> Exception | None:
        self._attempts_left -= 1
        return self._failing(value) if self._attempts_left >= 0 else None

    def first(
        self, values: list[Any], name: Callable[[int], str]
    ) -> tuple[str, Any, Exception] | None:
        """The first of these that fails: its name, itself and the error."""
        start, stop = 0, len(values)
        if not values or (stop > 1 and self._error(values) is None):
            return None
        while stop - start > 1:
            middle = (start + stop) // 2
            if self._error(values[start:middle]) is None:
                start = middle
            else:
                stop = middle
        error = self._error(values[start])
        return None if error is None else (name(start), values[start], error)


def _parts(value: Any) -> Parts:
    if type(value) in (list, tuple, set, frozenset):
        parts = list(itertools.islice(value, PARTS_MAX))
        member = type(value) in (set, frozenset)
        return parts, lambda i: f" member {_short(parts[i])}" if member else f"[{i}]"
    if type(value) is dict:
        named = [(f"[{_short(key)}]", part) for key, part in value.items()]
        named += [(f" key {_short(key)}", key) for key in value]
    elif isinstance(value, FunctionType):
        named = _parts_of_function(value)
    elif isinstance(value, MethodType):
        named = [(".__self__", value.__self__), (".__func__", value.__func__)]
    elif isinstance(value, functools.partial):
        named = [(".func", value.func)]
        named += [(f".args[{i}]", part) for i, part in enumerate(value.args)]
        named += [(f".keywords[{key!r}]", part) for key, part in value.keywords.items()]
    elif isinstance(value, type):
        named = [(f".{key}", part) for key, part in vars(value).items() if key[:2] != "__"]
        named += [(f".{base.__name__}", base) for base in value.__bases__]
    else:
        named = _parts_of_instance(value)
    return [part for _, part in named], lambda i: named[i][0]


def _parts_of_function(function: FunctionType) -> list[tuple[str, Any]]:
    named = []
    cells = function.__closure__ or ()
    for name, cell in zip(function.__code__.co_freevars, cells, strict=True):
        try:
            named.append((f" → variable {name!r}", cell.cell_contents))
        except ValueError:  # an empty cell
            continue
    namespace = function.__globals__
    names = [name for name in global_names(function.__code__) if name in namespace]
    named += [(f" → global {name!r}", namespace[name]) for name in names]
    named += [(f" → default {_short(part)}", part) for part in function.__defaults__ or ()]
    named += [(f" → default of {k!r}", v) for k, v in (function.__kwdefaults__ or {}).items()]
    named += [(f".{key}", part) for key, part in vars(function).items()]
    return [(name, part) for name, part in named if part is not function]


def _parts_of_instance(value: Any) -> list[tuple[str, Any]]:
    """The parts by which an object says it can be made again."""
    try:
        reduced = value.__reduce_ex__(5)
        _, arguments, state, items, pairs = (*reduced, None, None, None)[:5]
        states = state if isinstance(state, tuple) else (state,)
        named: list[tuple[str, Any]] = []
        for part in states:
            if isinstance(part, dict):
                named += [(f".{key}", inner) for key, inner in part.items()]
            elif part is not None:
                named.append((" state", part))
        named += [
            (f" part {i}", part) for i, part in enumerate(arguments) if not isinstance(part, type)
        ]
        named += [(f"[{i}]", part) for i, part in enumerate(items or ())]
        named += [(f"[{_short(key)}]", part) for key, part in pairs or ()]
    except Exception:  # noqa: BLE001 -- it cannot be reduced: then it is the smallest part itself
        return []
    return named


def _short(value: Any) -> str:
    try:
        text = repr(value)
    except Exception:  # noqa: BLE001 -- users' __repr__ may do anything
        text = f"<{type(value).__name__}>"
    return text if len(text) <= NAME_CHARS_MAX else text[: NAME_CHARS_MAX - 1] + "…"
