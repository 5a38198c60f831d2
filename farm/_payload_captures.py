"""What a function takes along when it travels by value, and whether that has changed since.

A function that can be imported by name travels as its name. One from ``__main__``, a notebook or
another function travels by value: with its code, defaults, attributes, closure cells and the
globals that it and what it calls use. ``Captures`` remembers all of these, so that a pickle can
be used again exactly as long as nothing in it could have become different:

- what cannot change (numbers, text, modules, functions and classes found by name) must be the
  same object as before;
- functions, classes and partials that travel by value are looked into in the same way;
- any other object must have the same plain pickle as before; one that has none, or a large one,
  makes the captures *volatile*: they are never known to be unchanged.

Nothing that travels by value is kept alive from here, so a function dies as if it had never been
looked at. This module pickles nothing itself: it is handed a function that does.
"""

import dis
import functools
import sys
import types
from collections.abc import Callable
from enum import EnumType
from itertools import repeat
from types import (
    BuiltinFunctionType,
    CodeType,
    FunctionType,
    GetSetDescriptorType,
    MemberDescriptorType,
    ModuleType,
)
from typing import Any
from weakref import WeakKeyDictionary, ref

__all__ = ["ATOMS", "BUILTIN_TYPES", "Captures", "found_by_name", "global_names"]

ATOMS = frozenset(
    {int, float, complex, str, bytes, bool, type(None), type(...), type(NotImplemented), range}
)
"""Exact types whose instances cannot change and hold nothing that can."""
BUILTIN_TYPES = frozenset(value for value in vars(types).values() if isinstance(value, type))
"""The types of functions, modules and the like, which have no importable names."""

RECORDS_MAX = 64
"""Functions and classes looked into; what captures more is volatile."""
TUPLE_MAX = 64
"""Elements of a tuple looked into; a longer one is compared by its pickle."""

_MISSING = object()
_MISSING_ALL = repeat(_MISSING)  # endless
_GLOBAL_OPERATIONS = frozenset({"LOAD_GLOBAL", "STORE_GLOBAL", "DELETE_GLOBAL"})
_DESCRIPTORS = (classmethod, staticmethod, property)
_SLOTS = frozenset({GetSetDescriptorType, MemberDescriptorType})
_LOOKED_INTO = (FunctionType, type, functools.partial)
# Parts of a class that follow from the rest, or that nobody changes after it was made.
_CLASS_BYWORK = frozenset(
    {
        "__abstractmethods__",
        "__annotate__",
        "__annotate_func__",
        "__annotations__",
        "__annotations_cache__",
        "__dataclass_fields__",
        "__dataclass_params__",
        "__dict__",
        "__doc__",
        "__firstlineno__",
        "__match_args__",
        "__module__",
        "__orig_bases__",
        "__parameters__",
        "__qualname__",
        "__slots__",
        "__static_attributes__",
        "__type_params__",
        "__weakref__",
        "_abc_impl",
    }
)
# Names of globals by code object; weak, so bounded by the code that is alive.
_names_of_code: WeakKeyDictionary[CodeType, tuple[str, ...]] = WeakKeyDictionary()


def global_names(code: CodeType) -> tuple[str, ...]:
    """The names of all globals that code, or code nested in it, reads or writes."""
    names = _names_of_code.get(code)
    if names is None:
        found = {
            instruction.argval: None
            for instruction in dis.get_instructions(code)
            if instruction.opname in _GLOBAL_OPERATIONS
        }
        for constant in code.co_consts:
            if isinstance(constant, CodeType):
                found.update(dict.fromkeys(global_names(constant)))
        names = _names_of_code[code] = tuple(found)
    return names


def found_by_name(thing: Any) -> bool:
    """Whether a function or class is what its module has under its qualified name."""
    module = sys.modules.get(getattr(thing, "__module__", None) or "")
    found: Any = module
    for name in thing.__qualname__.split("."):
        found = getattr(found, name, None)
    return module is not None and found is thing


