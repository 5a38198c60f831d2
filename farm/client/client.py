"""The client of a farm: an executor of ``concurrent.futures`` whose workers are elsewhere."""

import sys
import weakref
from concurrent.futures import Executor
from types import TracebackType
from typing import Any, Protocol, Self

from farm.client import exit as at_exit
from farm.client.connection import Connection
from farm.client.flow import USUAL, Flow
from farm.client.future import Future
from farm.client.job import Job
from farm.client.nest import Nest
from farm.client.options import Settings
from farm.client.questions import text_of
from farm.client.view import View
from farm.model import Answer, Duration, TaskId, seconds
from farm.task import current_task
from farm.transport import Credentials, token_said

__all__ = ["Client", "Supervisor"]

ANSWER_SECONDS = 30.0
"""How long the farm may take to answer a question."""


class Supervisor(Protocol):
    """Keeps the processes of a farm that belongs to one client."""

    def stop(self) -> None:
        """End all its processes at once; called when the client is done, on its IO thread."""

    def note_epoch(self, epoch: int) -> None:
        """A coordinator of this epoch serves: the next one must begin above it."""


class Client(View, Executor):
    """A connection to a farm, and an executor: ``submit``, ``map``, ``shutdown`` as in the library.

    ``address`` is ``tcp://HOST:PORT`` or ``ipc:///PATH``; without it, ``FARM_ADDRESS``, a
    ``farm.toml`` or the token says where. ``token`` is a token, or the path of a file with one;
    without it, ``FARM_TOKEN`` or ``FARM_TOKEN_FILE`` says which, and a farm of the same user on
    this machine needs none. Raises ``ConnectionError`` if no farm answers there within
    ``connect_timeout``, or at once if it is no address; a connection that is lost later is opened
    again, and nothing is lost. Closing a client cancels nothing; any client may fetch the results
    of another's tasks by id or by the name of their job.

    May be used from any thread, but not in a process that was forked from its own. ``supervisor``
    is for farms that end with their client, and are waited for when the program ends; ``nest`` for
    the client of a worker's tasks, which they get from ``farm.current_client()``; ``keys`` is the
    folder with the keys of this user's own farm; ``flow`` bounds what may be on the way, and only
    tests need another than the default.
    """

    def __init__(
        self,
        address: str | None = None,
        *,
        connect_timeout: Duration | None = None,
        token: str | None = None,
        keys: str | None = None,
        supervisor: Supervisor | None = None,
        nest: Nest | None = None,
        flow: Flow = USUAL,
    ) -> None:
        file, private = "", address is not None and address.startswith("ipc:")
        if address is None or connect_timeout is None or (keys is None and not private):
            flags = {"client.address": address or None, "client.connect_timeout": connect_timeout}
            from farm import config  # noqa: PLC0415 - local farms have said all

            found = config.load(flags)
            address, timeout = found.address, found.client.connect_timeout
            file, keys = found.client.token_file, keys or found.coordinator.keys
        else:
            timeout = seconds(connect_timeout, "connect_timeout")
        connection = Connection(
            Credentials(
                "client" if nest is None else "tasks",
                address,
                token_said(token, file),
                keys=keys or "",
            ),
            f"{sys.version_info.major}.{sys.version_info.minor}",
            may_block=_may_block,
            on_epoch=supervisor.note_epoch if supervisor else None,
            on_ended=supervisor.stop if supervisor else None,
            nest=nest,
            flow=flow,
        )
        super().__init__(connection, Settings(), None)
        self._is_local = supervisor is not None
        self._open(connection, str(connection.address), timeout)
        # One that is forgotten finishes what it has, and closes itself.
        weakref.finalize(self, connection.leave).atexit = False
        at_exit.watch(connection, waits=self._is_local)

    @staticmethod
    def _open(connection: Connection, address: str, timeout: float) -> None:
        try:
            opened = connection.wait_opened(timeout)
            if opened and connection.error is None:
                return
        except BaseException:
            connection.end()
            raise
        trouble = connection.trouble or "nothing answers there"
        connection.end()
        if connection.error is not None:
            raise ConnectionError(f"{address}: {connection.error}")
        remedy = "start one with `farm up`, or set FARM_ADDRESS to where it is"
        said = trouble if "token" in trouble.lower() else f"{trouble}; {remedy}"
        raise ConnectionError(f"no farm answered at {address} within {timeout:g} s: {said}")

    def __repr__(self) -> str:
        return f"<Client of {self.address}>"

    @property
    def address(self) -> str:
        """Where the farm is."""
        return str(self._connection.address)

    @property
    def connection(self) -> Connection:
        """What carries it; for tools, and for supervisors of local farms."""
        return self._connection

    def future(self, task: str | TaskId) -> Future[Any]:
        """A future for any task of the farm, by id; reading its result consumes nothing.

        Raises ``ValueError`` if it is no task's id. A task that the farm does not know makes the
        future fail with ``UnknownTask``.
        """
        return self._connection.attach_task(TaskId.parse(str(task)))

    def job(self, id_or_name: str) -> Job[Any]:
        """A job of any client, by id or name; of several of a name, the newest.

        Raises ``UnknownTask`` if there is none.
        """
        wanted = text_of("the job's id or name", id_or_name)
        found = self._connection.attach_job(wanted, ANSWER_SECONDS)
        return Job(found.id, found.name, found, self._connection.cancels.job)

    def query(self, what: str, /, **arguments: Answer) -> Answer:
        """What the farm says about itself, as plain data: ``status``, ``hosts``, ``jobs``.

        Raises ``FarmError`` if it does not understand the question, ``TypeError`` for arguments
        that are no plain data.
        """
        answer: Answer = self._connection.query(what, arguments, ANSWER_SECONDS)
        return answer

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Take no more tasks, and close when those submitted are over; waits for it if ``wait``.

        A ``map`` whose results are still being taken goes on. With ``cancel_futures``, tasks that
        no worker has begun are cancelled. A farm that belongs to this client ends with it.
        """
        connection = self._connection
        if connection.forked:
            return
        if not connection.has_ended:
            connection.shut()
            if cancel_futures:
                connection.cancels.all()
            connection.leave()
        if wait and not connection.is_current_thread():
            connection.wait_idle()
            if connection.has_ended or not connection.has_maps:
                connection.join()  # with it, a farm of its own has ended
            connection.callbacks.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        interrupted = kind is not None and issubclass(kind, KeyboardInterrupt)
        if interrupted and not self._connection.forked:
            # Whoever presses Ctrl-C does not want to wait for the rest.
            self.shutdown(wait=False, cancel_futures=True)
            at_exit.close([self._connection], cancel=True)
        else:
            self.shutdown(wait=True)


def _may_block() -> bool:
    """Whether this thread may wait for room: in a task, its slot may be what is waited for."""
    try:
        current_task()
    except RuntimeError:
        return True
    return False
