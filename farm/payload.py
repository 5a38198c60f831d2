"""Python objects as bytes and back: the one module of the farm that pickles.

Plain pickle, protocol 5, where the data allows it; cloudpickle for what comes from ``__main__``,
is defined inside a function, or belongs to a module that cannot be imported by its name. Only
clients and workers call this; the coordinator and the host agent carry the bytes unopened.

Whatever fails raises ``PayloadError``, which names the smallest part that cannot travel and the
path to it; the cause of the error has no frames, which would keep arguments alive. All functions
may be called from any thread.
"""

import io
import pickle
import sys
from collections.abc import Callable, Sequence
from types import FunctionType, ModuleType
from typing import Any

import cloudpickle  # type: ignore[import-untyped]
from cloudpickle.cloudpickle import list_registry_pickle_by_value  # type: ignore[import-untyped]

from farm._payload_body import body_of
from farm._payload_captures import ATOMS, BUILTIN_TYPES, found_by_name
from farm._payload_culprit import argument_namer, refusal_of, without_frames
from farm._payload_exceptions import (
    Link,
    exception_text,
    join_exception,
    message_of,
    qualified_name,
    split_exception,
)
from farm._payload_files import PAYLOAD_BYTES_MAX, Files, check_size, has_any, stream
from farm._payload_items import flatten, is_unsharing, unflatten
from farm._payload_memory import (
    CacheWrapper,
    FunctionMemory,
    FunctionPayload,
    cached_again,
    is_importable,
    name_of,
)
from farm._payload_sources import (
    SourceDiffers,
    SourceIsStale,
    Sources,
    open_with_sources,
    sources_of,
)
from farm.errors import PayloadError, TaskError
from farm.model import Blob, Payload

__all__ = [
    "PAYLOAD_BYTES_MAX",
    "Files",
    "FunctionPayload",
    "SourceDiffers",
    "SourceIsStale",
    "body_of",
    "check_size",
    "dump_call",
    "dump_exception",
    "dump_function",
    "dump_items",
    "dump_value",
    "dump_values",
    "load_call",
    "load_exception",
    "load_function",
    "load_value",
    "open_items",
    "open_values",
    "qualified_name",
]

SNAPSHOT_BYTES_MAX = 1 << 16
"""Captured data whose pickle is larger makes a function be pickled anew each time."""

_PROTOCOL = 5
_MAIN = b"_main__"  # ends __main__ and __mp_main__, the main script's name in spawned processes


# ---------------------------------------------------------------- pickling


class _Pickler(cloudpickle.Pickler):  # type: ignore[misc]
    """cloudpickle, which also takes functions under ``functools.cache`` by value."""

    def reducer_override(self, obj: Any) -> Any:
        if type(obj) is CacheWrapper and not _by_name(obj):
            return cached_again, (obj.__wrapped__, obj.cache_parameters())
        return super().reducer_override(obj)


def _plain(value: Any) -> bytes | None:
    """The plain pickle of a value; None if it has none, or something is to travel by value."""
    kind = type(value)
    if kind in ATOMS or (kind is tuple and ATOMS.issuperset(map(type, value))):
        # Names nothing; and looking for a name in a megabyte takes as long as pickling it.
        return pickle.dumps(value, _PROTOCOL)
    try:
        data = pickle.dumps(value, _PROTOCOL)
    except Exception:  # noqa: BLE001 -- cloudpickle will do better, or say why not
        return None
    return None if _may_name_by_value(data) else data


def _dumps(value: Any) -> bytes:
    """The pickle of a value; raises whatever pickling raises."""
    data = _plain(value)
    return _dumps_by_value(value) if data is None else data


def _dumps_by_value(value: Any) -> bytes:
    main = sys.modules.get("__mp_main__")
    if main is not None:
        _register(main)
    with io.BytesIO() as file:
        _Pickler(file, _PROTOCOL).dump(value)
        return file.getvalue()


def _register(module: ModuleType) -> None:
    if (
        module.__name__ not in list_registry_pickle_by_value()
        and sys.modules.get(module.__name__) is module
    ):
        cloudpickle.register_pickle_by_value(module)


def _stored(value: Any, parts: Sequence[Any], files: Files | None) -> Payload:
    """A value's pickle, in a file if it is large: written right there if its parts are."""
    hint = 0 if files is None else sum(map(sys.getsizeof, parts))
    if files is None or hint < files.least:
        data = _dumps(value)
        return data if files is None or len(data) < files.least else files.keep(data)
    dump = lambda file: pickle.Pickler(file, _PROTOCOL).dump(value)  # noqa: E731
    stored = stream(dump, parts, files.begin(hint), _may_name_by_value)
    return files.keep(_dumps_by_value(value)) if stored is None else stored


def _may_name_by_value(data: bytes) -> bool:
    """Whether a pickle may name something that is to travel by value."""
    return data.find(_MAIN) >= 0 or has_any(data, list_registry_pickle_by_value())


