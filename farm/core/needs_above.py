"""What a task cannot have as long as the tasks above it wait: these lend slots and nothing else."""

from collections import Counter

from farm.core.batch import Batch
from farm.core.hosts import Host
from farm.core.ledger import Ledger
from farm.resources import amount_text

__all__ = ["why_kept"]


def why_kept(ledger: Ledger, batch: Batch) -> str:
    """Why no host could run a task of a batch before one above it ends; empty if one could.

    That some host could, if nothing else ran there, is for others to find out.
    """
    needs = batch.needs
    if needs is None or not needs.amounts or batch.template.parent is None:
        return ""
    kept = _kept_above(ledger, batch)
    short: set[str] = set()
    for host in ledger.hosts.all.values():
        if host.peer is None or host.unusable or not host.could_run(needs):
            continue
        own = kept.get(host, Counter())
        lacks = {name for name, amount in needs.amounts if host.total[name] - own[name] < amount}
        if not lacks:
            return ""
        short |= lacks
    if not short:
        return ""
    wanted = [amount_text(name, n / 1000) for name, n in needs.amounts if name in short]
    return f"needs {', '.join(wanted)}, and what waits above it keeps that until it ends"


def _kept_above(ledger: Ledger, batch: Batch) -> dict[Host, Counter[str]]:
    """What the tasks above those of a batch keep while they wait, by host, in thousandths."""
    kept: dict[Host, Counter[str]] = {}
    above = batch.template.parent
    while above is not None:
        session = ledger.sessions.get(above[0])
        if session is None:
            break
        found = next(session.batches.overlap(above[1], 1), None)
        if found is None:
            break
        own, index, _ = found
        for lease in own.leases or ():
            waits = lease.lent >= lease.units and lease.live_in(index, index + 1)
            if waits and own.needs is not None:
                kept.setdefault(lease.host, Counter()).update(dict(own.needs.amounts))
        above = own.template.parent
    return kept
