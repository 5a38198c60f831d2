"""The command that runs the HTTP gateway, and what ``farm up`` needs to run one."""

import os
import sys
from importlib.machinery import PathFinder
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from farm.cli.exitcodes import Refused
from farm.cli.keys import token_file
from farm.cli.options import (
    HttpOption,
    ImportOption,
    InsecureOption,
    LogFormatOption,
    LogLevelOption,
    TlsCertOption,
    TlsKeyOption,
)
from farm.cli.run import AddressOption, Run, command
from farm.cli.settings import scheduler_state

if TYPE_CHECKING:
    from farm.config import Config

__all__ = ["checked_modules", "gateway_beside", "module_path"]

PANEL = "Start"
NEEDS = ("litestar", "prometheus_client", "uvicorn")
MISSING = "the HTTP gateway is not installed: pip install 'compute-farm[gateway]'"


@command(
    "gateway",
    panel=PANEL,
    examples=[
        "farm gateway --import thumbnails",
        "farm gateway --listen 127.0.0.1:8000 --address tcp://farm-host:7070",
        "farm gateway --listen 0.0.0.0:8443 --tls-cert gateway.crt --tls-key gateway.key",
    ],
)
def gateway(  # noqa: PLR0913 - one for each option
    run: Run,
    *,
    listen: HttpOption = None,
    imports: ImportOption = None,
    name: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            help="A name by which callers reach it, besides localhost; may be given again.",
            show_default=False,
        ),
    ] = None,
    tls_cert: TlsCertOption = None,
    tls_key: TlsKeyOption = None,
    docs: Annotated[
        bool,
        typer.Option("--docs", help="Show the API at /docs; its script comes from the internet."),
    ] = False,
    schedules: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="What the schedulers on this machine keep. Default: schedules.db beside the"
            " farm's store.",
            show_default=False,
        ),
    ] = None,
    insecure: InsecureOption = False,
    address: AddressOption = None,
    log_format: LogFormatOption = None,
    log_level: LogLevelOption = None,
) -> None:
    """Run the HTTP gateway: registered functions for those who have no Python. Ctrl-C stops it.

    Functions are those under @farm.task in modules that both it and the hosts --import.
    """
    config = run.config(
        client_address=address,
        gateway_listen=listen,
        gateway_modules=imports or None,
        gateway_names=name or None,
        gateway_docs=docs or None,
        gateway_tls_cert=tls_cert,
        gateway_tls_key=tls_key,
        log_format=log_format,
        log_level=log_level,
    )
    if not _is_installed():
        raise Refused(MISSING)
    from farm.cli.gateway_process import serve_with_schedules
    from farm.gateway.settings import GatewaySettings

    settings = GatewaySettings(
        address=config.address,
        token=token_file(config),
        keys=config.coordinator.keys,
        insecure=insecure,
        log_format=config.log.format,
        log_level=config.log.level,
        **_settings(config, schedules),
    )
    raise typer.Exit(serve_with_schedules(settings))


def _is_installed() -> bool:
    """Whether what the gateway stands on can be imported."""
    return all(find_spec(name) is not None for name in NEEDS)


def gateway_beside(
    run: Run, config: "Config", wanted: bool | None, *, insecure: bool
) -> tuple[dict[str, Any] | None, bool]:
    """The settings of the gateway of ``farm up``, or None, and whether it must serve.

    ``wanted`` None: it must if anybody has said where it is to listen.
    """
    must = wanted or (wanted is None and "gateway.listen" in config.origins)
    if wanted is False:
        return None, False
    if not _is_installed():
        if must:
            raise Refused(MISSING)
        run.output.note(f"It does not answer HTTP: {MISSING}")
        return None, False
    return {"insecure": insecure, **_settings(config)}, must


def _settings(config: "Config", schedules: Path | None = None) -> dict[str, Any]:
    """What a configuration says about a gateway; ``schedules``: the state of schedulers."""
    from msgspec.structs import asdict

    return {
        **asdict(config.gateway),
        "modules": checked_modules(config.gateway.modules),
        "sys_path": module_path(),
        "schedules": str((schedules or scheduler_state(config)).absolute()),
    }


def checked_modules(names: list[str]) -> list[str]:
    """The names of modules that can be found; raises ``ConfigError`` for others.

    Nothing is imported for it: whether a module can be is seen where it is.
    """
    from farm.errors import ConfigError

    for name in names:
        top = name.partition(".")[0]
        known = top in sys.builtin_module_names or PathFinder.find_spec(top, module_path())
        if not known:
            raise ConfigError(
                f"--import {name}: there is no module {top!r} in this folder, nor where this Python"
                " finds modules"
            )
    return names


def module_path() -> list[str]:
    """Where modules are found: in the folder in which the command was given, then as here."""
    return list(dict.fromkeys([os.getcwd(), *filter(None, sys.path)]))  # noqa: PTH109 - texts
