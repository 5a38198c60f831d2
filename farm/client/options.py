"""The options of tasks, checked and made what travels with them."""

from difflib import get_close_matches
from typing import Any, NamedTuple

from farm.errors import ConfigError
from farm.model import Options, seconds
from farm.protocol.messages import Template

__all__ = ["Settings", "merge"]


class Settings(NamedTuple):
    """What the options of a view come to; ``template`` is None if all are at their defaults."""

    template: Template | None = None
    name: str | None = None
    block: bool = True


_COUNTS = ("priority", "retries", "max_losses")
_DURATIONS = ("backoff", "time_limit", "result_ttl", "expires", "delay")
_FLAGS = ("durable", "block")
_MAY_BE_NONE = {"time_limit", "result_ttl", "expires", "delay"}


def merge(old: Settings, options: Options) -> Settings:
    """Settings with some options changed.

    Raises ``TypeError`` for an unknown option, and ``ConfigError``, a ``ValueError``, for a wrong
    value; each says what would be right.
    """
    checked = {key: _check(key, value) for key, value in options.items()}
    block = checked.pop("block", old.block)
    name = checked.pop("name", old.name)
    template = old.template or Template()
    fields = {field: getattr(template, field) for field in template.__struct_fields__}
    template = Template(**{**fields, **checked})
    return Settings(None if template == Template() else template, name, block)


def _check(key: str, value: Any) -> Any:
    if key in _COUNTS:
        if isinstance(value, bool) or not isinstance(value, int):
            raise ConfigError(f"{key} is {value!r}; it must be a whole number")
        if key != "priority" and value < 0:
            raise ConfigError(f"{key} is {value!r}; it must be 0 or more")
        return value
    if key in _DURATIONS:
        if value is None and key in _MAY_BE_NONE:
            return None
        return seconds(value, key)
    if key in _FLAGS:
        if not isinstance(value, bool):
            raise ConfigError(f"{key} is {value!r}; it must be True or False")
        return value
    if key == "name":
        if value is not None and not (isinstance(value, str) and value.strip()):
            raise ConfigError(f"name is {value!r}; it must be a text that is not empty, or None")
        return value
    near = get_close_matches(key, Options.__annotations__, 1)
    hint = (
        f"did you mean {near[0]!r}?" if near else f"there are {', '.join(Options.__annotations__)}"
    )
    raise TypeError(f"there is no option {key!r}; {hint}")
