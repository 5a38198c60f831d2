"""The host as a pure machine: what an agent does, without its sockets, processes and clock.

The shell calls one method per event and ``on_tick`` at the end of each of its turns, and no later
than ``next_deadline``; everything that the machine wants done goes to its ``HostPort``. What is
to be reported is gathered during a turn and leaves in ``on_tick``.
"""

from farm.protocol.messages import (
    PROTOCOL_VERSION,
    Ask,
    Assign,
    Beat,
    Bye,
    Drain,
    Drop,
    Function,
    HostHello,
    HostWelcome,
    NeedFunction,
    Noted,
    Recall,
    Rejected,
    Report,
    ToHost,
)
from farm_workers.host_claims import running_of
from farm_workers.host_pace import Pace
from farm_workers.host_questions import Questions
from farm_workers.host_reports import Reports
from farm_workers.host_roster import Death
from farm_workers.host_slices import HostPort, HostSettings, Key, SliceEnd
from farm_workers.host_window import NOTHING, Hold, is_news, load_of, spare_of, window_of
from farm_workers.host_work import Work

__all__ = ["Host"]

SILENT_BEATS = 3
"""A coordinator that says nothing for this many beats is gone."""
PROBE_SECONDS = 0.25
"""While reports flow, the round trip is measured this often."""
FOREVER = float("inf")
USUAL = frozenset({Assign, Noted, Beat, Function})
"""Messages after which it is known which slots have something to do."""


