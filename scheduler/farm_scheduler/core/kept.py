"""A schedule as it is kept, of which most is looked at only when it has something to do."""

from sys import intern

import msgspec

from farm_scheduler.core.schedule import Schedule

__all__ = ["Glance", "Kept"]

Hook = str | tuple[str, ...]


class Glance(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """What ``Schedule.state`` has, in its order, and most of it not looked at."""

    name: str
    cron: msgspec.Raw
    tz: msgspec.Raw
    run: str
    args: msgspec.Raw
    kwargs: msgspec.Raw
    command: tuple[str, ...]
    dst: msgspec.Raw
    misfire: msgspec.Raw
    overlap: msgspec.Raw
    catch_up: msgspec.Raw
    late_after: msgspec.Raw
    jitter: msgspec.Raw
    deadline: msgspec.Raw
    keep: msgspec.Raw
    on_failure: Hook
    on_late: Hook
    options: msgspec.Raw
    plain: msgspec.Raw
    offset: float


_glance = msgspec.msgpack.Decoder(Glance).decode


class Kept(msgspec.Struct, frozen=True, gc=False):
    """What a scheduler has to know of each of 100,000 when it starts; fields as in ``Schedule``."""

    name: str
    run: str
    command: tuple[str, ...]
    on_failure: Hook
    on_late: Hook
    offset: float
    spec: bytes

    @classmethod
    def of(cls, spec: bytes) -> "Kept":
        """A schedule of which ``spec`` is kept: its ``state`` as MessagePack."""
        found = _glance(spec)
        hooks = found.on_failure, found.on_late
        return cls(found.name, intern(found.run), found.command, *hooks, found.offset, spec)

    def schedule(self) -> Schedule:
        """The whole."""
        return Schedule.restored(msgspec.msgpack.decode(self.spec))
