"""Says in the log why nothing happens, and what to do about it, when a submit has waited long."""

import logging

__all__ = ["Watch"]

WAIT_SECONDS = 5.0
REPEAT_SECONDS = 60.0

_log = logging.getLogger("farm.client")


class Watch:
    """Told what happens on a connection; decides when to ask for the farm's status, and tells.

    Times are monotonic seconds.
    """

    def __init__(self, address: str) -> None:
        self._address = address
        self._since: float | None = None  # when waiting began
        self._told: float | None = None

    def moved(self) -> None:
        """Something was sent, started or ended: nobody waits in vain."""
        self._since = None

    def look(self, now: float, tasks: int, trouble: str, *, connected: bool) -> bool:
        """Look at how things stand; True if the farm's status is to be asked for.

        ``tasks`` are not over yet; ``trouble`` is why there is no connection, if there is none.
        """
        if not tasks:
            self._since = None
            return False
        if self._since is None:
            self._since = now
        told = self._told
        if now - self._since < WAIT_SECONDS or (told is not None and now - told < REPEAT_SECONDS):
            return False
        self._told = now
        if connected:
            return True
        _log.warning(
            "%d tasks wait: there is no connection to the farm at %s (%s); it is tried again until "
            "it works: start the coordinator, or check the address",
            tasks,
            self._address,
            trouble or "not yet connected",
        )
        return False

    def due(self) -> float | None:
        """When to look again, if anything waits."""
        if self._since is None:
            return None
        due = self._since + WAIT_SECONDS
        return due if self._told is None else max(due, self._told + REPEAT_SECONDS)

    def answered(self, status: object, tasks: int, *, full: bool) -> None:
        """The farm's status came: say why tasks wait."""
        if self._since is None or not isinstance(status, dict):
            return
        if not status.get("hosts"):
            _log.warning(
                "%d tasks wait: no hosts connected; start one with: farm worker %s",
                tasks,
                self._address,
            )
        elif full:
            _log.warning(
                "submitting waits: the farm at %s has no room for more tasks; "
                "add hosts, or see what keeps it busy with: farm status",
                self._address,
            )
