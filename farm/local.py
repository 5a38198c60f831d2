"""A whole farm on this machine, as child processes of this one.

Promises: it consists of the same processes as any other farm, a coordinator and a host, on
sockets that only this user can reach. Either is started again when it dies; both end with this
process, however it ends, and leave no process and no temporary file behind.
"""

import contextlib
import os
import shutil
import sys
import tempfile
import threading
import weakref
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from farm import errors
from farm.errors import ConfigError, FarmError, ServiceFailed
from farm.model import Duration, byte_count, seconds
from farm.resources import check_resources, label_table
from farm.supervisor import Service
from farm.transport import AddressError, parse_address

if TYPE_CHECKING:
    from farm.client.client import Client

__all__ = ["LocalFarm", "local"]

STORE_NAME = "farm.db"
CONNECT_SECONDS = 30.0
"""How long a coordinator that serves may take to answer its client."""


def local(  # noqa: PLR0913 - one for each setting
    workers: int | None = None,
    *,
    max_workers: int | None = None,
    directory: str | os.PathLike[str] | None = None,
    initializer: Callable[..., object] | None = None,
    initargs: Sequence[Any] = (),
    preload: Sequence[str] = (),
    imports: Sequence[str] = (),
    max_tasks_per_worker: int = 0,
    max_memory_per_worker: int | str = 0,
    max_lent: int = 0,
    resources: Mapping[str, float | str] | None = None,
    labels: Sequence[str] = (),
    kill_after: Duration = 3.0,
) -> "Client":
    """Start a farm on this machine and return its client; it ends with the client.

    ``workers`` (or ``max_workers``) run tasks at a time, by default one for each CPU that this
    process may use; more than there are is fine. ``initializer(*initargs)`` runs in each worker
    before its first task, and modules in ``preload`` are imported once for all of them, those in
    ``imports``, which register functions, in each. Workers see
    this process's ``sys.path`` and environment. A worker is replaced after ``max_tasks_per_worker``
    tasks, or when it has come to ``max_memory_per_worker`` (bytes, or ``"512MB"``); 0 means never.
    One that is over a limit has ``kill_after`` to end before it is killed. While tasks wait for
    others that they have submitted, ``max_lent`` more may run in their place; 0 means four for each
    worker, 64 at least. ``resources`` is what
    there is for tasks that need it, such as ``{"gpu": 2, "licence": 1}``, beside the memory and the
    GPUs that are found, and ``labels`` what they may ask for.

    The journal is kept in memory, and gone at the end; with ``directory`` it is kept there, on
    disk, and a farm that is opened in that directory again goes on where it stopped. Raises
    ``ValueError`` for a wrong number of workers, ``PayloadError`` for an initializer that cannot
    travel, ``StoreLocked`` if another farm is open in the directory and ``StoreError`` for all else
    that is wrong with it, ``ServiceFailed`` if a process does not start for another reason.
    """
    if initializer is not None and not callable(initializer):
        raise TypeError("initializer must be a callable")
    slots = checked_workers(workers, max_workers)
    host = {
        **host_settings(initializer, initargs),
        "preload": list(preload),
        "imports": list(imports),
        "max_tasks_per_worker": checked_count(max_tasks_per_worker, "max_tasks_per_worker"),
        "max_memory_per_worker": byte_count(max_memory_per_worker, "max_memory_per_worker"),
        "max_lent": checked_count(max_lent, "max_lent") or None,
        "kill_seconds": seconds(kill_after, "kill_after"),
        "resources": check_resources(resources or {}, "resources", of_host=True),
        "labels": label_table(labels, "labels"),
    }
    core = {"resources": list(host["resources"])}
    clients: list[weakref.ref[Client]] = []

    def fail(error: FarmError) -> None:
        for client in filter(None, (one() for one in clients)):
            client.connection.give_up(error)

    farm = LocalFarm(
        slots=slots,
        store=store_in(directory),
        coordinator={"core": core} if resources else None,
        host=host,
        on_failed=fail,
    )
    try:
        client = _open(farm)
    except BaseException:
        farm.stop()
        raise
    clients.append(weakref.ref(client))
    if farm.failed is not None:  # before there was a client to be told
        fail(farm.failed)
    return client


def _open(farm: "LocalFarm") -> "Client":
    """Start it; its client is loaded while its processes load what they need."""
    farm.launch()
    from farm.client.client import Client  # noqa: PLC0415 - see above

    farm.wait()
    return Client(farm.address, connect_timeout=CONNECT_SECONDS, supervisor=farm)


