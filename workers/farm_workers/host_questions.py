"""Questions of the coordinator about what the workers run."""

from farm.protocol.messages import Ask, Told
from farm_workers.host_roster import Roster
from farm_workers.host_slices import HostPort
from farm_workers.host_slots import Slot

__all__ = ["ASKED_MAX", "Questions"]

ASKED_MAX = 64
"""Questions that may wait for an answer."""
KINDS = ("stack", "output")


class Questions:
    """Passes questions on to the workers' side, each answered once on the connection it came by."""

    def __init__(self, host: str, port: HostPort, roster: Roster) -> None:
        self._host = host
        self._port = port
        self._roster = roster
        self._number = 0
        self._asked: dict[int, int] = {}  # requests of this connection, by our own number

    def connected(self) -> None:
        """A new connection: nobody waits for what was asked by the one before."""
        self._asked.clear()

    def on_ask(self, message: Ask) -> None:
        """The coordinator asks."""
        slot, error = self._find(message)
        if message.what not in KINDS:
            error = f"host {self._host} does not know what {message.what!r} is"
        elif len(self._asked) >= ASKED_MAX:
            error = f"host {self._host} is asked too much at a time"
        if slot is None or error:
            self._port.send(Told(message.request, b"", 0, error))
            return
        self._number += 1
        self._asked[self._number] = message.request
        self._port.ask(slot.number, self._number, message.what, message.since)

    def told(self, number: int, data: bytes, start: int, error: str) -> Told | None:
        """The answer to one of them, if somebody still waits for it."""
        request = self._asked.pop(number, None)
        return None if request is None else Told(request, data, start, error)

    def _find(self, message: Ask) -> tuple[Slot | None, str]:
        """The worker that is at the task, or why there is none."""
        error = f"host {self._host} does not run it any more"
        for slot in self._roster.slots:
            for place, running in enumerate(slot.pipe):
                if running.lease.key != (message.epoch, message.lease):
                    continue
                if running.next <= message.counter < running.stop:
                    if not place:
                        return slot, ""
                    error = f"it waits on host {self._host} behind another task"
        return None, error
