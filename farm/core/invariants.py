"""What must hold of a core at every moment; simulator and tests check it after each step."""

from collections import Counter

from farm.core.batch import SETTLED, Batch
from farm.core.blobs import live_blobs
from farm.core.core import Core
from farm.core.hosts import Host, Lease
from farm.core.invariants_memory import check_readers, check_residence
from farm.core.ledger import Ledger
from farm.model import State

__all__ = ["check"]


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
    _check_sessions(ledger)
    _check_rows(ledger, batches)
    _check_evidence(core, batches)
    _require(holds=not core.watchdog.stuck, message=f"tasks are stuck: {core.watchdog.stuck}")
    _check_blobs(core)
    _check_keys(ledger, batches)


def _require(*, holds: bool, message: str) -> None:
    if not holds:
        raise AssertionError(message)


def _check_batch(batch: Batch) -> None:
    final = sum(batch.states.count(s) for s in (*State, SETTLED) if s >= State.SUCCEEDED)
    name = f"batch {batch.first}+{batch.count}"
    _require(holds=len(batch.states) == batch.count, message=f"{name} lost a state")
    _require(holds=batch.open == batch.count - final, message=f"{name} miscounts open tasks")
    settled = batch.states.count(SETTLED)
    _require(holds=batch.settled == settled, message=f"{name} miscounts settled tasks")
    if batch.open and not batch.packed:
        _require(holds=len(batch.payloads) == batch.count, message=f"{name} lost a payload")
    for index in batch.stopping:
        over = f"{name}[{index}] is over, and to be stopped"
        _require(holds=batch.states[index] < State.SUCCEEDED, message=over)
    for index, own in batch.diverged.items():
        spent = f"{name}[{index}] spent more than it has"
        _require(holds=own.retries <= batch.template.retries, message=spent)
        _require(holds=own.losses <= batch.template.max_losses, message=spent)


def _check_bounds(ledger: Ledger) -> None:
    settings = ledger.settings
    held = f"{ledger.open_tasks} tasks and {ledger.open_bytes} bytes are admitted"
    _require(holds=0 <= ledger.open_tasks <= settings.max_tasks, message=held)
    _require(holds=0 <= ledger.open_bytes <= settings.max_bytes, message=held)


def _check_clients(ledger: Ledger) -> None:
    """What clients have open is what the farm has, and none has more than it may."""
    settings, sessions = ledger.settings, ledger.sessions.values()
    tasks, size = sum(one.open_tasks for one in sessions), sum(one.open_bytes for one in sessions)
    same = (tasks, size) == (ledger.open_tasks, ledger.open_bytes)
    _require(holds=same, message=f"clients have {tasks} tasks and {size} bytes, not as the farm")
    for session in sessions:
        held = f"a client has {session.open_tasks} tasks and {session.open_bytes} bytes"
        tasks_fit = session.open_tasks <= (settings.session_max_tasks or session.open_tasks)
        bytes_fit = session.open_bytes <= (settings.session_max_bytes or session.open_bytes)
        _require(holds=tasks_fit and bytes_fit, message=held)


def _check_results(ledger: Ledger, batches: list[Batch]) -> None:
    kept = sum(batch.result_bytes for batch in batches)
    unread = sum(o.size for batch in batches for o in batch.outcomes if not batch.is_taken(o))
    text = f"{ledger.result_bytes} and {ledger.unread_bytes} bytes of results, not {kept}, {unread}"
    same = (ledger.result_bytes, ledger.unread_bytes) == (kept, unread)
    _require(holds=same, message=text)


def _check_leases(ledger: Ledger, batches: list[Batch]) -> None:
    leased: Counter[int] = Counter()
    held: set[Lease] = set()
    for host in ledger.hosts.all.values():
        for key, lease in host.leases.items():
            live = sum(hi - lo for lo, hi in lease.live_runs())
            name = f"lease {key} of host {host.name}"
            _require(holds=lease.left == live > 0, message=f"{name} has {live}, not {lease.left}")
            leased[id(lease.batch)] += live
            known = lease in (lease.batch.leases or ())
            _require(holds=known, message=f"{name} is unknown to its batch")
            held.add(lease)
        _check_held(host)
    for batch in batches:
        _require(
            holds=batch.states.count(State.LEASED) == leased[id(batch)],
            message=f"batch {batch.first} has leased tasks that no host holds",
        )
        stale = set(batch.leases or ()) - held
        _require(holds=not stale, message=f"batch {batch.first} has leases that no host holds")


