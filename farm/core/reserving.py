"""Tasks that need more than a slot: which host has it, and what becomes of those that must wait.

Tasks with equal needs wait together, and others pass them. So that they do not wait for ever, a
host is reserved for the first of them: at once if nothing but slots is missing there, as their turn
has come; else after they have been passed for a while. Nobody is given what they miss there then. A
host is reserved for one kind of needs at a time, and the kind that has waited longest goes first.

Decision: docs/decisions/0071-what-tasks-need.md.
"""

from collections.abc import Iterable
from itertools import islice

from farm.core.hosts import Host
from farm.core.needs import Needs
from farm.core.queues import Queues
from farm.core.rooms import Hosts

__all__ = ["Reserving"]

COMPARED_MAX = 32
"""So many hosts that could be reserved are compared, of however many there are."""
LOOKED_AT_MAX = 16
"""Kinds of needs, of those that wait, that are looked at to reserve a host: the oldest."""


class Reserving:
    """Blocks needs in the queues while no host has what they ask for, and reserves hosts."""

    def __init__(self, hosts: Hosts, queues: Queues, reserve_seconds: float) -> None:
        self._hosts = hosts
        self._queues = queues
        self._reserve_seconds = reserve_seconds
        # By what is blocked, the longest first: since when it has been passed.
        self._waiting: dict[Needs, float] = {}
        self._had_their_turn: set[Needs] = set()  # of those
        # By kind, after how much patience a host was looked for among all: since then, only one
        # that has changed can be reserved.
        self._searched: dict[Needs, int] = {}
        self._others: dict[Host, None] = {}  # that were found then, too, as good as changed

    @property
    def idle(self) -> bool:
        """Whether nobody waits for what no host has now."""
        return self._hosts.changed is None

    def pick(self, needs: Needs, now: float, *, turn: bool) -> tuple[Host, int] | None:
        """A host for a task with these needs, and for how many; if there is none, it waits.

        ``turn``: it is its turn, and it has not come up only as others wait for a slot.
        """
        found = self._hosts.pick_for(needs, now)
        if found is None:
            self._wait(needs, now, turn=turn)
        return found

    def placed(self, needs: Needs) -> None:
        """It was their turn: whoever of them is next waits anew."""
        self._forget(needs)

    def _forget(self, needs: Needs) -> None:
        self._waiting.pop(needs, None)
        self._had_their_turn.discard(needs)
        self._hosts.reserve_no_more(needs)

    def _wait(self, needs: Needs, now: float, *, turn: bool) -> None:
        if turn:
            self._had_their_turn.add(needs)
        self._queues.block(needs)
        self._waiting.setdefault(needs, now)
        if self._hosts.changed is None:
            self._hosts.changed = {}
        self._reserve(needs, now)

    def prepare(self, now: float) -> None:
        """Before anything is placed: see what has changed since, and reserve what is due."""
        hosts = self._hosts
        changed, hosts.changed = self._others | (hosts.changed or {}), {}
        self._others = {}
        for needs in [one for one in self._waiting if not self._queues.have(one)]:
            self._queues.unblock(needs)
            self._forget(needs)
        for needs, host in list(hosts.reserved.items()):
            if not (host.is_open and host.window >= needs.slots and self._queues.want(needs)):
                hosts.reserve_no_more(needs)
        changed |= hosts.changed
        looked_at = list(islice(self._waiting, LOOKED_AT_MAX))
        self._searched = {
            needs: self._searched[needs] for needs in looked_at if needs in self._searched
        }
        for needs in looked_at:
            self._reserve(needs, now, changed)
        changed |= hosts.changed
        for needs in list(self._waiting):
            if any(host.fits(needs) for host in changed):
                self._queues.unblock(needs)
        hosts.changed = {} if self._waiting else None

    @property
    def is_outdated(self) -> bool:
        """Whether a host is kept for tasks that wait no more, as was found meanwhile."""
        return any(not self._queues.have(needs) for needs in self._hosts.reserved)

    def _reserve(self, needs: Needs, now: float, changed: Iterable[Host] | None = None) -> None:
        """Reserve a host for what waits, if it may have one.

        ``changed``: all that are not as they were when it was last looked for one.
        """
        hosts = self._hosts
        turn = needs in self._had_their_turn
        if (host := hosts.reserved.get(needs)) is not None:
            if turn and not host.keeps_slots:
                hosts.reserve(needs, host, slots=True)
            return
        if not self._queues.want(needs):
            self._searched.pop(needs, None)
            return
        late = now >= self._waiting[needs] + self._reserve_seconds
        if not (late or turn):
            return
        all_but_changed = self._searched.get(needs, 0) >= 1 + late
        among = (changed or ()) if all_but_changed else hosts.all.values()
        could = (
            host
            for host in among
            if host.kept_for is None
            and host.is_open
            and host.window >= needs.slots
            and host.could_run(needs)
            and (late or not host.lacks(needs))
        )
        some = list(islice(could, COMPARED_MAX))
        if some:
            best = min(some, key=lambda host: (host.lacks(needs), host.held))
            hosts.reserve(needs, best, slots=turn)
            self._others |= dict.fromkeys(some)
        if len(some) == COMPARED_MAX:
            self._searched.pop(needs, None)
        elif not all_but_changed:
            self._searched[needs] = 1 + late
