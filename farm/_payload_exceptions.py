"""Exceptions as plain data and back, with notes, chain, group members and remote traceback.

Each exception of a chain is pickled by itself, so that one which cannot travel becomes a
``TaskError`` and the others stay what they are. A type with an ``__init__`` or ``__reduce__`` of
its own is loaded once where it is dumped: if that does not give the same exception, it is
pickled in a way that does not call ``__init__``. This module pickles nothing itself: it is handed
functions that do.
"""

import traceback
from collections.abc import Callable
from typing import Any, NamedTuple

from farm.errors import TaskError

__all__ = ["Link", "RemoteTraceback", "exception_text", "join_exception", "split_exception"]

LINKS_MAX = 256
"""Exceptions of a chain, groups included, that travel."""
DEPTH_MAX = 16
EXCEPTION_BYTES_MAX = 8 << 20
"""An exception with larger arguments becomes a ``TaskError``."""
CHAIN_BYTES_MAX = 4 * EXCEPTION_BYTES_MAX
"""And so does what has no room beside the others: together they are one payload."""
MESSAGE_CHARS_MAX = 2_000
TRACEBACK_CHARS_MAX = 64_000

Dump = Callable[[Any], bytes]
Load = Callable[[bytes], Any]

_MAKING = ("__init__", "__new__", "__reduce__", "__reduce_ex__", "__getstate__", "__setstate__")


Plain = tuple[Any, ...]
"""A ``Link`` as it travels: only tuples, text and bytes."""


class Link(NamedTuple):
    """One exception of a chain; ``data`` is empty if it cannot travel."""

    data: bytes
    type_name: str
    message: str
    notes: tuple[str, ...]
    suppress: bool
    cause: Plain | None = None
    context: Plain | None = None
    context_is_cause: bool = False
    members: tuple[Plain, ...] = ()


class RemoteTraceback(Exception):
    """The traceback of the task, as text; the last link of the ``__cause__`` chain."""

    def __str__(self) -> str:
        return f'\n"""\n{self.args[0] if self.args else ""}"""'


def qualified_name(cls: type) -> str:
    """A type's name as tracebacks show it."""
    prefix = "" if cls.__module__ == "builtins" else f"{cls.__module__}."
    return prefix + cls.__qualname__


def message_of(exc: BaseException) -> str:
    """What an exception says, shortened; never fails."""
    try:
        text = str(exc)
    except Exception:  # noqa: BLE001 -- users' __str__ may do anything
        return f"<unprintable {type(exc).__name__}>"
    return _shortened(text, MESSAGE_CHARS_MAX)


def exception_text(exc: BaseException) -> str:
    """The formatted traceback of an exception and its chain, shortened; never fails."""
    try:
        text = "".join(traceback.format_exception(exc))
    except Exception:  # noqa: BLE001 -- users' __str__ and __notes__ may do anything
        text = f"{qualified_name(type(exc))}: {message_of(exc)}\n"
    return _shortened(text, TRACEBACK_CHARS_MAX)


def _shortened(text: str, chars: int) -> str:
    # Lone surrogates cannot be encoded on the way.
    text = text.encode("utf-8", "backslashreplace").decode("utf-8")
    return text if len(text) <= chars else f"{text[: chars // 2]} … {text[-chars // 2 :]}"


# ---------------------------------------------------------------- apart


def split_exception(exc: BaseException, dump: Dump, load: Load) -> Plain:
    """An exception and its chain as plain data; never fails."""
    return _Splitter(dump, load).split(exc, 0)


