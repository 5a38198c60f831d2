"""Heads: what a coordinator has to know at its start of records whose tasks start much later.

A head is a record without the arguments of its tasks, and with their sizes. It stands in a table
of its own, beside the time at which the first of the tasks is due. Promises: it says nothing that
the record does not, and where there is none, or it cannot be read, the record itself is read.
"""

from itertools import repeat

import msgspec
from msgspec.structs import replace

from farm.core.batch import start_of
from farm.core.stored import stand_in
from farm.errors import ProtocolError
from farm.model import Blob
from farm.protocol.parts import Group
from farm.protocol.records import Record, Submitted, decode_record, encode_record

__all__ = ["LATER_SECONDS", "head_of", "record_of"]

LATER_SECONDS = 60.0
"""Who starts sooner than this after it was accepted has no head: few restarts come between."""
NEVER = float("inf")
SHARE = 4
"""A head has to be at least so many times shorter than its record."""


class _Head(msgspec.Struct, array_like=True, frozen=True):
    """``sizes``: of each group, of each payload that is in no file; one if all are alike."""

    record: bytes
    sizes: list[list[int]]


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(_Head)


def head_of(record: Record, size: int, later: float = LATER_SECONDS) -> tuple[int, bytes] | None:
    """When the first of its tasks is due, in milliseconds since 1970, and its head.

    None if it has none: a task does not start ``later``, in seconds, or the record, of so many
    bytes, is hardly longer.
    """
    if not isinstance(record, Submitted):
        return None
    due = NEVER
    for group in record.groups:
        start = record.at if group.template is None else start_of(group.template, record.at)
        if start - record.at <= later:  # as nearly always, the first
            return None
        due = min(due, start)
    if due == NEVER:
        return None
    light = replace(record, groups=[_without_bytes(group) for group in record.groups])
    sizes = [_sizes(group) for group in record.groups]
    head = _encoder.encode(_Head(encode_record(light), sizes))
    return (int(due * 1000), head) if SHARE * len(head) <= size else None


def record_of(head: bytes) -> Submitted | None:
    """The record of a head, with what stands for its payloads; None if it is none of ours."""
    try:
        found = _decoder.decode(head)
        record = decode_record(found.record)
        if not isinstance(record, Submitted) or len(record.groups) != len(found.sizes):
            return None
        for group, sizes in zip(record.groups, found.sizes, strict=True):
            _stand_in(group, sizes)
    except (msgspec.MsgspecError, ProtocolError, ValueError):
        return None
    return record


def _without_bytes(group: Group) -> Group:
    payloads = [one if isinstance(one, Blob) else b"" for one in group.payloads]
    return replace(group, payloads=payloads, size=sum(map(len, payloads)))


def _sizes(group: Group) -> list[int]:
    sizes = [0 if isinstance(one, Blob) else len(one) for one in group.payloads]
    return sizes[:1] if len(set(sizes)) == 1 else sizes


def _stand_in(group: Group, sizes: list[int]) -> None:
    count = len(group.payloads)
    if len(sizes) == 1 and sizes[0] and not group.size:  # as nearly always: no files
        group.payloads, group.size = [stand_in(sizes[0])] * count, sizes[0] * count
        return
    each = repeat(sizes[0], count) if len(sizes) == 1 else sizes
    group.payloads = [
        stand_in(size) if size else one for one, size in zip(group.payloads, each, strict=True)
    ]
    group.size = sum(map(len, group.payloads))
