"""Calls of registered functions: a name and arguments in JSON, and a result in JSON.

What travels as the function is its name alone; the worker looks it up in its own registry when the
task runs. So hosts run the version that they have imported, and who submits needs no code of it.
"""

import inspect
from collections.abc import Callable, Mapping, Sequence
from difflib import get_close_matches
from functools import cached_property
from typing import Any, get_type_hints

import msgspec

from farm.errors import ArgumentError, UnknownFunction
from farm.json_payload import Json, to_json
from farm.registry import find

__all__ = ["NamedCall", "Signature", "call_text"]

_MANY = inspect.Parameter.VAR_POSITIONAL
_MORE = inspect.Parameter.VAR_KEYWORD
_STARS: Mapping[Any, str] = {_MANY: "*", _MORE: "**"}
_BY_PLACE = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
_BY_NAME = (inspect.Parameter.KEYWORD_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)


class NamedCall:
    """A registered function, by name: called with the text that ``call_text`` makes.

    Raises ``UnknownFunction`` where no module that has it was imported, ``ArgumentError`` where
    the arguments do not fit, ``PayloadError`` for a result that JSON cannot say.
    """

    def __init__(self, name: str) -> None:
        self.registered_name = name
        """What it is called in messages, too."""

    def __reduce__(self) -> tuple[type["NamedCall"], tuple[str]]:
        return NamedCall, (self.registered_name,)

    def __call__(self, text: bytes) -> Json:
        """The result of the function for these arguments."""
        function, signature = self._found
        args, kwargs = signature.convert(*msgspec.json.decode(text))
        return to_json(function(*args, **kwargs))

    @cached_property
    def _found(self) -> "tuple[Callable[..., Any], Signature]":
        try:
            function = find(self.registered_name).function
        except UnknownFunction as error:
            raise UnknownFunction(
                f"this host knows no function {self.registered_name!r}: start it with --import and "
                f"the module that registers it ({error})"
            ) from None
        return function, Signature(function)


def call_text(args: Sequence[Any], kwargs: Mapping[str, Any]) -> bytes:
    """Arguments, of values that JSON has, as they travel."""
    return msgspec.json.encode((args, kwargs))


class Signature:
    """The parameters of a function, and what arguments from JSON must be to fit them."""

    def __init__(self, function: Callable[..., Any]) -> None:
        try:
            self.parameters = dict(inspect.signature(function).parameters)
        except (TypeError, ValueError):  # some built-in functions do not say
            self.parameters = {
                "args": inspect.Parameter("args", _MANY),
                "kwargs": inspect.Parameter("kwargs", _MORE),
            }
        self._types = _types(function)
        self._by_place = [name for name, one in self.parameters.items() if one.kind in _BY_PLACE]
        self._many = next((n for n, one in self.parameters.items() if one.kind is _MANY), None)
        self._more = next((n for n, one in self.parameters.items() if one.kind is _MORE), None)

    def convert(
        self, args: Sequence[Any], kwargs: Mapping[str, Any]
    ) -> tuple[list[Any], dict[str, Any]]:
        """The arguments as the annotations have them; raises ``ArgumentError`` naming the field."""
        if len(args) > len(self._by_place) and self._many is None:
            raise ArgumentError(
                "args",
                f"there are {len(args)} arguments, and the function takes "
                f"{len(self._by_place)} by position",
            )
        by_place = self._by_place[: len(args)]
        for name in kwargs:
            self._check_name(name, by_place)
        for name, one in self.parameters.items():
            required = one.default is one.empty and one.kind not in (_MANY, _MORE)
            if required and name not in by_place and name not in kwargs:
                if one.kind is inspect.Parameter.POSITIONAL_ONLY:
                    raise ArgumentError("args", f"the argument {name!r} is missing")
                raise ArgumentError(f"kwargs.{name}", "this argument is missing")
        names = [*by_place, *[self._many] * (len(args) - len(by_place))]
        converted = [
            self._as_annotated(name, value, f"args[{at}]")
            for at, (name, value) in enumerate(zip(names, args, strict=True))
        ]
        return converted, {
            name: self._as_annotated(
                name if self._by_name(name) else self._more, value, f"kwargs.{name}"
            )
            for name, value in kwargs.items()
        }

    def _check_name(self, name: str, by_place: Sequence[str]) -> None:
        """Raise if there can be no argument of this name, beside those by position."""
        if self._by_name(name):
            if name in by_place:
                raise ArgumentError(f"kwargs.{name}", "this argument is given by position, too")
        elif self._more is None:
            known = [known for known in self.parameters if self._by_name(known)]
            near = get_close_matches(name, known, 1)
            hint = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(known)}"
            raise ArgumentError(
                f"kwargs.{name}", f"there is no such argument; {hint if known else 'there is none'}"
            )

    def _by_name(self, name: str) -> bool:
        """Whether this is a parameter that may be given by name."""
        return name in self.parameters and self.parameters[name].kind in _BY_NAME

    def _as_annotated(self, parameter: str | None, value: Any, field: str) -> Any:
        wanted = self._types.get(parameter or "", Any)
        if wanted is Any:
            return value
        try:
            return msgspec.convert(value, wanted)
        except msgspec.ValidationError as error:
            said, _, path = str(error).partition(" - at `$")
            raise ArgumentError(field + path.rstrip("`"), said[:1].lower() + said[1:]) from None

    def describe(self) -> list[dict[str, Any]]:
        """The parameters as plain data: name, whether it is required, its type as JSON Schema."""
        rows: list[dict[str, Any]] = []
        for name, one in self.parameters.items():
            row: dict[str, Any] = {
                "name": _STARS.get(one.kind, "") + name,
                "required": one.default is one.empty and one.kind not in (_MANY, _MORE),
            }
            if name in self._types:
                row["schema"] = msgspec.json.schema(self._types[name])
            rows.append(row)
        return rows


def _types(function: Callable[..., Any]) -> dict[str, Any]:
    """The annotations that values of JSON can be made to fit; others are not looked at."""
    try:
        hints = get_type_hints(function, include_extras=True)
    except Exception:  # noqa: BLE001 - names that are only known to type checkers, and worse
        return {}
    found: dict[str, Any] = {}
    for name, hint in hints.items():
        if name == "return" or hint is Any:
            continue
        try:
            msgspec.json.schema(hint)
        except Exception:  # noqa: BLE001, S112 - no type that JSON can be: anything goes
            continue
        found[name] = hint
    return found