def _refusal(values: Sequence[Any], name: Callable[[int], str], error: Exception) -> PayloadError:
    return refusal_of(values, name, error, _dumps)


def _load(data: Payload, what: str, classes: list[type] | None = None) -> Any:
    file = data.open() if isinstance(data, Blob) else None
    try:
        if isinstance(data, Blob):
            return pickle.Unpickler(file).load()  # type: ignore[arg-type] # it is opened above
        return _PartUnpickler(data, classes).load() if classes else pickle.loads(data)
    except Exception as error:
        text = f"{what} cannot be unpickled here: {type(error).__name__}: {message_of(error)}"
        if isinstance(error, ModuleNotFoundError):
            text += f"; install {error.name!r} here, or register it with cloudpickle to be sent"
        raise without_frames(PayloadError(text), error) from error
    finally:
        if file is not None:
            file.close()


# ---------------------------------------------------------------- calls and values

_NO_ARGUMENTS = pickle.dumps((), _PROTOCOL)
_NONE = pickle.dumps(None, _PROTOCOL)


def dump_call(args: tuple[Any, ...], kwargs: dict[str, Any], files: Files | None = None) -> Payload:
    """The arguments of one call. Raises ``PayloadError``."""
    if not kwargs:
        if not args:
            return _NO_ARGUMENTS
        call: Any = args
    else:
        call = [args, kwargs]
    try:
        return _stored(call, [*args, *kwargs.values()] if kwargs else args, files)
    except Exception as error:  # noqa: BLE001 -- whatever users' __reduce__ raises
        refusal = _refusal([*args, *kwargs.values()], argument_namer(args, kwargs), error)
    raise refusal


def load_call(data: Payload) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """The arguments that ``dump_call`` wrote. Raises ``PayloadError``."""
    if data == _NO_ARGUMENTS:
        return (), {}
    call = _load(data, "the argument list")
    return (call, {}) if type(call) is tuple else tuple(call)


def dump_value(value: Any, files: Files | None = None) -> Payload:
    """A result. Raises ``PayloadError``."""
    if value is None:
        return _NONE
    try:
        return _stored(value, (value,), files)
    except Exception as error:  # noqa: BLE001 -- whatever users' __reduce__ raises
        refusal = _refusal([value], lambda _: "the result", error)
    raise refusal


def load_value(data: Payload) -> Any:
    """The result that ``dump_value`` wrote. Raises ``PayloadError``."""
    return None if data == _NONE else _load(data, "the result")


# ---------------------------------------------------------------- packed items and values
#
# Items of one payload must not come to share an object that one of them may change: packing is
# invisible. Numbers and text cannot be changed: a list of them is one pickle. Anything else is
# pickled, and fails, by itself: a tuple of pickles, and that of a list of the classes they share.


class _PartPickler(_Pickler):
    """Pickles one of many parts; classes that travel by value go to a list that all share."""

    def __init__(self, file: io.BytesIO, classes: dict[type, int]) -> None:
        super().__init__(file, _PROTOCOL)
        self._classes = classes

    def persistent_id(self, obj: Any) -> int | None:
        if not isinstance(obj, type) or obj in BUILTIN_TYPES or _by_name(obj):
            return None
        return self._classes.setdefault(obj, len(self._classes))


class _PartUnpickler(pickle.Unpickler):
    """Unpickles one part, given the classes that all share."""

    def __init__(self, data: bytes, classes: list[type]) -> None:
        super().__init__(io.BytesIO(data))
        self._classes = classes

    def persistent_load(self, pid: int) -> type:
        return self._classes[pid]


def _dump_parts(values: Sequence[Any], refusal: Callable[[int, Exception], PayloadError]) -> bytes:
    classes: dict[type, int] = {}
    parts = []
    for number, value in enumerate(values):
        try:
            part = _plain(value)
            if part is None:
                with io.BytesIO() as file:
                    _PartPickler(file, classes).dump(value)
                    part = file.getvalue()
            parts.append(part)
        except Exception as error:  # noqa: BLE001 -- whatever users' __reduce__ raises
            refused = refusal(number, error)
            raise refused from refused.__cause__
    shared = _dumps_by_value(list(classes)) if classes else b""
    return pickle.dumps((parts, shared), _PROTOCOL)


def dump_items(items: Sequence[Any], *, bare: bool = False) -> bytes:
    """The arguments of many items: a tuple, or if ``bare`` one, each. Raises ``PayloadError``."""
    if bare:
        if set(map(type, items)) <= ATOMS:
            return pickle.dumps((1, items), _PROTOCOL)
        items = list(zip(items, strict=True))
    if flat := flatten(items, ATOMS):
        return pickle.dumps(flat, _PROTOCOL)

    def refusal(number: int, error: Exception) -> PayloadError:
        return _refusal(items[number], lambda i: f"item {number}, argument {i + 1}", error)

    return _dump_parts(items, refusal)


