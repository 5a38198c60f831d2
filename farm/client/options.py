"""The options of tasks, checked and made what travels with them."""

import builtins
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple

from farm.errors import ConfigError
from farm.model import DEFAULT_QUEUE, MOMENT_END, Options, byte_count, seconds
from farm.payload import qualified_name
from farm.protocol.messages import Template
from farm.protocol.parts import KEY_CHARS_MAX
from farm.resources import SLOTS, Amounts, check_labels, check_resources

__all__ = ["KeyOption", "Settings", "merge"]

NUMBER_MAX = (1 << 31) - 1
"""As large as a number may be on the wire."""
BYTES_MAX = (1 << 62) - 1
NAME_CHARS_MAX = 200
"""As many as a name may have on the wire."""


class KeyOption(NamedTuple):
    """Which key tasks have: one text, or what a function makes of the arguments of each."""

    option: str
    key: str | Callable[..., str]

    @property
    def unique(self) -> bool:
        """Whether it is free again when its task has ended."""
        return self.option == "unique"

    def text(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> str:
        """The key of one call; raises ``ConfigError`` if it is none, or what the function does."""
        if isinstance(self.key, str):
            return self.key
        return _key_text(f"what {self.option} makes of the arguments", self.key(*args, **kwargs))


class Settings(NamedTuple):
    """What the options of a view come to; ``template`` is None if all are at their defaults."""

    template: Template | None = None
    name: str | None = None
    block: bool = True
    key: KeyOption | None = None


def merge(old: Settings, options: Options) -> Settings:
    """Settings with some options changed.

    Raises ``TypeError`` for an unknown option, and ``ConfigError``, a ``ValueError``, for a wrong
    value; each says what would be right.
    """
    checked = {option: _check(option, value) for option, value in options.items()}
    explicit = dict.fromkeys(old.template.explicit if old.template else ())
    for option, value in checked.items():
        # So that what is said counts, even where the queue has a default of its own.
        if option in _BUILT_IN and value == _BUILT_IN[option]:
            explicit[option] = None
        else:
            explicit.pop(option, None)
    block = checked.pop("block", old.block)
    name = checked.pop("name", old.name)
    key = _key_of(checked, old.key)
    template = old.template or Template()
    if checked.get("eta") is not None and checked.get("delay") is not None:
        raise ConfigError("delay and eta: both say when a task may start; choose one of them")
    if checked.get("delay") is not None:
        checked.setdefault("eta", None)
    elif checked.get("eta") is not None:
        checked.setdefault("delay", None)
    fields = {field: getattr(template, field) for field in template.__struct_fields__}
    template = Template(**{**fields, **checked, "explicit": tuple(explicit)})
    soft, hard = template.soft_time_limit, template.time_limit
    if soft is not None and hard is not None and soft >= hard:
        raise ConfigError(
            f"soft_time_limit is {soft:g} s and time_limit {hard:g} s; the soft one must come first"
        )
    if key is not None and not template.durable:
        raise ConfigError(
            f"{key.option} and durable=False: a key outlives a restart of the farm, as its task "
            "must; leave out one of them"
        )
    return Settings(None if template == Template() else template, name, block, key)


def _key_of(checked: dict[str, Any], old: KeyOption | None) -> KeyOption | None:
    """The key that is said last, taken out of the options; None takes away the one there was."""
    said = {option: checked.pop(option) for option in KEYS if option in checked}
    given = [KeyOption(option, key) for option, key in said.items() if key is not None]
    if len(given) > 1:
        raise ConfigError("unique and idempotency_key: a task has one key; choose one of them")
    if given:
        return given[0]
    return None if old is None or old.option in said else old


def _check(key: str, value: Any) -> Any:
    check = _CHECKS.get(key)
    if check is None:
        from difflib import get_close_matches  # noqa: PLC0415 - for the message only

        near = get_close_matches(key, _CHECKS, 1)
        hint = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(_CHECKS)}"
        raise TypeError(f"there is no option {key!r}; {hint}")
    if value is None and key in _EMPTY_IF_NONE:
        return _EMPTY_IF_NONE[key]
    return None if value is None and key in _MAY_BE_NONE else check(key, value)


