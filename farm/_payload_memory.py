"""Functions that were pickled before, and how to tell which can be used again.

A function that travels as its name can be used again while it is still found there; one that
travels by value, while its ``Captures`` are unchanged. Functions are remembered by identity and
weakly, and no more than a fixed number of them. This module pickles nothing itself: it is handed
functions that do.
"""

import functools
import sys
from collections.abc import Callable
from types import BuiltinFunctionType, FunctionType
from typing import Any, NamedTuple
from weakref import ref

from farm._payload_captures import Captures, found_by_name
from farm._payload_sources import Sources
from farm.digest import blake2b

__all__ = [
    "CacheWrapper",
    "FunctionMemory",
    "FunctionPayload",
    "cached_again",
    "is_importable",
    "name_of",
]

FUNCTIONS_MAX = 1024
"""Functions remembered: those used most recently."""

CacheWrapper = type(functools.cache(len))
"""The type of functions under ``functools.cache`` and ``lru_cache``."""

_NAMED = (FunctionType, BuiltinFunctionType, type, CacheWrapper)
# Module names, the spec seen and whether it can be imported; bounded by the modules there are.
_importable: dict[str, tuple[Any, bool]] = {}


def cached_again(function: Callable[..., Any], parameters: dict[str, Any]) -> Any:
    """A function under a cache of its own, as one that travels by value arrives."""
    return functools.lru_cache(**parameters)(function)


class FunctionPayload(NamedTuple):
    """A function as it travels, once: ``hash`` is the 16-byte BLAKE2b of ``data``."""

    hash: bytes
    name: str
    data: bytes


class _Entry(NamedTuple):
    of: "ref[Any]"
    payload: FunctionPayload
    captures: Captures | None  # None: it travels as its name
    by_value: set[str]
    sources: Sources


class FunctionMemory:
    """The payloads of functions, by function.

    ``dumps`` pickles one and names its sources, ``by_name`` says whether one travels as its name,
    ``snapshot`` gives the plain pickle of captured data or None, ``by_value`` the modules
    registered to travel so.
    """

    def __init__(
        self,
        dumps: Callable[[Any], tuple[bytes, Sources]],
        by_name: Callable[[Any], bool],
        snapshot: Callable[[Any], bytes | None],
        by_value: Callable[[], set[str]],
    ) -> None:
        self._dumps = dumps
        self._by_name = by_name
        self._snapshot = snapshot
        self._by_value = by_value
        self._entries: dict[int, _Entry] = {}  # oldest use first; at most FUNCTIONS_MAX

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, function: Any) -> FunctionPayload | None:
        """The payload made before, if a new one could not be different."""
        entry = self._entries.get(id(function))
        if entry is None or entry.of() is not function or entry.by_value != self._by_value():
            return None
        captures, sources = entry.captures, entry.sources
        if not (found_by_name(function) if captures is None else captures.unchanged()):
            return None
        if sources.found and sources.changed():
            return None
        if len(self._entries) > FUNCTIONS_MAX // 2:  # below that none is forgotten soon
            self._put(id(function), entry)
        return entry.payload

    def make(self, function: Any) -> FunctionPayload:
        """A new payload, remembered if it can be; raises whatever pickling raises."""
        # What it captures is noted before it is pickled: a change between the two then shows as
        # a difference at the next use.
        captures = None
        named = isinstance(function, _NAMED) and self._by_name(function)
        if not named and isinstance(function, FunctionType | type | functools.partial):
            captures = Captures(function, self._by_name, self._snapshot)
        by_value = self._by_value()
        data, sources = self._dumps(function)
        entry = self._entries.get(id(function))
        if entry is not None and entry.of() is function and entry.payload.data == data:
            payload = entry.payload
        else:
            digest = blake2b(data, digest_size=16).digest()
            payload = FunctionPayload(digest, name_of(function), data)
        if named or captures is not None:
            of = ref(function, self._forget)
            self._put(id(function), _Entry(of, payload, captures, by_value, sources))
        return payload

    def _put(self, key: int, entry: _Entry) -> None:
        self._entries.pop(key, None)
        self._entries[key] = entry
        while len(self._entries) > FUNCTIONS_MAX:
            self._entries.pop(next(iter(self._entries.copy())), None)

    def _forget(self, dead: "ref[Any]") -> None:
        for key, entry in self._entries.copy().items():
            if entry.of is dead:
                self._entries.pop(key, None)


def name_of(function: Any) -> str:
    """What a function is called in messages."""
    registered = getattr(function, "registered_name", None)
    if isinstance(registered, str):
        return registered
    inner = function.func if isinstance(function, functools.partial) else function
    name = getattr(inner, "__qualname__", None) or type(inner).__qualname__
    module = getattr(inner, "__module__", None)
    return f"{module}.{name}" if module not in {None, "__main__", "builtins"} else str(name)


def is_importable(name: str) -> bool:
    """Whether importing a module by name elsewhere, with the same path, finds the same file."""
    spec = getattr(sys.modules[name], "__spec__", None)
    known = _importable.get(name)
    if known is None or known[0] is not spec:
        known = _importable[name] = (spec, spec is not None and _finds(name, spec))
    return known[1]


def _finds(name: str, spec: Any) -> bool:
    try:
        parent = name.rpartition(".")[0]
        path = sys.modules[parent].__path__ if parent else None
        for finder in sys.meta_path:
            found = finder.find_spec(name, path)
            if found is not None:
                return bool(found.origin == spec.origin)
    except Exception:  # noqa: BLE001 -- finders of other packages: no verdict, so as usual
        return True
    return False
