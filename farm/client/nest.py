"""What makes the client of a worker process: its tasks have parents, and nothing of it may wait.

A task that waits for room keeps the room that it waits for. So what a client would let wait, here
is told at once: ``submit`` raises ``Busy``, and a task that the coordinator has no room for after
all fails with it.
"""

from collections.abc import Callable

import msgspec

from farm.protocol.messages import Template

__all__ = ["Nest", "Parent"]

Parent = tuple[bytes, int, int]
"""A running task: session, counter, and how many tasks are above it."""


class Nest:
    """``current`` says which task this process is at, if any; from any thread."""

    def __init__(self, current: Callable[[], Parent | None]) -> None:
        self._current = current

    def template(self, own: Template | None) -> Template | None:
        """The options of tasks that are submitted now."""
        parent = self._current()
        if parent is None:
            return own
        session, counter, depth = parent
        own = own or Template()
        return msgspec.structs.replace(own, depth=depth + 1, parent=(session, counter))
