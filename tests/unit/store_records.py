"""Records for the tests of stores and journals, and the small things to look at them with."""

from pathlib import Path

from farm.protocol.parts import Group
from farm.protocol.records import Record, Submitted

SESSION = bytes(range(16))
FUNCTION = bytes(16)


def submitted(first: int, *payloads: bytes) -> Submitted:
    group = Group(first, len(payloads), FUNCTION, list(payloads), sum(map(len, payloads)))
    return Submitted(SESSION, 1.5, [group])


def record_of(size: int) -> Record:
    """A record of one task with a payload of this size, its bytes telling places apart."""
    return submitted(1, (size.to_bytes(8, "big") * (size // 8 + 1))[:size])


def snapshot(folder: Path) -> dict[str, bytes]:
    """Every file below a folder, byte for byte."""
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}
