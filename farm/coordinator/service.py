"""A whole coordinator, put together: sockets, store, core, journal, loop.

Promises: it listens where it was told or says why not, in that order: nothing is written before
the addresses are its own, and nobody is answered before the new epoch is committed and the journal
loaded. What went wrong is one logged line, one ``Word`` to whoever started it, and an exit code.
"""

import contextlib
import gc
import logging
import os
import random
import shutil
import signal
import sys
import time
from pathlib import Path

import msgspec
import zmq

from farm import errors
from farm._version import __version__
from farm.coordinator.blobs import BlobFolder, temporary_folder
from farm.coordinator.journal import Journal
from farm.coordinator.listening import Unsafe, listen
from farm.coordinator.loop import Loop, ShellPort
from farm.coordinator.metrics import Counters
from farm.coordinator.settings import CoordinatorSettings, ExitCode, Word
from farm.core import Core, CoreSettings
from farm.core.blobs import live_blobs
from farm.descriptors import FILES_WANTED, raise_file_limit
from farm.errors import FarmError, StoreError, StoreUnreadable
from farm.logs import setup
from farm.parent import watch_parent
from farm.store import Opened, Store, open_store
from farm.transport import AddressError, Waker

__all__ = ["serve"]

logger = logging.getLogger("farm.coordinator")

SWITCH_SECONDS = 0.0005
"""How long the loop may wait for the journal thread to let go of the interpreter. The default,
5 ms, is ten times what a task takes from submission to result."""


BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


def serve(settings: CoordinatorSettings) -> ExitCode:
    """Run a coordinator until it is told to stop or cannot go on."""
    setup(settings.log_format, settings.log_level)
    sys.setswitchinterval(SWITCH_SECONDS)
    folder = settings.remove
    watch_parent(lambda: _end_with_parent(folder), settings.parent_fd, settings.parent_pid)
    while True:
        code, heard = _serve_once(settings)
        if not heard:
            return code
        logger.warning("the coordinator starts again, above epoch %d", heard)
        # Whoever started it has been told that it serves, and that pipe is closed.
        settings = msgspec.structs.replace(settings, epoch_floor=heard + 1, ready_fd=None)


def _serve_once(settings: CoordinatorSettings) -> tuple[ExitCode, int]:
    """One life of a coordinator: how it ended, and the later epoch that it heard of, or 0."""
    try:
        return _serve(settings)
    except FarmError as error:
        logger.error("the coordinator cannot serve: %s", error)  # noqa: TRY400
        _say(settings, Word(error=_documented(error), message=str(error)))
        if isinstance(error, StoreError):
            return ExitCode.STORE, 0
        refused = isinstance(error, AddressError | Unsafe)
        return (ExitCode.REFUSED if refused else ExitCode.CONFIG), 0
    except Exception as error:
        logger.exception("the coordinator cannot serve")
        _say(settings, Word(error=type(error).__name__, message=repr(error)))
        return ExitCode.BUG, 0


def _documented(error: FarmError) -> str:
    """The name by which users know an error: that of the nearest class that they can catch."""
    known = {*errors.__all__, AddressError.__name__}
    return next(cls.__name__ for cls in type(error).__mro__ if cls.__name__ in known)


