"""What keeps the tasks of a queue from being placed, in sentences."""

from farm.core.batch import Batch
from farm.core.hosts import Host
from farm.core.needs import Needs, why_never
from farm.core.rooms import Hosts
from farm.resources import amount_text

__all__ = ["explain_needs", "explain_queue", "lacking"]


def explain_queue(batch: Batch, now: float, *, holds_back: bool) -> list[str]:
    """Why nothing of the batch's queue, or of its key, may be placed; empty if something may."""
    queue, key = batch.queue, batch.template.concurrency_key
    policy = queue.policy
    found: list[str] = []
    match queue.closed(now, holds_back=holds_back):
        case "paused":
            found.append(f"its queue is paused; go on with: farm queues resume {queue.name}")
        case "recovering":
            found.append("how many of its queue run is known when the hosts of before are back")
        case "max_running":
            found.append(
                f"of its queue {queue.running} run, and {policy.max_running} may at a time"
            )
        case "rate" if queue.bucket is not None:
            due = queue.bucket.due or now
            found.append(
                f"its queue may start {policy.rate:g} tasks a second; the next in {due - now:.2g} s"
            )
    per_key = policy.max_running_per_key
    if key and per_key is not None and queue.keys.get(key, 0) >= per_key:
        found.append(f"of its key {key!r} {queue.keys[key]} run, and {per_key} may at a time")
    return found


def explain_needs(needs: Needs, hosts: Hosts, kept: str) -> list[str]:
    """What becomes of tasks that need more than a slot; empty if a host has it now.

    ``kept``: why no host could have it before a task above them ends.
    """
    if not any(host.peer is not None for host in hosts.all.values()):
        return [f"it needs {needs}"]  # that no host is connected is said anyway
    if never := why_never(needs, hosts.all.values()):
        return [f"no host that is connected could ever run it: it {never}"]
    if any(host.fits(needs) for host in hosts.all.values()):
        return []
    if kept:
        return [f"no host could run it now, whatever else ends: it {kept}"]
    found = [f"it needs {needs}, and no host has that free now"]
    if (host := hosts.reserved.get(needs)) is not None:
        found.append(f"host {host.name} is kept for the next of those that need the same")
    return found


def lacking(needs: Needs, host: Host) -> str:
    """What of a task's needs a host does not have, or not free; empty if it has all."""
    found = [f"it has no label {label}" for label in needs.labels if label not in host.labels]
    if needs.slots > host.slots - host.held:
        found.append(f"{max(0, host.slots - host.held)} of {host.slots} slots are free")
    for name, amount in needs.amounts:
        if host.spare(name) < amount:
            found.append(_short_of(name, amount, host))
    return ", ".join(found)


def _short_of(name: str, amount: int, host: Host) -> str:
    total = host.total.get(name, 0)
    if not total:
        return f"it has no {name}"
    has = amount_text(name, total / 1000)
    if total < amount:
        return f"it has {has}"
    return f"{amount_text(name, host.spare(name) / 1000).partition('=')[2]} of {has} is free"
