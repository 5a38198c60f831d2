"""Mutated records: the decoder refuses them with one error, and loading refuses what it cannot use.

SQLite has no checksums, so a record may come back changed. What cannot be read must be refused by
name. What can be read and contradicts the rest is refused, too: a core that loads keeps its
invariants, and does so until its work is over.
"""

from collections import Counter
from random import Random
from typing import Any

from farm.errors import ProtocolError
from farm.protocol.records import decode_record, encode_record
from tests.fuzz.mutate import Mutator
from tests.fuzz.ports import Found
from tests.fuzz.talk import HostTalk, Talk, client_hello, host_hello
from tests.golden.make_journal import RECORDS
from tests.unit.core_harness import F, Rig

__all__ = ["fuzz_records"]

JOURNALS = 40
"""So many journals of a farm's work are what is mutated."""
STEPS = 30


def fuzz_records(count: int, seed: int = 1) -> Counter[str]:
    """So many mutated records; what became of them. Raises ``Found``."""
    chance = Random(seed)
    counts: Counter[str] = Counter()
    golden = [encode_record(record) for record in RECORDS.values()]
    journals = [_journal(chance) for _ in range(JOURNALS)]
    mutator = Mutator(chance, [golden])
    for number in range(count):
        disk = chance.choice(journals)
        ref = chance.choice(list(disk.records))
        data = chance.choice(golden) if number % 8 == 0 else disk.records[ref]
        changed = mutator.tree(data) if chance.random() < 0.6 else mutator.data(data)
        counts["records"] += 1
        try:
            decode_record(changed)
        except ProtocolError:
            counts["refused by the decoder"] += 1
        except Exception as error:
            raise Found(f"the decoder raised {error!r} for {changed[:400].hex()}") from error
        else:
            _load(disk, ref, changed, counts)
    return counts


def _journal(chance: Random) -> Any:
    """What a farm has written that was cut off in its work."""
    rig = Rig(lease_seconds=5.0, beat_seconds=1.0)
    client, host = Talk(chance, b"alice"), HostTalk(chance, "h1")
    said = {rig._connect("alice", "client"): client, rig._connect("h1", "host"): host}
    for peer, talk in said.items():
        name = "alice" if talk is client else "h1"
        rig.say(peer, client_hello(b"alice", 1) if talk is client else host_hello(name, 1))
    rig.say(next(iter(said)), F)
    for _ in range(STEPS):
        peer, talk = chance.choice(list(said.items()))
        rig.say(peer, talk.message())
        rig.commit()
        for to, message in rig.take():
            said[to].hears(message)
    return rig.disk


class _Reader(Rig):
    """A core that starts from a journal."""

    def __init__(self, disk: Any) -> None:
        self._found = disk
        super().__init__(lease_seconds=5.0, beat_seconds=1.0)

    def _boot(self) -> None:
        self.disk = self._found
        super()._boot()


def _load(disk: Any, ref: int, changed: bytes, counts: Counter[str]) -> None:
    kept, disk.records[ref] = disk.records[ref], changed
    try:
        rig = _Reader(disk)
        rig.tick(6.0)
    except ProtocolError:
        counts["refused in loading"] += 1
    except Exception as error:
        record = decode_record(changed)
        raise Found(
            f"loading raised {error!r} for {record!r}, which was {decode_record(kept)!r}"
        ) from error
    else:
        counts["loaded"] += 1
    finally:
        disk.records[ref] = kept
