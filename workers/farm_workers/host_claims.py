"""What a host says that it holds: all of it in HELLO, and in its beats what runs."""

from collections.abc import Iterable, Mapping

from farm.protocol.messages import Claim
from farm_workers.host_lease import Lease
from farm_workers.host_slices import Key
from farm_workers.host_slots import Slot

__all__ = ["claims_of", "running_of"]


def claims_of(
    leases: Mapping[Key, Lease],
    slots: Iterable[Slot],
    kept: Iterable[tuple[Key, int, int, bool]],
) -> list[Claim]:
    """What waits, what runs, and what is done without having been noted (``kept``)."""
    claims: list[Claim] = []
    runs: list[tuple[Key, int, int, bool]] = [
        (key, a, b, False) for key, lease in leases.items() for a, b in lease.waiting
    ]
    for slot in slots:
        runs += [(r.lease.key, a, b, True) for r in slot.pipe for a, b in r.left()]
    runs += [(key, a, a + n, began) for key, a, n, began in kept]
    for key, first, stop, began in sorted(runs):
        last = claims[-1] if claims else None
        if (
            last
            and (last.epoch, last.lease, last.started) == (*key, began)
            and last.first + last.count == first
        ):
            last.count += stop - first
            continue
        grant = leases[key].grant
        claims.append(Claim(*key, grant.attempt, grant.session, first, stop - first, began))
    return claims


def running_of(slots: Iterable[Slot]) -> list[tuple[int, int, int, int]]:
    """What the workers are at: ``(epoch, lease, first, count)``."""
    heads = [slot.pipe[0] for slot in slots if slot.pipe]
    return [(*head.lease.key, head.next, head.begun - head.next) for head in heads]
