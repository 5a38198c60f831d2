"""What a schedule says: when, what, and what becomes of a fire whose time was not a good one."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from functools import lru_cache
from hashlib import sha256
from operator import attrgetter
from sys import _getframe, intern
from types import FrameType
from typing import Any, NamedTuple, cast
from urllib.parse import urlsplit

from farm.imports import for_the_farm
from farm.model import Duration, seconds
from farm_scheduler.core.given import NOTHING, listed, options_of, table
from farm_scheduler.core.timing import Timing
from farm_scheduler.cron import POLICIES, DstPolicy, plain

__all__ = [
    "DAY",
    "FIELDS",
    "MISFIRE",
    "OVERLAP",
    "Place",
    "Policy",
    "Schedule",
    "Stopped",
    "Target",
    "place_of",
    "policy",
]

DAY = 86_400.0
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,99}")
REFERENCE = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_][\w.]*")
WAY = re.compile(r"([a-z_]+)(?:\(\s*(\d{1,9})\s*\))?")
CATCH_UP_MAX = 366 * DAY

MISFIRE = {"latest": False, "all": True, "skip": False}
"""What becomes of fires that were missed; whether it may be followed by a number, as in all(5)."""
OVERLAP = {"buffer_one": False, "buffer_all": True, "skip": False, "cancel": False, "allow": False}
"""What becomes of a fire while the one before runs; the same."""
AT_MOST = 100
"""The number, where none is said."""

Target = Callable[..., Any] | str


class Policy(NamedTuple):
    """One of the words of ``MISFIRE`` or ``OVERLAP``, and its number."""

    way: str
    most: int


class _Forbearing(type):
    """A wrong schedule is an error of its program, and of itself alone where the farm reads it."""

    def __call__(cls, *args: Any, **options: Any) -> Any:
        try:
            return super().__call__(*args, **options)
        except (ValueError, TypeError) as error:
            if not for_the_farm():
                raise
            return Stopped.of(args, options, error, place_of(_getframe(1)))


@dataclass(init=False, frozen=True, slots=True)
class Schedule(metaclass=_Forbearing):
    """One entry of the timetable; made once, never changed.

    ``name``: letters, digits, ``_ . -``. ``cron``: see ``farm_scheduler.cron``. ``run``: a function
    that workers can import, or its name as ``"module:function"``; ``args`` and ``kwargs`` are what
    JSON can say. ``command``: a program and its arguments instead.

    ``misfire``: of fires more than ``late_after`` behind their time, since nobody was there to
    decide, ``latest`` runs one for all, ``all(n)`` the last n, ``skip`` none; older than
    ``catch_up`` none either. ``overlap``: while a fire runs, ``buffer_one`` lets one more wait,
    ``buffer_all(n)`` n, ``skip`` none, ``cancel`` stops what runs for it, ``allow`` does not mind.
    ``jitter``: fires are due up to so much later, always by the same, and other than those of other
    schedules. ``deadline``: what has not begun so long after it was due is skipped. ``keep``: how
    long the ledger keeps its rows. ``on_failure``, ``on_late``: a command (a list), or a URL.
    ``options``: of its tasks, as ``client.options`` has them.

    Raises ``ValueError`` naming the schedule, what is wrong, and what would be right; while the
    farm imports a module it is ``Stopped`` instead, and the rest of the module goes on.
    """

    name: str
    cron: str
    tz: str
    run: str
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    command: tuple[str, ...]
    dst: DstPolicy
    misfire: str
    overlap: str
    catch_up: float
    late_after: float
    jitter: float
    deadline: float | None
    keep: float
    on_failure: str | tuple[str, ...]
    on_late: str | tuple[str, ...]
    options: Mapping[str, Any]
    plain: str
    """``cron`` as ``farm_scheduler.cron.plain`` has it."""
    offset: float
    """By how many seconds its fires are due after their nominal time."""

    def __init__(  # noqa: PLR0913 - one for each option
        self,
        name: str,
        *,
        cron: str,
        tz: str = "UTC",
        run: Target | None = None,
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
        command: Sequence[str] = (),
        dst: DstPolicy = "cron",
        misfire: str = "latest",
        overlap: str = "buffer_one",
        catch_up: Duration = "1d",
        late_after: Duration = "1m",
        jitter: Duration = 0,
        deadline: Duration | None = None,
        keep: Duration = "90d",
        on_failure: str | Sequence[str] = "",
        on_late: str | Sequence[str] = "",
        options: Mapping[str, Any] | None = None,
    ) -> None:
        if not isinstance(name, str) or not NAME.fullmatch(name):
            raise ValueError(
                f"the name {name!r}: it must be up to 100 letters, digits, '_', '.' or '-', and "
                "begin with a letter or digit"
            )
        try:
            program = _words("command", command)
            manner = tz, dst, misfire, overlap, catch_up, late_after, jitter, deadline, keep
            try:
                tz, dst, *policies, shift, last, kept = _manner(*manner)
            except TypeError:  # one of them is a list or a table, and of no use here
                tz, dst, *policies, shift, last, kept = _manner.__wrapped__(*manner)
            values = (
                name,
                _text("cron", cron),
                tz,
                _reference(run, program),
                listed("args", args),
                table("kwargs", kwargs),
                program,
                dst,
                *policies,
                shift,
                last,
                kept,
                _hook("on_failure", on_failure),
                _hook("on_late", on_late),
                options_of(options),
                spelled := intern(plain(cron, name)),
                _offset(name, shift),
            )
            Timing.of(spelled, tz, dst)
        except ValueError as error:
            raise ValueError(f"schedule {name!r}: {error}") from None
        for put, value in zip(PUT, values, strict=True):
            put(self, value)

    @property
    def timing(self) -> Timing:
        """Its nominal times."""
        return Timing.of(self.plain, self.tz, self.dst)

    @property
    def window(self) -> float:
        """Older than this no fire is made up for; less than ``late_after`` is no delay at all."""
        return max(self.catch_up, self.late_after)

    def is_late(self, due: float, now: float) -> bool:
        """Whether a fire that is decided, or begun, now counts as late."""
        return now - due > self.late_after

    def state(self) -> tuple[Any, ...]:
        """All of it as plain data, from which ``restored`` makes it again, unchecked."""
        return GET(self)

    @classmethod
    def restored(cls, state: Sequence[Any]) -> "Schedule":
        """What ``state`` was made of."""
        self = object.__new__(cls)
        for put, value in zip(PUT, state, strict=True):
            kind = type(value)
            if kind is str:
                put(self, intern(value))
            elif kind is list:
                put(self, tuple(value))
            else:
                put(self, value or NOTHING if kind is dict else value)
        return self


class Stopped(Schedule):
    """A schedule that is wrong, in a module that the farm imports: that stops no other.

    Its fields are what was ``given``, unchecked. ``error`` says what is wrong with it, ``place``
    where it was made: a file and a line.
    """

    __slots__ = ("error", "given", "place")
    error: Exception
    given: Mapping[str, Any]
    place: "Place"

    @classmethod
    def of(
        cls, args: Sequence[Any], options: Mapping[str, Any], error: Exception, place: "Place"
    ) -> "Stopped":
        """One that was made with these arguments."""
        self = object.__new__(cls)
        given = {"name": "", **dict(zip(("name",), args, strict=False)), **options}
        fields = {"cron": "", **(Schedule.__init__.__kwdefaults__ or {}), **given}
        for put, field in zip(PUT, FIELDS, strict=True):
            put(self, fields.get(field))
        object.__setattr__(self, "given", given)
        object.__setattr__(self, "error", error.with_traceback(None))
        object.__setattr__(self, "place", place)
        return self

    @property
    def timing(self) -> Timing:
        """It has no nominal times."""
        raise ValueError(str(self.error))


class Place(NamedTuple):
    """Where in a program something is said."""

    file: str
    line: int


def place_of(frame: FrameType) -> Place:
    """Where a frame is now."""
    return Place(frame.f_code.co_filename, frame.f_lineno)


FIELDS: tuple[str, ...] = Schedule.__slots__
"""The order in which ``state`` has them."""
GET: Callable[[Schedule], tuple[Any, ...]] = attrgetter(*FIELDS)
"""What has them all in that order."""
PUT = tuple(vars(Schedule)[field].__set__ for field in FIELDS)
"""What puts each into a schedule that is being made; 100,000 are restored at every start."""


@lru_cache(1024)
def policy(text: str) -> Policy:
    """A way of ``MISFIRE`` or ``OVERLAP``, which was checked, with its number."""
    match = WAY.fullmatch(text)
    if match is None:
        raise ValueError(text)
    if match[1] == "buffer_one":
        return Policy("buffer_all", 1)
    return Policy(match[1], AT_MOST if match[2] is None else int(match[2]))


@lru_cache(1024, typed=True)  # of many schedules few differ in what is checked here
def _manner(  # noqa: PLR0913, PLR0917 - one for each option
    tz: str,
    dst: DstPolicy,
    misfire: str,
    overlap: str,
    catch_up: Duration,
    late_after: Duration,
    jitter: Duration,
    deadline: Duration | None,
    keep: Duration,
) -> tuple[str, DstPolicy, str, str, float, float, float, float | None, float]:
    """The same, checked, and durations in seconds."""
    window = _window(catch_up)
    return (
        intern(_text("tz", tz)),
        _one_of("dst", dst, POLICIES),
        intern(_policy("misfire", misfire, MISFIRE)),
        intern(_policy("overlap", overlap, OVERLAP)),
        window,
        seconds(late_after, "late_after"),
        seconds(jitter, "jitter"),
        _deadline(deadline),
        max(seconds(keep, "keep"), 2 * window),
    )


def _policy(what: str, value: object, ways: Mapping[str, bool]) -> str:
    match = WAY.fullmatch(value) if isinstance(value, str) else None
    if match and match[1] in ways and (match[2] is None or (ways[match[1]] and int(match[2]))):
        return cast("str", value)
    known = ", ".join(f"{way}(N)" if counts else way for way, counts in ways.items())
    raise ValueError(f"{what} is {value!r}; it must be one of {known}")


def _one_of(what: str, value: Any, known: Sequence[Any]) -> Any:
    if value in known:
        return value
    near = get_close_matches(str(value), known, 1)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    raise ValueError(f"{what} is {value!r}; it must be one of {', '.join(known)}{hint}")


def _text(what: str, value: object) -> str:
    if isinstance(value, str) and value.strip():
        return value
    raise ValueError(f"{what} is {value!r}; it must be a text that is not empty")


def _words(what: str, value: object) -> tuple[str, ...]:
    if isinstance(value, Sequence) and not isinstance(value, str):
        plain_words = all(isinstance(word, str) and "\0" not in word for word in value)
        if plain_words and (not value or value[0]):
            return tuple(value)
    raise ValueError(f'{what} is {value!r}; write a list of words, ["program", "argument"]')


def _window(value: Duration) -> float:
    window = seconds(value, "catch_up")
    if window > CATCH_UP_MAX:
        raise ValueError(f"catch_up is {value!r}; it may be up to a year, 366d")
    return window


def _deadline(value: Duration | None) -> float | None:
    found = None if value is None else seconds(value, "deadline")
    if found == 0:
        raise ValueError(f"deadline is {value!r}; a fire needs some time to begin, or None")
    return found


def _hook(what: str, value: object) -> str | tuple[str, ...]:
    if isinstance(value, str):
        if not value or _is_url(value):
            return value
        raise ValueError(
            f"{what} is {value!r}; write a URL, http://host/path, or a command as a list, "
            '["program", "argument"]'
        )
    return _words(what, value)


def _is_url(text: str) -> bool:
    try:
        parts = urlsplit(text)
        return parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
    except ValueError:  # a port that is no number, brackets that do not match
        return False


def _reference(run: object, command: tuple[str, ...]) -> str:
    if (run is None) == (not command):
        raise ValueError("say what to run: one of run and command")
    if run is None:
        return ""
    if isinstance(run, str):
        if REFERENCE.fullmatch(run):
            return intern(run)
        raise ValueError(f"run is {run!r}; write it as 'module:function'")
    module = getattr(run, "__module__", None)
    path = getattr(run, "__qualname__", "")
    if not callable(run) or not module or not path or "<" in path:
        raise ValueError(
            f"run is {run!r}; it must be a function at the top level of a module, or its name as "
            "'module:function'"
        )
    return intern(f"{module}:{path}")


def _offset(name: str, jitter: float) -> float:
    """A stable share of the jitter, in whole milliseconds."""
    if not jitter:
        return 0.0
    digest = sha256(f"jitter\0{name}".encode()).digest()
    return int.from_bytes(digest[:8], "big") % int(jitter * 1000 + 1) / 1000