def _check_held(host: Host) -> None:
    """What a host holds, and what of its resources that needs."""
    held, used = 0, Counter[str]()
    for lease in host.leases.values():
        needs = lease.batch.needs
        held += lease.units * (needs.slots if needs else 1)
        for name, amount in needs.amounts if needs else ():
            used[name] += lease.units * amount
    _require(holds=host.held == held, message=f"host {host.name} miscounts its tasks")
    same = host.used == {name: amount for name, amount in used.items() if amount}
    _require(holds=same, message=f"host {host.name} counts {host.used} in use, not {dict(used)}")
    kept = host.kept_for is not None or not host.kept
    _require(holds=kept, message=f"host {host.name} keeps slots for nobody")


def _check_queues(ledger: Ledger, batches: list[Batch]) -> None:
    """What queues count is what is there."""
    running: Counter[str] = Counter()
    lent: Counter[str] = Counter()
    keys: Counter[tuple[str, str]] = Counter()
    for host in ledger.hosts.all.values():
        for lease in host.leases.values():
            name, key = lease.batch.queue.name, lease.batch.template.concurrency_key
            running[name] += lease.units
            lent[name] += lease.lent
            if key:
                keys[name, key] += lease.units
    tasks = sum(queue.open_tasks for queue in ledger.queues.all.values())
    size = sum(queue.open_bytes for queue in ledger.queues.all.values())
    same = (tasks, size) == (ledger.open_tasks, ledger.open_bytes)
    _require(holds=same, message=f"queues have {tasks} tasks and {size} bytes, not as the farm")
    for name, queue in ledger.queues.all.items():
        counts = f"queue {name} counts {queue.running} running tasks, not {running[name]}"
        _require(holds=queue.running == running[name], message=counts)
        _require(holds=queue.lent == lent[name], message=f"queue {name} has lent {queue.lent}")
        known = {key: count for (own, key), count in keys.items() if own == name}
        _require(
            holds=queue.keys == known, message=f"queue {name} counts {queue.keys}, not {known}"
        )
        idle = f"queue {name} has tasks to place, and no turn"
        waits = queue.ready and not queue.active and not queue.paused and queue.plain
        _require(holds=not waits, message=idle)
    for batch in batches:
        known_queue = ledger.queues.all.get(batch.queue.name) is batch.queue
        _require(holds=known_queue, message=f"batch {batch.first} is in no queue")


def _check_waiting(ledger: Ledger, batches: list[Batch]) -> None:
    """No task is in two ready runs. (A requeued one may be in none until its record commits.)."""
    seen: set[tuple[int, int]] = set()
    for batch, lo, hi in ledger.queues:
        for index in range(lo, hi):
            key = (id(batch), index)
            _require(holds=key not in seen, message=f"task {batch.first + index} is queued twice")
            seen.add(key)
    if ledger.committed >= ledger.last_ref and not ledger.recovering:
        queued = sum(batch.states.count(State.QUEUED) for batch in batches)
        _require(holds=queued == len(seen), message=f"{queued - len(seen)} tasks are forgotten")


def _check_nested(ledger: Ledger, batches: list[Batch]) -> None:
    """Open tasks that others have submitted are known as such, and so are hosts that lend slots."""
    below = {id(batch) for batch in ledger.nested.deepest()}
    for batch in batches:
        if batch.open and batch.template.parent is not None:
            _require(holds=batch in ledger.nested, message=f"batch {batch.first} lost its parent")
            below.discard(id(batch))
    over = [
        b for b in ledger.nested.deepest() if id(b) in below and ledger.last_ref == ledger.committed
    ]
    _require(holds=not over, message=f"{len(over)} batches that are over have parents")
    wrong = ledger.hosts.misplaced()
    _require(holds=not wrong, message=f"hosts are not found where they belong: {wrong[:3]}")
    for name, host in ledger.hosts.lending.items():
        lends = host.lends and ledger.hosts.all.get(name) is host
        _require(holds=bool(lends), message=f"host {name} lends nothing")


def _check_sessions(ledger: Ledger) -> None:
    for session in ledger.sessions.values():
        sent = sum(size for _, size, _ in session.inflight)
        name = f"session {session.id.hex()[:8]}"
        _require(holds=session.inflight_bytes == sent, message=f"{name} miscounts its window")
        alone = len(session.inflight) <= 1
        window = session.inflight_bytes <= session.window_bytes + (1 << 20)
        _require(holds=alone or window or _one_large(sent), message=f"{name} overran its window")
        for batch in session.batches:
            new = [
                gap
                for lo, hi in session.accepted.gaps(batch.first, batch.stop)
                for gap in ([(lo, hi)] if batch.durable else session.volatile.gaps(lo, hi))
            ]
            _require(holds=not new, message=f"{name} forgot that it accepted {batch.first}")


