"""What keeps the tasks of a queue from being placed, in sentences."""

from farm.core.batch import Batch

__all__ = ["explain_queue"]


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
