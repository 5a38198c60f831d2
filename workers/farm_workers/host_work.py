"""The work of a host: leases cut into slices, slices given to workers, ends gathered.

A task of a lease is in one place at any time: it waits, is in the pipe of one worker, or is done
and in the reports. A worker that dies costs the item it was at, and nobody else anything: what
it had finished without saying so, and what it had not begun, is given back.
"""

from farm.model import Ending
from farm.protocol.messages import Claim, Failure, Grant
from farm_workers.host_backlog import Backlog
from farm_workers.host_claims import claims_of
from farm_workers.host_filling import Filling
from farm_workers.host_lease import Lease, Running, short
from farm_workers.host_lending import Lending
from farm_workers.host_limits import Limits
from farm_workers.host_needs import HostNeeds
from farm_workers.host_pace import HOLD_SECONDS, Pace
from farm_workers.host_reports import Reports
from farm_workers.host_roster import Death, Roster, Verdict
from farm_workers.host_slices import HostPort, HostSettings, Key, SliceEnd
from farm_workers.host_slots import Slot
from farm_workers.host_timetable import Timetable

__all__ = ["Work"]

ANNOUNCE_SECONDS = 0.005
"""Tasks that end sooner are not worth saying that they started."""


class Work:
    """All leases of a host, and its workers."""

    def __init__(
        self, settings: HostSettings, port: HostPort, reports: Reports, pace: Pace, now: float
    ) -> None:
        self.backlog = Backlog(settings.function_bytes_max)
        self.roster = Roster(settings, port, now)
        self.limits = Limits(settings, port, self.roster)
        self.lending = Lending(settings, port, self.roster)
        self._settings = settings
        self._port = port
        self._reports = reports
        self._pace = pace
        self.needs = HostNeeds(settings, self.roster)
        self._timetable = Timetable(self.roster, self.lending)
        self._filling = Filling(
            port, self.roster, self.backlog, lending=self.lending, limits=self.limits,
            needs=self.needs, pace=pace, reports=reports, timetable=self._timetable,
        )  # fmt: skip
        self.fill = self._filling.fill

    @property
    def is_idle(self) -> bool:
        """Whether no worker has anything."""
        return not any(slot.pipe for slot in self.roster.slots)

    def stir(self) -> None:
        """Something happens that may change when anything is due."""
        self._timetable.forget()

    # ------------------------------------------------------------ leases

    def assign(self, epoch: int, grants: list[Grant], now: float) -> list[bytes]:
        """Take leases; returns the functions to ask for."""
        wanted: list[bytes] = []
        for grant in grants:
            lease = self.backlog.add((epoch, grant.lease), grant)
            if lease is None:
                continue
            if grant.resources and not self.needs.admits(grant, self.backlog.others(lease)):
                self._reports.give_back(lease, grant.first, grant.first + grant.count)
                continue
            self._pace.assigned(grant)
            if not self._put(lease, grant.first, grant.first + grant.count):
                wanted.append(grant.function)
        self.fill(now)
        return wanted

    def learn(self, function: bytes, name: str, data: bytes, now: float) -> None:
        """A function came."""
        self.backlog.learn(function, name, data)
        self.fill(now)

    def recall(
        self, runs: list[tuple[int, int, int, int]], now: float, *, grace: float | None = None
    ) -> None:
        """Give back what has not begun; where a worker has it, find out first.

        ``grace``: what has begun is to end within so many seconds.
        """
        asked: dict[int, Slot] = {}
        for epoch, number, first, count in runs:
            lease = self.backlog.leases.get((epoch, number))
            if lease is None:
                continue
            for a, b in self.backlog.withdraw(lease, first, first + count):
                self._reports.give_back(lease, a, b)
            for slot, _, lo, hi in self.roster.holding(lease, first, first + count):
                lease.recalled.add(lo, hi)
                if grace is not None:
                    lease.stop(lo, hi, grace)
                asked[slot.number] = slot
        for slot in asked.values():
            self._filling.take_back(slot)
        self.fill(now)

    def drop(self, claims: list[Claim]) -> None:
        """Forget fenced tasks, and end the workers that have them."""
        for claim in claims:
            lease = self.backlog.leases.get((claim.epoch, claim.lease))
            if lease is None:
                continue
            stop = claim.first + claim.count
            lease.open -= sum(b - a for a, b in self.backlog.withdraw(lease, claim.first, stop))
            for slot, running, lo, hi in self.roster.holding(lease, claim.first, stop):
                running.dropped.add(lo, hi)
                slot.fencing = True
                self.roster.recount()
                self.roster.kill(slot)
            self.backlog.settle(lease)

    def noted(self, done: list[tuple[Key, int]]) -> None:
        """The coordinator knows how these tasks ended."""
        for key, count in done:
            lease = self.backlog.leases[key]
            lease.unnoted -= count
            self.backlog.settle(lease)

    def claims(self) -> list[Claim]:
        """Everything held: what runs, waits, or is done without having been noted."""
        return claims_of(self.backlog.leases, self.roster.slots, self._reports.held())

    def drain(self) -> None:
        """Give back what has not begun, and begin nothing more."""
        self.roster.draining = True
        self._put_all()
        for slot in [one for one in self.roster.slots if one.pipe]:
            self._filling.take_back(slot)

    # ------------------------------------------------------------ workers

    def waits(self, number: int, ordinal: int, now: float, *, begins: bool) -> None:
        """The item that a worker is at begins, or ends, to wait for other tasks."""
        slot = self.roster.slots[number]
        if self.lending.waits(slot, ordinal, begins=begins):
            if begins and slot.holds_up:
                self._filling.take_back(slot)
            if self.roster.broken:
                self._put_all()
            self.fill(now)

    def ended(self, number: int, parts: list[SliceEnd], now: float) -> None:
        """A worker ended parts of what it has; one that makes no sense is ended itself."""
        slot, waiting = self.roster.slots[number], self.backlog.waiting
        for part in parts:
            if not self._take_end(slot, part):
                self.stir()
                self.roster.kill(slot)
                return
        self.roster.worked()
        if slot.stuck:
            self.roster.recount()
        slot.progressed(now)
        self.limits.ended(slot, now)
        self._timetable.changed(slot)
        self.fill(now, slot if self.backlog.waiting <= waiting else None)

    def limited(self, number: int, index: int, now: float) -> None:
        """A worker will begin nothing after the item ``index``: take back what comes then."""
        slot = self.roster.slots[number]
        for running in list(slot.pipe):
            if running.part.offset >= slot.limit:
                continue  # handed over after the question
            begun = running.part.first + index + 1 - running.part.offset
            keep = max(running.next, min(running.stop, begun))
            lease = running.lease
            for a, b in lease.recalled.overlap(running.next, keep):
                self._reports.begin(lease, a, b)
                lease.recalled.remove(a, b)
            if running.next < keep == begun and keep - 1 in lease.stopping:
                self.limits.stop(slot, running, keep - 1, now)
            self._put_back(slot, running, keep)
            if running.next >= running.stop:
                slot.forget(running, now)
        self.limits.relieve(slot, now)
        self.fill(now)

    def progress(self, number: int, key: Key, counter: int, note: tuple[float, float, str]) -> None:
        """A task says how far it is; one that is over has nothing to say."""
        for running in self.roster.slots[number].pipe:
            if running.lease.key == key and running.next <= counter < running.stop:
                self._reports.progress(key, counter, note)

    def ready(self, number: int, now: float) -> None:
        """A worker is up."""
        self.roster.ready(number)
        self.fill(now)

    def retired(self, number: int, now: float) -> None:
        """A worker will begin nothing more of what it has, and exits."""
        self.roster.retired(self.roster.slots[number], now)
        self.fill(now)

    def measured(self, number: int, size: int, now: float) -> None:
        """A worker has so much memory."""
        self.limits.measured(self.roster.slots[number], size, now)

    def exit(self, number: int, death: Death, now: float) -> None:
        """A worker process is gone, with all that it has started."""
        slot = self.roster.slots[number]
        if death.oom:
            self.limits.convict(slot, death.index)
        verdict = self.roster.blame(slot, death, self.backlog)
        left = slot.leaving and not slot.fencing
        # What is put back goes to the front, so the last of it goes first.
        for running in reversed(slot.pipe) if left else slot.pipe:
            for first, stop in running.left():
                if left:  # nothing of it has begun, and another worker here may have it at once
                    self._put(running.lease, first, stop, front=True)
                else:
                    self._lose(running, first, stop, death, verdict)
            dropped = running.dropped.overlap(running.next, running.stop)
            running.lease.open -= sum(b - a for a, b in dropped)
            running.lease.recalled.remove(running.next, running.stop)
            self.backlog.settle(running.lease)
        self.roster.replace(slot, death, now)
        if self.roster.broken:
            self._put_all()
        self.fill(now)

    def _lose(
        self, running: Running, first: int, stop: int, death: Death, verdict: Verdict | None
    ) -> None:
        """A worker died with these: what it was at is over, the others are given back."""
        lease, index = running.lease, death.index
        begun = -1 if index is None else running.part.first + index - running.part.offset
        # What it had ended without saying so has run: it can no longer be cancelled.
        self._reports.begin(lease, first, min(stop, begun + 1))
        if verdict and verdict.running is running and first <= verdict.counter < stop:
            counter, failure = verdict.counter, verdict.failure
            self._reports.give_back(lease, first, counter)
            first = counter + 1
            self._reports.end(
                lease, (counter, first), verdict.ending, [], seconds=death.seconds, failure=failure
            )
        self._reports.give_back(lease, first, stop)

    # ------------------------------------------------------------ time

    def tick(self, now: float, *, holding: bool = False) -> tuple[float, bool]:
        """Do what is due: announcements, time limits, slots that are stuck.

        ``holding``: a report waits for others, and so may who begins. Returns when something next
        is due, and whether anything was.
        """
        due = self.next_deadline(holding=holding)
        if now < due and not self.roster.lends:
            return due, False
        for slot in self.roster.slots:
            if now >= slot.limit_at:
                self.limits.tick(slot, now)
            if not slot.pipe:
                continue
            head = slot.pipe[0]
            if not head.is_announced and now >= slot.moved + ANNOUNCE_SECONDS:
                head.announced = head.begun
                self._reports.begin(head.lease, head.next, head.announced)
            if not slot.stuck and now >= slot.stuck_at:
                slot.stuck = True
                self.roster.recount()
                if slot.holds_up and head.cost:
                    self._filling.take_back(slot)
        if now >= self.roster.retry_at:
            self.roster.revive(now)
        self.lending.tick(now)
        self.stir()
        return self.next_deadline(holding=holding), True

    def next_deadline(self, *, holding: bool = False) -> float:
        """When ``tick`` is next needed."""
        patience = ANNOUNCE_SECONDS
        if holding:
            patience += HOLD_SECONDS  # who began is said with who ended
        return self._timetable.due(patience)

    # ------------------------------------------------------------ inside

    def _put(self, lease: Lease, first: int, stop: int, *, front: bool = False) -> bool:
        """Let tasks wait for a worker, unless they are wanted back or none will come.

        Returns False if their function must be asked for.
        """
        if first >= stop:
            return True
        waits = lease.recalled.gaps(first, stop) if lease.recalled else [(first, stop)]
        if lease.recalled:
            for a, b in lease.recalled.overlap(first, stop):
                self._reports.give_back(lease, a, b)
            lease.recalled.remove(first, stop)
        known = True
        for a, b in waits:
            if self.roster.gives_up(lease.grant.depth):
                failure = Failure("initializer", self.roster.broken, self._settings.name)
                self._reports.end(lease, (a, b), Ending.BROKEN, [], failure=failure)
            elif self.roster.broken or (
                self.roster.draining and not (self.lending.waiting and lease.grant.depth)
            ):
                self._reports.give_back(lease, a, b)
            else:
                known = self.backlog.put(lease, a, b, front=front)
        return known

    def _put_all(self) -> None:
        """Decide anew about everything that waits."""
        for lease in self.backlog.leases.values():
            grant = lease.grant
            for a, b in self.backlog.withdraw(lease, grant.first, grant.first + grant.count):
                self._put(lease, a, b)

    def _put_back(self, slot: Slot, running: Running, first: int) -> None:
        """A worker has not begun a slice from this task on, nor will it: these wait again."""
        lease, stop, told = running.lease, running.stop, slot.stop
        running.stop = first
        for a, b in running.dropped.overlap(first, stop):
            lease.open -= b - a
            lease.recalled.remove(a, b)
        if told is not None and told.running is running and first <= told.counter < stop:
            # It had come to this one, which was to end, and saw in time that it was not to begin.
            slot.stop = None
            lease.recalled.add(told.counter, told.counter + 1)
        for a, b in running.dropped.gaps(first, stop):
            self._put(lease, a, b, front=True)
        self.backlog.settle(lease)

    def _take_end(self, slot: Slot, part: SliceEnd) -> bool:
        """Report how a run ended; returns whether it makes sense."""
        running = slot.holding(part.offset)
        if part.ending is Ending.CANCELLED:
            if running and running.next <= part.first < running.stop:
                self._put_back(slot, running, part.first)
            return True
        if running is None or not running.fits(part):
            return False
        lease = running.lease
        stop = running.next = part.first + part.count
        running.seconds += part.seconds
        self._pace.learn(running.part.function, part.count, part.seconds)
        if not running.part.packed:
            self._pace.learn_unit(part.count, part.seconds)
        elif running.next == running.stop:
            self._pace.learn_unit(1, running.seconds)
        if part.failure:
            part.failure = short(part.failure)
            part.failure.host = self._settings.name
            part.failure.peak_bytes = max(part.failure.peak_bytes, slot.peak_bytes)
        lease.recalled.remove(part.first, stop)
        self._reports.end(
            lease, (part.first, stop), part.ending, part.payloads, packed=part.packed,
            seconds=part.seconds, failure=part.failure, output=part.output,
        )  # fmt: skip
        return True
