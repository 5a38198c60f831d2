"""The policy of a queue: what may wait in it, what may run of it, and when which goes first."""

from typing import Any

import msgspec

from farm.errors import ConfigError
from farm.model import QUEUE_NAME
from farm.protocol.parts import Template

__all__ = ["LIMITS", "QueuePolicy", "check_name", "defaults_of", "nearest_queue"]

WEIGHT_MIN, WEIGHT_MAX = 1e-3, 1e3
RATE_MIN = 1e-6
AGEING_MIN, AGEING_MAX = 1e-3, 1e9

OPTIONS = (
    *("priority", "retries", "backoff", "max_losses", "time_limit", "soft_time_limit"),
    *("memory_limit", "retry_on", "never_on", "result_ttl", "expires", "delay"),
    *("resources", "labels"),
)
"""The options that a queue may have defaults for: those that only the farm itself acts on."""
LIMITS = ("max_tasks", "max_bytes", "rate", "burst", "max_running", "max_running_per_key")
"""Those that may be None: no limit."""


class QueuePolicy(msgspec.Struct, frozen=True, kw_only=True):
    """What is configured of a queue. Raises ``ConfigError`` naming what is wrong.

    ``weight``: its share of placements, beside those of others. ``rate``: how many tasks a second
    may be placed, and ``burst`` how many at once after a pause (default: those of one second, one
    at least). ``max_running_per_key``: of tasks with one ``concurrency_key``. ``ageing_seconds``:
    who has waited so much longer goes before who has a priority that is greater by one.
    ``options``: of tasks that do not say otherwise.
    """

    weight: float = 1.0
    max_tasks: int | None = None
    max_bytes: int | None = None
    rate: float | None = None
    burst: int | None = None
    max_running: int | None = None
    max_running_per_key: int | None = None
    ageing_seconds: float = 60.0
    options: dict[str, Any] = {}

    def __post_init__(self) -> None:
        if not WEIGHT_MIN <= self.weight <= WEIGHT_MAX:
            raise ConfigError(
                f"weight is {self.weight!r}; it must be {WEIGHT_MIN:g} to {WEIGHT_MAX:g}"
            )
        for key in ("max_tasks", "max_bytes", "burst", "max_running", "max_running_per_key"):
            value = getattr(self, key)
            if value is not None and value < 1:
                raise ConfigError(f"{key} is {value!r}; it must be at least 1")
        if self.rate is not None and not RATE_MIN <= self.rate <= 1 / RATE_MIN:
            raise ConfigError(f"rate is {self.rate!r}; it must be more than 0 tasks a second")
        if not AGEING_MIN <= self.ageing_seconds <= AGEING_MAX:
            raise ConfigError(f"ageing_seconds is {self.ageing_seconds!r}; it must be more than 0")
        defaults_of(self)

    @property
    def burst_tasks(self) -> float:
        """How many tasks may go at once."""
        if self.burst is not None:
            return float(self.burst)
        return max(1.0, self.rate or 0.0)

    def changed(self, changes: dict[str, Any]) -> "QueuePolicy":
        """This policy with other values; raises ``ConfigError`` for one that cannot be."""
        known = [key for key in self.__struct_fields__ if key != "options"]
        for key, value in changes.items():
            if key not in known:
                raise ConfigError(f"a queue has no setting {key!r}; {nearest_of(key, known)}")
            if value is None and key not in LIMITS:
                raise ConfigError(f"{key} must be a number")
        values = {key: getattr(self, key) for key in self.__struct_fields__} | changes
        try:
            return msgspec.convert(values, QueuePolicy)
        except msgspec.ValidationError as error:
            raise ConfigError(str(error)) from None


def defaults_of(policy: QueuePolicy) -> dict[str, Any]:
    """The default options of a policy as a template has them; raises ``ConfigError``."""
    for key in policy.options:
        if key not in OPTIONS:
            raise ConfigError(f"options has {key!r}; {nearest_of(key, OPTIONS)}")
    try:
        values = msgspec.to_builtins(Template(**policy.options))
        template = msgspec.convert(values, Template)
    except msgspec.ValidationError as error:
        raise ConfigError(f"options: {error}") from None
    soft, hard = template.soft_time_limit, template.time_limit
    if soft is not None and hard is not None and soft >= hard:
        raise ConfigError(
            f"options: soft_time_limit is {soft:g} s and time_limit {hard:g} s; the soft one must "
            "come first"
        )
    return {key: getattr(template, key) for key in policy.options}


def check_name(name: str) -> str:
    """The name of a queue; raises ``ConfigError`` if it can be none."""
    if not QUEUE_NAME.fullmatch(name):
        raise ConfigError(
            f"{name!r} cannot be the name of a queue: letters, digits, and - _ . inside, 64 at most"
        )
    return name


def nearest_of(word: str, words: Any) -> str:
    """What may have been meant."""
    from difflib import get_close_matches  # noqa: PLC0415 - for the message only

    near = get_close_matches(word, list(words), 1)
    return f"did you mean {near[0]!r}?" if near else f"there are {', '.join(words)}"


def nearest_queue(name: str, names: Any) -> str:
    """That there is no such queue, and which there are."""
    return f"there is no queue {name!r}; {nearest_of(name, sorted(names))}"
