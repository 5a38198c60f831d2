"""Who may submit how much: credit, exact admission, and what becomes of a submitted group."""

from collections.abc import Sequence
from copy import copy
from functools import partial

from farm.core.batch import Batch
from farm.core.blobs import blob_names, names_in
from farm.core.drafts import Draft
from farm.core.duplicates import Duplicates, duplicate_of
from farm.core.following import Following
from farm.core.ledger import Ledger
from farm.core.needs import why_misspelt
from farm.core.placement import Placement
from farm.core.policy import nearest_queue
from farm.core.queue import Queue
from farm.core.queue_credit import QueueCredit, by_size, cut, fitting
from farm.core.rights import Rights
from farm.core.session_credit import SessionCredit
from farm.core.sessions import Session
from farm.model import State
from farm.protocol.messages import Accepted, Refused, Submit
from farm.protocol.parts import Group

__all__ = ["Admission"]

NEVER = float("inf")
BUSY_SECONDS = 1.0
"""When to come again after what does not pass by work that is done: at least so soon."""


class Admission:
    """Takes submissions: reserves before it accepts, and never admits one task too many."""

    def __init__(
        self,
        ledger: Ledger,
        following: Following,
        duplicates: Duplicates,
        rights: Rights,
        placement: Placement,
    ) -> None:
        self._ledger = ledger
        self._placement = placement
        self._rights = rights
        self._following = following
        self._duplicates = duplicates
        self._touched: dict[Session, None] = {}
        self._owed: dict[Session, None] = {}
        self.acknowledge_due = NEVER
        self._acknowledge_again = -NEVER  # not before this
        self._unread = False  # results that nobody read fill the room for them
        self.sessions = SessionCredit(ledger)
        self.queues = QueueCredit(ledger)

    # ------------------------------------------------------------ submissions

    def on_submit(self, session: Session, message: Submit, now: float) -> None:
        """Accept what is new and fits; answer the rest."""
        if not session.mark_ref:  # before its first task: a mark names only what came before it
            self._ledger.mark(session, now)
        session.raise_floor(message.floor)
        admitted: list[Batch] = []
        durable: list[tuple[Batch, Group]] = []
        known: list[tuple[int, int]] = []
        for group in message.groups:
            units = 1 if group.packed else group.count
            session.received_tasks += units
            session.received_bytes += group.size
            group.same = None  # which is not a client's to say
            admit = self._admit_keyed if group.keys else self._admit
            for fresh in self._fresh(session, group, known):
                for taken in admit(session, fresh, now):
                    admitted.append(taken[0])
                    if taken[0].durable:
                        durable.append(taken)
        if durable:
            written = partial(self._written, session, session.connection, durable)
            self._ledger.write(Draft(session, durable, now, written))
        alone = len(admitted) == 1
        for batch in admitted:
            self._start(batch, now, alone=alone)
        if known:
            self._ledger.write_drafts(self._ledger.drafts.take_all())
        for a, b in known:  # only now: this very message may have named them before
            self._accept(session, a, b - a, self._ledger.last_ref)
        self._release_rest(message, admitted)

    def _release_rest(self, message: Submit, admitted: list[Batch]) -> None:
        """Let go of the blobs of what was not accepted, or was already."""
        if arrived := blob_names(message.groups):
            for batch in admitted:
                arrived.difference_update(names_in(batch.payloads))
            self._ledger.release(arrived)

    def _fresh(self, session: Session, group: Group, known: list[tuple[int, int]]) -> list[Group]:
        """The parts of a group never accepted before; ``known`` gets the others."""
        stop = group.first + group.count
        before = session.accepted.overlap(group.first, stop)
        before += session.volatile.overlap(group.first, stop)
        if not before:
            return [group]
        known += before
        gaps = [
            (c, d)
            for a, b in session.accepted.gaps(group.first, stop)
            for c, d in session.volatile.gaps(a, b)
        ]
        if group.packed and len(gaps) > 1:  # each part would carry the whole payload
            text = "some of the packed task's items are known; submit the others by themselves"
            for a, b in gaps:
                rest = cut(group, a - group.first, b - group.first)
                self._refuse(session, rest, "overlap", text)
            return []
        return [cut(group, a - group.first, b - group.first) for a, b in gaps]

    def _admit(self, session: Session, group: Group, now: float) -> list[tuple[Batch, Group]]:
        """Accept what fits of a group; each part that is refused for good ends a part before it."""
        name = group.template.queue if group.template else ""
        queue = self._ledger.queues.find(name)
        if queue is None:
            text = nearest_queue(name, self._ledger.queues.names)
            self._refuse(session, group, "queue", text)
            return []
        if queue.refused:
            self.queues.received(session, queue, group)
        if (refusal := self._refusal(session, group)) is not None:
            self._refuse(session, group, *refusal)
            return []
        most = queue.policy.max_bytes
        if most is None or group.size <= most:
            return self._admit_part(session, group, queue, now)
        found: list[tuple[Batch, Group]] = []
        for lo, hi, too_large in by_size(group, most):
            part = cut(group, lo, hi)
            if too_large:
                text = f"the payload has {part.size} bytes; queue {queue.name} takes at most {most}"
                self._refuse(session, part, "too_large", text)
            else:
                found += self._admit_part(session, part, queue, now)
        return found

    def _admit_keyed(self, session: Session, group: Group, now: float) -> list[tuple[Batch, Group]]:
        """Accept tasks with keys: new ones as any, those whose key is taken as duplicates."""
        found: list[tuple[Batch, Group]] = []
        if group.template is not None and not group.template.durable:
            text = "a key is kept in the journal, and the task is not; leave out durable=False"
            self._refuse_keyed(session, group, "durable", text)
            return found
        self._ledger.free_keys(now)
        keys, at = self._ledger.keys, 0
        owner = self._rights.owner_of(session, group)
        while at < group.count:
            run = keys.run_at(owner, group, at)
            if run.batch is None and keys.room() < run.stop - at:
                run = run._replace(stop=at + max(keys.room(), 1))
            part = cut(group, at, run.stop)
            at = run.stop
            if run.batch is None:
                if keys.room() > 0:
                    found += self._admit(session, part, now)
                else:
                    text, after = keys.why_full(now), keys.retry_after(now)
                    self._refuse_keyed(session, part, "keys", text, after)
            elif run.problem:
                self._refuse_keyed(session, part, "key", keys.conflict(run, now))
            else:
                same = run.batch.session.id, run.batch.first + run.place
                found += self._admit(session, duplicate_of(part, same), now)
        return found

    def _refuse_keyed(
        self, session: Session, group: Group, why: str, text: str, after: float = BUSY_SECONDS
    ) -> None:
        """Refuse tasks for their keys, for good; a queue that was full counts them as sent."""
        queue = self._ledger.queues.find(group.template.queue if group.template else "")
        if queue is not None and queue.refused:
            self.queues.received(session, queue, group)
        self._refuse(session, group, why, text, after)

    def _admit_part(
        self, session: Session, group: Group, queue: Queue, now: float
    ) -> list[tuple[Batch, Group]]:
        tasks, size = self._ledger.room()
        own = self.sessions.room_of(session)
        free = own is None and not queue.bounded
        if free and group.count <= tasks and group.size <= size:  # as nearly always
            return [self._accept_group(session, group, queue, now)]
        fits = fitting(group, tasks, size)
        fits_queue = fitting(group, *queue.room()) if queue.bounded else fits
        fits_own = fits if own is None else fitting(group, *own)
        taken = min(fits, fits_queue, fits_own)
        found = [self._accept_group(session, cut(group, 0, taken), queue, now)] if taken else []
        if fits_own < min(fits, fits_queue):
            rest = cut(group, taken, group.count)
            why = self.sessions.why_limited(session)
            self._refuse(session, rest, "busy", why, self.sessions.own_room_after(session, now))
        elif fits_queue < fits:
            self._touched[session] = None
            self.queues.refuse(session, queue, cut(group, taken, group.count), now)
        elif taken < group.count:
            rest = cut(group, taken, group.count)
            self.sessions.full = True
            self._refuse(session, rest, "busy", "", self.sessions.room_after(now))
        return found

    def _accept_group(
        self, session: Session, group: Group, queue: Queue, now: float
    ) -> tuple[Batch, Group]:
        ledger = self._ledger
        template = queue.template(group.template)
        if template is not group.template:
            group = copy(group)
            group.template = template
        job = session.jobs.get(group.job)
        owner = self._rights.owner_of(session, group)
        batch = Batch(session, group, job, queue, now, ledger.wall_offset, owner)
        batch.fence = ledger.epoch  # whatever ran before it was accepted counts for nothing
        ledger.open(batch)
        queue.meter.arrive(batch.units, now)
        ledger.functions.acquire(batch.function, durable=batch.durable)
        if batch.keys:
            ledger.keys.hold(batch)
        accepted = session.accepted if batch.durable else session.volatile
        accepted.add(batch.first, batch.stop)
        session.forgotten.remove(batch.first, batch.stop)
        session.batches.add(batch)
        if job is not None:
            job.batches[batch.first] = batch
            self._following.note_growth(job, batch)
        ledger.counters["submitted"] += group.count
        return batch, group

    def _refusal(self, session: Session, group: Group) -> tuple[str, str] | None:
        settings = self._ledger.settings
        if session.python_differs:
            return "python", session.python_differs
        if group.size > settings.payload_bytes_max and len(group.payloads) == 1:
            return "too_large", (
                f"the payload has {group.size} bytes; this farm takes at most "
                f"{settings.payload_bytes_max} inline"
            )
        if why := self._why_busy(session):
            return "busy", why
        if group.function not in self._ledger.functions:
            return "function", ""
        if group.job and group.job not in session.jobs:
            return self._why_no_job(session, group.job)
        misspelt = "" if group.template is None else why_misspelt(group.template, self._ledger)
        return ("resource", misspelt) if misspelt else None

    def _why_no_job(self, session: Session, number: int) -> tuple[str, str]:
        most = self._ledger.settings.session_jobs
        if len(session.jobs) >= most:
            return "jobs", f"job {number} is one too many: a client can have {most} that go on"
        return "job", f"job {number} was not opened, or is over; open it and submit again"

    def _why_busy(self, session: Session) -> str:
        """Why nothing of a client is accepted now; empty if it is."""
        if shortage := self._shortage():
            self.sessions.full = True  # whatever else keeps this client from sending
            return shortage
        waiting = len(session.outbox)
        if waiting <= self._ledger.settings.session_outcomes:
            return ""
        self.sessions.starved[session] = None
        return f"unread results: {waiting} outcomes wait for this client to take them"

    def _shortage(self) -> str:
        """Why nothing new is accepted; empty if it is."""
        ledger, settings = self._ledger, self._ledger.settings
        bound = settings.max_result_bytes
        self._unread = ledger.unread_bytes > bound * (settings.low_water if self._unread else 1)
        if self._ledger.short or not self._unread:
            return self._ledger.short
        return (
            f"unread results: the farm keeps {ledger.unread_bytes} bytes of results that nobody "
            f"has read, and {bound} are allowed; read them, or raise max_result_bytes"
        )

    def _refuse(
        self,
        session: Session,
        group: Group,
        reason: str,
        message: str,
        seconds: float = BUSY_SECONDS,
    ) -> None:
        self._ledger.counters["refused"] += group.count
        self.sessions.note_refused(session, busy=reason == "busy")
        self._touched[session] = None
        if session.peer is not None:
            self._ledger.port.send(
                session.peer, Refused(group.first, group.count, reason, seconds, message)
            )

    def _start(self, batch: Batch, now: float, *, alone: bool) -> None:
        """The batch is accepted: queue it, and, if nothing of it is written, acknowledge it.

        ``alone``: nothing came with it that may have to go first.
        """
        if batch.same is None:
            self._await(batch, now, alone=alone)
        else:
            self._ledger.counters["duplicates"] += batch.count
            self._duplicates.follow(batch, now)
        if not batch.durable:
            self._accept(batch.session, batch.first, batch.count, 0)

    def _written(
        self, session: Session, connection: int, taken: Sequence[tuple[Batch, Group]]
    ) -> None:
        """Tasks are in the journal: acknowledge them when that is durable."""
        for batch, _ in taken:
            action = partial(self._accepted, session, connection, batch.first, batch.count)
            self._ledger.after_commit(action, 0.0)

    def _await(self, batch: Batch, now: float, *, alone: bool) -> None:
        ledger = self._ledger
        if batch.template.expires is not None:
            batch.expires_at = now + batch.template.expires
            ledger.expiries.push(batch.expires_at, batch, 0, batch.count)
        if batch.states[0] == State.SCHEDULED:
            ledger.delay(batch, 0, batch.count, batch.starts_at)
        elif not (alone and self._placement.place_at_once(batch, now)):
            ledger.queues.push(batch, 0, batch.count)

    def _accept(self, session: Session, first: int, count: int, ref: int) -> None:
        if ref > self._ledger.committed:
            connection = session.connection
            action = partial(self._accepted, session, connection, first, count)
            self._ledger.after_commit(action, 0.0)
        else:
            self._accepted(session, session.connection, first, count, 0.0)

    def _accepted(
        self, session: Session, connection: int, first: int, count: int, _now: float
    ) -> None:
        if session.peer is None or session.connection != connection:
            return  # the client sends it again and is told then
        runs = session.accepting
        if runs and runs[-1][0] + runs[-1][1] == first:
            runs[-1] = (runs[-1][0], runs[-1][1] + count)
        else:
            runs.append((first, count))
        self._touched[session] = None

    # ------------------------------------------------------------ the end of a turn

    def flush(self, now: float) -> None:
        """Give credit where it is low, unless the farm is full; now and then, acknowledge."""
        touched, credit = self._touched, self.sessions
        if touched:
            self._touched = {}
            self._owed |= touched
            self.acknowledge_due = self._acknowledge_again
        if now >= self.acknowledge_due:
            self._acknowledge()
            self._acknowledge_again = now + self._ledger.settings.reply_seconds
        if self.queues.waited_for:
            self.queues.flush(now)
        fed = [*credit.feed(), *credit.drained()] if credit.starved or credit.limited else ()
        if touched or fed or credit.full:
            self._feed(touched, fed, now)

    def _feed(self, touched: dict[Session, None], fed: Sequence[Session], now: float) -> None:
        """Give credit to those who may have it, or say why there is none."""
        credit, among = self.sessions, 1
        if credit.full:
            if self._shortage() or not credit.has_drained():
                credit.tell_full(touched, now)
                return
            among = credit.reopen()
            touched = dict.fromkeys(self._ledger.sessions.values())
        for session in (*touched, *fed):
            credit.grant(session, among)
        if credit.limited:
            credit.tell_full({one: None for one in touched if one in credit.limited}, now)

    def _acknowledge(self) -> None:
        self.acknowledge_due = NEVER
        owed, self._owed = self._owed, {}
        for session in owed:
            if session.peer is not None and session.accepting:
                message = Accepted(self._ledger.committed, session.accepting)
                session.accepting = []
                self._ledger.port.send(session.peer, message)
