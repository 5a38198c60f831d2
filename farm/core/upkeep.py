"""When what is kept is looked after: a little later, for all the turns until then at once."""

from farm.core.accounts import Accounts
from farm.core.dead import DeadTasks
from farm.core.ledger import Ledger
from farm.core.retention import Retention
from farm.core.watchdog import Watchdog

__all__ = ["Upkeep"]

NEVER = float("inf")


class Upkeep:
    """Forgets what is over, when nobody waits for that; ``due`` is when ``on_tick`` must come."""

    def __init__(
        self,
        ledger: Ledger,
        retention: Retention,
        dead: DeadTasks,
        watchdog: Watchdog,
        accounts: Accounts,
    ) -> None:
        self._ledger = ledger
        self._accounts = accounts
        self._retention = retention
        self._dead = dead
        self._watchdog = watchdog
        self._seconds = ledger.settings.upkeep_seconds
        self.due = 0.0

    def on_tick(self, now: float) -> None:
        """The end of a turn, in which anything may have happened: it is looked after soon.

        Memory alone is looked after at once, and what happened is counted.
        """
        self._accounts.settle()
        residence = self._ledger.residence
        if residence.bytes > residence.limit:
            residence.settle()
        due = self.due
        if due > now and due > (soon := now + self._seconds):
            due = self.due = soon
        if now >= due:
            self._look_after(now)

    def _look_after(self, now: float) -> None:
        keys, retention, dead, watchdog = (
            self._ledger.keys, self._retention, self._dead, self._watchdog,
        )  # fmt: skip
        if keys.ageing:
            self._ledger.free_keys(now)
        retention.on_tick(now)
        if now >= dead.due:
            dead.on_tick(now)
        if now >= watchdog.due:
            watchdog.on_tick(now)
        self.due = min(
            retention.due,
            retention.sweep_at,
            dead.due,
            watchdog.next_deadline(),
            keys.due if keys.ageing else NEVER,
        )
