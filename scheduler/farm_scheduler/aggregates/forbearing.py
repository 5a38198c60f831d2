"""A wrong aggregate is an error of its program, and of itself alone where the farm imports it."""

from collections.abc import Mapping
from difflib import get_close_matches
from sys import _getframe
from typing import TYPE_CHECKING, Any

from farm.errors import ConfigError
from farm.imports import for_the_farm

if TYPE_CHECKING:
    from farm_scheduler.core.schedule import Place

__all__ = ["Forbearing", "StoppedAggregate"]


class StoppedAggregate:
    """An aggregate that is wrong, in a module that the farm imports: that stops no other.

    ``error`` says what is wrong with it, ``place`` where it was made. Whatever else is wanted of it
    raises that error.
    """

    __farm_aggregate__ = True

    def __init__(self, name: object, error: ConfigError, place: "Place") -> None:
        self.name = name if isinstance(name, str) else ""
        self.error = error
        self.place = place

    def __getattr__(self, what: str) -> Any:
        if what.startswith("__"):
            raise AttributeError(what)
        raise ConfigError(str(self.error))


class Forbearing(type):
    """The class of ``Aggregate``: a call makes one, or a stopped one, or raises ``ConfigError``."""

    def __call__(cls, *args: Any, **options: Any) -> Any:
        """Make one."""
        name = options.get("name", args[0] if args else "")
        try:
            return super().__call__(*args, **options)
        except ConfigError as error:
            return cls.stopped(name, error)
        except TypeError as error:
            return cls.stopped(name, cls._explained(name, options, error))

    def stopped(cls, name: object, error: ConfigError) -> StoppedAggregate:
        """Raises the error, unless the farm imports the module."""
        if not for_the_farm():
            raise error.with_traceback(None) from None
        from farm_scheduler.core.schedule import place_of  # noqa: PLC0415 - workers need no cron

        frame = _getframe(1)
        while frame.f_back is not None and frame.f_globals["__name__"].startswith(__package__):
            frame = frame.f_back
        return StoppedAggregate(name, error.with_traceback(None), place_of(frame))

    def _explained(cls, name: object, options: Mapping[str, Any], error: TypeError) -> ConfigError:
        known = [*getattr(cls, "__dataclass_fields__", {})]
        for option in options:
            if option not in known:
                near = get_close_matches(option, known, 1)
                hint = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(known)}"
                return ConfigError(f"aggregate {name!r} has no option {option!r}; {hint}")
        if not isinstance(name, str) or not name:
            return ConfigError(
                "an aggregate has no name; write it first, as in Aggregate('edits', Files(…))"
            )
        if "'source'" in str(error):
            return ConfigError(f"aggregate {name!r} has no source; write source=Files(…)")
        return ConfigError(f"aggregate {name!r}: {error}")