def open_items(data: Payload, start: int = 0, stop: int | None = None) -> tuple[list[Any], bool]:
    """Items ``[start, stop)`` of a dump, and whether they are bare. Raises ``PayloadError``."""
    outer = _load(data, "the argument list of an item")
    if type(outer) is tuple and outer[0] == 1:
        return outer[1][start:stop], True
    items, load = _open_parts(outer, "the argument list of an item")
    items = items[start:stop]
    return list(map(load, items)) if load else items, False


def dump_values(values: list[Any], *, plain: bool = False) -> bytes:
    """The results of many items, ``plain`` if they are known to be numbers, text and the like."""
    if plain or is_unsharing(values, ATOMS):
        return pickle.dumps(values, _PROTOCOL)
    return _dump_parts(values, lambda i, why: _refusal([values[i]], lambda _: "the result", why))


def open_values(data: Payload) -> tuple[list[Any], Callable[[bytes], Any] | None]:
    """The results that ``dump_values`` wrote, and what is to be called on each to get its value.

    The latter is None if they are values already. This runs no code of users, whatever the
    results are; the function returned may. Both raise ``PayloadError``.
    """
    return _open_parts(_load(data, "the result"), "the result")


def _open_parts(outer: Any, what: str) -> tuple[list[Any], Callable[[bytes], Any] | None]:
    if type(outer) is list:
        return outer, None
    parts, shared = outer
    if type(parts) is int:
        return unflatten(parts, shared), None
    classes: list[type] = []

    def load(part: bytes) -> Any:
        if shared and not classes:
            classes.extend(_load(shared, what))
        return _load(part, what, classes)

    return parts, load


# ---------------------------------------------------------------- functions


def dump_function(function: Callable[..., Any]) -> FunctionPayload:
    """A function as it travels; quick if nothing that it takes along can have changed.

    Raises ``PayloadError``.
    """
    payload = _functions.get(function)
    if payload is not None:
        return payload
    try:
        payload = _functions.make(function)
    except Exception as error:  # noqa: BLE001 -- whatever users' __reduce__ raises
        refusal = _refusal([function], lambda _: f"function {name_of(function)}", error)
    else:
        check_size(len(payload.data), f"function {payload.name} with what it captures")
        return payload
    raise refusal


def _by_name(thing: Any) -> bool:
    """Whether a function or class travels as its name: importable, and found there."""
    module = getattr(thing, "__module__", None) or ""
    if module in {"__main__", "__mp_main__"} or not found_by_name(thing):
        return False
    if isinstance(thing, FunctionType) and not is_importable(module):
        _register(sys.modules[module])
    names = list_registry_pickle_by_value()
    return not any(module == name or module.startswith(f"{name}.") for name in names)


def _snapshot(value: Any) -> bytes | None:
    """The plain pickle of captured data; None if it has none, or is large."""
    data = _plain(value)
    return None if data is None or len(data) > SNAPSHOT_BYTES_MAX else data


def _dump_function(function: Callable[..., Any]) -> tuple[bytes, Sources]:
    data = _dumps(function)
    found = sources_of(data)
    wrapped = pickle.dumps((list(map(tuple, found)), data), _PROTOCOL) if found else data
    return wrapped, Sources(found)


_functions = FunctionMemory(_dump_function, _by_name, _snapshot, list_registry_pickle_by_value)


def load_function(data: bytes, *, fresh: bool | None = None) -> Callable[..., Any]:
    """The function that ``dump_function`` wrote. Raises ``PayloadError``.

    With ``fresh`` only if its sources are the same here; raises what ``check_sources`` does.
    """
    function = open_with_sources(data, lambda part: _load(part, "the function"), fresh=fresh)
    if not callable(function):
        raise PayloadError(f"the function is no function but {type(function).__name__}")
    loaded: Callable[..., Any] = function
    return loaded


# ---------------------------------------------------------------- exceptions


def dump_exception(exc: BaseException) -> tuple[bytes, str, str, str]:
    """An exception as payload, qualified type name, message and traceback; never fails."""
    try:
        plain = split_exception(exc, _dumps, pickle.loads)
        link = Link(*plain)
        text = exception_text(exc)
        return pickle.dumps((plain, text), _PROTOCOL), link.type_name, link.message, text
    except BaseException:  # noqa: BLE001 -- whatever users' __str__ raises; or out of memory, or stack
        name, message = qualified_name(type(exc)), f"{type(exc).__name__} (it cannot be described)"
        plain = tuple(Link(b"", name, message, (), suppress=False))
        return pickle.dumps((plain, ""), _PROTOCOL), name, message, ""


def load_exception(data: Payload) -> BaseException:
    """The exception that ``dump_exception`` wrote, or a ``TaskError``; never raises."""
    try:
        plain, text = _load(data, "the exception")
        return join_exception(plain, text, pickle.loads)
    except Exception as error:  # noqa: BLE001 -- damaged, or of another version
        return TaskError(f"the task failed, and its exception cannot be read: {error!r}")
