"""The beginning of a file of JSON lines, from which the types of its columns are guessed."""

import tempfile
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import Any, NamedTuple

import msgspec
import pyarrow as pa

__all__ = ["Sample", "sample"]

SAMPLE_BYTES = 4 << 20
"""The most that is looked at; where rows are longer, DuckDB looks at the file itself."""
PIECE_BYTES = 256 << 10
NAMED_ROWS = 100
"""Rows of which all names are told."""
_decode_all = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_encode = msgspec.json.Encoder().encode


class Sample(NamedTuple):
    """A file with the first rows, of which only columns that are wanted are left.

    ``names`` are those of all columns, as far as the very first rows tell them, and of these.
    ``whole``: there are no other rows.
    """

    path: str
    names: list[str]
    whole: bool


@contextmanager
def sample(path: str, wanted: Collection[str], rows: int) -> Iterator[Sample | None]:
    """Make one; None if it would not say what the file says.

    DuckDB would unpack the whole of a packed file for it, and look at what nobody wants.
    """
    text, names, whole = b"", list[str](), False
    try:
        lines, whole = _lines(path, rows)
        decode = _decoder(frozenset(wanted))
        text = b"\n".join([*(_encode(decode(line)) for line in lines), b""])
        names = list(
            dict.fromkeys(name for line in lines[:NAMED_ROWS] for name in _decode_all(line))
        )
    except (OSError, ValueError):  # it will be said by whoever reads the file
        text = b""
    if not text.strip(b"{}\n"):
        yield None
        return
    with tempfile.NamedTemporaryFile(prefix="farm-", suffix=".json") as made:
        made.write(text)
        made.flush()
        yield Sample(made.name, names, whole)


@lru_cache(maxsize=64)
def _decoder(wanted: frozenset[str]) -> Any:
    """Reads of a row what is wanted, as it is written."""
    fields = {f"f{number}": name for number, name in enumerate(sorted(wanted))}
    kind = msgspec.Raw | msgspec.UnsetType
    made = [(field, kind, msgspec.UNSET) for field in fields]
    return msgspec.json.Decoder(msgspec.defstruct("Row", made, rename=fields)).decode


def _lines(path: str, rows: int) -> tuple[list[bytes], bool]:
    """The first lines that are not empty, and whether they are all; none if they are too long."""
    head: list[bytes] = []
    whole = False
    with pa.input_stream(path) as file:
        while sum(map(len, head)) < SAMPLE_BYTES and sum(one.count(b"\n") for one in head) < rows:
            head.append(file.read(PIECE_BYTES))
            if not head[-1]:
                whole = True
                break
    lines: list[bytes] = b"".join(head).split(b"\n", rows)
    if not whole and len(lines) <= rows:
        return [], False
    return [line for line in lines[:rows] if line.strip()], whole and len(lines) <= rows