class LocalFarm:
    """A coordinator and a host as children of this process.

    ``address`` is where clients connect: an ipc socket in a temporary folder unless ``listen``
    says otherwise. ``store`` is ``memory:`` or a path. ``slots`` None means one for each CPU that
    this process may use. ``coordinator`` and ``host`` are further settings of the two, as in
    ``CoordinatorSettings`` and ``AgentSettings``. ``on_failed`` is called, on another thread, with
    the error when a service fails again and again and is given up; ``failed`` is it, too.
    ``gateway`` are the settings of one, as in ``GatewaySettings``, if there is to be one: then
    ``http`` is its URL, or ``http_error`` why it does not serve, which the farm survives;
    ``gateway_module`` is run for it.
    """

    def __init__(  # noqa: PLR0913 - one for each process, and what they share
        self,
        *,
        slots: int | None = None,
        store: str = "memory:",
        listen: str = "",
        name: str = "local",
        coordinator: Mapping[str, Any] | None = None,
        host: Mapping[str, Any] | None = None,
        gateway: Mapping[str, Any] | None = None,
        gateway_module: str = "farm.gateway",
        on_failed: Callable[[FarmError], None] | None = None,
    ) -> None:
        self.failed: FarmError | None = None
        self.http = ""
        self.http_error: FarmError | None = None
        self._pid = os.getpid()
        self._lock = threading.Lock()
        self._stopped = False
        self._on_failed = on_failed
        self._epoch_floor = 0
        self._slots = slots
        self._store = store
        self._name = name
        self._coordinator_settings = coordinator or {}
        self._host_settings = host or {}
        self._gateway_settings = gateway or {}
        if listen:
            parse_address(listen)
        self._folder = _short_folder()
        self.address = listen or f"ipc://{self._folder}/farm"
        flags = _interpreter_flags()
        self.coordinator = Service(
            "coordinator",
            "farm.coordinator",
            self._folder,
            self._launch_coordinator,
            says_ready=True,
            on_ready=self._coordinator_ready,
            on_failed=self._give_up,
        )
        self.host = Service(
            "host",
            "farm_workers",
            self._folder,
            self._launch_host,
            flags=flags,
            on_failed=self._give_up,
        )

        self._gateway = gateway is not None and Service(
            "gateway",
            gateway_module,
            self._folder,
            self._launch_gateway,
            says_ready=True,
            on_ready=self._gateway_ready,
            on_failed=self._gateway_failed,
        )

    @property
    def pids(self) -> tuple[int, int]:
        """The process ids of the coordinator and the host."""
        return self.coordinator.pid, self.host.pid

    def start(self) -> None:
        """Start both, and return when the coordinator serves; ``launch`` and ``wait`` in one."""
        self.launch()
        self.wait()

    def launch(self) -> None:
        """Start their processes, and return."""
        self.coordinator.start()
        self.host.start()
        if self._gateway:
            self._gateway.start()

    def wait(self) -> None:
        """Return when the coordinator serves.

        Raises the error with which it refuses, such as ``StoreLocked``; nothing is left behind.
        """
        try:
            self.coordinator.wait()
            self.host.wait()
        except ServiceFailed as failed:
            self.stop()
            raise _as_documented(failed) from None
        except BaseException:
            self.stop()
            raise
        if self._gateway:
            try:
                self._gateway.wait()
            except ServiceFailed as failed:
                self._gateway_failed(failed)

    def stop(self, *, drain: bool = False) -> None:
        """End both processes and remove the temporary folder; idempotent.

        What the host runs is ended at once, or, with ``drain``, may end by itself. Committed work
        stays in a durable store. In a process forked from the one that started it: does nothing.
        """
        if os.getpid() != self._pid:
            return
        with self._lock:
            if self._stopped:
                return
            self._stopped = True
        try:
            if self._gateway:
                self._gateway.end(at_once=False)
                self._gateway.join()
            self.host.end(at_once=not drain)
            if drain:
                self.host.join(None)
            self.coordinator.end(at_once=False)
            self.coordinator.join()
            self.host.join()
        finally:
            shutil.rmtree(self._folder, ignore_errors=True)

    def note_epoch(self, epoch: int) -> None:
        """An epoch that a client has seen: a coordinator that is started again begins above it."""
        self._epoch_floor = max(self._epoch_floor, epoch + 1)

    # ------------------------------------------------------------ on the services' threads

    def _launch_coordinator(self, parent_fd: int, ready_fd: int | None) -> dict[str, Any]:
        return {
            "listen": self.address,
            "store": self._store,
            "epoch_floor": self._epoch_floor,
            "parent_fd": parent_fd,
            "parent_pid": self._pid,
            "ready_fd": ready_fd,
            "remove": str(self._folder),
            "blob_folder": f"{self._folder}/blobs" if self._store == "memory:" else "",
            "log_level": "error",
            **self._coordinator_settings,
        }

    def _launch_host(self, parent_fd: int, _ready_fd: int | None) -> dict[str, Any]:
        return {
            "address": self.address,
            "slots": self._slots,
            "name": self._name,
            "uploads": str(self._folder),  # no other host may come that removes what it leaves
            "parent_fd": parent_fd,
            "parent_pid": self._pid,
            "log_level": "error",
            **self._host_settings,
        }

    def _launch_gateway(self, parent_fd: int, ready_fd: int | None) -> dict[str, Any]:
        return {
            "address": self.address,
            "parent_fd": parent_fd,
            "parent_pid": self._pid,
            "ready_fd": ready_fd,
            "log_level": "error",
            **self._gateway_settings,
        }

    def _gateway_ready(self, word: Mapping[str, Any]) -> None:
        self.http = str(word["url"])

    def _gateway_failed(self, error: ServiceFailed) -> None:
        self.http, self.http_error = "", _as_documented(error)

    def _coordinator_ready(self, word: Mapping[str, Any]) -> None:
        # A coordinator that keeps its journal in memory must not begin at an epoch used before.
        self.note_epoch(int(word["epoch"]))

    def _give_up(self, error: ServiceFailed) -> None:
        self.failed = self.failed or _as_documented(error)
        if self._on_failed is not None:
            self._on_failed(self.failed)


