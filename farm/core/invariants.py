"""What must hold of a core at every moment; simulator and tests check it after each step.

A check looks at everything, and mostly finds nothing: what it would say is put together only when
something is wrong, and what cannot be wrong where there is nothing is not looked for.
"""

from farm.core.batch import SETTLED, Batch
from farm.core.blobs import live_blobs
from farm.core.core import Core
from farm.core.hosts import Host, Lease
from farm.core.invariants_memory import check_readers, check_residence
from farm.core.ledger import Ledger
from farm.core.sessions import Session
from farm.model import State

__all__ = ["check"]

FINAL = bytes(state for state in (*State, SETTLED) if state >= State.SUCCEEDED)
"""The states of tasks that are over."""
LEASED, QUEUED = int(State.LEASED), int(State.QUEUED)
LARGEST = 2 * (64 << 20)
"""A single message may be as large as a payload may be."""


def check(core: Core) -> None:
    """Raise ``AssertionError`` naming the first thing that does not hold."""
    ledger = core.ledger
    batches = [batch for session in ledger.sessions.values() for batch in session.batches]
    for batch in batches:
        _check_batch(batch)
    _check_bounds(ledger)
    _check_clients(ledger)
    _check_results(ledger, batches)
    check_residence(ledger, batches, settled=core.at_rest)
    check_readers(ledger)
    _check_leases(ledger, batches)
    _check_queues(ledger, batches)
    _check_waiting(ledger, batches)
    _check_nested(ledger, batches)
    for session in ledger.sessions.values():
        _check_session(session)
    _check_rows(ledger, batches)
    _check_evidence(core, batches)
    if core.watchdog.stuck:
        raise AssertionError(f"tasks are stuck: {core.watchdog.stuck}")
    _check_blobs(core)
    _check_keys(ledger, batches)


def _check_batch(batch: Batch) -> None:
    states, name = batch.states, batch.first
    if len(states) != batch.count:
        raise AssertionError(f"batch {name} lost a state")
    if batch.open != len(states.translate(None, FINAL)):
        raise AssertionError(f"batch {name} miscounts open tasks")
    if batch.settled != states.count(SETTLED):
        raise AssertionError(f"batch {name} miscounts settled tasks")
    if batch.open and not batch.packed and len(batch.payloads) != batch.count:
        raise AssertionError(f"batch {name} lost a payload")
    for index in batch.stopping:
        if states[index] >= State.SUCCEEDED:
            raise AssertionError(f"batch {name}[{index}] is over, and to be stopped")
    for index, own in batch.diverged.items():
        if own.retries > batch.template.retries or own.losses > batch.template.max_losses:
            raise AssertionError(f"batch {name}[{index}] spent more than it has")


def _check_bounds(ledger: Ledger) -> None:
    settings, tasks, size = ledger.settings, ledger.open_tasks, ledger.open_bytes
    if not (0 <= tasks <= settings.max_tasks and 0 <= size <= settings.max_bytes):
        raise AssertionError(f"{tasks} tasks and {size} bytes are admitted")


def _check_clients(ledger: Ledger) -> None:
    """What clients have open is what the farm has, and none has more than it may."""
    settings, tasks, size = ledger.settings, 0, 0
    for session in ledger.sessions.values():
        own, own_size = session.open_tasks, session.open_bytes
        tasks += own
        size += own_size
        most, most_size = settings.session_max_tasks, settings.session_max_bytes
        if own > (most or own) or own_size > (most_size or own_size):
            raise AssertionError(f"a client has {own} tasks and {own_size} bytes")
    if (tasks, size) != (ledger.open_tasks, ledger.open_bytes):
        raise AssertionError(f"clients have {tasks} tasks and {size} bytes, not as the farm")


def _check_results(ledger: Ledger, batches: list[Batch]) -> None:
    kept = unread = 0
    for batch in batches:
        kept += batch.result_bytes
        if batch.settled < batch.count:
            for outcome in batch.outcomes:
                unread += 0 if batch.is_taken(outcome) else outcome.size
    counted = (ledger.result_bytes, ledger.unread_bytes)
    if counted != (kept, unread):
        raise AssertionError(f"{counted} bytes of results, unread, are {kept}, {unread}")


def _check_leases(ledger: Ledger, batches: list[Batch]) -> None:
    leased: dict[Batch, int] = {}
    held: set[Lease] = set()
    for host in ledger.hosts.all.values():
        for key, lease in host.leases.items():
            batch = lease.batch
            live = sum(hi - lo for lo, hi in lease.live_runs())
            if not lease.left == live > 0:
                raise AssertionError(f"lease {key} of {host.name} has {live}, not {lease.left}")
            if lease not in (batch.leases or ()):
                raise AssertionError(f"lease {key} of {host.name} is unknown to its batch")
            leased[batch] = leased.get(batch, 0) + live
            held.add(lease)
        _check_held(host)
    for batch in batches:
        if batch.states.count(LEASED) != leased.get(batch, 0):
            raise AssertionError(f"batch {batch.first} has leased tasks that no host holds")
        if batch.leases and not held.issuperset(batch.leases):
            raise AssertionError(f"batch {batch.first} has leases that no host holds")


