"""Commands that run a farm, or a part of one, in the foreground: up, coordinator, worker."""

import signal
import threading
from typing import TYPE_CHECKING, Annotated, Any

import typer

from farm.cli.exitcodes import Refused
from farm.cli.gateway import gateway_beside
from farm.cli.keys import token_file
from farm.cli.options import (
    BeatOption,
    GraceOption,
    HistoryTtlOption,
    ImportOption,
    InsecureOption,
    KillAfterOption,
    LabelOption,
    LeaseOption,
    ListenOption,
    LogFormatOption,
    LogLevelOption,
    MaxLentOption,
    MaxMemoryOption,
    MaxResultBytesOption,
    MaxTasksOption,
    ResourceOption,
    ResultTtlOption,
    SchedulesOption,
    SlotsOption,
    StoreOption,
    UnclaimedTtlOption,
)
from farm.cli.run import Run, command
from farm.cli.scheduler import scheduler_beside
from farm.cli.service_settings import (
    coordinator_keys,
    core_settings,
    host_settings,
    own_way,
    worker_flags,
)
from farm.cli.settings import store_address
from farm.errors import ConfigError, StoreError

if TYPE_CHECKING:
    from farm.config import Config
    from farm.local import LocalFarm

__all__: list[str] = []

PANEL = "Start"

HOST_LOOK_SECONDS = 0.05
HOST_LOOKS = 200
"""How often, and how many times, ``farm up`` looks whether its host is there."""

UP = """\
Try, in another terminal:  farm submit math:factorial 20
In Python:                 farm.Client().submit(function, argument).result()
Ctrl-C stops it; tasks that wait are kept."""


@command(
    "up",
    panel=PANEL,
    examples=["farm up", "farm up --slots 8 --listen tcp://127.0.0.1:9000", "farm up --json"],
)
def up(  # noqa: PLR0913 - one for each option
    run: Run,
    *,
    slots: SlotsOption = None,
    imports: ImportOption = None,
    gateway: Annotated[
        bool | None,
        typer.Option(
            help="Answer HTTP, too. Default: if it is installed and its port is free.",
            show_default=False,
        ),
    ] = None,
    http: Annotated[
        str | None,
        typer.Option(
            metavar="HOST:PORT",
            help="Where it answers HTTP. Default: 127.0.0.1:8080.",
            show_default=False,
        ),
    ] = None,
    grace: GraceOption = None,
    listen: ListenOption = None,
    store: StoreOption = None,
    insecure: InsecureOption = False,
    max_tasks: MaxTasksOption = None,
    max_memory: MaxMemoryOption = None,
    max_lent: MaxLentOption = None,
    resource: ResourceOption = None,
    label: LabelOption = None,
    kill_after: KillAfterOption = None,
    lease: LeaseOption = None,
    beat: BeatOption = None,
    unclaimed_ttl: UnclaimedTtlOption = None,
    result_ttl: ResultTtlOption = None,
    history_ttl: HistoryTtlOption = None,
    max_result_bytes: MaxResultBytesOption = None,
    schedules: SchedulesOption = None,
    log_format: LogFormatOption = None,
    log_level: LogLevelOption = None,
) -> None:
    """Run a whole farm on this machine; its tasks are on disk and survive a restart.

    Ctrl-C stops it when the running tasks have ended, a second one at once. With --json, one line
    says when it is ready.
    """
    config = run.config(
        coordinator_listen=listen,
        coordinator_store=store,
        coordinator_lease_seconds=lease,
        coordinator_beat_seconds=beat,
        coordinator_unclaimed_ttl=unclaimed_ttl,
        coordinator_result_ttl=result_ttl,
        coordinator_history_ttl=history_ttl,
        coordinator_max_result_bytes=max_result_bytes,
        host_slots=slots,
        host_modules=imports or None,
        gateway_listen=http,
        gateway_modules=imports or None,
        **worker_flags(max_tasks, max_memory, kill_after, grace, resource, label, max_lent),
        log_format=log_format,
        log_level=log_level,
    )
    _check_listen(config, insecure=insecure)
    beside, must = gateway_beside(run, config, gateway, insecure=insecure)
    _run_farm(run, config, insecure, beside, must=must, schedules=schedules)


