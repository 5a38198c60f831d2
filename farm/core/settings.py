"""The bounds and times of a coordinator."""

import msgspec

from farm.core.policy import QueuePolicy, check_name
from farm.errors import ConfigError

__all__ = ["CoreSettings"]

DAY = 86_400.0
FOREVER = float("inf")


class CoreSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Bounds in tasks and payload bytes, times in seconds. Raises ``ConfigError`` if they clash.

    ``python`` is the minor version whose pickles this farm carries, such as ``"3.11"``.
    """

    max_tasks: int = 1_000_000
    max_bytes: int = 2 << 30
    low_water: float = 0.9
    """A farm that was full takes work again below this share of its bounds."""
    session_tasks: int = 65_536
    """The most tasks that one client may have on the way unasked."""
    session_bytes: int = 128 << 20
    session_max_tasks: int = 0
    """The most unfinished tasks of one client; 0: as many as the farm takes."""
    session_max_bytes: int = 0
    """And the most bytes of their payloads."""
    session_jobs: int = 10_000
    """The most jobs of one client that are open, or of which anything is kept."""
    session_outcomes: int = 262_144
    """The most runs of outcomes that wait for one client; one that owns them is given no credit
    beyond this, and one that reads those of others is told of the rest as it takes them."""
    session_follows: int = 10_000
    """The most requests of one client to follow jobs."""
    cancel_tasks: int = 262_144
    """The most tasks whose cancel is waited for, and the most runs asked for during recovery."""
    session_result_bytes: int = 64 << 20
    """Results that wait for one client beyond this are left in the store."""
    resident_result_bytes: int = 256 << 20
    """The same in all; and when so much is on the way to clients, each gets a message at a time."""
    resident_payload_bytes: int = 256 << 20
    """Arguments of queued tasks beyond this are left in the store, and read back when their turn is
    near. With a store in memory there is no such bound: nothing would be won."""
    draft_seconds: float = 0.5
    """How long a submission with blobs may wait for a busy journal, to be written with outcomes."""
    far_seconds: float = 60.0
    """The arguments of tasks that start later than this are in the store alone until shortly
    before, whatever room there is in memory."""
    payload_bytes_max: int = 64 << 20
    grant_tasks: int = 128
    """The most tasks in one lease."""
    short_seconds: float = 0.1
    """Tasks expected to take longer never wait on a host behind others."""
    recall_seconds: float = 0.1
    """After how long a task that has not begun is taken back from its host for an idle one."""
    lease_seconds: float = 30.0
    beat_seconds: float = 10.0
    recovery_seconds: float = 5.0
    """How long a restarted coordinator waits for the hosts of the last epoch."""
    backoff_seconds_max: float = 300.0
    result_ttl: float = 7 * DAY
    """How long results of named jobs are kept, even when their owner has them."""
    unclaimed_ttl: float = 7 * DAY
    """How long results live that nobody takes."""
    max_result_bytes: int = 4 << 30
    """The room for results. Taken ones give way; while unread ones fill it, nothing is admitted."""
    history_ttl: float = 7 * DAY
    """How long is remembered how a task ended, when all else of it is forgotten."""
    history_rows: int = 1_000_000
    history_bytes: int = 64 << 20
    evidence_bytes: int = 64 << 20
    """Tracebacks and output of attempts, of tasks that go on, that are kept in memory."""
    dead_tasks: int = 10_000
    dead_bytes: int = 1 << 30
    """Dead tasks that are kept, for ``result_ttl`` at most; then the oldest go."""
    key_ttl: float = DAY
    """How long an idempotency key belongs to its task, and the outcome is kept for it."""
    max_keys: int = 1_000_000
    """Keys of tasks that are held at a time; one takes 350 bytes of memory, or 2.2 KB if its task
    was submitted by itself."""
    max_key_bytes: int = 1 << 30
    """With so many bytes of keys, and of results kept for them, no new key is taken."""
    session_ttl: float = 7 * DAY
    """How long a silent session without work is remembered."""
    host_ttl: float = 3600.0
    """How long an absent host is remembered, and what it cost."""
    reply_seconds: float = 0.01
    """Submissions are acknowledged no more often."""
    upkeep_seconds: float = 0.25
    """How long that may wait which nobody waits for: to tell hosts that their reports are durable,
    and to look after what is kept."""
    prune_seconds: float = 0.5
    """How long finished records may wait to be deleted together."""
    watch_seconds: float = 10.0
    """How often is looked for tasks that nothing would move."""
    queues: dict[str, QueuePolicy] = {}
    """The policies of queues by name; there is always one called ``default``."""
    turn_seconds: float = 0.01
    """How much work, of the least weight, goes before it is another queue's or client's turn."""
    reserve_seconds: float = 2.0
    """How long tasks are passed that need what no host has now, before one is kept for them."""
    resources: list[str] = []
    """Names of resources that hosts may have; those of hosts that have been here are known."""
    host_labels: list[str] = []
    """What every host must have; one that lacks any gets no work."""
    python: str = ""
    farm: str = ""

    def __post_init__(self) -> None:
        for name in (
            *("max_tasks", "max_bytes", "session_tasks", "session_bytes", "grant_tasks"),
            *("max_result_bytes", "history_rows", "history_bytes", "max_keys", "max_key_bytes"),
            *("session_result_bytes", "resident_result_bytes", "resident_payload_bytes"),
            *("session_jobs", "session_outcomes", "session_follows", "cancel_tasks"),
        ):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} is {getattr(self, name)}; it must be at least 1")
        for name in ("session_max_tasks", "session_max_bytes"):
            if (most := getattr(self, name)) < 0:
                raise ConfigError(f"{name} is {most}; it must be at least 1, or 0 for no limit")
        for name in self.queues:
            check_name(name)
        if not 0 < self.turn_seconds < FOREVER:
            raise ConfigError(f"turn_seconds is {self.turn_seconds}; it must be more than 0")
        if not 0 < self.far_seconds < FOREVER:
            raise ConfigError(f"far_seconds is {self.far_seconds}; it must be more than 0")
        if not self.reserve_seconds >= 0:
            raise ConfigError(f"reserve_seconds is {self.reserve_seconds}; it must be 0 or more")
        if not 0 < self.low_water <= 1:
            raise ConfigError(f"low_water is {self.low_water}; it must be above 0 and at most 1")
        self._check_clashes()

    def _check_clashes(self) -> None:
        """What each may be alone, and not together."""
        if self.beat_seconds <= 0 or self.lease_seconds < 2 * self.beat_seconds:
            raise ConfigError(
                f"lease_seconds is {self.lease_seconds:g} and beat_seconds {self.beat_seconds:g}; "
                "a lease must last two beats or more: raise the one or lower the other"
            )
        for name in ("session_bytes", "max_bytes", "session_max_bytes"):
            most = getattr(self, name)
            if most and self.payload_bytes_max > most:
                raise ConfigError(
                    f"payload_bytes_max is {self.payload_bytes_max}, more than {name}, {most}, "
                    "allows at all; lower the one or raise the other"
                )
