"""Uploaded modules in a worker.

A worker has the modules of one upload at a time. Once it has imported any of them it is replaced
before it runs a task of another upload, or of none: what Python has imported stays imported. It
lets go of an upload that nobody has needed for a while, and its folder with it.
"""

import contextlib
import importlib
import os
import shutil
import sys
from collections import OrderedDict
from pathlib import Path

from farm.errors import PayloadError
from farm.payload import SourceIsStale
from farm.uploads import forget, is_of_user, set_current, split, unpack
from farm_workers.channel import FunctionData, Pipe, ToWorker
from farm_workers.host_slots import FUNCTIONS_PER_WORKER

__all__ = ["Uploads"]

IDLE_SECONDS = 10.0
"""How long a worker keeps an upload for tasks that may still come."""


class Uploads:
    """The upload that a worker has, if any. ``folder`` is this worker's place for them."""

    def __init__(self, folder: str) -> None:
        self._folder = Path(folder) if folder else None
        self._at: Path | None = None  # where the current one is
        self._digest: bytes | None = None
        self._number = 0
        self._used = False  # functions were opened here
        # The upload of each function that has one, of the last that were used: the worker keeps
        # no others.
        self._of: OrderedDict[bytes, bytes] = OrderedDict()
        if self._folder is not None and self._folder.exists():  # of a worker that was killed
            shutil.rmtree(self._folder, ignore_errors=True)

    def enter(self, function: bytes, known: object, *, fresh: bool) -> None:
        """Have the modules of a function, which is about to be opened or called, and no others.

        Raises ``SourceIsStale`` if that takes another process, ``PayloadError`` if it is
        impossible. ``fresh``: no code of users has run here but imports.
        """
        used, self._used = self._used, True
        carried = split(known.data)[0] if isinstance(known, FunctionData) else None
        if carried is not None:
            self._of[function] = carried.digest
        if function in self._of:
            self._of.move_to_end(function)
            while len(self._of) > FUNCTIONS_PER_WORKER:
                self._of.popitem(last=False)
        wanted = self._of.get(function)
        if wanted == self._digest:
            return
        if not self.leave():
            raise SourceIsStale("the modules of another upload")
        if wanted is None:
            return
        if carried is None or self._folder is None:
            if self._folder is None:
                raise PayloadError("this host has no folder for uploads: see its log")
            raise SourceIsStale("the upload was let go of")
        self._number += 1
        self._at, self._digest = self._folder / str(self._number), wanted
        try:
            self._make_way(unpack(carried, self._at), fresh=fresh, used=used)
        except BaseException:
            self._remove()
            raise
        sys.path.insert(0, str(self._at))
        importlib.invalidate_caches()
        set_current(carried)

    def _make_way(self, names: set[str], *, fresh: bool, used: bool) -> None:
        """Nothing of the same name may be imported already."""
        for name in sorted(names & sys.modules.keys()):
            if not is_of_user(name):
                raise PayloadError(
                    f"the upload has a module {name!r}, and so has this host, among what is"
                    " installed there and in use; rename it, or leave it out with exclude=[...]"
                )
            if used:
                raise SourceIsStale(name)
            if not fresh:
                raise PayloadError(
                    f"the upload has a module {name!r}, which the initializer of this host has"
                    " imported from elsewhere"
                )
            forget(name)

    def leave(self) -> bool:
        """Let go of the upload, if there is one; False if something of it is imported."""
        if self._at is None:
            return True
        below = f"{self._at}{os.sep}"
        if any(_is_below(module, below) for module in [*sys.modules.values()]):
            return False
        self._remove()
        return True

    def next(self, pipe: Pipe) -> ToWorker | None:
        """The next message; None if this process is to make room for another first."""
        if self._at is not None and pipe.idle(IDLE_SECONDS) and not self.leave():
            return None
        return pipe.get()

    def close(self) -> None:
        """The worker ends."""
        self._remove()
        if self._folder is not None:
            with contextlib.suppress(OSError):
                self._folder.rmdir()

    def _remove(self) -> None:
        at, self._at, self._digest = self._at, None, None
        if at is None:
            return
        with contextlib.suppress(ValueError):
            sys.path.remove(str(at))
        sys.path_importer_cache.pop(str(at), None)
        set_current(None)
        shutil.rmtree(at, ignore_errors=True)


def _is_below(module: object, below: str) -> bool:
    file = getattr(module, "__file__", None)
    if isinstance(file, str):
        return file.startswith(below)
    try:
        return any(str(one).startswith(below) for one in getattr(module, "__path__", ()))
    except Exception:  # noqa: BLE001 - what users put into sys.modules
        return False
