"""A client's IO thread: turns what callers left and what arrives into calls of the session.

Promises: no code of users runs here; nothing that the network or the coordinator does raises
here; a lost connection is opened again, without end, and meanwhile everything waits. If this
machine itself breaks, everything that waits fails with the error that broke it.
"""

import contextlib
import logging
import random
import threading
from collections.abc import Callable, Sequence
from copy import copy
from time import monotonic, time
from typing import Protocol

from farm.blobs import Sharing
from farm.client.backlog import Backlog, Entry
from farm.client.line import Line
from farm.client.nest import Nest
from farm.client.replies import Replies
from farm.client.session import Session, SessionSettings
from farm.client.waiting import Waiting, refusal
from farm.client.watch import Watch
from farm.errors import FarmError
from farm.model import Payload
from farm.protocol import messages as m
from farm.transport import Credentials, Naps, Waker
from farm.transport.naps import LOOK_SECONDS

__all__ = ["Loop", "shut_down"]

RECEIVE_MESSAGES_MAX = 64
"""Messages handled before the rest of a turn has its turn."""
SEAL_SECONDS = 5.0
"""How long the farm may take, at the end, to commit which jobs are complete."""
NAMES_MAX = 10
"""How many jobs a warning names."""
REST_SECONDS = 0.005
"""How long the rest of a turn may wait in which tasks leave; twice as long if there are results."""
_PLAIN = frozenset((m.Accepted, m.Started))
"""What is heard all the time and, as results, changes nothing that the rest of a turn looks at."""
RATE_SECONDS = 1.0
"""How long outcomes are counted for their rate."""


class Event(Protocol):
    """What somebody waits on, in a thread or an event loop."""

    def set(self) -> None:
        """It is so. Never blocks."""


_log = logging.getLogger("farm.client")


