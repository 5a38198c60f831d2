"""What a configuration says to the services that commands start."""

import contextlib
from typing import TYPE_CHECKING, Any

from farm.cli.gateway import checked_modules, module_path
from farm.errors import ConfigError
from farm.resources import label_table

if TYPE_CHECKING:
    from farm.config import Config

__all__ = ["coordinator_keys", "core_settings", "host_settings", "own_way", "worker_flags"]


def worker_flags(
    max_tasks: int | None,
    max_memory: str | None,
    kill_after: str | None,
    grace: str | None,
    resources: list[str] | None,
    labels: list[str] | None,
    max_lent: int | None,
) -> dict[str, Any]:
    """What flags say about a host and its workers, as ``Run.config`` takes it."""
    return {
        "host_max_tasks_per_worker": max_tasks,
        "host_max_memory_per_worker": max_memory,
        "host_kill_after": kill_after,
        "host_grace": grace,
        "host_resources": resources or None,
        "host_labels": labels or None,
        "host_max_lent": max_lent,
    }


def core_settings(config: "Config", *, here: bool = False) -> dict[str, Any]:
    """What a configuration says about the core of a coordinator; ``here``: its host will be there.

    Raises ``ConfigError`` naming what clashes, before anything is started.
    """
    from msgspec import ValidationError, convert
    from msgspec.structs import asdict

    from farm.core import CoreSettings
    from farm.core.policy import QueuePolicy

    known = CoreSettings.__struct_fields__
    core = {name: value for name, value in asdict(config.coordinator).items() if name in known}
    resources = config.host.resources if here else ()
    core["resources"] = sorted({*config.coordinator.resources, *resources})
    core["queues"] = {name: asdict(queue) for name, queue in config.queues.items()}
    for name, policy in core["queues"].items():
        try:
            convert(policy, QueuePolicy)
        except ValidationError as error:
            raise ConfigError(f"queues.{name}: {error.__cause__ or error}") from None
    try:
        convert(core, CoreSettings)
    except ValidationError as error:
        raise ConfigError(str(error)) from None
    return core


def coordinator_keys(config: "Config", *, insecure: bool) -> str:
    """The folder of the coordinator's keys; empty if it is to have none."""
    from farm.keys import keys_folder

    return "" if insecure else str(keys_folder(config.coordinator.keys))


def own_way(config: "Config", *, insecure: bool) -> dict[str, str]:
    """With what processes of this user go to their own farm, whatever ``FARM_TOKEN`` says.

    It is there before they are, who may look for it before the coordinator has made it.
    """
    from farm.keys import LOCAL_TOKEN, KeyStore, keys_folder
    from farm.transport.credentials import NO_KEY

    folder = keys_folder(config.coordinator.keys)
    if not insecure and not config.coordinator.listen.startswith("ipc:"):
        with contextlib.suppress(ConfigError, OSError):  # which the coordinator says
            KeyStore(folder).ensure_local()
    return {"token": NO_KEY if insecure else str(folder / LOCAL_TOKEN), "keys": str(folder)}


def host_settings(config: "Config") -> dict[str, Any]:
    """What a configuration says about a host, its workers and its logs."""
    section = config.host
    return {
        "log_format": config.log.format,
        "log_level": config.log.level,
        "resources": section.resources,
        "labels": label_table(section.labels, "host.labels"),
        "packages": section.packages,
        "preload": section.preload,
        "imports": checked_modules(section.modules),
        "sys_path": module_path(),
        "grace_seconds": section.grace or None,
        "kill_seconds": section.kill_after,
        "max_lent": section.max_lent or None,
        "max_tasks_per_worker": section.max_tasks_per_worker,
        "max_memory_per_worker": section.max_memory_per_worker,
    }