def _run_farm(
    run: Run,
    config: "Config",
    insecure: bool,
    http: dict[str, Any] | None,
    *,
    must: bool,
    schedules: list[str] | None,
) -> None:
    """Start a whole farm, say where it is, and stop it when that is wanted.

    ``http`` are the settings of its gateway; ``must``: not without it. ``schedules`` are the
    files of its scheduler.
    """
    from farm.errors import ServiceFailed
    from farm.transport import AddressError

    path = store_address(config)
    stop = threading.Event()
    way = own_way(config, insecure=insecure)
    local = _local_farm(config, path, stop, insecure=insecure, http=http, way=way)
    _stop_on_signals(local, stop, run)
    try:
        local.start()
    except (AddressError, ServiceFailed) as error:
        raise Refused(str(error)) from error
    try:
        if local.http_error is not None:
            if isinstance(local.http_error, ConfigError):
                raise local.http_error
            if must:
                raise Refused(str(local.http_error))
            run.output.note(f"It does not answer HTTP: {local.http_error}")
        count = _slots(local.address, way, stop)
        said = f", its tasks in {path}" + (f", HTTP at {local.http}" if local.http else "")
        run.output.answer(
            {
                "address": local.address,
                "store": path,
                "slots": count,
                "pids": list(local.pids),
                "http": local.http,
            },
            f"The farm is up at {local.address} with {count} slots{said}.",
        )
        run.output.note(UP)
        with scheduler_beside(run, config, schedules, local.address, way):
            stop.wait()
    finally:
        local.stop(drain=local.failed is None)
    if isinstance(local.failed, StoreError):
        raise local.failed
    if local.failed is not None:
        raise Refused(str(local.failed)) from local.failed


def _local_farm(
    config: "Config",
    path: str,
    stop: threading.Event,
    *,
    insecure: bool,
    http: dict[str, Any] | None,
    way: dict[str, str],
) -> "LocalFarm":
    """The processes of a farm as configured, not started; ``stop`` is set if one is given up."""
    from farm.local import LocalFarm

    logs = {"log_format": config.log.format, "log_level": config.log.level}
    return LocalFarm(
        slots=config.host.slots or None,
        store=path,
        listen=config.coordinator.listen,
        name=config.host.name or "local",
        coordinator={
            **logs,
            "insecure": insecure,
            "keys": coordinator_keys(config, insecure=insecure),
            "core": core_settings(config, here=True),
        },
        host=host_settings(config) | way,
        gateway=None if http is None else logs | http | way,
        gateway_module="farm.cli.gateway_process",
        on_failed=lambda _: stop.set(),
    )


def _slots(address: str, way: dict[str, str], stop: threading.Event) -> int:
    """How many slots the farm has, once its host is connected; 0 if it takes too long."""
    import farm

    client = farm.Client(address, token=way["token"], keys=way["keys"])
    try:
        for _ in range(HOST_LOOKS):
            status: Any = client.query("status")
            if status["slots"] or stop.wait(HOST_LOOK_SECONDS):
                break
        return int(status["slots"])
    finally:
        client.shutdown(wait=False)


def _stop_on_signals(local: "LocalFarm", stop: threading.Event, run: Run) -> None:
    """SIGINT and SIGTERM drain the farm; a second one ends what runs."""

    def drain(_number: int, _frame: object) -> None:
        signal.signal(signal.SIGINT, at_once)
        signal.signal(signal.SIGTERM, at_once)
        run.output.note("Stopping when the running tasks have ended; Ctrl-C again stops them, too.")
        stop.set()

    def at_once(_number: int, _frame: object) -> None:
        # On another thread, for this one may hold the locks that it needs.
        threading.Thread(target=local.host.end, kwargs={"at_once": True}, daemon=True).start()

    signal.signal(signal.SIGINT, drain)
    signal.signal(signal.SIGTERM, drain)


