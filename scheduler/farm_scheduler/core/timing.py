"""When a schedule fires: an expression in a zone, shared by all schedules that have the same."""

from functools import lru_cache

from farm_scheduler.cron import DstPolicy, Stretches, parse_plain, zone

__all__ = ["Timing"]

KEPT = 4096
BACK = (120, 7200, 2 * 86_400, 40 * 86_400, 400 * 86_400, 9 * 366 * 86_400, 50 * 366 * 86_400)
"""How far back to begin looking for the nominal time before another: from just enough for what
fires every minute to a 29 February that is also a Monday."""


class Timing:
    """The nominal times of an expression, in seconds since 1970."""

    def __init__(self, plain: str, tz: str, dst: DstPolicy) -> None:
        self._cron = parse_plain(plain)
        self._stretches = Stretches.of(zone(tz))
        self._dst = dst
        self._known: tuple[int, int] = (0, 0)  # nothing fires after the first, before the second
        self._gap = BACK[0]  # mostly they are equally far apart

    @staticmethod
    @lru_cache(KEPT)
    def of(plain: str, tz: str, dst: DstPolicy) -> "Timing":
        """That of an expression as ``cron.plain`` has it; the same object for the same."""
        return Timing(plain, tz, dst)

    def next(self, after: int) -> int | None:
        """The first nominal time after an instant; None if there is none."""
        known, found = self._known
        if known <= after < found:
            return found
        following = self._step(after)
        if following is not None:
            self._known = (after, following)
        return following

    def _step(self, after: int) -> int | None:
        return self._cron.next(after, self._stretches, self._dst)

    def previous(self, before: int) -> int | None:
        """The last nominal time before an instant; None if there is none in fifty years."""
        for seconds in (self._gap, *BACK):
            at = self._step(before - seconds - 1)
            if at is not None and at < before:
                while (following := self._step(at)) is not None and following < before:
                    at = following
                self._gap = before - at
                return at
        return None
