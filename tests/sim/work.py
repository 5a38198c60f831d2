"""What simulated tasks do, written in their payloads, and what their results say.

A payload is ``kind:seconds:times``, with padding; that of a packed group joins those of its items.
A result names its task and the token under which it was made, so that an outcome tells which
attempt it came from.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from farm.model import Blob

if TYPE_CHECKING:
    from farm.model import Payload

__all__ = ["PRINTED", "Work", "content", "join", "made_by", "parse", "split", "value"]

BAR = b"|"
PRINTED = b"printed"
"""What tasks print that print something."""


class Work(NamedTuple):
    """``raise``, ``die`` and ``hog``: the first ``times`` executions do, later ones succeed."""

    kind: str
    seconds: float
    times: int

    def payload(self, padding: int = 0) -> bytes:
        return f"{self.kind}:{self.seconds:.6f}:{self.times}:".encode() + b"." * padding


def parse(payload: bytes) -> Work:
    kind, seconds, times, _ = payload.split(b":")
    return Work(kind.decode(), float(seconds), int(times))


def content(payload: Payload) -> bytes:
    """The bytes of a payload; those of a simulated blob stand in its name."""
    return payload.name.split("/", 2)[2].encode() if isinstance(payload, Blob) else payload


def join(payloads: list[bytes]) -> bytes:
    return BAR.join(payloads)


def split(payload: bytes) -> list[bytes]:
    return payload.split(BAR)


def value(task: tuple[bytes, int], epoch: int, attempt: int) -> bytes:
    """What an execution returns or raises."""
    return f"{task[0].hex()}-{task[1]}@{epoch}.{attempt}".encode()


def made_by(payload: bytes, task: tuple[bytes, int]) -> tuple[int, int] | None:
    """The token of the attempt that made a task's value in a payload; None if it has none."""
    start = f"{task[0].hex()}-{task[1]}@".encode()
    for one in payload.split(BAR):
        if one.startswith(start):
            epoch, attempt = one[len(start) :].split(b".")
            return int(epoch), int(attempt)
    return None
