"""Files that were cut short or torn after they had been synced: recovered exactly, or refused.

Nothing can bring back what is gone, but nothing may be made of the rest that no commit had made.
A store that comes back older than its peers remember is refused by the coordinator, by its number.
"""

from collections import Counter
from pathlib import Path
from random import Random

from farm.errors import StoreError
from tests.commits.power import SECTOR_BYTES, Broken, Recording, cut, state_of

__all__ = ["KINDS", "damage"]

KINDS = ("log cut short", "log torn", "store cut short", "large rows cut short")
_FILES = {"log": "farm.db-wal", "store": "farm.db", "large": "farm.db-large"}


def _damaged(kind: str, files: dict[str, bytes], chance: Random) -> dict[str, bytes] | None:
    """The files with one of them damaged; None if there is nothing of it to damage."""
    name = _FILES[kind.split(maxsplit=1)[0]]
    data = files.get(name, b"")
    if not data:
        return None
    made = dict(files)
    at = chance.randrange(len(data))
    if kind == "log torn":
        # A sector of the disk that was being written when the power failed.
        at -= at % SECTOR_BYTES
        junk = chance.choice((bytes(SECTOR_BYTES), chance.randbytes(SECTOR_BYTES)))
        made[name] = (data[:at] + junk + data[at + SECTOR_BYTES :])[: len(data)]
    else:
        made[name] = data[:at]
    return made


def damage(recording: Recording, times: int, folder: Path, *, seed: int = 1) -> Counter[str]:
    """Damage the files of a store that was killed somewhere, so many times; what came of it.

    Raises ``Broken``.
    """
    chance = Random(seed)
    counts: Counter[str] = Counter()
    for number in range(times):
        at = chance.randint(recording.returned[0], len(recording.ops))
        synced = Recording([*recording.ops[:at]], recording.files)
        synced.ops += [op._replace(what="sync") for op in synced.ops if op.what != "sync"]
        kind = chance.choice(KINDS)
        files = _damaged(kind, cut(synced, len(synced.ops), chance), chance)
        if files is None:
            continue
        here = folder / f"damage{number}"
        try:
            found = state_of(here, files)
        except StoreError as error:
            if str(here) not in str(error):
                raise Broken(f"{kind} before {at}: it does not say which file: {error}") from error
            counts[f"{kind}: refused"] += 1
        else:
            if found not in recording.states:
                raise Broken(f"{kind} before {at}: what is there was never committed")
            counts[f"{kind}: recovered"] += 1
    return counts