def _check_held(host: Host) -> None:
    """What a host holds, and what of its resources that needs."""
    held, used = 0, dict[str, int]()
    for lease in host.leases.values():
        units, needs = lease.units, lease.batch.needs
        if needs is None:
            held += units
            continue
        held += units * needs.slots
        for name, amount in needs.amounts:
            used[name] = used.get(name, 0) + units * amount
    if host.held != held:
        raise AssertionError(f"host {host.name} miscounts its tasks")
    if (host.used or used) and host.used != {name: one for name, one in used.items() if one}:
        raise AssertionError(f"host {host.name} counts {host.used} in use, not {used}")
    if host.kept and host.kept_for is None:
        raise AssertionError(f"host {host.name} keeps slots for nobody")


def _running(ledger: Ledger) -> tuple[dict[str, int], dict[str, int], dict[str, dict[str, int]]]:
    """By queue: how many tasks hosts hold, how many of these wait, how many have which key."""
    running: dict[str, int] = {}
    lent: dict[str, int] = {}
    keys: dict[str, dict[str, int]] = {}
    for host in ledger.hosts.all.values():
        for lease in host.leases.values():
            batch, units = lease.batch, lease.units
            name, key = batch.queue.name, batch.template.concurrency_key
            running[name] = running.get(name, 0) + units
            lent[name] = lent.get(name, 0) + lease.lent
            if key:
                own = keys.setdefault(name, {})
                own[key] = own.get(key, 0) + units
    return running, lent, keys


def _check_queues(ledger: Ledger, batches: list[Batch]) -> None:
    """What queues count is what is there."""
    running, lent, keys = _running(ledger)
    tasks = size = 0
    queues = ledger.queues.all
    for name, queue in queues.items():
        tasks += queue.open_tasks
        size += queue.open_bytes
        if queue.running != running.get(name, 0):
            raise AssertionError(f"queue {name} counts {queue.running}, not {running.get(name)}")
        if queue.lent != lent.get(name, 0):
            raise AssertionError(f"queue {name} has lent {queue.lent}, not {lent.get(name)}")
        if queue.keys != keys.get(name, {}):
            raise AssertionError(f"queue {name} counts {queue.keys}, not {keys.get(name)}")
        if queue.ready and not queue.active and not queue.paused and queue.plain:
            raise AssertionError(f"queue {name} has tasks to place, and no turn")
    if (tasks, size) != (ledger.open_tasks, ledger.open_bytes):
        raise AssertionError(f"queues have {tasks} tasks and {size} bytes, not as the farm")
    for batch in batches:
        if queues.get(batch.queue.name) is not batch.queue:
            raise AssertionError(f"batch {batch.first} is in no queue")


def _check_waiting(ledger: Ledger, batches: list[Batch]) -> None:
    """No task is in two ready runs. (A requeued one may be in none until its record commits.)."""
    queued = sum(batch.states.count(QUEUED) for batch in batches)
    seen: dict[Batch, bytearray] = {}
    found = 0
    for batch, lo, hi in ledger.queues:
        own = seen.setdefault(batch, bytearray(batch.count))
        if any(own[lo:hi]):
            raise AssertionError(f"tasks {lo} to {hi} of batch {batch.first} are queued twice")
        own[lo:hi] = b"\1" * (hi - lo)
        found += hi - lo
    if queued != found and ledger.committed >= ledger.last_ref and not ledger.recovering:
        raise AssertionError(f"{queued - found} tasks are forgotten")


def _check_nested(ledger: Ledger, batches: list[Batch]) -> None:
    """Open tasks that others have submitted are known as such, and so are hosts that lend slots."""
    below = set(ledger.nested.deepest())
    for batch in batches:
        if batch.open and batch.template.parent is not None:
            if batch not in below:
                raise AssertionError(f"batch {batch.first} lost its parent")
            below.discard(batch)
    if below and ledger.last_ref == ledger.committed:
        raise AssertionError(f"{len(below)} batches that are over have parents")
    if wrong := ledger.hosts.misplaced():
        raise AssertionError(f"hosts are not found where they belong: {wrong[:3]}")
    for name, host in ledger.hosts.lending.items():
        if not host.lends or ledger.hosts.all.get(name) is not host:
            raise AssertionError(f"host {name} lends nothing")


