"""What a version is: which nodes it is made of, and what is known of the partitions behind it."""

from typing import Any

import msgspec

from farm_scheduler.aggregates.kinds import Kind
from farm_scheduler.aggregates.tree import leaf_keys

__all__ = [
    "FORMAT",
    "Late",
    "LeafRecord",
    "Manifest",
    "NodeRef",
    "decode_manifest",
    "encode_manifest",
]

FORMAT = 1


class Late(msgspec.Struct, forbid_unknown_fields=True):
    """Rows that came after the watermark had passed their window: ``folded`` in, or set aside.

    ``removed`` are rows of closed windows that are not there any more.
    """

    folded: int = 0
    quarantined: int = 0
    removed: int = 0


class LeafRecord(msgspec.Struct):
    """A partition as it was lifted last; ``failed`` says why it could not be lifted since.

    ``checked`` is when its mark was taken, in seconds since 1970, ``last`` its latest time in
    microseconds, ``chunks`` how many rows it has of each. ``leaf`` identifies its states; it is
    empty if it was never lifted.
    """

    mark: str
    checked: float
    values: dict[str, str]
    leaf: str = ""
    origin: str = ""
    """The leaf as it was read, which ``leaf`` is too unless rows were set aside."""
    fingerprint: str = ""
    kinds: dict[str, Kind] = {}
    undated: int = 0
    last: int | None = None
    chunks: dict[str, int] = {}
    failed: str = ""
    seconds: float = 0.0
    """How much processor time lifting took."""
    aside: int = 0
    """How many of its rows are set aside, as they came too late."""
    folded: int = 0
    """How many of its rows came late, since it is known, and were folded in."""


class NodeRef(msgspec.Struct):
    """One chunk of a level: the keys of its nodes in the catalog."""

    keys: str
    states: dict[str, str]
    values: str


class Manifest(msgspec.Struct):
    """A version. Times are in seconds since 1970, but ``watermark``, in microseconds."""

    name: str
    version: int
    as_of: float
    """When the partitions were listed: nothing that happened later is in it."""
    published: float
    watermark: int | None
    definition: dict[str, Any]
    """How to read it without its definition: levels, zone, by, measures and what is promised."""
    partitions: dict[str, LeafRecord]
    levels: dict[str, dict[str, NodeRef]]
    parts: list[str]
    """States and keys of nodes that chunks with many partitions are made of."""
    identities: dict[str, str]
    """What sets the states of each measure apart."""
    failures: dict[str, str]
    late: Late
    run: str
    format: int = FORMAT

    @property
    def complete(self) -> bool:
        """Whether every partition is in it as it was when it was listed."""
        return not self.failures

    def node_keys(self) -> set[str]:
        """Every node that reading the version may need."""
        refs = [ref for chunks in self.levels.values() for ref in chunks.values()]
        return {key for ref in refs for key in (ref.keys, ref.values, *ref.states.values())}

    def inner_keys(self) -> set[str]:
        """Nodes that only the next run needs, so as not to make them again."""
        found = set(self.parts)
        for record in self.partitions.values():
            for chunk in record.chunks:
                keys = leaf_keys(record.leaf, chunk, self.identities)
                found.add(keys.keys)
                found.update(keys.states.values())
        return found


def encode_manifest(manifest: Manifest) -> bytes:
    """A manifest as bytes, for the catalog and for readers elsewhere."""
    return msgspec.msgpack.encode(manifest)


def decode_manifest(data: bytes) -> Manifest:
    """The manifest of these bytes; raises ``ValueError`` if a newer farm wrote it."""
    found = msgspec.msgpack.decode(data, type=Manifest)
    if found.format > FORMAT:
        raise ValueError(
            f"version {found.version} of {found.name} was published by a newer farm; upgrade this"
        )
    return found