def _number(key: str, value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise ConfigError(f"{key} is {value!r}; it must be a whole number")
    if abs(value) > NUMBER_MAX:
        raise ConfigError(f"{key} is {value!r}; it may be {NUMBER_MAX:,} at most")
    return int(value)


def _count(key: str, value: Any) -> int:
    if (number := _number(key, value)) < 0:
        raise ConfigError(f"{key} is {value!r}; it must be 0 or more")
    return number


def _duration(key: str, value: Any) -> float:
    return seconds(value, key)


def _moment(key: str, value: Any) -> float:
    if not isinstance(value, datetime):
        raise ConfigError(f"{key} is {value!r}; it must be a datetime with a time zone, or None")
    if value.utcoffset() is None:
        raise ConfigError(
            f"{key} is {value!r}, which has no time zone; say which one is meant, as in "
            "datetime.now(UTC) + timedelta(hours=1)"
        )
    if value.timestamp() >= MOMENT_END:
        raise ConfigError(f"{key} is {value!r}; it must be before the year 10000 in UTC")
    return max(0.0, value.timestamp())


def _flag(key: str, value: Any) -> bool:
    if not isinstance(value, bool):
        raise ConfigError(f"{key} is {value!r}; it must be True or False")
    return value


def _text(key: str, value: Any) -> str:
    if not (isinstance(value, str) and value.strip()):
        raise ConfigError(f"{key} is {value!r}; it must be a text that is not empty, or None")
    return str.__str__(value)  # not of a class of its own, such as NumPy's: that cannot travel


def _queue(key: str, value: Any) -> str:
    name = _name(key, value)
    return "" if name == DEFAULT_QUEUE else name


def _name(key: str, value: Any) -> str:
    text = _text(key, value)
    if (length := _length(text)) > NAME_CHARS_MAX:
        raise ConfigError(f"{key} has {length} characters; it may have {NAME_CHARS_MAX}")
    return text


def _key(key: str, value: Any) -> str | Callable[..., str]:
    return value if callable(value) else _key_text(key, value)


def _key_text(what: str, value: Any) -> str:
    text = _text(what, value)
    if (length := _length(text)) > KEY_CHARS_MAX:
        raise ConfigError(f"{what} has {length} characters; a key may have {KEY_CHARS_MAX}")
    return text


def _length(text: str) -> int:
    """How many characters a text has where it travels: what is no Unicode is escaped."""
    return len(text.encode("utf-8", "backslashreplace").decode("utf-8"))


def _memory(key: str, value: Any) -> int:
    size = byte_count(value, key)
    if not size:
        raise ConfigError(f"{key} is {value!r}; a task needs some memory, or None for no limit")
    return int(min(size, BYTES_MAX))


def _resources(key: str, value: Any) -> Amounts:
    """Every task has one slot: to ask for that is to ask for nothing."""
    found = check_resources(value, key)
    return tuple(one for one in found.items() if one != (SLOTS, 1.0))


def _exceptions(key: str, value: Any) -> tuple[str, ...]:
    several = isinstance(value, Sequence) and not isinstance(value, str)
    return tuple(_exception_name(key, one) for one in (value if several else [value]))


def _exception_name(key: str, value: Any) -> str:
    """The name by which workers know an exception type; they have it, this process need not."""
    if isinstance(value, str):
        if "." in value and all(part.isidentifier() for part in value.split(".")):
            return value.removeprefix("builtins.")
        named = getattr(builtins, value, None)
        if named is None:
            raise ConfigError(f"{key} has {value!r}; write the type, or its name as 'module.Name'")
        value = named
    if isinstance(value, type) and issubclass(value, BaseException):
        return qualified_name(value)
    raise ConfigError(f"{key} has {value!r}, which is no type of exception")


_CHECKS: Mapping[str, Callable[[str, Any], Any]] = {
    "priority": _number,
    "retries": _count,
    "backoff": _duration,
    "retry_on": _exceptions,
    "never_on": _exceptions,
    "max_losses": _count,
    "time_limit": _duration,
    "soft_time_limit": _duration,
    "memory_limit": _memory,
    "durable": _flag,
    "name": _text,
    "result_ttl": _duration,
    "expires": _duration,
    "delay": _duration,
    "eta": _moment,
    "queue": _queue,
    "concurrency_key": _name,
    "resources": _resources,
    "labels": lambda key, value: check_labels(value, key),
    "unique": _key,
    "idempotency_key": _key,
    "block": _flag,
}
KEYS = ("unique", "idempotency_key")
_EMPTY_IF_NONE = {"queue": "", "concurrency_key": "", "resources": (), "labels": ()}
_BUILT_IN = {
    key: getattr(Template(), key)
    for key in Template.__struct_fields__
    if key in _CHECKS and key not in {"queue", "concurrency_key", "durable"}
}
_MAY_BE_NONE = frozenset(
    (
        *(
            "name",
            "time_limit",
            "soft_time_limit",
            "memory_limit",
            "result_ttl",
            "expires",
            "delay",
            "eta",
        ),
        *KEYS,
    )
)
