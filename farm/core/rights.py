"""Who may do what: whose tasks are, which of them a session may know of, and who may call it what.

A session sees what belongs to its name, or all if its key says so; of everything else it is told
what it would be told if that had never been. Orders about the whole farm are an admin's. Where no
keys are in use everybody is trusted, and nothing here is asked more than once a connection.
"""

from copy import copy

from farm.core.batch import Batch
from farm.core.ledger import Ledger
from farm.core.names import why_taken
from farm.core.sessions import Session
from farm.digest import blake2b
from farm.identity import Identity, Role
from farm.model import State, TaskId
from farm.protocol.messages import Function, Group, HostHello
from farm.protocol.parts import TaskRun

__all__ = ["Rights", "find_task", "had_task", "why_not_admin"]

HASH_BYTES = 16
SCOPES = {
    Role.CLIENT: ("own", "all", "tasks"),
    Role.ADMIN: ("own", "all"),
    Role.HOST: ("own", "all"),
}


def find_task(ledger: Ledger, task: TaskId, who: Session) -> tuple[Batch, int] | None:
    """The batch and the index of a task that the ledger has, if this session may know of it."""
    session = ledger.sessions.get(task.session)
    if session is not None:
        for batch, index, _ in session.batches.overlap(task.counter, 1):
            return (batch, index) if who.sees(batch) else None
    return None


def had_task(ledger: Ledger, task: TaskId, who: Session) -> bool:
    """Whether a task was accepted that this session may know of, as far as anybody remembers."""
    session = ledger.sessions.get(task.session)
    if session is None or not (who.sees_all or session.owner == who.owner):
        return False
    return session.had(task.counter)


def why_not_admin(who: Session, what: str) -> str:
    """What is said to who orders what only an admin may; empty if this one may."""
    identity = who.identity
    if identity.role is Role.ADMIN:
        return ""
    return (
        f"only an admin may {what}, and the key {identity.name!r} is a {identity.role}'s: use an"
        " admin's, which  farm keys new NAME --role admin  makes"
    )


class Rights:
    """Decides by the identities that the port says peers have."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    # ------------------------------------------------------------ who comes

    def client(self, identity: Identity, behalf: Identity | None) -> Identity | None:
        """Who speaks in a session that this peer opens; None if it may open none."""
        if identity.role is Role.HOST or identity.scope not in SCOPES[identity.role]:
            return None
        if behalf is None:
            return identity
        known = behalf.role in (Role.CLIENT, Role.ADMIN) and behalf.scope in ("own", "all")
        if identity.role is not Role.ADMIN or not behalf.name or not known:
            return None
        return behalf._replace(key=identity.key)  # they are cut off together

    def is_host(self, identity: Identity) -> bool:
        """Whether this peer may be a host."""
        if identity.role is Role.HOST:
            return identity.scope in SCOPES[Role.HOST]
        return identity.is_trusted

    def why_not_called(
        self, identity: Identity, hello: HostHello, expected: str, now: float
    ) -> tuple[str, bool]:
        """Why a host may not have its name, and whether it may later; empty if it may.

        ``expected`` is the key of whom the last coordinator knew under this name. A key of this
        very name goes before others.
        """
        host, name = self._ledger.hosts.all.get(hello.name), hello.name
        if not identity.is_trusted and identity.name != name:
            if identity.scope == "own":
                return (
                    f"the key {identity.name!r} is for the host of that name, and this one is "
                    f"called {name!r}: start it with --name {identity.name}"
                ), False
            owner = expected if host is None else host.owner
            if owner and owner != identity.name:
                return f"there is a host {name!r} with another key: give it another --name", False
        if host is None or host.instance == hello.instance or host.owner != identity.name:
            return "", False
        return why_taken(host, self._ledger, now), True

    # ------------------------------------------------------------ whose

    def owner_of(self, session: Session, group: Group) -> str:
        """Whose the tasks of a group are: the session's, or whose the task is that submits them.

        A parent that the session may not know of is none.
        """
        template = group.template
        parent = None if template is None else template.parent
        if template is None or parent is None:
            return session.owner
        if session.above is not None and session.above[0] == parent:
            return session.above[1]
        if session.identity.scope == "tasks":
            owner = self._owner_above(session, parent)
            if owner is not None:
                session.above = parent, owner
            return session.owner if owner is None else owner
        found = find_task(self._ledger, TaskId(*parent), session)
        if found is not None:
            return found[0].owner
        if not session.sees_all:
            group.template = copy(template)
            group.template.parent, group.template.depth = None, 0
        return session.owner

    def _owner_above(self, session: Session, parent: tuple[bytes, int]) -> str | None:
        """Whose a task is that a host with this key runs, or may run; None for any other."""
        ledger = self._ledger
        above = ledger.sessions.get(parent[0])
        for batch, index, _ in above.batches.overlap(parent[1], 1) if above is not None else ():
            if batch.states[index] == State.LEASED:
                for lease in batch.leases or ():
                    if lease.host.owner == session.owner and lease.live_in(index, index + 1):
                        return batch.owner
            elif ledger.holds_back and batch.states[index] < State.SUCCEEDED:
                return batch.owner  # its host may have it, and may not have said so yet
        return None

    # ------------------------------------------------------------ what one may know of

    def visible(self, session: Session, tasks: list[TaskRun]) -> list[TaskRun]:
        """The parts of these runs that a session may know of."""
        if session.sees_all:
            return tasks
        found: list[TaskRun] = []
        for session_id, first, count in tasks:
            above = self._ledger.sessions.get(session_id)
            for batch, lo, hi in above.batches.overlap(first, count) if above is not None else ():
                if session.sees(batch):
                    found.append((session_id, batch.first + lo, hi - lo))
        return found

    def is_itself(self, session: Session, function: Function) -> bool:
        """Whether a function is what its hash names; only who sees all is believed unasked."""
        if session.sees_all:
            return True
        return blake2b(function.data, digest_size=HASH_BYTES).digest() == function.hash
