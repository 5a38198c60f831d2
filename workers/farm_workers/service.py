"""A whole host, as a process: settings, signals, fork server, agent.

Promises: the workers end with the agent, however that ends. SIGTERM and SIGINT drain; a second
one, or the end of the parent, stops everything at once. Imports little before the fork server is
started, which may be a copy of this process: see ``forkstart``.
"""

import contextlib
import logging
import os
import signal
import threading
from typing import TYPE_CHECKING

from farm._version import __version__
from farm.descriptors import raise_file_limit
from farm.errors import FarmError
from farm.logs import setup
from farm.parent import watch_parent
from farm_workers import cgroups, system
from farm_workers.forkstart import ForkServer, ServerSettings
from farm_workers.settings import AgentSettings, ExitCode

if TYPE_CHECKING:
    from collections.abc import Callable

    from farm_workers.agent import Agent

__all__ = ["serve"]

logger = logging.getLogger("farm.host")

LAST_WORDS_SECONDS = 2.0
"""How long a host whose parent has ended takes at most to pass on what its workers printed."""

_agents: "list[Agent]" = []
_assembling = threading.Lock()
"""Held until an agent that has made folders is in the list: whoever ends it removes them."""


def serve(
    settings: AgentSettings,
    assembled: "Callable[[Agent], object] | None" = None,
    *,
    is_new: bool = False,
) -> ExitCode:
    """Run a host until it is drained, or cannot go on; its agent is shown to ``assembled``.

    ``is_new``: this process was started for it, and has one thread.
    """
    setup(settings.log_format, settings.log_level)
    try:
        return _serve(settings, assembled, is_new=is_new)
    except FarmError as error:
        logger.error("the host cannot start: %s", error)  # noqa: TRY400
        return ExitCode.CONFIG
    except Exception:
        logger.exception("the host ends: this is a bug")
        return ExitCode.BUG


def _serve(
    settings: AgentSettings, assembled: "Callable[[Agent], object] | None", *, is_new: bool
) -> ExitCode:
    raise_file_limit()
    system.adopt_orphans()
    system.keep_freed_memory()
    place = cgroups.find()
    group = cgroups.own_group(place) if place else ""
    forks = ForkServer(
        ServerSettings(
            sys_path=settings.sys_path,
            preload=settings.preload,
            memory_group=group,
            slots=settings.slot_count(),
        )
    )
    forks.prepare(may_copy=is_new)
    # The fork server ends the workers when this process is gone, however it went.
    watch_parent(_leave, settings.parent_fd, settings.parent_pid)
    from farm_workers.assembly import assemble  # noqa: PLC0415 - see above

    with _assembling:
        agent = assemble(settings, place, group, forks)
        _agents.append(agent)
    _stop_on_signals(agent)
    if assembled is not None:
        assembled(agent)
    extra = {"host": agent.name, "version": __version__}
    logger.info("a host of %d slots starts", agent.slots, extra=extra)
    return agent.run()


def _leave() -> None:
    """The parent has ended: so do we, at once."""
    _assembling.acquire(timeout=LAST_WORDS_SECONDS)
    for agent in _agents:
        agent.last_words(LAST_WORDS_SECONDS)
    os._exit(ExitCode.OK)


def _stop_on_signals(agent: "Agent") -> None:
    def at_once(number: int, _frame: object) -> None:
        os._exit(128 + number)

    def in_order(_number: int, _frame: object) -> None:
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, at_once)
        agent.stop()

    for number in (signal.SIGTERM, signal.SIGINT):
        with contextlib.suppress(ValueError):  # in a thread other than the main one
            signal.signal(number, in_order)