class Loop:
    """The thread's body and the session's port. Used from its thread, but for what is said below.

    From any thread: ``opened`` and ``ended`` (events: welcomed for the first time or broken; over),
    ``error`` (why it broke), ``epoch_seen``.
    """

    def __init__(  # noqa: PLR0913 - what its owner has to say
        self,
        credentials: Credentials,
        settings: SessionSettings,
        hwm: int,
        identity: tuple[bytes, bytes, bytes],
        *,
        waiting: Waiting,
        may_block: Callable[[], bool],
        on_epoch: Callable[[int], object] | None,
        on_ended: Callable[[], object] | None,
        nest: Nest | None = None,
    ) -> None:
        self.opened, self.ended = threading.Event(), threading.Event()
        self.error: FarmError | None = None
        self.epoch_seen = 0
        self.maps = 0  # that may still submit
        self.leaving = False  # end when nothing is on the way
        self.ending = False  # do not wait for that
        self.done = False  # end now
        self.fatal: FarmError | None = None  # end now, and this is why
        self.job_tasks: dict[int, int] = {}  # of jobs that are not sealed
        self.replies = Replies()
        self.sharing = Sharing()
        self.waiting = waiting
        # Bounded by the threads that wait.
        self.waits: list[tuple[Callable[[], bool], Event]] = []
        waker = Waker()
        self.backlog = Backlog(waker.wake, may_block)
        session, secret, instance = identity
        self.session = Session(settings, self, session=session, secret=secret, instance=instance)
        self._nest = nest
        self._on_epoch, self._on_ended = on_epoch, on_ended
        self.line = Line(credentials, waker, random.random, hwm)
        self._watch = Watch(str(credentials.address))
        self._now = monotonic()
        self._naps = Naps(self._now, time())
        self._rated_at, self._ended_tasks = self._now, 0
        self._room_at = 0.0  # for more tasks in the backlog, as far as this process can tell
        self._settled: list[m.Result] = []
        self._rest_due = self._now  # when the rest of a turn is due, and whether it is at once
        self._hurries = True
        self._seal_until: float | None = None  # nothing else is waited for any more

    def run(self) -> None:
        """The thread: turns until it is over; ends in order whatever happens."""
        error: FarmError | None = None
        try:
            while not self.done:
                self._turn()
            error = self.fatal
        except Exception as problem:  # noqa: BLE001 - told to all who wait, and logged
            _log.exception("the client of %s broke", self.session.session.hex())
            error = FarmError(f"the client broke: {problem!r}; make a new one, and report this")
        finally:
            self._end(error)

    def count_maps(self, change: int) -> None:
        """So many maps more, or less, may still submit."""
        self.maps += change

    # ------------------------------------------------------------ one turn

    def _turn(self) -> None:
        now = self._now = monotonic()
        if self.backlog.has_entries:
            self._submit(self.backlog.take(), now)
            if self.session.unsent[0]:  # whoever adds more is to see that it waits
                self._hurries = True
        opened, messages, lost = self.line.step(RECEIVE_MESSAGES_MAX, now)
        if opened:
            self.session.on_connected(now)
        for message in messages:
            self._receive(message, now)
        if lost:
            self.session.on_disconnected(now)
        # Nobody waits for the rest. Whoever gets a result runs once this thread sleeps; what is
        # submitted then leaves before it, too.
        due = self._rest_due + REST_SECONDS if self._settled else self._rest_due
        if rests := self._hurries or opened or lost or now >= due:
            self._rest(now)
        if self.done or len(messages) == RECEIVE_MESSAGES_MAX:
            self._give_out()
        else:
            self._sleep(self._patience(now) if rests else due - now)

    def _rest(self, now: float) -> None:
        """The part of a turn for which nobody waits."""
        self._rest_due, self._hurries = now + REST_SECONDS, False
        if reason := self._naps.slept(now, time()):
            self.line.renew(reason, now)
            self.session.on_disconnected(now)
        self.session.on_tick(now)
        self.line.flush()
        self._look(now)

    def _give_out(self) -> None:
        """Tell those who wait what has ended, as the last thing of a turn: then they can run."""
        if self._settled:
            self._settle()
        if self.waits:
            for wait in [wait for wait in self.waits if wait[0]()]:
                self.waits.remove(wait)
                wait[1].set()

    def _settle(self) -> None:
        settled, self._settled = self._settled, []
        self.waiting.settle(settled)

    def _receive(self, message: m.ToClient, now: float) -> None:
        if isinstance(message, m.Results):
            self.sharing.secure(message)  # before the session says that it has them
        elif type(message) not in _PLAIN:
            self._hurries = True
            if isinstance(message, m.ClientWelcome):
                shares = self.sharing.welcome(message.blobs, message.blobs_token)
                if shares is not None:
                    self.line.send(shares)
        self.session.receive(message, now)

    def _submit(self, entries: list[Entry], now: float) -> None:
        """Hand entries to the session, as groups no larger than a message."""
        groups: list[m.Group] = []
        functions: list[m.Function] = []
        counts = self.job_tasks
        for entry in entries:
            lane, payloads = entry.lane, entry.payloads
            if lane is None:
                self.session.submit(groups, functions, now)
                groups, functions = [], []
                if entry.command is not None:
                    entry.command(now)
                    self._hurries = True
                continue
            functions.append(lane.function)
            template = lane.template if self._nest is None else self._nest.template(lane.template)
            if lane.job:
                counts[lane.job] = counts.get(lane.job, 0) + (entry.items or len(payloads))
            first = entry.first
            for some in _cut(payloads):
                count = entry.items or len(some)
                groups.append(
                    m.Group(
                        first=first,
                        count=count,
                        function=lane.function.hash,
                        payloads=some,
                        size=sum(map(len, some)),
                        packed=bool(entry.items),
                        job=lane.job,
                        template=template,
                        keys=() if entry.key is None else (entry.key,),
                    )
                )
                first += count
        self.session.submit(groups, functions, now)

    def _look(self, now: float) -> None:
        """What follows from how things stand at the end of a turn."""
        session, backlog = self.session, self.backlog
        if session.epoch_seen > self.epoch_seen:
            self.epoch_seen = session.epoch_seen
            if self._on_epoch is not None:
                self._on_epoch(self.epoch_seen)
        if session.connected and self.line.trouble:
            self.line.welcomed()
        tasks, size = session.unsent
        backlog.left(tasks, size, session.credit)
        if session.connected and not self.opened.is_set():
            self.opened.set()
        backlog.starved = session.waits_for_credit
        backlog.reason = session.busy
        backlog.note_full(session.full)
        if self._watch.look(now, len(session.open), self.line.trouble, connected=session.connected):
            reply = self.replies.expect(self._tell_status, lasting=False)
            session.query(reply.request, "status", {}, now)
        if now - self._rated_at > RATE_SECONDS:
            rate = self._ended_tasks / (now - self._rated_at)
            self._room_at = now + tasks / rate if rate else 0.0
            self._rated_at, self._ended_tasks = now, 0
        backlog.retry_at = max(self._room_at, session.retry_at)
        idle = not (self.maps or session.open or len(backlog))
        if self.ending or (self.leaving and idle):
            self._end_when_sealed(now)
        self.done = self.done or self.fatal is not None

    def _end_when_sealed(self, now: float) -> None:
        """Readers of a job whose seal is lost would find it abandoned."""
        self._seal_until = now + SEAL_SECONDS if self._seal_until is None else self._seal_until
        unsealed = self.session.jobs.unsealed
        if self.done or (unsealed and now < self._seal_until):
            return
        self.done = True
        if unsealed:
            names = ", ".join(unsealed[:NAMES_MAX])
            _log.warning(
                "the farm did not say within %g s that it knows these jobs to be complete, and may"
                " show them as abandoned: %s", SEAL_SECONDS, names,
            )  # fmt: skip

    def _tell_status(self, answer: m.Answer) -> None:
        full = self.backlog.full_since is not None
        self._watch.answered(answer.data, len(self.session.open), full=full)

    def _patience(self, now: float) -> float:
        """How long nothing has to be done, unless something happens."""
        deadlines = self.session.next_deadline(), self._watch.due(), self._seal_until
        due = [at for at in deadlines if at is not None]
        seconds = max(0.0, min([LOOK_SECONDS, *(at - now for at in due)]))
        return self.line.patience(seconds, now)

    def _sleep(self, seconds: float) -> None:
        backlog = self.backlog
        backlog.sleeping = True
        # Looked at after sleeping is said: who adds later sees it, and wakes us.
        if backlog.has_entries:
            self._give_out()
        else:
            self.line.sleep(seconds, self._give_out)
        backlog.sleeping = False

    def _end(self, error: FarmError | None) -> None:
        """Nothing goes on after this: whoever waits is told."""
        now = monotonic()
        self.error = error
        reason = error or FarmError("the client was shut down before this task ended")

        def because(_task: str = "") -> Exception:
            return copy(reason)  # raised in many places, each with a traceback of its own

        try:
            self._settle()
            self.backlog.close(because if error else shut_down)
            for entry in self.backlog.take():
                if entry.lane is not None:
                    self.waiting.fail(entry.first, entry.stop, because)
                elif entry.command is not None:
                    with contextlib.suppress(Exception):
                        entry.command(now)
            self.session.close(now)
            self.line.flush()
            self.line.close(now)
        finally:
            self.waiting.fail_all(because)
            self.replies.fail(reason)
            if self.sharing.blobs is not None:
                self.sharing.blobs.detach()
            self.opened.set()
            self.ended.set()
            for _, event in self.waits:
                event.set()
            if self._on_ended is not None:
                try:
                    self._on_ended()
                except Exception:  # noqa: BLE001 - the thread ends in order, and it is logged
                    _log.exception("what belongs to the client could not be ended")

    # ------------------------------------------------------------ the session's port

    def send(self, message: m.FromClient) -> None:
        """Send a message on the present connection."""
        self.line.send(self.sharing.outgoing(message) if type(message) is m.Submit else message)

    def disconnect(self, reason: str) -> None:
        """End the present connection."""
        self.line.drop(reason, self._now)

    def settled(self, results: list[m.Result]) -> None:
        """Tasks ended."""
        self._watch.moved()
        for entry in results:
            self._ended_tasks += entry.count
        self._settled += results

    def failed(self, first: int, count: int, why: m.Refused) -> None:
        """The coordinator refused tasks for good."""
        self.waiting.fail(first, first + count, refusal(why))

    def started(self, runs: list[m.Run]) -> None:
        """Workers have begun tasks."""
        self._watch.moved()
        self.waiting.started(runs)

    def progress(self, notes: list[tuple[bytes, int, float, float, str]]) -> None:
        """Running tasks say how far they are."""
        self._watch.moved()
        self.waiting.progress(notes)

    def replied(self, message: m.CancelReply | m.JobInfo | m.Answer) -> None:
        """A request is answered."""
        self._settle()  # whoever asked for a cancel sees its futures cancelled
        self.replies.answer(message)

    def rejected(self, code: str, message: str, retry: bool) -> None:
        """The coordinator refuses this session; without hope, everything fails."""
        if not retry and code != "replaced":
            self.fatal = FarmError(f"the coordinator refuses this client: {message}")
        _log.warning("the coordinator refused the connection: %s", message)

    def room(self, tasks: int, size: int) -> None:
        """So much is unsent; it was more."""
        self.backlog.left(tasks, size, self.session.credit)


def _cut(payloads: list[Payload]) -> Sequence[list[Payload]]:
    """The payloads as lists no longer than what a message has tasks."""
    most = m.TASKS_PER_MESSAGE_MAX
    if len(payloads) <= most:
        return (payloads,)
    return [payloads[at : at + most] for at in range(0, len(payloads), most)]


def shut_down() -> Exception:
    """What the standard library raises."""
    return RuntimeError("cannot schedule new futures after shutdown")