class _Splitter:
    def __init__(self, dump: Dump, load: Load) -> None:
        self._dump = dump
        self._load = load
        self._left = LINKS_MAX
        self._room = CHAIN_BYTES_MAX

    def split(self, exc: BaseException, depth: int) -> Plain:
        self._left -= 1
        notes = [note for note in getattr(exc, "__notes__", None) or () if isinstance(note, str)]
        members: list[Plain] = []
        if isinstance(exc, BaseExceptionGroup):
            members += filter(None, (self._next(member, depth) for member in exc.exceptions))
            if len(members) < len(exc.exceptions):
                missing = len(exc.exceptions) - len(members)
                notes.append(f"{missing} more exceptions of this group did not travel")
        link = Link(
            self._data(exc),
            qualified_name(type(exc)),
            message_of(exc),
            tuple(_shortened(note, MESSAGE_CHARS_MAX) for note in notes),
            exc.__suppress_context__,
            self._next(exc.__cause__, depth),
            None if exc.__context__ is exc.__cause__ else self._next(exc.__context__, depth),
            exc.__context__ is exc.__cause__,
            tuple(members),
        )
        return tuple(link)

    def _next(self, exc: BaseException | None, depth: int) -> Plain | None:
        if exc is None or self._left <= 0 or depth >= DEPTH_MAX:
            return None
        return self.split(exc, depth + 1)

    def _data(self, exc: BaseException) -> bytes:
        for form in _forms(exc):
            try:
                data = self._dump(form)
                if len(data) > min(EXCEPTION_BYTES_MAX, self._room):
                    continue
                members = getattr(exc, "exceptions", ())
                if (form is exc and _is_plain(type(exc))) or _alike(
                    _made(self._load(data), members), exc
                ):
                    self._room -= len(data)
                    return data
            except Exception:  # noqa: BLE001, S112 -- of users' code; then the next form, or none
                continue
        return b""


def _forms(exc: BaseException) -> list[Any]:
    """What may be pickled to stand for an exception, the best first."""
    state = {key: value for key, value in exc.__dict__.items() if key != "__notes__"}
    if isinstance(exc, BaseExceptionGroup):
        return [(type(exc), (exc.message,), state)]
    return [exc, (type(exc), exc.args, state)]


def _is_plain(cls: type) -> bool:
    """Whether a type is made, and pickled, as the built-in exceptions are."""
    own = (base for base in cls.__mro__ if base.__module__ != "builtins")
    return not any(name in vars(base) for base in own for name in _MAKING)


def _alike(made: BaseException, exc: BaseException) -> bool:
    return (
        type(made) is type(exc)
        and str(made) == str(exc)
        and len(made.args) == len(exc.args)
        and vars(made).keys() - {"__notes__"} == vars(exc).keys() - {"__notes__"}
    )


# ---------------------------------------------------------------- together again


def join_exception(plain: Plain, traceback_text: str, load: Load) -> BaseException:
    """The exception that was split; what cannot be rebuilt here becomes a ``TaskError``."""
    exc = _join(plain, traceback_text, load)
    end = exc
    while end.__cause__ is not None:
        end = end.__cause__
    # Setting a cause would hide the context from whoever looks at the exception.
    suppress = end.__suppress_context__
    end.__cause__ = RemoteTraceback(traceback_text)
    end.__suppress_context__ = suppress
    return exc


def _join(plain: Plain, text: str, load: Load) -> BaseException:
    link = Link(*plain)
    members = [_join(member, text, load) for member in link.members]
    exc: BaseException
    try:
        if not link.data:
            raise TypeError("it cannot be pickled")  # noqa: TRY301 -- one way for both
        exc = _made(load(link.data), members)
        if link.notes:
            exc.__notes__ = list(link.notes)
    except Exception as error:  # noqa: BLE001 -- of users' code, or a module missing here
        exc = TaskError(
            f"the task raised {link.type_name}: {link.message}"
            f" (not rebuilt here: {_reason(error)})",
            link.type_name,
            text,
        )
        for note in link.notes:
            exc.add_note(note)
    if link.cause is not None:
        exc.__cause__ = _join(link.cause, text, load)
    if link.context is not None:
        exc.__context__ = _join(link.context, text, load)
    elif link.context_is_cause:
        exc.__context__ = exc.__cause__
    exc.__suppress_context__ = link.suppress
    return exc


def _reason(error: Exception) -> str:
    cause = error.__cause__ or error
    return f"{type(cause).__name__}: {message_of(cause)}"


def _made(value: Any, members: Any) -> BaseException:
    if isinstance(value, BaseException):
        return value
    cls, args, state = value
    # Made without the __new__ and __init__ of users, which may want other arguments.
    exc: BaseException
    if issubclass(cls, BaseExceptionGroup):
        exc = BaseExceptionGroup.__new__(cls, *args, list(members))  # type: ignore[call-arg]
    else:
        base = next(base for base in cls.__mro__ if base.__module__ == "builtins")
        exc = base.__new__(cls, *args)
        exc.args = args
    exc.__dict__.update(state)
    return exc