def _serve(settings: CoordinatorSettings) -> tuple[ExitCode, int]:
    core_settings = settings.core_settings()
    if (limit := raise_file_limit()) < FILES_WANTED:
        logger.warning("only %d files may be open, and each connection is one; ulimit -n", limit)
    with contextlib.ExitStack() as cleanup:
        context = zmq.Context()
        cleanup.callback(context.destroy, linger=0)
        waker = Waker()
        gate, routers = listen(settings, context, core_settings.session_tasks, waker, cleanup)
        store = open_store(settings.store)
        cleanup.callback(store.close)
        opened = store.open(settings.epoch_floor, time.time_ns() // 1_000_000)
        blobs = _open_blobs(settings, store, opened.epoch, cleanup)
        journal = Journal(store, waker.wake, blobs)
        counters = Counters(
            routers,
            gate.guard if gate else None,
            insecure=gate is None and not settings.listen.startswith("ipc:"),
        )
        port = ShellPort(routers, journal, counters, blobs)
        core = _load(core_settings, port, store, settings.store, opened)
        if blobs is not None:
            blobs.clean(live_blobs(core.ledger, core.dead))
        loop = Loop(core, port, journal, waker, routers, counters, blobs, gate=gate)
        _stop_on_signals(loop)
        if gate is not None:
            signal.signal(signal.SIGHUP, lambda *_: gate.guard.look())
        logger.info(
            "serving at %s",
            settings.listen,
            extra={"epoch": opened.epoch, "store": settings.store, "version": __version__},
        )
        _say(settings, Word(epoch=opened.epoch))
        code = loop.run()
        if port.epoch_heard:  # the next to start begins above it
            journal.close()
            store.note_epoch(port.epoch_heard)
        logger.info("the coordinator ends", extra={"epoch": opened.epoch, "code": int(code)})
        return code, port.epoch_heard


def _open_blobs(
    settings: CoordinatorSettings, store: Store, epoch: int, cleanup: contextlib.ExitStack
) -> BlobFolder | None:
    """The blob folder: where it is told, beside the store, or in a temporary one."""
    if settings.blob_folder:
        root = Path(settings.blob_folder)
    elif store.durable:
        from farm.store.files import actual  # noqa: PLC0415 - not for a store in memory

        path = actual(Path(settings.store).expanduser())
        root = path.with_name(f"{path.name}-blobs")
    else:
        root, lock = temporary_folder()
        cleanup.callback(os.close, lock)
        cleanup.callback(shutil.rmtree, root, ignore_errors=True)
    blobs = BlobFolder.open(root, epoch, durable=store.durable)
    if blobs is not None:
        cleanup.callback(blobs.close)
    return blobs


def _load(settings: CoreSettings, port: ShellPort, store: Store, path: str, opened: Opened) -> Core:
    """The core with everything that is stored, started."""
    began = time.monotonic()
    core = Core(
        settings,
        port,
        epoch=opened.epoch,
        store=opened.store_id,
        durable=store.durable,
        chance=random.random,
        commit=opened.commit,
    )
    for digest, name, data in store.functions():
        core.restore_function(digest, name, data)
    records = 0
    for ref, record in store.records(light=True):
        core.restore(ref, record)
        records += 1
    try:
        core.start(time.monotonic(), time.time(), _boot())
    except Exception as error:
        # Every record can be read, and together they make no sense: a bit has changed, or more.
        logger.debug("where it was raised", exc_info=True)
        raise StoreUnreadable(
            f"the store {path} is damaged: its records contradict each other ({error!r}); restore "
            "it from a backup, or move it away to begin with an empty store"
        ) from error
    # What was loaded stays for long; the collector need not look at it again and again.
    gc.collect()
    gc.freeze()
    if records:
        took = time.monotonic() - began
        logger.info("the journal is loaded", extra={"records": records, "seconds": round(took, 3)})
    return core


def _boot() -> str:
    """What names this life of the machine; empty where that cannot be known."""
    try:
        return BOOT_ID.read_text("ascii").strip()
    except OSError:
        return ""


def _stop_on_signals(loop: Loop) -> None:
    """SIGTERM and SIGINT stop it in order; a second one at once."""

    def at_once(number: int, _frame: object) -> None:
        os._exit(128 + number)

    def in_order(_number: int, _frame: object) -> None:
        signal.signal(signal.SIGTERM, at_once)
        signal.signal(signal.SIGINT, at_once)
        loop.stop()

    signal.signal(signal.SIGTERM, in_order)
    signal.signal(signal.SIGINT, in_order)


def _end_with_parent(folder: str) -> None:
    """Whatever was acknowledged is committed: the process can end at any moment."""
    if folder:
        shutil.rmtree(folder, ignore_errors=True)
    os._exit(ExitCode.OK)


def _say(settings: CoordinatorSettings, word: Word) -> None:
    """Tell whoever started this process; that it listens no more is its own affair."""
    if settings.ready_fd is not None:
        with contextlib.suppress(OSError), open(settings.ready_fd, "wb") as ready:  # noqa: PTH123
            ready.write(msgspec.json.encode(word) + b"\n")
