"""The end of a program that did not close its clients.

A farm that belongs to the program is waited for until its work is done; of a remote one, only that
it has accepted what was submitted. After a Ctrl-C nothing is waited for: what has not begun is
cancelled. A Ctrl-C while waiting is the first, and does the same; the next one stops at once.
At a prompt, what a Ctrl-C has ended is one of the things that were typed, and not the program.
"""

import atexit
import logging
import os
import signal
import sys
import threading
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable

    from farm.client.connection import Connection

__all__ = ["close", "watch"]

CALLBACK_SECONDS = 10.0
"""How long callbacks of finished tasks may take at the end."""
CANCEL_SECONDS = 2.0
"""How long the farm may take to hear what is cancelled."""
CLOSE_SECONDS = 10.0
"""How long a connection, with the processes of a local farm, may take to end."""

_log = logging.getLogger("farm.client")
_interrupted = False


# Those that have not ended, and whether their work is waited for; bounded by the clients made.
_watched: "dict[Connection, bool]" = {}


def watch(connection: "Connection", *, waits: bool) -> None:
    """See to it that a connection ends with the program; ``waits``: not before its work is done."""
    for one in [one for one in _watched if one.has_ended]:
        _watched.pop(one, None)
    _watched[connection] = waits


def close(connections: "Iterable[Connection]", *, cancel: bool) -> None:
    """End connections now; ``cancel`` first what has not begun."""
    live = [one for one in connections if not one.has_ended]
    replies = [one.cancels.all() for one in live] if cancel else []
    for reply in replies:
        try:
            reply.wait(CANCEL_SECONDS)
        except Exception as error:  # noqa: BLE001 - it ends anyway
            _log.debug("cancelling at the end failed: %s", error)
    for one in live:
        one.end(at_once=cancel)
    for one in live:
        one.join(CLOSE_SECONDS)


def _at_exit() -> None:
    """Called when the main thread has ended, before daemon threads are stopped."""
    global _interrupted  # noqa: PLW0603 - read once more, at the very end
    live = {one: waits for one, waits in _watched.items() if not one.forked}
    _watched.clear()
    if not live:
        return
    at_prompt = hasattr(sys, "ps1")
    cancel = not at_prompt and isinstance(getattr(sys, "last_value", None), KeyboardInterrupt)
    try:
        if not cancel:
            for one, waits in live.items():
                _finish(one, waits=waits)
    except KeyboardInterrupt:
        cancel = _interrupted = True
    try:
        close(live, cancel=cancel)
    except KeyboardInterrupt:
        _interrupted = True
        for one in live:
            one.end(at_once=True)


def _finish(connection: "Connection", *, waits: bool) -> None:
    """Wait as long as the program owes it."""
    if not waits:
        connection.wait_acknowledged()
        connection.callbacks.close(CALLBACK_SECONDS)
        return
    connection.wait_idle()
    # Callbacks may submit more.
    while connection.callbacks.close(CALLBACK_SECONDS) and not connection.wait_idle(0.0):
        connection.wait_idle()


def _die_as_interrupted() -> None:
    """The last thing to happen: a program ended by Ctrl-C says so to its shell."""
    if _interrupted:
        sys.stdout.flush()
        sys.stderr.flush()
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGINT)


def _register() -> None:
    atexit.register(_die_as_interrupted)
    # As concurrent.futures does: plain atexit comes after all other threads were joined, and one
    # of them may wait for a result.
    register: Any = getattr(threading, "_register_atexit", None) or atexit.register
    register(_at_exit)


_register()
