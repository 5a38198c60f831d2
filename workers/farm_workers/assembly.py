"""Puts an agent together from its settings."""

import os
import platform
import sys

from farm.transport import Credentials, Poller, token_said
from farm_workers import machine
from farm_workers.agent import Agent
from farm_workers.cgroups import Place
from farm_workers.channel import Setup
from farm_workers.environment import package_versions, platform_name
from farm_workers.forkstart import ForkServer
from farm_workers.fuses import Fuses
from farm_workers.host_slices import HostSettings
from farm_workers.pool import Pool
from farm_workers.settings import AgentSettings

__all__ = ["assemble"]

INSTANCE_BYTES = 16


def assemble(settings: AgentSettings, place: Place | None, group: str, forks: ForkServer) -> Agent:
    """An agent that is ready to run; raises ``FarmError`` for settings that are none.

    ``group``: where in ``place`` its memory cgroup is to be, if it can have one.
    """
    token = token_said(settings.token)
    credentials = Credentials("host", settings.address, token, keys=settings.keys)
    pid = os.getpid()
    name = settings.host_name(pid)
    slots = settings.slot_count()
    fuses = Fuses(place, group)
    has = machine.find(settings.resources)
    host = HostSettings(
        slots=slots,
        name=name,
        python=f"{sys.version_info.major}.{sys.version_info.minor}",
        pid=pid,
        address=platform.node(),
        labels=settings.labels,
        resources=has.resources,
        devices=has.devices,
        platform=platform_name(),
        packages=package_versions(settings.packages),
        has_initializer=settings.initializer is not None or bool(settings.imports),
        window_max=settings.window_max,
        drain_seconds=settings.drain_seconds,
        grace_seconds=float("inf") if settings.grace_seconds is None else settings.grace_seconds,
        kill_seconds=settings.kill_seconds,
        max_tasks_per_worker=settings.max_tasks_per_worker,
        max_memory_per_worker=settings.max_memory_per_worker,
        memory_limits=fuses.says,
        max_lent=settings.lent_count(slots),
        keys=credentials.own_keys,
    )

    def make_pool(poller: Poller) -> Pool:
        setup = Setup(
            name,
            settings.initializer,
            imports=settings.imports,
            address=settings.address,
            token=credentials.for_tasks(),
            keys=settings.keys,
            max_lent=host.max_lent,
            uploads=settings.uploads,
        )
        return Pool(slots, setup, forks, poller, fuses)

    instance = os.urandom(INSTANCE_BYTES)
    return Agent(host, credentials, make_pool, instance=instance, hwm=settings.messages_hwm)
