"""A worker's client of its own farm, for tasks that submit others and wait for them.

It is made when a task first asks for it, and stays for those that follow. What a task has submitted
is accepted by the coordinator before the task's own outcome is said.
"""

import threading
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from farm.model import deepest_wait
from farm_workers.channel import Setup, Waits
from farm_workers.host_slices import Slice
from farm_workers.outcomes import Outcomes
from farm_workers.soft_limit import SoftLimit

if TYPE_CHECKING:
    from farm.client.client import Client
    from farm.client.nest import Parent

__all__ = ["Nested"]

CONNECT_SECONDS = 30.0
"""How long the farm may take to answer; it is there, or was when it sent the task."""
CLOSE_SECONDS = 0.5
"""How long the last words of the client may take when the worker leaves."""


class Nested:
    """``words`` are those of the page, ``running`` is the slice that the worker is at, if any."""

    def __init__(
        self,
        setup: Setup,
        words: Sequence[int],
        running: Callable[[], Slice | None],
        outcomes: Outcomes,
        soft_limit: SoftLimit,
    ) -> None:
        self._setup = setup
        self._words = words
        self._running = running
        self._outcomes = outcomes
        self._soft_limit = soft_limit
        self._lock = threading.Lock()
        self._client: Client | None = None
        self._submitted = 0

    def _parent(self) -> "Parent | None":
        """The running task, as the parent of others."""
        part = self._running()
        if part is None:
            return None
        return part.session, part.first + self._words[0] - 1 - part.offset, part.depth

    def client(self) -> "Client":
        """The client; made anew if a task has shut it down."""
        # Only those who use it pay for loading it.
        from farm.client import waits  # noqa: PLC0415
        from farm.client.client import Client  # noqa: PLC0415
        from farm.client.nest import Nest  # noqa: PLC0415

        self._outcomes.held = True
        with self._lock:
            client = self._client
            if client is None or client.connection.is_shut:
                client = Client(
                    self._setup.address,
                    connect_timeout=CONNECT_SECONDS,
                    token=self._setup.token or None,
                    keys=self._setup.keys,
                    nest=Nest(self._parent),
                )
                waits.listen(self._waits)
                self._client, self._submitted = client, client.connection.submitted
            return client

    def _waits(self, begins: bool) -> None:
        """The task begins to wait for others, or goes on."""
        parent = self._parent()
        if parent is None:
            return
        most = self._setup.max_lent
        if begins and parent[2] >= deepest_wait(most):
            raise RecursionError(
                f"this task has {parent[2]} others above it that may wait, and would wait, too: "
                f"host {self._setup.host} lends {most} slots at most (max_lent)"
            )
        with self._soft_limit.put_off():
            if begins:  # what ended here before it may be what is waited for
                self._outcomes.flush()
            self._outcomes.say(Waits(self._words[0] - 1, begins))

    def settle(self) -> None:
        """A task has ended: return when all that it submitted is accepted, or refused."""
        client = self._client
        if client is None or not self._outcomes.held:
            self._outcomes.held = False  # there is none, if the farm did not answer
            return
        from farm.client import waits  # noqa: PLC0415 -- it is there

        waits.reset()
        connection = client.connection
        connection.seal_named()
        if connection.submitted != self._submitted:
            self._submitted = connection.submitted
            connection.wait_acknowledged()
        self._outcomes.held = False

    def close(self) -> None:
        """The worker ends; what was submitted goes on."""
        if self._client is not None:
            self._client.connection.end()
            self._client.connection.join(CLOSE_SECONDS)
