"""The credit of clients: how much each may send unasked, and when it gets more.

Credit is cut when the farm has no more room than that, and grows again when the farm has drained
below its low water. Who has none is told when to expect it.
"""

from farm.core.ledger import Ledger
from farm.core.sessions import Session
from farm.core.throughput import retry_after
from farm.protocol.messages import Credit

__all__ = ["SessionCredit"]

HUGE = 1 << 62


class SessionCredit:
    """What each may send; Admission says when to look.

    ``full``: credit was cut short, or tasks refused, and the farm has not drained since.
    ``starved``: those who get none, for too many outcomes wait for them. ``limited``: those who get
    none, for they have come to the most that one client may have, and not drained since.
    """

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self.full = False
        self.starved: dict[Session, None] = {}
        self.limited: dict[Session, None] = {}
        self._new: dict[Session, None] = {}  # they came when it was full

    def first(self, session: Session) -> tuple[int, int]:
        """The credit with which a connection begins."""
        settings = self._ledger.settings
        tasks, size = self._ledger.room()
        if self.full:
            session.refused = True
            self._new[session] = None
            return 0, 0
        own_tasks, own_size = self.room_of(session) or (tasks, size)
        session.granted_tasks = min(settings.session_tasks, tasks, own_tasks)
        session.granted_bytes = min(settings.session_bytes, size, own_size)
        self._note_limited(session)
        self._note_cut(tasks, size)
        return session.granted_tasks, session.granted_bytes

    def note_refused(self, session: Session, *, busy: bool) -> None:
        """A session was refused tasks; ``busy``: for want of room, and told when there may be."""
        session.refused = True
        session.told_full = session.told_full or busy

    def room_after(self, now: float) -> float:
        """In how many seconds the farm should have come below its low water."""
        ledger, settings = self._ledger, self._ledger.settings
        tasks = ledger.open_tasks - int(settings.max_tasks * settings.low_water)
        size = ledger.open_bytes - int(settings.max_bytes * settings.low_water)
        seconds = ledger.throughput.seconds_for(tasks, size, now)
        return retry_after(seconds, ledger.chance())

    # ------------------------------------------------------------ the most of one client

    def room_of(self, session: Session) -> tuple[int, int] | None:
        """How many more tasks and bytes one client may have; None: as many as the farm takes."""
        settings = self._ledger.settings
        tasks, size = settings.session_max_tasks, settings.session_max_bytes
        if not tasks and not size:
            return None
        return (
            max(0, tasks - session.open_tasks) if tasks else HUGE,
            max(0, size - session.open_bytes) if size else HUGE,
        )

    def why_limited(self, session: Session) -> str:
        """A client has come to its most: it gets no credit until it has drained."""
        self.limited[session] = None
        settings = self._ledger.settings
        text = "this client has as many unfinished tasks as one may have"
        if settings.session_max_tasks:
            text += f": {session.open_tasks} of {settings.session_max_tasks} tasks"
        if settings.session_max_bytes:
            text += f": {session.open_bytes} of {settings.session_max_bytes} bytes"
        return text

    def own_room_after(self, session: Session, now: float) -> float:
        """In how many seconds a client should have come below its own low water."""
        tasks, size = self._over(session)
        seconds = session.throughput.seconds_for(tasks, size, now)
        return retry_after(seconds, self._ledger.chance())

    def _over(self, session: Session) -> tuple[int, int]:
        """By how many tasks and bytes a client is above its low water."""
        settings = self._ledger.settings
        tasks = size = 0
        if most := settings.session_max_tasks:
            tasks = max(0, session.open_tasks - int(settings.low_water * most))
            tasks = tasks or int(session.open_tasks >= most)
        if most := settings.session_max_bytes:
            size = max(0, session.open_bytes - int(settings.low_water * most))
        return tasks, size

    def drained(self) -> list[Session]:
        """Whoever has drained below its own low water gets credit again."""
        found = [one for one in self.limited if one.peer is None or self._over(one) == (0, 0)]
        for session in found:
            del self.limited[session]
        return found

    def _note_limited(self, session: Session) -> None:
        """Whose credit is cut by its own limit gets more when it has drained."""
        own, settings = self.room_of(session), self._ledger.settings
        if own and (own[0] < settings.session_tasks or own[1] < settings.session_bytes):
            self.limited[session] = None

    # ------------------------------------------------------------ room for all

    def feed(self) -> list[Session]:
        """Whoever has taken enough of what waited for it gets credit again."""
        most = self._ledger.settings.low_water * self._ledger.settings.session_outcomes
        fed = [one for one in self.starved if len(one.outbox) <= most or one.peer is None]
        for session in fed:
            del self.starved[session]
        return fed

    def tell_full(self, touched: dict[Session, None], now: float) -> None:
        """Who has used up all credit, and gets no more for now, is told once when to expect it."""
        new, self._new = self._new, {}
        for session in (*new, *touched):
            if _has_used_up(session) and not session.told_full and session.peer is not None:
                session.told_full = True
                own = session in self.limited
                after = self.own_room_after(session, now) if own else self.room_after(now)
                credit = Credit(session.granted_tasks, session.granted_bytes, after)
                self._ledger.port.send(session.peer, credit)

    def has_drained(self) -> bool:
        """Whether the farm is below its low water."""
        settings = self._ledger.settings
        return (
            self._ledger.open_tasks <= settings.max_tasks * settings.low_water
            and self._ledger.open_bytes <= settings.max_bytes * settings.low_water
            and self._ledger.open_tasks < settings.max_tasks
        )

    def reopen(self) -> int:
        """There is room for all again; among how many it is shared."""
        self.full, self._new = False, {}
        return self.waiting()

    def waiting(self) -> int:
        """How many clients have used up their credit, or were refused: they share the room."""
        return sum(
            one.peer is not None and (one.refused or _has_used_up(one))
            for one in self._ledger.sessions.values()
        )

    def grant(self, session: Session, among: int = 1) -> None:
        """Give a session credit, if it has little, or was refused.

        ``among``: so many others and it would send at once, and be refused what does not fit.
        """
        if session.peer is None or session in self.starved or session in self.limited:
            return
        settings = self._ledger.settings
        low = (
            session.granted_tasks - session.received_tasks <= settings.session_tasks // 2
            or session.granted_bytes - session.received_bytes <= settings.session_bytes // 2
        )
        if not low and not session.refused:
            return
        tasks, size = (-(-room // max(1, among)) for room in self._ledger.room())
        own_tasks, own_size = self.room_of(session) or (tasks, size)
        want_tasks = session.received_tasks + min(settings.session_tasks, tasks, own_tasks)
        want_bytes = session.received_bytes + min(settings.session_bytes, size, own_size)
        # A client that was refused waits for its credit to grow, so it must.
        grown = 1 if session.refused else 0
        session.refused = session.told_full = False
        granted = max(session.granted_tasks + grown, want_tasks)
        granted_bytes = max(session.granted_bytes, want_bytes)
        if (granted, granted_bytes) != (session.granted_tasks, session.granted_bytes):
            session.granted_tasks, session.granted_bytes = granted, granted_bytes
            self._ledger.port.send(session.peer, Credit(granted, granted_bytes))
        self._note_cut(tasks, size)
        self._note_limited(session)

    def _note_cut(self, tasks: int, size: int) -> None:
        """A credit was cut short by the farm's bounds: it grows again below the low water."""
        settings = self._ledger.settings
        if tasks < settings.session_tasks or size < settings.session_bytes:
            self.full = True


def _has_used_up(session: Session) -> bool:
    """Whether a client may send nothing more."""
    return (
        session.received_tasks >= session.granted_tasks
        or session.received_bytes >= session.granted_bytes
    )