@command(
    "coordinator",
    panel=PANEL,
    examples=[
        "farm coordinator",
        "farm coordinator --listen tcp://127.0.0.1:7070 --store /var/lib/farm/farm.db",
        "farm coordinator --listen ipc:///run/farm/farm.sock --store memory:",
    ],
)
def coordinator(  # noqa: PLR0913 - one for each option
    run: Run,
    *,
    listen: ListenOption = None,
    store: StoreOption = None,
    insecure: InsecureOption = False,
    lease: LeaseOption = None,
    beat: BeatOption = None,
    unclaimed_ttl: UnclaimedTtlOption = None,
    result_ttl: ResultTtlOption = None,
    history_ttl: HistoryTtlOption = None,
    max_result_bytes: MaxResultBytesOption = None,
    log_format: LogFormatOption = None,
    log_level: LogLevelOption = None,
) -> None:
    """Run a coordinator: it keeps the tasks and gives them to hosts. Ctrl-C stops it."""
    from farm.coordinator.service import serve
    from farm.coordinator.settings import CoordinatorSettings

    config = run.config(
        coordinator_listen=listen,
        coordinator_store=store,
        coordinator_lease_seconds=lease,
        coordinator_beat_seconds=beat,
        coordinator_unclaimed_ttl=unclaimed_ttl,
        coordinator_result_ttl=result_ttl,
        coordinator_history_ttl=history_ttl,
        coordinator_max_result_bytes=max_result_bytes,
        log_format=log_format,
        log_level=log_level,
    )
    _check_listen(config, insecure=insecure)
    settings = CoordinatorSettings(
        listen=config.coordinator.listen,
        store=store_address(config),
        insecure=insecure,
        keys=coordinator_keys(config, insecure=insecure),
        log_format=config.log.format,
        log_level=config.log.level,
        core=core_settings(config),
    )
    raise typer.Exit(serve(settings))


@command(
    "worker",
    panel=PANEL,
    examples=[
        "farm worker tcp://farm-host:7070",
        "farm worker tcp://farm-host:7070 --slots 8 --name north --preload numpy",
        "farm worker tcp://farm-host:7070 --resource gpu=2 --resource memory=32GB --label zone=a",
    ],
)
def worker(  # noqa: PLR0913 - one for each option
    run: Run,
    address: Annotated[
        str | None,
        typer.Argument(
            metavar="ADDRESS",
            help="The farm: the address that clients use. Default: FARM_ADDRESS, or farm.toml.",
            show_default=False,
        ),
    ] = None,
    *,
    slots: SlotsOption = None,
    name: Annotated[
        str | None,
        typer.Option(
            help="What the host is called. Default: the machine's name and the process id.",
            show_default=False,
        ),
    ] = None,
    preload: Annotated[
        list[str] | None,
        typer.Option(
            metavar="MODULE",
            help="Import it once, before the first worker starts; may be given again.",
            show_default=False,
        ),
    ] = None,
    imports: ImportOption = None,
    max_tasks: MaxTasksOption = None,
    max_memory: MaxMemoryOption = None,
    max_lent: MaxLentOption = None,
    resource: ResourceOption = None,
    label: LabelOption = None,
    kill_after: KillAfterOption = None,
    grace: GraceOption = None,
    log_format: LogFormatOption = None,
    log_level: LogLevelOption = None,
) -> None:
    """Run a host: it runs tasks on this machine. Ctrl-C stops it when its tasks have ended.

    Tasks find modules in the folder in which this command is given, then where this Python does.
    """
    from farm_workers.service import serve
    from farm_workers.settings import AgentSettings

    config = run.config(
        client_address=address,
        host_slots=slots,
        host_name=name,
        host_preload=preload or None,
        host_modules=imports or None,
        **worker_flags(max_tasks, max_memory, kill_after, grace, resource, label, max_lent),
        log_format=log_format,
        log_level=log_level,
    )
    settings = AgentSettings(
        address=config.address,
        token=token_file(config),
        keys=config.coordinator.keys,
        slots=config.host.slots or None,
        name=config.host.name,
        **host_settings(config),
    )
    raise typer.Exit(serve(settings))


def _check_listen(config: "Config", *, insecure: bool) -> None:
    """Refuse here what the coordinator would refuse, before anything is started."""
    from farm.coordinator.listening import Unsafe, check_safe
    from farm.transport import parse_address

    address = parse_address(config.coordinator.listen)
    try:
        check_safe(address, coordinator_keys(config, insecure=False), insecure=insecure)
    except Unsafe as error:
        raise Refused(str(error)) from None