class _Record:
    """One function, class or partial that travels by value, as it was."""

    __slots__ = ("data", "descriptors", "ids", "kept", "names", "of", "size")

    def __init__(self, thing: Any) -> None:
        self.of = ref(thing)
        self.descriptors: list[str] = []
        self.names: tuple[str, ...] = ()
        if isinstance(thing, FunctionType):
            self.names = global_names(thing.__code__)
        elif isinstance(thing, type):
            self._split(thing)
        # Of a class, since its view has only the members that it had.
        self.size = len(thing.__dict__) if isinstance(thing, type) else None
        self.ids = list(map(id, self.view(thing)))
        self.kept: list[Any] = []  # held, so that no other object can come to have their id
        self.data: list[int] = []  # places in the view of objects to be compared by pickle

    def _split(self, thing: type) -> None:
        members = {k: v for k, v in vars(thing).items() if k not in _CLASS_BYWORK}
        self.descriptors = [k for k, v in members.items() if isinstance(v, _DESCRIPTORS)]
        if isinstance(thing, EnumType):  # its members are fixed, its methods are not
            members = {k: v for k, v in members.items() if isinstance(v, FunctionType)}
        self.names = tuple(
            name
            for name, value in members.items()
            if not isinstance(value, _DESCRIPTORS) and type(value) not in _SLOTS
        )

    def view(self, thing: Any) -> list[Any]:
        """All that it holds now, in an order that only a change can change."""
        if isinstance(thing, FunctionType):
            namespace = thing.__globals__
            view: list[Any] = [thing.__code__, thing.__defaults__]
            view += map(namespace.get, self.names, _MISSING_ALL)
            if keywords := thing.__kwdefaults__:
                view += keywords
                view += keywords.values()
            if attributes := thing.__dict__:
                view += attributes
                view += attributes.values()
            if cells := thing.__closure__:
                view += map(_content, cells)
            return view
        if isinstance(thing, type):
            members = thing.__dict__
            view = [members.get(name, _MISSING) for name in self.names]
            view += thing.__bases__
            view.append(type(thing))
            for name in self.descriptors:
                view += _functions(members.get(name))
            return view
        return [thing.func, thing.args, *thing.keywords, *thing.keywords.values()]


def _functions(descriptor: Any) -> tuple[Any, ...]:
    if isinstance(descriptor, property):
        return descriptor.fget, descriptor.fset, descriptor.fdel
    return (getattr(descriptor, "__func__", _MISSING),)


def _content(cell: Any) -> Any:
    try:
        return cell.cell_contents
    except ValueError:
        return _MISSING


class Captures:
    """Everything a callable takes along, as it was when this was made.

    ``by_name`` says whether a function or class travels as its name; ``snapshot`` gives the plain
    pickle of an object, or None if it has none or a large one.
    """

    __slots__ = ("_by_name", "_modules", "_pickles", "_records", "_snapshot", "volatile")

    def __init__(
        self,
        function: Any,
        by_name: Callable[[Any], bool],
        snapshot: Callable[[Any], bytes | None],
    ) -> None:
        self._by_name = by_name
        self._snapshot = snapshot
        self._modules = len(sys.modules)
        self._records: list[_Record] = []
        data: list[Any] = []
        seen = {id(function): function}
        queue = [function]
        while queue and len(self._records) < RECORDS_MAX:
            thing = queue.pop()
            record = _Record(thing)
            self._records.append(record)
            for place, value in enumerate(record.view(thing)):
                if value is _MISSING or self._constant(value):
                    record.kept.append(value)
                elif not isinstance(value, _LOOKED_INTO):
                    record.data.append(place)
                    data.append(value)
                elif id(value) not in seen:
                    seen[id(value)] = value
                    queue.append(value)
        self._pickles = snapshot(data) if data else b""
        self.volatile = bool(queue) or self._pickles is None

    def _constant(self, value: Any, depth: int = 3) -> bool:
        kind = type(value)
        if kind in ATOMS or kind is CodeType or kind in _SLOTS:
            return True
        if kind is ModuleType:
            return sys.modules.get(value.__name__) is value
        if kind in (tuple, frozenset):
            small = depth > 0 and len(value) <= TUPLE_MAX
            return small and all(self._constant(part, depth - 1) for part in value)
        if kind is BuiltinFunctionType:
            return isinstance(value.__self__, ModuleType)
        return isinstance(value, FunctionType | type) and self._by_name(value)

    def unchanged(self) -> bool:
        """Whether a new pickle would say the same as one made after this."""
        if self.volatile or len(sys.modules) != self._modules:
            return False  # a new module may be a submodule that the code uses
        records = self._records
        if not self._pickles and len(records) == 1 and (one := records[0]).size is None:
            thing = one.of()  # as nearly always: a function that captures what cannot change
            return thing is not None and [*map(id, one.view(thing))] == one.ids
        data: list[Any] = []
        for record in records:
            thing = record.of()
            if thing is None:
                return False
            view = record.view(thing)
            if list(map(id, view)) != record.ids:
                return False
            if record.size is not None and record.size != len(thing.__dict__):
                return False
            for place in record.data:
                data.append(view[place])  # noqa: PERF401 -- mostly none: no comprehension to set up
        return not data or self._snapshot(data) == self._pickles
