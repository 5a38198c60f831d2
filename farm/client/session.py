"""A client's session as a pure machine: what to say to the coordinator, and what its words mean.

Promises: every task that was submitted is settled exactly once, whatever happens to connections
and coordinators in between, as long as some coordinator with the same store answers at last.
Tasks wait here until there is credit, stay until they are accepted, and, where the coordinator
keeps them in memory only, until their outcome. Nothing is sent beyond the credit. The session
does no IO and reads no clock: the shell calls a method per event, and ``on_tick`` at the end of
each of its turns, which is when all that gathered is said.

What is kept is bounded by the shell, which blocks submitters, by credit, and by open requests.
"""

from collections.abc import Callable, Sequence
from typing import Any, ClassVar

from farm.client.session_outbox import Outbox
from farm.client.session_port import SessionPort, SessionSettings
from farm.client.session_receipts import Receipts
from farm.client.session_requests import Cancels, Follows, Jobs, runs_among
from farm.client.session_shelf import STOPPED, TRIED, cancelled_results, parts_of_result, runs_of
from farm.model import Answer as Data
from farm.model import Ending
from farm.protocol import messages as m
from farm.ranges import RangeSet

__all__ = ["Session", "SessionPort", "SessionSettings"]


class Session:
    """One client's identity and state across all its connections.

    For reading: ``connected`` (the welcome has come), ``closed``, ``durable`` (as was said last),
    ``epoch_seen``, ``payload_bytes_max``, ``round_trip`` (seconds, by beats, or None), ``retry_at``
    and ``busy`` (when there should be room, and why there is none), ``full`` (the same of queues
    without room for what waits here), ``queues`` (which there are), ``open`` (unsettled), ``jobs``.
    """

    def __init__(
        self,
        settings: SessionSettings,
        port: SessionPort,
        *,
        session: bytes,
        secret: bytes,
        instance: bytes,
    ) -> None:
        self.session, self.store_seen = session, b""
        self.connected, self.closed, self.durable = False, False, True
        self.epoch_seen = self.commit_seen = 0
        self.payload_bytes_max, self.open = m.PAYLOAD_BYTES_MAX, RangeSet()
        self.round_trip: float | None = None
        self.retry_at, self.busy = 0.0, ""
        self._settings, self._port, self._secret, self._instance = settings, port, secret, instance
        self._connection, self._beat_seconds, self._silence = 0, 1.0, 0.0
        self._hello_at: float | None = None  # not None: waiting for the welcome
        self._heard = self._ticked = self._beat_due = 0.0
        self._receipts = Receipts(settings)
        self._outbox, self.jobs = Outbox(paced=settings.waits_for_room), Jobs()
        self.full, self.queues = self._outbox.full, frozenset[str]()
        self._cancels, self._follows = Cancels(), Follows(session)
        self._queries: dict[int, m.Query | m.DrainHost] = {}

    @property
    def unsent(self) -> tuple[int, int]:
        """Tasks and payload bytes that wait to be sent."""
        return self._outbox.tasks, self._outbox.size

    @property
    def credit(self) -> int | None:
        """How many tasks may be submitted more, if none may wait for room; None if they may."""
        return None if self._settings.waits_for_room else self._outbox.credit_left

    @property
    def unacknowledged(self) -> int:
        """Tasks that no coordinator has accepted yet."""
        return self._outbox.tasks + self._outbox.parked_tasks + self._outbox.unacked.tasks

    @property
    def waits_for_credit(self) -> bool:
        """Whether tasks cannot be sent because the farm is full."""
        return self.connected and self._outbox.tasks > 0 and self._outbox.is_held(self._ticked)

    # ------------------------------------------------------------ what the owner asks for

    def submit(
        self, groups: Sequence[m.Group], functions: Sequence[m.Function], now: float
    ) -> None:
        """Take groups of new tasks, which become the session's own, and the functions they name.

        Counters are given out in order: a later call has none below those of an earlier one.
        """
        for group in groups:
            self.open.add(group.first, group.first + group.count)
            self.jobs.held(group.job, group.count)
        send = self._port.send if self.connected else None
        if self._outbox.add(groups, functions, send, now):
            self._port.room(*self.unsent)
        else:
            self._pump(now)

    def open_job(self, job: int, name: str, now: float) -> None:
        """Begin a job, before any task that names it by its number."""
        self._say(self.jobs.open(job, name))

    def seal_job(self, job: int, count: int, now: float) -> None:
        """No more tasks will join the job; ``count`` is how many were submitted to it."""
        self.jobs.seal(job, count)

    def cancel(
        self, request: int, tasks: list[m.TaskRun], now: float, grace: float | None = None
    ) -> None:
        """Cancel tasks of any session; answered by a ``CancelReply``, at once if none was sent.

        With a ``grace``, also those that run are stopped.
        """
        self._cancels.ask(request, tasks, grace)
        for session, first, count in tasks:
            if session == self.session:
                self._cancel_fresh(first, first + count, tried=True)
        if answer := self._cancels.narrow(request, self.session, self.open):
            self._port.replied(answer)
        else:
            self._pump(now)

    def attach(self, request: int, tasks: list[m.TaskRun], job: str, now: float) -> None:
        """Follow tasks, or a job by id or name; answered by ``JobInfo``, then by results."""
        self._say(self._follows.ask(request, tasks, job))

    def query(self, request: int, what: str, arguments: dict[str, Data], now: float) -> None:
        """Ask a question about the farm; answered by an ``Answer``."""
        self.ask(m.Query(request, what, arguments), now)

    def ask(self, message: m.Query | m.DrainHost, now: float) -> None:
        """Ask a question, or for something to be done; answered by an ``Answer``."""
        self._queries[message.request] = message
        self._say(message)

    def close(self, now: float) -> None:
        """Leave. Tasks that were accepted go on; nothing is said or heard any more."""
        if taken := self._receipts.take():
            self._say(taken)
        self._say(m.Bye())
        self.connected, self.closed, self._hello_at = False, True, None

    # ------------------------------------------------------------ connections and time

    def on_connected(self, now: float) -> None:
        """A new connection is there: say HELLO on it."""
        self.on_disconnected(now)
        self._connection += 1
        self._hello_at = self._heard = self._ticked = now
        self._port.send(
            m.ClientHello(
                m.PROTOCOL_VERSION, self._settings.farm, self._settings.python, self._instance,
                self.session, self._secret, self._connection, self.epoch_seen, self.store_seen,
                self.commit_seen, self._settings.window_bytes,
                [(a, b - a) for a, b in self._outbox.accepted_for_good(self.open)],
                self._settings.behalf,
            )
        )  # fmt: skip

    def on_disconnected(self, now: float) -> None:
        """The connection is gone; all goes on with the next one."""
        self.connected, self._hello_at = False, None
        self._receipts.disconnected()
        self._outbox.disconnected()

    def next_deadline(self) -> float | None:
        """When ``on_tick`` is to be called next, or None if nothing is waited for."""
        if self._hello_at is not None:
            return self._hello_at + self._settings.hello_seconds
        if not self.connected:
            return None
        due = min(self._beat_due, self._heard + self._silence, self._receipts.due)
        if self._outbox.hold_until > self._ticked and self._outbox.tasks:
            due = min(due, self._outbox.hold_until)
        return due

    def on_tick(self, now: float) -> None:
        """The end of a turn of the shell, after all that had arrived was received."""
        gap, self._ticked = now - self._ticked, now
        if self._hello_at is not None and now >= self._hello_at + self._settings.hello_seconds:
            self._give_up(f"no answer to HELLO within {self._settings.hello_seconds:g} s", now)
        if not self.connected:
            return
        if gap > 2 * self._beat_seconds:
            self._heard = min(now, self._heard + gap)  # it was us who slept
        if now >= self._heard + self._silence:  # the very sum that next_deadline says
            self._give_up(f"the coordinator was silent for {now - self._heard:.1f} s", now)
            return
        if now >= self._receipts.due and (taken := self._receipts.take()):
            self._port.send(taken)
        self._pump(now)
        for seal in self.jobs.seals():
            self._port.send(seal)
        if now >= self._beat_due:
            self._beat_due = now + self._beat_seconds
            self._port.send(m.Beat(stamp=now))

    # ------------------------------------------------------------ what the coordinator says

    def receive(self, message: m.ToClient, now: float) -> None:
        """A message arrived on the present connection."""
        if self.connected:
            self._heard = now
            self._HANDLERS[type(message)](self, message, now)
        elif self._hello_at is None:
            return  # of a connection that was given up
        elif isinstance(message, (m.ClientWelcome, m.Rejected, m.Bye)):
            self._HANDLERS[type(message)](self, message, now)
        else:
            self._give_up("the coordinator spoke before its welcome", now)

    def _on_welcome(self, message: m.ClientWelcome, now: float) -> None:
        if self.connected or message.epoch < self.epoch_seen:
            self._give_up(f"a welcome of epoch {message.epoch} after {self.epoch_seen}", now)
            return
        lost = (message.epoch, message.store) != (self.epoch_seen, self.store_seen)
        seen = self.commit_seen if message.store == self.store_seen else 0
        self.epoch_seen, self.store_seen = message.epoch, message.store
        self.commit_seen = max(seen, message.commit)
        self.connected, self._hello_at = True, None
        self.durable = message.durable
        self.payload_bytes_max = message.payload_bytes_max
        self.queues = frozenset(message.queues)
        self._beat_seconds = message.beat_seconds
        self._silence = self._settings.silent_beats * message.beat_seconds
        self._beat_due = now + message.beat_seconds
        self._heard = self._ticked = now
        for group in self._outbox.welcome(message.credit_tasks, message.credit_bytes, lost=lost):
            self.jobs.held(group.job, group.count)
        if lost:  # the last coordinator promised it, and this one may not know
            self._end(self._outbox.to_send(self._cancels.stopping), STOPPED)
        self.jobs.said_nothing()
        self._cancels.said_nothing()
        for ask in (*self.jobs.opens(), *self._follows.again(), *self._queries.values()):
            self._port.send(ask)
        self._pump(now)

    def _on_rejected(self, message: m.Rejected, now: float) -> None:
        self._give_up(message.message, now)
        self._port.rejected(message.code, message.message, message.retry)

    def _on_credit(self, message: m.Credit | m.QueueCredit, now: float) -> None:
        self._outbox.credit(message)
        if isinstance(message, m.Credit):
            self.retry_at = now + message.retry_after
        self._pump(now)

    def _on_accepted(self, message: m.Accepted, now: float) -> None:
        self.commit_seen = max(self.commit_seen, message.commit)
        for first, count in message.runs:
            pieces = self._outbox.accepted(first, first + count, durable=self.durable)
            for piece in pieces:
                self.jobs.held(piece.job, -piece.count)

    def _on_refused(self, message: m.Refused, now: float) -> None:
        first, stop, reason = message.first, message.first + message.count, message.reason
        pieces = self._outbox.refused(first, stop)
        waits = (paced := self._settings.waits_for_room) or self._outbox.may_wait(pieces)
        if opens := self.jobs.again({piece.job for piece in pieces} if reason == "job" else ()):
            for job in opens:
                self._port.send(job)
        elif reason == "function":
            self._outbox.forget_function(pieces)
        elif message.queue and pieces and paced:
            self._outbox.park(message.queue, now + message.retry_after, message.message)
        elif reason == "busy":
            self.retry_at, self.busy = now + message.retry_after, message.message
            self._outbox.hold(now, message.retry_after)
        if opens or reason == "function" or (reason == "busy" and waits):
            self._outbox.put_back(pieces)
            # Whoever asked to cancel them is told "not known": they must not run after all.
            for a, b in self._cancels.wanted(self.session, first, stop):
                self._cancel_fresh(a, b, tried=True)
            return
        for piece in pieces:
            self.open.remove(piece.first, piece.first + piece.count)
            self.jobs.held(piece.job, -piece.count, gone=True)
            self._port.failed(piece.first, piece.count, message)

    def _on_results(self, message: m.Results, now: float) -> None:
        self._receipts.received(message, now)
        self.commit_seen = max(self.commit_seen, message.commit)
        fresh: list[m.Result] = []
        for entry in self._outbox.without_unsent(message.entries, self.session):
            first, stop, ours = (
                entry.first,
                entry.first + entry.count,
                entry.session == self.session,
            )
            if entry.ending is Ending.CANCELLED and self._cancels:
                self._cancels.cancelled(entry.session, first, stop, stopped=bool(entry.failure))
            parts = self._follows.settle(entry.session, first, stop)
            if ours and self.open.covers(first, stop):  # as nearly always
                self._settle(first, stop)
                fresh.append(entry)
                continue
            if ours and (mine := self.open.overlap(first, stop)):
                self._settle(first, stop)
                parts = [*RangeSet(mine + parts)] if parts else mine
            fresh += parts_of_result(entry, parts)
        if fresh:
            self._port.settled(fresh)

    def _on_cancel_reply(self, message: m.CancelReply, now: float) -> None:
        if (answer := self._cancels.answer(message)) is None:
            return
        # Settled on the coordinator's word: should it restart, nothing of these is sent again.
        self._end(runs_among(answer.cancelled, self.session, self.open))
        ending = answer.stopped + answer.stopping
        for a, b in runs_among(ending, self.session, self.open):
            self._cancels.stopping.add(a, b)
        self._port.replied(answer)

    def _on_job_info(self, message: m.JobInfo, now: float) -> None:
        if not self.jobs.answered(message) and self._follows.learn(message, self._say):
            self._port.replied(message)

    def _on_answer(self, message: m.Answer, now: float) -> None:
        if self._queries.pop(message.request, None):
            self._port.replied(message)

    def _on_beat(self, message: m.Beat, now: float) -> None:
        if message.stamp:
            self._port.send(m.Beat(echo=message.stamp))
        if message.echo:
            self.round_trip = now - message.echo
            used = (group.job for group in self._outbox.retained)
            self.jobs.forget(used)

    # ------------------------------------------------------------ inside

    def _say(self, message: m.FromClient) -> None:
        if self.connected:
            self._port.send(message)

    def _give_up(self, reason: str, now: float) -> None:
        self.on_disconnected(now)
        self._port.disconnect(reason)

    def _pump(self, now: float) -> None:
        if not self.connected:
            return
        if self._outbox.has_sendable and self._outbox.pump(self._port.send, now):
            self._port.room(*self.unsent)
        # What may be at the coordinator or not is sent first, or it would run after all.
        if self._cancels and not self._outbox.again:
            for cancel in self._cancels.unsent():
                self._port.send(cancel)

    def _settle(self, first: int, stop: int) -> None:
        """Tasks of ours are over, and no copy of them is needed any more."""
        self.open.remove(first, stop)
        if self._cancels.stopping:
            self._cancels.stopping.remove(first, stop)
        for piece in self._outbox.settled(first, stop):
            self.jobs.held(piece.job, -piece.count)

    def _end(self, runs: list[tuple[int, int]], failure: m.Failure | None = None) -> None:
        """Tasks of ours are cancelled; with a ``failure``, after they may have begun."""
        for a, b in runs:
            self._settle(a, b)
        if runs:
            self._port.settled(cancelled_results(self.session, runs, failure))

    def _cancel_fresh(self, first: int, stop: int, *, tried: bool = False) -> bool:
        """Cancel those of the tasks that the coordinator does not have; whether there are any.

        With ``tried`` also those that one that is gone may have let begin: they are stopped.
        """
        pieces = self._outbox.take_fresh(first, stop, tried=tried)
        for piece in pieces:
            self.jobs.held(piece.job, -piece.count, gone=True)
        for failure in (None, TRIED):
            runs = runs_of(piece for piece in pieces if piece.tried is bool(failure))
            for a, b in runs:
                self._cancels.cancelled(self.session, a, b, stopped=bool(failure))
            self._end(runs, failure)
        if pieces:
            self._port.room(*self.unsent)
        return bool(pieces)

    _HANDLERS: ClassVar[dict[type, Callable[[Any, Any, float], None]]] = {
        m.ClientWelcome: _on_welcome,
        m.Rejected: _on_rejected,
        m.Bye: lambda self, bye, now: self._give_up(f"the coordinator left: {bye.reason}", now),
        m.Accepted: _on_accepted,
        m.Credit: _on_credit,
        m.QueueCredit: _on_credit,
        m.Refused: _on_refused,
        m.Results: _on_results,
        m.CancelReply: _on_cancel_reply,
        m.JobInfo: _on_job_info,
        m.Answer: _on_answer,
        m.Started: lambda self, message, _now: self._port.started(message.runs),
        m.Progress: lambda self, message, _now: self._port.progress(message.notes),
        m.Beat: _on_beat,
    }
