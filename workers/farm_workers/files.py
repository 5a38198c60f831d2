"""The files of the blob folder that the workers of an agent write and read.

They lie in the agent's part of the folder, so they outlive their worker: a result that a worker
has told of belongs to the agent from then on, and what a dead worker had not told of is removed.
"""

import contextlib
import itertools
import os

from farm.blobs import Blobs
from farm.model import Blob
from farm_workers.channel import READING, Folder
from farm_workers.host_slices import SliceEnd

__all__ = ["WorkerFiles"]

_serials = itertools.count(1)


class WorkerFiles:
    """The files of one worker, in each folder that it was told of."""

    def __init__(self) -> None:
        # By the folder's own part; more than one only if coordinators of several folders came.
        self._folders: dict[str, tuple[Blobs, str]] = {}
        self._told: dict[str, int] = {}  # the last file of which the worker has told

    def use(self, blobs: Blobs) -> Folder:
        """What to tell the worker, so that it uses this folder."""
        prefix = f"{next(_serials)}."
        self._folders[blobs.own] = blobs, prefix
        self._told[blobs.own] = 0
        return Folder(blobs.root, blobs.own, prefix)

    def hold(self, parts: list[SliceEnd]) -> None:
        """The worker has told of these: what they name is the agent's."""
        for part in parts:
            if Blob in set(map(type, part.payloads)):
                part.payloads = [
                    self._held(one) if type(one) is Blob else one for one in part.payloads
                ]

    def _held(self, blob: Blob) -> Blob:
        own, _, file = blob.name.rpartition("/")
        if own not in self._folders:
            return blob
        blobs, prefix = self._folders[own]
        self._told[own] = max(self._told[own], _number(file, prefix))
        return blobs.hold(blob.name, blob.size)

    def tidy(self) -> None:
        """The worker is gone, and all that it said was held: remove the rest of what it wrote."""
        for own, (blobs, prefix) in self._folders.items():
            folder = f"{blobs.root}/{own}"
            with contextlib.suppress(FileNotFoundError):
                for file in os.listdir(folder):  # noqa: PTH208 - names only
                    reads = file.startswith(READING + prefix)
                    if reads or _number(file, prefix) > self._told[own]:
                        with contextlib.suppress(FileNotFoundError):
                            os.unlink(f"{folder}/{file}")  # noqa: PTH108


def _number(file: str, prefix: str) -> int:
    """The number of one of a worker's files; 0 for any other."""
    number = file[len(prefix) :] if file.startswith(prefix) else ""
    return int(number) if number.isdecimal() else 0