def _as_documented(failed: ServiceFailed) -> FarmError:
    """The error that a service says it ended with, if users know that; else the failure itself."""
    named = {name: getattr(errors, name) for name in errors.__all__} | {
        "AddressError": AddressError
    }
    kind = named.get(failed.kind)
    return failed if kind is None else kind(str(failed))


def host_settings(
    initializer: Callable[..., object] | None, initargs: Sequence[Any]
) -> dict[str, Any]:
    """What makes a host's workers see what this process sees: its path, and an initializer.

    Raises ``PayloadError`` for an initializer or arguments that cannot travel.
    """
    settings: dict[str, Any] = {
        # The current folder may be another one by the time a worker looks.
        "sys_path": list(dict.fromkeys(str(Path(one or ".").absolute()) for one in sys.path))
    }
    if initializer is not None:
        from farm.payload import dump_call, dump_function  # noqa: PLC0415 - most have none

        function = dump_function(initializer).data
        settings["initializer"] = dump_call((function, dump_call(tuple(initargs), {})), {})
    return settings


def checked_workers(workers: int | None, max_workers: int | None) -> int | None:
    """The number of slots asked for, if one was; raises ``ValueError`` as executors do."""
    if workers is not None and max_workers is not None and workers != max_workers:
        raise ValueError(f"workers is {workers} and max_workers {max_workers}; say one of them")
    wanted = max_workers if workers is None else workers
    if wanted is None:
        return None
    if isinstance(wanted, bool) or not isinstance(wanted, int):
        raise TypeError(f"workers is {wanted!r}; it must be a whole number")
    if wanted < 1:
        raise ValueError("max_workers must be greater than 0")
    return wanted


def checked_count(value: int, what: str) -> int:
    """A number of 0 or more; raises ``ConfigError``."""
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise ConfigError(f"{what} is {value!r}; it must be a whole number of 0 or more")
    return value


def store_in(directory: str | os.PathLike[str] | None) -> str:
    """The store of a farm that lives in a directory, which is made; in memory without one."""
    if directory is None:
        return "memory:"
    folder = Path(directory).expanduser().absolute()
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"directory={str(directory)!r} cannot be made: {error}") from None
    return str(folder / STORE_NAME)


def _short_folder() -> Path:
    """A folder for sockets and settings that only this user can enter, with a short path."""
    places = [None, "/tmp"]  # noqa: S108 - mkdtemp makes a folder of its own there
    for place in places:
        folder = Path(tempfile.mkdtemp(prefix="farm-", dir=place))
        with contextlib.suppress(AddressError):
            parse_address(f"ipc://{folder}/farm")
            return folder
        folder.rmdir()
    raise ConfigError(f"the path of {tempfile.gettempdir()} is too long for a socket; set TMPDIR")


def _interpreter_flags() -> tuple[str, ...]:
    """The flags of this interpreter that tasks should run under, too."""
    flags = ["-" + "O" * sys.flags.optimize] if sys.flags.optimize else []
    return (*flags, *(["-B"] if sys.flags.dont_write_bytecode else []))
