"""A whole host, put together: settings, signals, agent.

Promises: the workers end with the agent, however that ends. SIGTERM and SIGINT drain; a second
one, or the end of the parent, stops everything at once.
"""

import contextlib
import logging
import os
import platform
import signal
import sys

import zmq

from farm._version import __version__
from farm.errors import FarmError
from farm.logs import setup
from farm.parent import watch_parent
from farm.transport import host_address, parse_address, raise_file_limit
from farm_workers import cgroups, system
from farm_workers.agent import Agent
from farm_workers.channel import Setup
from farm_workers.forkserver import ServerSettings
from farm_workers.fuses import Fuses
from farm_workers.host_slices import HostSettings
from farm_workers.pool import Pool
from farm_workers.settings import AgentSettings, ExitCode

__all__ = ["serve"]

logger = logging.getLogger("farm.host")

INSTANCE_BYTES = 16
LAST_WORDS_SECONDS = 2.0
"""How long a host whose parent has ended takes at most to pass on what its workers printed."""

_agents: list[Agent] = []


def serve(settings: AgentSettings) -> ExitCode:
    """Run a host until it is drained, or cannot go on."""
    setup(settings.log_format, settings.log_level)
    # The fork server ends the workers when this process is gone, however it went.
    watch_parent(_leave, settings.parent_fd, settings.parent_pid)
    try:
        return _serve(settings)
    except FarmError as error:
        logger.error("the host cannot start: %s", error)  # noqa: TRY400
        return ExitCode.CONFIG
    except Exception:
        logger.exception("the host ends: this is a bug")
        return ExitCode.BUG


def _serve(settings: AgentSettings) -> ExitCode:
    address = host_address(parse_address(settings.address))
    pid = os.getpid()
    name = settings.host_name(pid)
    slots = settings.slot_count()
    raise_file_limit()
    system.adopt_orphans()
    system.keep_freed_memory()
    fuses = Fuses(cgroups.find())
    host = HostSettings(
        slots=slots,
        name=name,
        python=f"{sys.version_info.major}.{sys.version_info.minor}",
        pid=pid,
        address=platform.node(),
        labels=settings.labels,
        has_initializer=settings.initializer is not None,
        window_max=settings.window_max,
        drain_seconds=settings.drain_seconds,
        grace_seconds=float("inf") if settings.grace_seconds is None else settings.grace_seconds,
        kill_seconds=settings.kill_seconds,
        max_tasks_per_worker=settings.max_tasks_per_worker,
        max_memory_per_worker=settings.max_memory_per_worker,
        memory_limits=fuses.says,
    )
    server = ServerSettings(
        sys_path=settings.sys_path, preload=settings.preload, memory_group=fuses.base
    )

    def make_pool(poller: zmq.Poller) -> Pool:
        return Pool(slots, Setup(name, settings.initializer), server, poller, fuses)

    agent = Agent(host, address, make_pool, instance=os.urandom(INSTANCE_BYTES))
    _agents.append(agent)
    _stop_on_signals(agent)
    logger.info("a host of %d slots starts", slots, extra={"host": name, "version": __version__})
    return agent.run()


def _leave() -> None:
    """The parent has ended: so do we, at once."""
    for agent in _agents:
        agent.last_words(LAST_WORDS_SECONDS)
    os._exit(ExitCode.OK)


def _stop_on_signals(agent: Agent) -> None:
    def at_once(number: int, _frame: object) -> None:
        os._exit(128 + number)

    def in_order(_number: int, _frame: object) -> None:
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, at_once)
        agent.stop()

    for number in (signal.SIGTERM, signal.SIGINT):
        with contextlib.suppress(ValueError):  # in a thread other than the main one
            signal.signal(number, in_order)