def _one_large(size: int) -> bool:
    """A single message may be as large as a payload may be."""
    return size <= 2 * (64 << 20)


def _check_blobs(core: Core) -> None:
    live, shared = live_blobs(core.ledger, core.dead), core.ledger.shared
    for name, owners in live.items():
        # An outcome that is not committed yet still holds what its tasks needed.
        known = shared[name] + 1
        _require(holds=owners <= known, message=f"the blob {name} is kept for {owners} of {known}")
    for name in shared:
        _require(holds=name in live, message=f"the blob {name} is shared by nobody")


def _check_rows(ledger: Ledger, batches: list[Batch]) -> None:
    rows = list(ledger.rows)
    for row in rows:
        for batch in row.batches:
            _require(holds=batch.row is row, message=f"row {row.ref} names a batch of another")
    for batch in batches:
        if batch.durable:
            known = batch.row is not None and batch.row in rows
            _require(holds=known, message=f"batch {batch.first} has no record")
            for outcome in batch.outcomes:
                lo = outcome.first - batch.first
                if batch.states.count(SETTLED, lo, lo + outcome.count) < outcome.count:
                    kept = batch.row is not None and outcome.ref in batch.row.mentions
                    _require(holds=kept, message=f"outcome {outcome.ref} may be pruned early")


def _check_evidence(core: Core, batches: list[Batch]) -> None:
    """What is kept of attempts and of dead tasks is bounded, and counted right."""
    evidence, settings = core.ledger.evidence, core.ledger.settings
    kept = [one for batch in batches for own in batch.diverged.values() for one in own.attempts]
    long = sum(one.weight for one in kept if one.traceback or one.output)
    _require(holds=evidence.bytes == long, message=f"{evidence.bytes} bytes of {long} are counted")
    bounded = evidence.bytes <= settings.evidence_bytes
    _require(holds=bounded, message=f"{evidence.bytes} bytes of evidence are in memory")
    dead = len(core.dead)
    _require(holds=dead <= settings.dead_tasks, message=f"{dead} dead tasks are kept")


def _check_keys(ledger: Ledger, batches: list[Batch]) -> None:
    """Who has a key is there; who waits for another that has it waits for one that is pending."""
    keys, settings = ledger.keys, ledger.settings
    held: Counter[int] = Counter()
    known, size = set(map(id, batches)), 0
    for (owner, unique, text), (batch, index) in keys:
        name = f"the key {text!r} of {owner!r}"
        _require(holds=id(batch) in known, message=f"{name} is held by a task that is gone")
        key = batch.keys[index]
        same = (owner, unique, text) == (batch.owner, key.unique, key.text)
        _require(holds=same, message=f"{name} is held by a task that has another")
        pending = batch.states[index] < State.SUCCEEDED
        _require(holds=pending or not unique, message=f"{name} is held by a task that is over")
        held[id(batch)] += not unique
        size += len(text)
    for batch in batches:
        name = f"batch {batch.first}"
        _require(holds=batch.held == held[id(batch)], message=f"{name} miscounts its keys")
        size += batch.result_bytes if batch.held else 0
        if batch.same is not None:
            _check_duplicates(ledger, batch)
    _require(holds=keys.bytes == size, message=f"{keys.bytes} bytes of {size} kept for keys count")
    _require(holds=len(keys) <= settings.max_keys, message=f"{len(keys)} keys are held")


def _check_duplicates(ledger: Ledger, batch: Batch) -> None:
    session, start = batch.same or (b"", 0)
    owner = ledger.sessions.get(session)
    for lo, hi in batch.runs(0, batch.count, State.SCHEDULED):
        followed = 0
        for first, a, b in owner.batches.overlap(start + lo, hi - lo) if owner else ():
            over = any(state >= State.SUCCEEDED for state in first.states[a:b])
            waits = batch in ledger.keys.followers.get(first, ())
            text = f"batch {batch.first} waits for what is over"
            _require(holds=waits and not over, message=text)
            followed += b - a
        _require(holds=followed == hi - lo, message=f"batch {batch.first} waits for nobody")
