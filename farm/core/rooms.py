"""Which hosts have room: found at once, however many hosts there are.

Whoever changes something about a host says so (`Hosts.update`); then the host is put where it will
be looked for. No placement looks at all hosts, except the first with needs of a kind.
"""

from collections import OrderedDict
from itertools import islice
from typing import TYPE_CHECKING

from farm.core.batch import Batch
from farm.core.hosts import Host

if TYPE_CHECKING:
    from farm.core.needs import Needs

__all__ = ["Hosts"]

KINDS_MAX = 16
"""For so many kinds of needs it is known which hosts fit; else all with room are looked at."""
KIND_SECONDS = 10.0
"""How long that is kept in mind after a host was last looked for."""
IDLE_MAX = 16
"""How many idle hosts are looked at, of however many there are."""


class _Fitting:
    """The hosts that fit one kind of needs now, in turn, and when that was last asked."""

    __slots__ = ("asked", "hosts")

    def __init__(self, hosts: OrderedDict[str, Host], now: float) -> None:
        self.hosts = hosts
        self.asked = now


class Hosts:
    """All hosts by name, and those with room, in turn.

    ``over`` has those that hold more than they can run at once, ``lending`` those with room that
    also lend slots. ``changed``, while it is not None, gathers those of which anything has changed.
    ``reserved`` has the host that is kept for each kind of needs.
    """

    def __init__(self) -> None:
        self.all: dict[str, Host] = {}
        self.over: OrderedDict[str, Host] = OrderedDict()
        self.changed: dict[Host, None] | None = None
        self.reserved: dict[Needs, Host] = {}
        self.lending: OrderedDict[str, Host] = OrderedDict()
        self._roomy: OrderedDict[str, Host] = OrderedDict()
        self._free: OrderedDict[str, Host] = OrderedDict()  # of those: with a slot for anybody
        self._fitting: dict[Needs, _Fitting] = {}
        self._names: set[str] | None = None

    def update(self, host: Host) -> None:
        """Call after anything that changes a host's room, or what it holds."""
        if self.changed is not None:
            self.changed[host] = None
            host.keep()
        name = host.name
        here = self.all.get(name) is host
        room = host.room if here else 0
        if room:
            self._roomy.setdefault(name, host)
        else:
            self._roomy.pop(name, None)
        if room and host.has_free(room):
            self._free.setdefault(name, host)
        elif self._free:
            self._free.pop(name, None)
        if here and host.waiting and host.lends:
            self.lending.setdefault(name, host)
        elif self.lending:
            self.lending.pop(name, None)
        beyond = host.held > host.slots or host.held > host.window
        if beyond and here and host.surplus > 0 and host.welcomed and host.peer is not None:
            self.over.setdefault(name, host)
        elif self.over:
            self.over.pop(name, None)
        if self._fitting:
            self._file(host, room)

    def _file(self, host: Host, room: int) -> None:
        """Put a host among those that fit what is asked for, as far as it does."""
        for needs, fitting in self._fitting.items():
            if room and host.fits(needs):
                fitting.hosts.setdefault(host.name, host)
            else:
                fitting.hosts.pop(host.name, None)

    def refit(self) -> None:
        """Call after anything that changes what resources hosts have, whether or not they are."""
        self._names = None

    def resource_names(self) -> set[str]:
        """The resources that hosts have, beside those of every farm."""
        if self._names is None:
            self._names = set().union(*(host.total for host in self.all.values()))
        return self._names

    def idle(self) -> list[Host]:
        """Some of those with a free slot of their own."""
        return list(islice((host for host in self._free.values() if host.free), IDLE_MAX))

    def pick(self, depth: int, *, short: bool) -> Host | None:
        """A host for the next task, in turn: one with a free slot, else, if short, with room."""
        for name, host in self._free.items():
            if not host.waiting or host.room_for(depth, short=False):
                self._free.move_to_end(name)
                self._roomy.move_to_end(name)
                return host
        if short:
            for name, host in self._roomy.items():
                if not host.waiting:
                    self._roomy.move_to_end(name)
                    return host
        return None

    def pick_lent(self, batch: Batch, depth: int) -> Host | None:
        """A host, in turn, that has a slot for tasks of this depth while it lends some."""
        for name, host in self.lending.items():
            if host.room_of(batch, depth) and host.takes(batch):
                self.lending.move_to_end(name)
                return host
        return None

    def pick_for(self, needs: "Needs", now: float) -> tuple[Host, int] | None:
        """A host for a task with needs, in turn, and for how many of them."""
        host = self.reserved.get(needs)
        if host is not None and (count := host.fits(needs)):
            return host, count
        among = self._fits(needs, now)
        for name, host in among.items():
            if count := host.fits(needs):
                among.move_to_end(name)
                return host, count
        return None

    def _fits(self, needs: "Needs", now: float) -> OrderedDict[str, Host]:
        """Where to look for a host that fits: all with room, if there are too many kinds."""
        fitting = self._fitting.get(needs)
        if fitting is None:
            self.forget_kinds(now)
            if len(self._fitting) >= KINDS_MAX:
                return self._roomy
            found = OrderedDict((n, host) for n, host in self._roomy.items() if host.fits(needs))
            fitting = self._fitting[needs] = _Fitting(found, now)
        fitting.asked = now
        return fitting.hosts

    def forget_kinds(self, now: float) -> None:
        """Keep track no more of needs for which nobody has asked of late."""
        for needs in [one for one, of in self._fitting.items() if now > of.asked + KIND_SECONDS]:
            del self._fitting[needs]

    def misplaced(self) -> list[str]:
        """What is not as it would be, had every host just been looked at; for invariants."""
        roomy, free, names = dict[str, Host](), set[str](), set[str]()
        for name, host in self.all.items():
            names.update(host.total)
            if room := host.room:
                roomy[name] = host
                if host.has_free(room):
                    free.add(name)
        found = [f"{name} has room" for name in roomy.keys() ^ self._roomy.keys()]
        found += [f"{name} has a free slot" for name in free ^ self._free.keys()]
        for needs, fitting in self._fitting.items():
            fits = {name for name, host in roomy.items() if host.fits(needs)}
            found += [f"{name} fits {needs}" for name in fits ^ fitting.hosts.keys()]
        return found + sorted(names ^ self.resource_names())

    def reserve(self, needs: "Needs", host: Host, *, slots: bool) -> None:
        """Keep a host for tasks with these needs, and its slots, too, if it is their turn."""
        self.reserved[needs] = host
        host.kept_for, host.keeps_slots = needs, slots
        self.update(host)

    def reserve_no_more(self, needs: "Needs") -> None:
        """Whatever was kept for tasks with these needs is free for others."""
        host = self.reserved.pop(needs, None)
        if host is not None:
            host.kept_for = None
            host.kept = 0
            self.update(host)
