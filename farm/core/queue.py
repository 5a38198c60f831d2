"""One queue: its policy, what waits in it, and what of it runs."""

from collections import Counter
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from farm.core.batch import Batch
from farm.core.bucket import TokenBucket
from farm.core.meter import Meter
from farm.core.policy import QueuePolicy, defaults_of
from farm.core.ready import Entry, ReadyQueue
from farm.core.throughput import Throughput
from farm.protocol.parts import Template

if TYPE_CHECKING:
    from farm.core.sessions import Session

__all__ = ["Queue"]

BUILT_IN = Template()


class Queue:
    """A named lane of tasks.

    ``open_tasks`` and ``open_bytes`` are what admission has reserved in it, ``running`` counts the
    tasks that hosts hold (a packed one is one), ``keys`` those of each ``concurrency_key``. Those
    of them that wait for others are ``lent`` and ``keys_lent``: they count for what others wait for
    as if they did not run.
    ``known``: it is configured, and takes tasks. ``changes`` is what was set while the farm ran,
    and ``ref`` the record of it. ``deficit`` and ``quantum`` belong to the turns between queues.
    """

    def __init__(
        self, name: str, policy: QueuePolicy, turn_seconds: float, *, known: bool = True
    ) -> None:
        self.name = name
        self.known = known
        self.configured = self.policy = policy
        self.paused = False
        self.changes: dict[str, Any] = {}
        self.ref = 0
        self.ready = ReadyQueue(turn_seconds, policy.ageing_seconds)
        self.meter = Meter()
        self.throughput = Throughput()
        self.active = False
        self.deficit = self.quantum = 0.0
        self.open_tasks = self.open_bytes = 0
        self.running = self.lent = 0
        self.keys: dict[str, int] = {}
        self.keys_lent: Counter[str] = Counter()
        self.bucket: TokenBucket | None = None
        self.full = False  # it has refused tasks, and not drained since
        # Those that were refused, the bytes that each wants room for, and how many it may send.
        self.refused: dict[Session, list[int]] = {}
        self.plain = True  # nothing but hosts keeps its tasks from being placed
        self.bounded = False  # admission has a limit
        self._fit(0.0, policy.burst_tasks)
        self._defaults = defaults_of(policy)
        self._merged: tuple[Template | None, Template | None] = (None, None)

    def begin(self, now: float, *, fresh: bool) -> None:
        """The coordinator starts to serve; what went before, unless it is ``fresh``, is unknown."""
        self.meter.begin(self.open_tasks, now)
        self.throughput.begin(now)
        self._fit(now, self.policy.burst_tasks if fresh else 0.0)

    def set(self, changes: dict[str, Any], *, paused: bool, now: float) -> None:
        """Follow the configured policy with these changes; raises ``ConfigError``."""
        self.policy = self.configured.changed(changes)
        self.changes, self.paused = changes, paused
        self.ready.ageing_seconds = self.policy.ageing_seconds
        self.ready.release_all()
        tokens = self.bucket.at(now) if self.bucket is not None else self.policy.burst_tasks
        self._fit(now, tokens)

    def _fit(self, now: float, tokens: float) -> None:
        policy = self.policy
        rate = policy.rate
        self.bounded = not (policy.max_tasks is policy.max_bytes is None)
        self.bucket = None
        if rate is not None:
            self.bucket = TokenBucket(rate, policy.burst_tasks, tokens, now)
        self.plain = not (self.paused or self.limits_running or self.bucket is not None)

    @property
    def limits_running(self) -> bool:
        """Whether only so many may run at a time, of all or of some."""
        return not (self.policy.max_running is self.policy.max_running_per_key is None)

    # ------------------------------------------------------------ admission

    def room(self) -> tuple[int, int]:
        """How many more tasks and payload bytes it admits, if there is a limit."""
        policy, huge = self.policy, 1 << 62
        tasks = huge if policy.max_tasks is None else max(0, policy.max_tasks - self.open_tasks)
        size = huge if policy.max_bytes is None else max(0, policy.max_bytes - self.open_bytes)
        return tasks, size

    def template(self, own: Template | None) -> Template | None:
        """A task's options, with the queue's own for those that it does not say."""
        if not self._defaults:
            return own
        if self._merged[0] is not own or own is None:
            self._merged = own, self._merge(own or BUILT_IN)
        return self._merged[1]

    def _merge(self, own: Template) -> Template:
        fields = {field: getattr(own, field) for field in own.__struct_fields__}
        fields |= {
            key: value
            for key, value in self._defaults.items()
            if key not in own.explicit and fields[key] == getattr(BUILT_IN, key)
        }
        soft, hard = fields["soft_time_limit"], fields["time_limit"]
        if soft is not None and hard is not None and soft >= hard:
            key = "soft_time_limit" if own.soft_time_limit is None else "time_limit"
            fields[key] = getattr(own, key)  # the task's own limit is as it was said
        return Template(**fields)

    # ------------------------------------------------------------ what may be placed

    def head(self, now: float, *, holds_back: bool) -> Entry | None:
        """The next run of which something may be placed, or None.

        ``holds_back``: tasks of before the restart may be running, nobody knows how many.
        """
        if self.plain:
            return self.ready.head()
        return self._placeable(self.ready.head, now, holds_back=holds_back)

    def needy_head(self, now: float, *, holds_back: bool) -> Entry | None:
        """The same of those that need more than a slot, whoever's turn it is."""
        return self._placeable(self.ready.needy_head, now, holds_back=holds_back)

    def _placeable(
        self, head: Callable[[], Entry | None], now: float, *, holds_back: bool
    ) -> Entry | None:
        if self.closed(now, holds_back=holds_back):
            return None
        per_key = self.policy.max_running_per_key
        while (entry := head()) is not None:
            key = entry[0].template.concurrency_key
            if per_key is None or not key or self.keys.get(key, 0) < per_key:
                return entry
            self.ready.hold()
        return None

    def closed(self, now: float, *, holds_back: bool, nested: bool = False) -> str:
        """Why nothing of it may be placed, ``nested``: that others wait for; or empty."""
        most = self.policy.max_running
        if self.paused:
            return "paused"
        if holds_back and self.limits_running:
            return "recovering"
        if most is not None and self.running - (self.lent if nested else 0) >= most:
            return "max_running"
        if self.bucket is not None and self.bucket.room(now) < 1:
            return "rate"
        return ""

    def allowed(self, batch: Batch, now: float, *, nested: bool = False) -> int:
        """How many tasks of a batch may be placed now; ``nested``: others wait for them."""
        policy, most = self.policy, 1 << 62
        if policy.max_running is not None:
            most = policy.max_running - self.running + (self.lent if nested else 0)
        key = batch.template.concurrency_key
        if key and policy.max_running_per_key is not None:
            lent = self.keys_lent[key] if nested else 0
            most = min(most, policy.max_running_per_key - self.keys.get(key, 0) + lent)
        if self.bucket is not None:
            most = min(most, self.bucket.room(now))
        return most

    # ------------------------------------------------------------ what runs

    def placed(self, batch: Batch, units: int, attempt: int, now: float) -> None:
        """Tasks are given to a host."""
        self.hold(batch, units)
        if self.bucket is not None:
            self.bucket.spend(units)
        self.meter.place(units, now - batch.starts_at if attempt == 1 else None, now)

    def hold(self, batch: Batch, units: int) -> None:
        """A host holds so many more."""
        self.running += units
        if key := batch.template.concurrency_key:
            self.keys[key] = self.keys.get(key, 0) + units

    def lend(self, batch: Batch, units: int) -> None:
        """So many more of those that hosts hold wait for others, or fewer (negative)."""
        self.lent += units
        if key := batch.template.concurrency_key:
            self.keys_lent[key] += units
            if not self.keys_lent[key]:
                del self.keys_lent[key]

    def let_go_key(self, key: str, units: int) -> None:
        """A host holds so many fewer of a key; those that waited for that can go."""
        left = self.keys[key] - units
        if left:
            self.keys[key] = left
        else:
            del self.keys[key]
        self.ready.release(key)
