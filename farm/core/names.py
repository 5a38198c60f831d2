"""Whose a host's name is, when another host comes with it.

Two that are alive would take it from each other for ever, and with it the tasks of both; so the one
that has it keeps it as long as it lives, for which it is asked. One that is gone loses it as soon
as its connection proves to be gone, or when it has not answered for a beat.
"""

from farm.core.hosts import Host
from farm.core.ledger import Ledger
from farm.protocol.messages import Beat

__all__ = ["why_taken"]


def why_taken(host: Host, ledger: Ledger, now: float) -> str:
    """Why a newcomer cannot have the name of this host now, for people; empty if it can."""
    if host.peer is None:
        return ""
    if host.asked_at is None or host.last_seen > host.asked_at:  # it has answered the last one
        host.asked_at = now
        ledger.port.send(host.peer, Beat(stamp=now))
    if now >= host.asked_at + ledger.settings.beat_seconds:
        return ""
    where = f"process {host.facts['pid']} on {host.facts['address'] or 'some machine'}"
    return (
        f"another host is called {host.name}, and may be alive ({where}): unless that one was just"
        " ended, give this one a name of its own"
    )
