"""What of the tasks that wait no host could ever run."""

from collections import Counter
from typing import Any

from farm.core.ledger import Ledger
from farm.core.needs import Needs, why_never
from farm.core.needs_above import why_kept
from farm.core.sessions import Session
from farm.model import State

__all__ = ["cannot_run"]

ROWS_MAX = 20


def cannot_run(ledger: Ledger, who: Session) -> list[dict[str, Any]]:
    """Tasks that wait and that no connected host could ever run, by queue and what they need.

    Or not before a task above them ends, which may be the one that waits for them.
    Only those that a session may know of. The most numerous first. Empty while no host is connected
    at all.
    """
    hosts = ledger.hosts.all.values()
    if not any(host.peer is not None for host in hosts):
        return []
    waiting: Counter[tuple[str, Needs, str]] = Counter()
    for session in ledger.sessions.values():
        for batch in session.batches:
            if batch.open and batch.needs is not None and who.sees(batch):
                count = batch.states.count(State.QUEUED) + batch.states.count(State.SCHEDULED)
                kept = why_kept(ledger, batch) if count else ""
                waiting[batch.queue.name, batch.needs, kept] += count
    found: list[dict[str, Any]] = []
    for (queue, needs, kept), count in waiting.most_common():
        if count and (why := why_never(needs, hosts) or kept):
            found.append({"queue": queue, "tasks": count, "needs": str(needs), "why": why})
        if len(found) >= ROWS_MAX:
            break
    return found
