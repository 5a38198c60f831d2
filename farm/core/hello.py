"""What a HELLO says about the world before it says who speaks: versions, epochs, commits."""

from farm.core.ledger import Ledger
from farm.protocol.messages import PROTOCOL_VERSION, ClientHello, HostHello, Rejected

__all__ = ["is_overtaken", "why_python_differs", "why_refused"]

EPOCH_LEAP_MAX = 1 << 45
"""Epochs are milliseconds since 1970 as some clock had them: more than this no clock is wrong."""


def why_refused(ledger: Ledger, hello: ClientHello | HostHello) -> Rejected | None:
    """What to say to a peer with which this coordinator has no common language."""
    if hello.protocol != PROTOCOL_VERSION:
        return Rejected(
            "version",
            f"this coordinator (farm {ledger.settings.farm}) speaks protocol "
            f"{PROTOCOL_VERSION}, the peer (farm {hello.farm}) {hello.protocol}; "
            "upgrade the older one",
        )
    if hello.epoch_seen > ledger.epoch + EPOCH_LEAP_MAX:
        return Rejected("hello", f"no coordinator has had the epoch {hello.epoch_seen}")
    return None


def is_overtaken(ledger: Ledger, hello: ClientHello | HostHello) -> bool:
    """Whether a peer has seen what this coordinator has not, so that it must not serve."""
    if hello.epoch_seen > ledger.epoch:
        ledger.port.stop(
            f"a peer has seen epoch {hello.epoch_seen}, this coordinator is of epoch "
            f"{ledger.epoch}: another coordinator has served since",
            hello.epoch_seen,
        )
        return True
    # What this epoch has committed itself does not make up for what an earlier one has lost.
    last = ledger.committed if hello.epoch_seen == ledger.epoch else ledger.loaded
    if hello.store_seen == ledger.store and hello.commit_seen > last:
        ledger.port.stop(
            f"a peer has seen commit {hello.commit_seen} of this store, which ended at "
            f"{last}: the store has lost commits; restore a whole copy of it"
        )
        return True
    return False


def why_python_differs(ledger: Ledger, hello: ClientHello) -> str:
    """Why nothing of a client can run on this farm; empty if it can."""
    python = ledger.settings.python
    if not python or hello.python == python:
        return ""
    return (
        f"the client runs Python {hello.python} and the farm {python}: what one pickles the "
        "other cannot run; use the same minor version"
    )
