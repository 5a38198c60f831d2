"""The command that runs a scheduler, and what ``farm up`` needs to run one."""

import os
import signal
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from farm.cli.exitcodes import Refused
from farm.cli.gateway import module_path
from farm.cli.keys import token_file
from farm.cli.options import LogFormatOption, LogLevelOption
from farm.cli.run import AddressOption, Run, command
from farm.cli.schedules_words import FilesArgument
from farm.cli.settings import scheduler_state

if TYPE_CHECKING:
    from farm.config import Config
    from farm_scheduler.settings import SchedulerSettings

__all__ = ["scheduler_beside"]

MISSING = "the scheduler is not installed: pip install 'compute-farm[scheduler]'"


@command(
    "scheduler",
    panel="Start",
    examples=["farm scheduler", "farm scheduler nightly.toml jobs.py --address tcp://farm:7070"],
)
def scheduler(
    run: Run,
    files: FilesArgument = None,
    *,
    state: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="What it keeps. Default: schedules.db beside the farm's store.",
            show_default=False,
        ),
    ] = None,
    address: AddressOption = None,
    log_format: LogFormatOption = None,
    log_level: LogLevelOption = None,
) -> None:
    """Run a scheduler: it submits what is due. Ctrl-C stops it, SIGHUP has it read its files.

    Of several on one state file one decides, and the others stand by.
    """
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # while it starts; it has yet to read its files
    if not _is_installed():
        raise Refused(MISSING)
    from farm_scheduler.files import DEFAULT_FILE
    from farm_scheduler.process import serve

    config = run.config(client_address=address, log_format=log_format, log_level=log_level)
    way = {"token": token_file(config), "keys": config.coordinator.keys}
    settings = _settings(config, files or [DEFAULT_FILE], config.address, way, state)
    raise typer.Exit(serve(settings))


def _is_installed() -> bool:
    return find_spec("cronsim") is not None


def _settings(
    config: "Config",
    files: Sequence[str],
    address: str,
    way: Mapping[str, str],
    state: Path | None = None,
) -> "SchedulerSettings":
    from farm_scheduler.settings import SchedulerSettings

    return SchedulerSettings(
        files=list(files),
        address=address,
        token=way["token"],
        keys=way["keys"],
        state=str((state or scheduler_state(config)).absolute()),
        sys_path=module_path(),
        log_format=config.log.format,
        log_level=config.log.level,
    )


@contextmanager
def scheduler_beside(
    run: Run, config: "Config", files: list[str] | None, address: str, way: Mapping[str, str]
) -> Iterator[None]:
    """Run the scheduler of ``farm up``, if there are schedules, while the context lasts.

    ``way`` says with which token it goes to the farm, and where this user's keys are.
    Without ``files`` there are if the current folder has a ``schedules.toml``.
    """
    found = files or [name for name in ("schedules.toml",) if Path(name).is_file()]
    if not found or not _is_installed():
        if files:
            raise Refused(MISSING)
        if found:
            run.output.note(f"It does not run {', '.join(found)}: {MISSING}")
        yield
        return
    from msgspec.structs import asdict

    from farm.supervisor import Service
    from farm_scheduler.loading import Loader

    Loader.check(found)
    settings = asdict(_settings(config, [str(_whole(one)) for one in found], address, way))

    def launch(parent_fd: int, _ready_fd: int | None) -> Mapping[str, Any]:
        return {**settings, "parent_fd": parent_fd, "parent_pid": os.getpid()}

    with tempfile.TemporaryDirectory(prefix="farm-scheduler-") as folder:
        service = Service("scheduler", "farm_scheduler", Path(folder), launch)
        service.start()
        signal.signal(signal.SIGHUP, lambda *_: service.tell(signal.SIGHUP))
        run.output.note(f"Its schedules are those in {', '.join(found)}.")
        try:
            yield
        finally:
            service.end(at_once=False)
            service.join()


def _whole(name: str) -> Path | str:
    """A file by its whole path; the name of a module as it is."""
    path = Path(name)
    return path.absolute() if path.suffix in {".toml", ".py"} else name
