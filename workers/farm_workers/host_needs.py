"""What of a host's resources its workers use, and which devices each of them has.

The coordinator places so that all fits; here it is enforced. Who uses what is read from the pipes
of the workers, so it counts until a worker that is being ended is really gone.

A process that has opened a device keeps something of it open, and cannot open another instead. So a
worker is bound to the devices of its first task that needs any: it gets no task with others, and
before its devices are given to another worker it is replaced, if it has nothing to do, or as soon
as it has not.
"""

from collections import Counter
from collections.abc import Iterable

from farm.protocol.messages import Grant
from farm.resources import GPU, SLOTS, thousandths
from farm_workers.host_lease import Lease
from farm_workers.host_roster import Roster
from farm_workers.host_slices import HostSettings
from farm_workers.host_slots import Slot, SlotState

__all__ = ["HostNeeds", "slots_of"]

_COMING = frozenset((SlotState.STARTING, SlotState.RETIRED))
"""Another worker is about to be ready."""


class HostNeeds:
    """Says which worker may run a task that needs more than a slot.

    ``misfits`` counts leases that did not fit, and were given back.
    """

    def __init__(self, settings: HostSettings, roster: Roster) -> None:
        self.misfits = 0
        self._slots = settings.slots
        self._total = {name: thousandths(n) for name, n in settings.resources.items()}
        self._devices = settings.devices
        self._roster = roster
        self.given = False
        """Whether a worker may have such a task."""

    def admits(self, grant: Grant, leases: Iterable[Lease]) -> bool:
        """Whether a new lease fits beside those that have not ended."""
        needed = _needs(grant, 1 if grant.packed else grant.count)
        for lease in leases:
            if lease.grant.resources and lease.open:
                needed += _needs(lease.grant, 1 if lease.grant.packed else lease.open)
        del needed[SLOTS]  # those that wait for others have lent theirs
        fits = _needs(grant, 1)[SLOTS] <= self._slots * 1000
        fits = fits and all(self._total.get(name, 0) >= amount for name, amount in needed.items())
        self.misfits += not fits
        return fits

    def idle(self, idle: list[Slot]) -> list[Slot]:
        """Those of these slots that may begin something now; those bound to devices come last."""
        if not self.given:  # as nearly always
            return idle
        used = self._used()[SLOTS] // 1000
        self.given = bool(used) or any(slot.devices for slot in self._roster.slots)
        idle.sort(key=lambda slot: bool(slot.devices))
        return idle[: max(0, self._slots - used)]

    def choose(self, grant: Grant, idle: list[Slot], now: float) -> Slot | None:
        """The slot of ``idle`` that may run a task of a lease, bound to devices that it may use.

        None: something that it needs is in use by what is about to end.
        """
        needs, used = _needs(grant, 1), self._used()
        if needs.pop(SLOTS) > self._slots * 1000 - used[SLOTS]:
            return None
        if any(self._total.get(name, 0) < amount + used[name] for name, amount in needs.items()):
            return None
        self.given = True
        count = needs[GPU] // 1000
        return self._bind(count, idle, now) if count else idle[0]

    def _bind(self, count: int, idle: list[Slot], now: float) -> Slot | None:
        slots = self._roster.slots
        busy = {d for slot in slots for one in slot.pipe for d in one.part.devices}
        free = [device for device in self._devices if device not in busy]
        for slot in idle:
            if len(slot.devices) == count and busy.isdisjoint(slot.devices):
                return slot
        fresh = [slot for slot in idle if not slot.devices]
        bound = {device for slot in slots for device in slot.devices}
        chosen = sorted(free, key=lambda device: device in bound)[:count]
        former = [slot for slot in slots if not set(chosen).isdisjoint(slot.devices)]
        if not fresh and not any(slot.state in _COMING for slot in slots):
            former += idle[:1]
        for slot in former:
            slot.worn = True
            if not slot.pipe:
                self._roster.retire(slot, now)
        if not fresh or len(chosen) < count or any(not slot.pipe for slot in former):
            return None  # until the workers that are replaced are gone
        fresh[0].devices = tuple(sorted(chosen, key=self._devices.index))
        return fresh[0]

    def _used(self) -> Counter[str]:
        """What workers use, in thousandths; their slots are among it, unless they are lent."""
        used: Counter[str] = Counter()
        for slot in self._roster.slots:
            if slot.pipe:
                needs = _needs(slot.pipe[0].lease.grant, 1)  # others come after it
                if slot.waiting:
                    del needs[SLOTS]
                used += needs
        return used


def slots_of(grant: Grant) -> int:
    """How many slots a task of a lease needs."""
    return _needs(grant, 1)[SLOTS] // 1000 if grant.resources else 1


def _needs(grant: Grant, units: int) -> Counter[str]:
    """What tasks of a lease need, in thousandths."""
    needs = Counter({name: units * thousandths(n) for name, n in grant.resources})
    needs[SLOTS] = max(units * 1000, needs[SLOTS])
    return needs
