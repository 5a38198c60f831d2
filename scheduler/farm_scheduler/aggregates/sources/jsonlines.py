"""The beginning of a file of JSON lines, from which the types of its columns are guessed."""

import tempfile
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import msgspec
import pyarrow as pa

__all__ = ["Sample", "sample"]

SAMPLE_BYTES = 4 << 20
"""The most that is looked at; where rows are longer, DuckDB looks at the file itself."""
_decode = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_encode = msgspec.json.Encoder().encode


class Sample(NamedTuple):
    """A file with the first rows, of which only columns that are wanted are left; and all names."""

    path: str
    names: list[str]


@contextmanager
def sample(path: str, wanted: Collection[str], rows: int) -> Iterator[Sample | None]:
    """Make one; None if it would not say what the file says.

    DuckDB would unpack the whole file for it, and look at what nobody wants.
    """
    names: dict[str, Any] = {}
    lines = []
    try:
        for line in _lines(path, rows):
            fields = _decode(line)
            names |= fields
            kept = {name: value for name, value in fields.items() if name in wanted}
            lines.append(_encode(kept))
    except (OSError, ValueError):  # it will be said by whoever reads the file
        names.clear()
    if not any(name in wanted for name in names):
        yield None
        return
    with tempfile.NamedTemporaryFile(prefix="farm-", suffix=".json") as made:
        made.write(b"\n".join([*lines, b""]))
        made.flush()
        yield Sample(made.name, list(names))


def _lines(path: str, rows: int) -> list[bytes]:
    """The first lines that are not empty; none if they are too long."""
    with pa.input_stream(path) as file:
        head = file.read(SAMPLE_BYTES)
    lines: list[bytes] = head.split(b"\n", rows)
    if len(head) == SAMPLE_BYTES and len(lines) <= rows:
        return []
    return [line for line in lines[:rows] if line.strip()]
