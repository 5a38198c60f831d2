"""``[queues.NAME]`` and ``[queues.NAME.options]``: sections of which there may be any number."""

from collections.abc import Iterator
from difflib import get_close_matches
from typing import Annotated, Any, NamedTuple

import msgspec
from msgspec import Meta

from farm.errors import ConfigError
from farm.model import QUEUE_NAME, byte_count, seconds
from farm.resources import check_labels, check_resources

__all__ = ["OPTION_KINDS", "QUEUE_KINDS", "QueueConfig", "QueueValue", "read_queues"]


class QueueConfig(msgspec.Struct, frozen=True, kw_only=True):
    """``[queues.NAME]``: the policy of one queue."""

    weight: Annotated[
        float,
        Meta(description="Its share of what is placed while others wait, too; 0.001 to 1000"),
    ] = 1.0
    max_tasks: Annotated[
        int | None, Meta(description="How many unfinished tasks it accepts; else no limit")
    ] = None
    max_bytes: Annotated[
        int | None, Meta(description="How many bytes of arguments they may have; else no limit")
    ] = None
    rate: Annotated[
        float | None, Meta(description="How many tasks a second may be placed; else no limit")
    ] = None
    burst: Annotated[
        int | None,
        Meta(description="And how many at once after a pause; else those of one second"),
    ] = None
    max_running: Annotated[
        int | None, Meta(description="How many may run at a time; else no limit")
    ] = None
    max_running_per_key: Annotated[
        int | None, Meta(description="And how many of one `concurrency_key`; else no limit")
    ] = None
    ageing_seconds: Annotated[
        float,
        Meta(
            description="Who has waited so much longer goes before who has a `priority` that is"
            " greater by one"
        ),
    ] = 60.0
    options: Annotated[
        dict[str, Any],
        Meta(description="Options of tasks that do not say otherwise: `[queues.NAME.options]`"),
    ] = {}


class QueueValue(NamedTuple):
    """One value of one queue; ``path`` is ``queues.mail.rate`` or ``queues.mail.options.retries``.

    ``keys`` is the way to it: the queue, the key, and perhaps the option.
    """

    keys: tuple[str, ...]
    value: Any

    @property
    def path(self) -> str:
        """Its name as people write it."""
        return ".".join(("queues", *self.keys))


QUEUE_KINDS = {
    "weight": "a number from 0.001 to 1000",
    "max_tasks": "a whole number of 1 or more",
    "max_bytes": "a number of bytes, 1 or more, or text such as '512MiB'",
    "rate": "a number of more than 0, tasks a second",
    "burst": "a whole number of 1 or more",
    "max_running": "a whole number of 1 or more",
    "max_running_per_key": "a whole number of 1 or more",
    "ageing_seconds": "a duration of more than 0: seconds, or text such as '30s', '5m'",
}
"""What the keys of a queue must be, in words that fit after "expected"."""
_COUNT, _SPAN = "a whole number of 0 or more", "a duration: seconds, or text such as '30s', '5m'"
_AMOUNTS = "amounts by name: {gpu = 1, memory = '4GB'}"
_LABELS = "a list of labels: 'ssd', 'zone=a'"
_TYPES = "a list of exception types by name: 'ValueError', 'module.Name'"
OPTION_KINDS = {
    "priority": "a whole number",
    "retries": _COUNT,
    "max_losses": _COUNT,
    "backoff": _SPAN,
    "time_limit": _SPAN,
    "soft_time_limit": _SPAN,
    "result_ttl": _SPAN,
    "expires": _SPAN,
    "delay": _SPAN,
    "memory_limit": "a number of bytes, 1 or more, or text such as '512MB'",
    "retry_on": _TYPES,
    "never_on": _TYPES,
    "resources": _AMOUNTS,
    "labels": _LABELS,
}
"""And what its default options must be."""


_RANGES = {"weight": (1e-3, 1e3), "priority": (-(2.0**31), 2.0**31)}


def read_queues(table: Any, place: str) -> Iterator[QueueValue]:
    """The values in the table ``queues`` of a file; raises ``ConfigError`` naming place and key."""
    if not isinstance(table, dict):
        raise ConfigError(f"{place}: queues is {table!r}; expected tables: write [queues.NAME]")
    for name, policy in table.items():
        if not QUEUE_NAME.fullmatch(name):
            raise ConfigError(
                f"{place}: {name!r} cannot be the name of a queue: letters, digits, and - _ . "
                "inside, 64 at most"
            )
        if not isinstance(policy, dict):
            raise ConfigError(
                f"{place}: queues.{name} is {policy!r}; expected a table: write [queues.{name}]"
            )
        yield QueueValue((name,), None)  # it exists, even if nothing is said of it
        yield from _policy(name, policy, place)


def _policy(name: str, policy: dict[str, Any], place: str) -> Iterator[QueueValue]:
    for key, value in policy.items():
        if key == "options":
            if not isinstance(value, dict):
                section = f"queues.{name}.options"
                raise ConfigError(
                    f"{place}: {section} is {value!r}; expected a table: write [{section}]"
                )
            for option, one in value.items():
                keys = (name, key, option)
                yield QueueValue(keys, _read(keys, one, OPTION_KINDS, place))
            continue
        yield QueueValue((name, key), _read((name, key), value, QUEUE_KINDS, place))


def _read(keys: tuple[str, ...], value: Any, kinds: dict[str, str], place: str) -> Any:
    """A value as it counts."""
    path, key = QueueValue(keys, value).path, keys[-1]
    if key not in kinds:
        words = [*kinds, *(["options"] if kinds is QUEUE_KINDS else [])]
        near = get_close_matches(key, words, 1)
        hint = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(words)}"
        section = ".".join(path.split(".")[:-1])
        raise ConfigError(f"{place}: [{section}] has no {key!r}; {hint}")
    try:
        return _plain(key, value, kinds[key])
    except (ConfigError, TypeError, ValueError):
        raise ConfigError(f"{place}: {path} is {value!r}; expected {kinds[key]}") from None


def _plain(key: str, value: Any, expected: str) -> Any:
    """The value as a number, or a list of texts; raises ``ValueError`` for any other."""
    if expected == _TYPES:
        names = [value] if isinstance(value, str) else value
        if not all(part.isidentifier() for name in names for part in name.split(".")):
            raise ValueError
        return [name.removeprefix("builtins.") for name in names]
    if expected == _AMOUNTS:
        return [list(one) for one in check_resources(value, key).items()]
    if expected == _LABELS:
        return list(check_labels(value, key))
    if "bytes" in expected:
        number: float = byte_count(value)
    elif "duration" in expected:
        number = seconds(value)
    elif isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError
    else:
        number = value
    if "whole" in expected and not isinstance(number, int):
        raise TypeError
    least, most = _RANGES.get(key, (1.0 if "1 or more" in expected else 0.0, 1e18))
    above = "more than 0" in expected
    if not least <= number <= most or (above and not number):
        raise ValueError
    return number