def _check_session(session: Session) -> None:
    name = session.id.hex()[:8]
    sent = sum(size for _, size, _ in session.inflight)
    if session.inflight_bytes != sent:
        raise AssertionError(f"session {name} miscounts its window")
    if sent > max(LARGEST, session.window_bytes + (1 << 20)) and len(session.inflight) > 1:
        raise AssertionError(f"session {name} overran its window")
    accepted, volatile = session.accepted, session.volatile
    for batch in session.batches:
        if accepted.covers(batch.first, batch.stop):
            continue
        for lo, hi in accepted.gaps(batch.first, batch.stop):
            if batch.durable or volatile.gaps(lo, hi):
                raise AssertionError(f"session {name} forgot that it accepted {batch.first}")


def _check_blobs(core: Core) -> None:
    live, shared = live_blobs(core.ledger, core.dead), core.ledger.shared
    for name, owners in live.items():
        # An outcome that is not committed yet still holds what its tasks needed.
        known = shared[name] + 1
        if owners > known:
            raise AssertionError(f"the blob {name} is kept for {owners} of {known}")
    for name in shared:
        if name not in live:
            raise AssertionError(f"the blob {name} is shared by nobody")


def _check_rows(ledger: Ledger, batches: list[Batch]) -> None:
    rows = set(ledger.rows)
    for row in rows:
        for batch in row.batches:
            if batch.row is not row:
                raise AssertionError(f"row {row.ref} names a batch of another")
    for batch in batches:
        if not batch.durable:
            continue
        if batch.row is None and batch in ledger.drafts:
            _check_draft(batch)
            continue
        if batch.row is None or batch.row not in rows:
            raise AssertionError(f"batch {batch.first} has no record")
        for outcome in batch.outcomes if batch.settled < batch.count else ():
            if outcome.ref not in batch.row.mentions and not batch.is_taken(outcome):
                raise AssertionError(f"outcome {outcome.ref} may be pruned early")


def _check_draft(batch: Batch) -> None:
    """What is not written yet is all there is of a batch, and nobody was told of it."""
    if batch.outcomes or batch.settled or not batch.open:
        raise AssertionError(f"batch {batch.first} has ended, and is not written")
    if batch.diverged or batch.stored or batch.keys or batch.same is not None:
        raise AssertionError(f"batch {batch.first} is not written, and something relies on it")
    first, stop = batch.first, batch.stop
    if any(a < stop and first < a + count for a, count in batch.session.accepting):
        raise AssertionError(f"batch {first} is acknowledged, and not written")


def _check_evidence(core: Core, batches: list[Batch]) -> None:
    """What is kept of attempts and of dead tasks is bounded, and counted right."""
    evidence, settings, long = core.ledger.evidence, core.ledger.settings, 0
    for batch in batches:
        for own in batch.diverged.values():
            long += sum(one.weight for one in own.attempts if one.traceback or one.output)
    if evidence.bytes != long:
        raise AssertionError(f"{evidence.bytes} bytes of {long} are counted")
    if evidence.bytes > settings.evidence_bytes:
        raise AssertionError(f"{evidence.bytes} bytes of evidence are in memory")
    if len(core.dead) > settings.dead_tasks:
        raise AssertionError(f"{len(core.dead)} dead tasks are kept")


def _check_keys(ledger: Ledger, batches: list[Batch]) -> None:
    """Who has a key is there; who waits for another that has it waits for one that is pending."""
    keys, settings = ledger.keys, ledger.settings
    held: dict[Batch, int] = {}
    known, size = set(batches) if len(keys) else set(), 0
    for (owner, unique, text), (batch, index) in keys:
        name = f"the key {text!r} of {owner!r}"
        if batch not in known:
            raise AssertionError(f"{name} is held by a task that is gone")
        key = batch.keys[index]
        if (owner, unique, text) != (batch.owner, key.unique, key.text):
            raise AssertionError(f"{name} is held by a task that has another")
        if unique and batch.states[index] >= State.SUCCEEDED:
            raise AssertionError(f"{name} is held by a task that is over")
        held[batch] = held.get(batch, 0) + (not unique)
        size += len(text)
    for batch in batches:
        if batch.held != held.get(batch, 0):
            raise AssertionError(f"batch {batch.first} miscounts its keys")
        size += batch.result_bytes if batch.held else 0
        if batch.same is not None:
            _check_duplicates(ledger, batch)
    if keys.bytes != size:
        raise AssertionError(f"{keys.bytes} bytes of {size} kept for keys count")
    if len(keys) > settings.max_keys:
        raise AssertionError(f"{len(keys)} keys are held")


def _check_duplicates(ledger: Ledger, batch: Batch) -> None:
    session, start = batch.same or (b"", 0)
    owner = ledger.sessions.get(session)
    for lo, hi in batch.runs(0, batch.count, State.SCHEDULED):
        followed = 0
        for first, a, b in owner.batches.overlap(start + lo, hi - lo) if owner else ():
            over = any(state >= State.SUCCEEDED for state in first.states[a:b])
            if over or batch not in ledger.keys.followers.get(first, ()):
                raise AssertionError(f"batch {batch.first} waits for what is over")
            followed += b - a
        if followed != hi - lo:
            raise AssertionError(f"batch {batch.first} waits for nobody")
