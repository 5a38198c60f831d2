"""What a call means, as a hash that is the same in every process that makes the same call.

Pickles do not tell. Their bytes depend on the order of sets, which changes from process to process,
on which equal objects happen to be one, and, of what travels by value, on much more. Here values
count:

- a function or class is its module and qualified name; a lambda or a function inside another is
  also its code, its defaults and what it captures. Comments and layout never count.
- numbers, text, lists, tuples, sets and dictionaries are their contents; the order of a set, a
  dictionary or the keyword arguments does not count. 1, 1.0 and True are three values.
- anything else is what it would be rebuilt from, by ``__reduce_ex__``.
"""

import copyreg
import functools
from collections.abc import Callable, Iterable
from types import BuiltinFunctionType, CodeType, FunctionType, MethodType, ModuleType
from typing import Any

from farm._payload_captures import ATOMS
from farm.digest import blake2b
from farm.errors import PayloadError

__all__ = ["body_of"]

BODY_BYTES = 16
_PROTOCOL = 4  # from 5 on, large buffers would be handed out as views
_CACHED = type(functools.cache(len))
_NAMED = (FunctionType, BuiltinFunctionType, type, _CACHED, ModuleType)


def body_of(function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> bytes:
    """The hash of a call: 16 bytes.

    Raises ``PayloadError`` for arguments of which it cannot be said what they are.
    """
    try:
        return _digest((function, args, kwargs), {})
    except Exception as error:
        raise PayloadError(
            f"the arguments cannot be compared with those of another call ({error}), so the call "
            "can have no idempotency_key; give it arguments that plain pickle takes"
        ) from error


def _digest(value: Any, inside: dict[int, int]) -> bytes:
    """The hash of a value; ``inside`` has what it is a part of, by id, and how deep that is."""
    kind = type(value)
    if kind in ATOMS:
        text = value if kind is bytes else repr(value).encode("utf-8", "backslashreplace")
        return _hash(kind.__name__, [text])
    if kind is CodeType:
        return _code(value, inside)
    if id(value) in inside:
        return _hash("cycle", [str(inside[id(value)]).encode()])
    inside[id(value)] = len(inside)
    try:
        return _hash(f"{kind.__module__}.{kind.__qualname__}", _parts(value, inside))
    finally:
        del inside[id(value)]


def _hash(kind: str, parts: Iterable[bytes]) -> bytes:
    found = blake2b(digest_size=BODY_BYTES)
    for part in (kind.encode("utf-8", "backslashreplace"), *parts):
        found.update(len(part).to_bytes(8, "little"))
        found.update(part)
    return found.digest()


def _parts(value: Any, inside: dict[int, int]) -> list[bytes]:
    kind = type(value)
    if kind is dict:
        return sorted(_digest(item, inside) for item in value.items())
    if isinstance(value, (set, frozenset)):
        own = getattr(value, "__dict__", None) or {}
        return [*sorted(_digest(part, inside) for part in value), _digest(own, inside)]
    if isinstance(value, _NAMED) and (found := _name(value, inside)):
        return found
    if kind is list or kind is tuple:
        parts = value
    elif kind is MethodType:
        parts = value.__func__, value.__self__
    elif kind is functools.partial:
        parts = value.func, value.args, value.keywords
    else:
        parts = _reduced(value)
    return [_digest(part, inside) for part in parts]


def _name(value: Any, inside: dict[int, int]) -> list[bytes]:
    """What a function, class or module is known by; nothing for a method of an object."""
    if isinstance(value, ModuleType):
        return [value.__name__.encode()]
    if isinstance(value, BuiltinFunctionType) and not isinstance(value.__self__, ModuleType):
        return []
    module = "__main__" if value.__module__ == "__mp_main__" else value.__module__
    found = [f"{module}:{value.__qualname__}".encode()]
    if isinstance(value, FunctionType) and "<" in value.__qualname__:
        cells = [cell.cell_contents for cell in value.__closure__ or ()]
        parts = (value.__code__, value.__defaults__, value.__kwdefaults__, cells)
        found += [_digest(part, inside) for part in parts]
    return found


def _code(code: CodeType, inside: dict[int, int]) -> bytes:
    """Code without where it stands."""
    parts = code.co_code, code.co_names, code.co_varnames, code.co_freevars, code.co_consts
    return _hash("code", [_digest(part, inside) for part in parts])


def _reduced(value: Any) -> tuple[Any, ...]:
    """What an object would be rebuilt from."""
    reducer = copyreg.dispatch_table.get(type(value))
    reduced = reducer(value) if reducer else value.__reduce_ex__(_PROTOCOL)
    if isinstance(reduced, str):
        return (reduced,)
    made, arguments, *rest = reduced
    state, items, pairs = (*rest, None, None, None)[:3]
    return made, arguments, state, list(items or ()), list(pairs or ())