class Host:
    """One agent's brain. Times are monotonic seconds.

    ``connected``: the coordinator has welcomed it. ``drained``: it has said goodbye and may end.
    ``unusable``: why the coordinator gives it no work. ``rejected``: the last refusal. ``broken``:
    why nothing can begin here. ``draining``: it was told to finish and leave.
    """

    def __init__(
        self, settings: HostSettings, port: HostPort, *, instance: bytes, now: float
    ) -> None:
        self.connected = self.drained = self.draining = False
        self.unusable = ""
        self.rejected: Rejected | None = None
        self.epoch = 0
        self._settings = settings
        self._port = port
        self._instance = instance
        self._now = now
        self._reports = Reports()
        self._pace = Pace()
        self._work = Work(settings, port, self._reports, self._pace, now)
        self._questions = Questions(settings.name, port, self._work.roster)
        self._linked = False  # a connection is there, welcomed or not
        self._connection = 0
        self._store_seen, self._commit_seen = b"", 0
        self._window_told, self._lent_told = 0, NOTHING
        self._trouble = self._trouble_told = ""
        self._beat_seconds = settings.hello_seconds
        self._heard_at = now
        self._beat_at = self._grace_at = self._give_up_at = FOREVER
        self._hold = Hold()
        self._probed_at, self._reported = 0.0, False  # since the last beat
        self._due: float | None = None  # when to tick, until something happens
        self._window_now: int | None = None  # so is what it wants to hold
        self._expected_tick = FOREVER

    @property
    def broken(self) -> str:
        """Why nothing can begin here; empty if it can."""
        return self._work.roster.broken

    @property
    def failing(self) -> str:
        """Why no worker can be started, though some may be there; empty if they can."""
        return self._work.roster.failing

    @property
    def running(self) -> int:
        """How many of its workers have something to run."""
        return sum(1 for slot in self._work.roster.slots if slot.pipe)

    @property
    def full(self) -> bool:
        """Whether it keeps so many bytes of outcomes that its workers should not be heard now."""
        return self._reports.bytes >= self._settings.unnoted_bytes_max

    # ------------------------------------------------------------ the connection

    def on_connected(self, now: float) -> None:
        """A new connection is there: say who this is and what it holds."""
        self._see(now)
        self._heard_at = now
        self._linked = True
        self.connected = False
        self._connection += 1
        self._reports.connected()
        self._questions.connected()
        self._beat_seconds = self._settings.hello_seconds / SILENT_BEATS
        settings = self._settings
        claims = self._work.claims()
        # What a worker runs may be fenced: until the welcome has said so, nothing more is taken.
        busy = any(claim.started for claim in claims)
        self._window_told = 0 if busy else self._window()
        self._port.send(
            HostHello(
                PROTOCOL_VERSION, settings.farm, settings.python, self._instance, settings.name,
                self._connection, settings.slots, self._window_told, self.epoch, self._store_seen,
                self._commit_seen, claims, settings.pid, settings.address, settings.labels,
                self._trouble, settings.memory_limits, settings.max_lent, settings.resources,
                settings.platform, settings.packages, settings.keys,
            )
        )  # fmt: skip
        self._lent_told, self._trouble_told = NOTHING, self._trouble

    def on_disconnected(self, now: float) -> None:
        """The connection is gone; work goes on, and outcomes are kept."""
        self._see(now)
        self._linked = self.connected = False
        self._beat_at = FOREVER

    def receive(self, message: ToHost, now: float) -> None:
        """A message of the coordinator; what comes out of turn is ignored."""
        self._see(now, usual=type(message) in USUAL)
        if not self._linked:
            return
        self._heard_at = now
        match message:
            case Assign() | Noted() | Beat() | Function() | Recall() | Drop():
                if self.connected:
                    self._on_message(message)
            case HostWelcome():
                self._on_welcome(message)
            case Rejected():
                self.rejected = message
                self._disconnect(message.message)
            case Bye():
                self._disconnect(f"the coordinator leaves: {message.reason}")
            case Drain():
                self.drain(now)
            case Ask() if self.connected:
                self._questions.on_ask(message)

    def _on_welcome(self, message: HostWelcome) -> None:
        if message.epoch < self.epoch:
            self._disconnect(
                f"the coordinator is at epoch {message.epoch}, and one of epoch {self.epoch} has "
                "been here: it was restored from an old copy, or it is not the right one"
            )
            return
        if message.store != self._store_seen:
            self._commit_seen = 0
        self.epoch = message.epoch
        self._store_seen = message.store
        self._commit_seen = max(self._commit_seen, message.commit)
        self._beat_seconds = message.beat_seconds
        self._beat_at = self._now
        self.connected = True
        self.rejected = None
        self.unusable = message.unusable
        self._work.drop(message.drop)
        if self._work.roster.broken:
            self._work.roster.revive(self._now)
        for function in self._work.backlog.wanted():
            self._port.send(NeedFunction(function))

    def _on_message(self, message: ToHost) -> None:
        now = self._now
        match message:
            case Assign():
                for function in self._work.assign(message.epoch, message.grants, now):
                    self._port.send(NeedFunction(function))
            case Noted():
                self._commit_seen = max(self._commit_seen, message.commit)
                self._work.noted(self._reports.noted(message.number))
            case Function():
                self._work.learn(message.hash, message.name, message.data, now)
            case Recall():
                self._work.recall(message.runs, now, grace=message.grace)
            case Drop():
                self._work.drop(message.claims)
            case Beat():
                if message.echo:
                    self._pace.heard(max(0.0, now - message.echo))
                if message.stamp:
                    running = running_of(self._work.roster.slots)
                    self._port.send(Beat(echo=message.stamp, running=running))

    def _disconnect(self, reason: str) -> None:
        self.on_disconnected(self._now)
        self._port.disconnect(reason)

    # ------------------------------------------------------------ the workers

    def on_worker_ready(self, slot: int, now: float) -> None:
        """A worker that was spawned can take slices."""
        self._see(now)
        self._work.ready(slot, now)

    def on_worker_ended(self, slot: int, parts: list[SliceEnd], now: float) -> None:
        """A worker ended parts of what it was given."""
        self._see(now, usual=True)
        self._work.ended(slot, parts, now)

    def on_worker_progress(
        self, slot: int, key: Key, counter: int, note: tuple[float, float, str], now: float
    ) -> None:
        """A running task says ``(done, total, note)``."""
        self._see(now, usual=True)
        self._work.progress(slot, key, counter, note)

    def on_worker_waits(self, slot: int, ordinal: int, now: float, *, begins: bool) -> None:
        """The item that a worker is at begins to wait for other tasks, or goes on."""
        self._see(now)
        self._work.waits(slot, ordinal, now, begins=begins)

    def on_worker_limited(self, slot: int, index: int | None, now: float) -> None:
        """After ``limit``: the worker begins nothing below it after the item ``index``."""
        self._see(now)
        self._work.limited(slot, -1 if index is None else index, now)

    def on_worker_retired(self, slot: int, now: float) -> None:
        """A worker is no place for its next task: it exits, and nobody is to blame for that."""
        self._see(now)
        self._work.retired(slot, now)

    def on_worker_memory(self, slot: int, size: int, now: float) -> None:
        """After ``measure``: the memory of a worker and its descendants, in bytes."""
        self._see(now)
        self._work.measured(slot, size, now)

    def on_worker_oom(self, slot: int, ordinal: int | None, now: float) -> None:
        """The kernel ended a descendant of a worker for the limit of the item it is at."""
        self._see(now)
        self._work.limits.burst(self._work.roster.slots[slot], ordinal, now)

    def on_worker_told(self, question: int, data: bytes, start: int, error: str) -> None:
        """After ``ask``: what was found out, or why nothing was."""
        if (answer := self._questions.told(question, data, start, error)) and self.connected:
            self._port.send(answer)

    def on_worker_exit(self, slot: int, death: Death, now: float) -> None:
        """A worker process is gone with its descendants, and all that it said was passed on."""
        self._see(now)
        self._work.exit(slot, death, now)

    def on_trouble(self, trouble: str, now: float) -> None:
        """Something is wrong with this machine: it wants no work until that is over (empty)."""
        if trouble != self._trouble:
            self._see(now)
            self._trouble = trouble

    # ------------------------------------------------------------ time

    def drain(self, now: float) -> None:
        """Give back what has not begun, finish what runs, then say goodbye.

        What still runs when the grace is over is ended and given back.
        """
        if not self.draining:
            self._see(now)
            self.draining = True
            self._grace_at = now + self._settings.grace_seconds
            self._work.drain()

    def on_tick(self, now: float) -> None:
        """The turn is over, or the deadline: report, beat, and do what is due."""
        self._see(now, usual=True)
        late = now - self._expected_tick
        if late > self._beat_seconds:
            # It was stopped or starved: what it did not hear in that time says nothing.
            self._heard_at = min(now, self._heard_at + late)
        if self.full:
            self._work.limits.excuse(now)
        if now >= self._grace_at:
            self._grace_at = FOREVER
            self._work.roster.cut_short()
        flushed = self.connected and self._reports.has_ends and self._hold.until == FOREVER
        if flushed:
            self._flush()  # somebody waits for these
        due, changed = self._work.tick(now, holding=self._holds_beginnings)
        if changed:
            self._window_now = None
        if self._linked and now >= self._heard_at + SILENT_BEATS * self._beat_seconds:
            self._disconnect("the coordinator is silent")
        if self.connected:
            self._beat()
            if changed or not flushed:
                self._flush()
        if self.draining and not self.drained:
            self._leave()
        self._expected_tick = self._due = self._timers(due)

    def next_deadline(self) -> float:
        """When ``on_tick`` is next needed; not later than now if there is something to say."""
        if self._due is None:
            self._due = self._timers(self._work.next_deadline(holding=self._holds_beginnings))
            if self.connected:
                news = self._reports.has_room and self._is_news(self._window())
                if news or (self._reports.waiting and self._spare() <= 0.0):
                    self._due = self._now
        return self._due

    @property
    def _holds_beginnings(self) -> bool:
        """Whether it may be said later who begins, with who ends."""
        if self._hold.until < FOREVER:
            return self._now < self._hold.until
        return self._work.backlog.waiting > 0 and not self._pace.is_dense

    def _see(self, now: float, *, usual: bool = False) -> None:
        """Something happens; what is not ``usual`` may change when anything is due."""
        self._now = now
        self._due = self._window_now = None
        if not usual:
            self._work.stir()

    def _timers(self, due: float) -> float:
        """When something is due, if there is nothing to say; ``due``: that of the work."""
        due = min(due, self._grace_at)
        if self._linked:
            due = min(due, self._heard_at + SILENT_BEATS * self._beat_seconds)
        if self.connected:
            due = min(due, self._beat_at, self._hold.until)
        if self.draining and not self.drained and self._work.is_idle:
            due = min(due, self._now if self._has_said_all else self._give_up_at)
        return due

    @property
    def _has_said_all(self) -> bool:
        # Once all is noted nothing is on the way here; of a lost connection nothing is anyway.
        return self._reports.empty if self.connected else not self._reports.holds_fates

    def _beat(self) -> None:
        probe = self._reported and self._now >= self._probed_at + PROBE_SECONDS
        if probe or self._now >= self._beat_at:
            self._reported = False
            self._probed_at = self._now
            self._beat_at = self._now + self._beat_seconds
            running, load = running_of(self._work.roster.slots), load_of(self._pace, self._work)
            self._port.send(Beat(stamp=self._now, running=running, load=load))

    def _flush(self) -> None:
        news = self._is_news(window := self._window())
        waiting = self._reports.waiting
        if waiting and not news and self._hold.waits(self._now, self._spare()):
            return
        self._hold.over()
        if (waiting or news) and self._reports.flush(window, self._send_report, always=news):
            self._window_told = window
            self._reported = True

    def _spare(self) -> float:
        return spare_of(self._work, self._pace, self._reports, self._now)

    def _send_report(self, report: Report) -> None:
        report.trouble = self._trouble_told = self._trouble
        report.waiting, report.leaving, report.waits = self._lent_told = self._work.lending.state
        self._port.send(report)

    def _is_news(self, window: int) -> bool:
        """Whether the window is worth a report of its own: it halves, or grows up to the slots."""
        return (
            self._trouble != self._trouble_told
            or self._work.lending.state != self._lent_told
            or is_news(window, self._window_told, self._work.lending.slots)
        )

    def _window(self) -> int:
        """How many tasks this host wants to hold; outcomes that are not noted count against it."""
        if self._window_now is None:
            off = self._trouble or (self.draining and not self._work.lending.waiting)
            of = (self._settings, self._work, self._pace, self._reports)
            self._window_now = 0 if off else window_of(*of)
        return self._window_now

    def _leave(self) -> None:
        """Say goodbye once everything is said, or nobody listens."""
        if not self._work.is_idle:
            return
        self._give_up_at = min(self._give_up_at, self._now + self._settings.drain_seconds)
        if self._has_said_all or self._now >= self._give_up_at:
            self.drained = True
            if self.connected:
                self._port.send(Bye("drained"))
