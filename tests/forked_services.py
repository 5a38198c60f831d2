"""Services of a farm that this process starts, forked from what has imported already.

Two tenths of a second of processor time go by before a coordinator knows what it was told, and as
much for a host; the suite starts hundreds of them. ``begin_forked`` makes the supervisor of this
process fork them, each kind from a process that has imported what a service of that kind imports
(see ``tests/forked.py``). What the supervisor asks for is done: the start file, the settings, the
descriptors, the session and the environment are its own.

Not for tests of how a service starts or of what it finds there: what reads its command line, or
what it was started with, sees those of the process that was forked. Nor is it a child of this one.
"""

import json
import subprocess
import types
from pathlib import Path

from farm import supervisor
from tests.forked import Forked

__all__ = ["begin_forked"]

GATEWAY = ("farm.gateway.service", "farm.settings_file")
# One that knows of schedules serves aggregates, too.
DESK = ("farm.cli.gateway_process", "farm_scheduler.aggregates.library", "farm_scheduler.desk")
IMPORTS = {
    "farm.cli.gateway_process": (*GATEWAY, *DESK),
    "farm.coordinator": ("farm.coordinator.service", "farm.settings_file"),
    "farm.gateway": GATEWAY,
    "farm_workers": (
        *("farm_workers.service", "farm.settings_file"),
        # What its fork server has as well, and no more, for workers are copies of that.
        *(f"farm_workers.{name}" for name in ("forkserver", "host_slots", "memory")),
    ),
}
"""By the module of a service; others are started as ever."""


def begin_forked(change):
    """Fork services, as long as what ``change`` does lasts: it is ``setattr``, or undone later."""
    known = {"Popen": _popen, "DEVNULL": subprocess.DEVNULL}
    change(supervisor, "subprocess", types.SimpleNamespace(**known))
    for name in ("_await_end", "_has_ended"):
        change(supervisor, name, _by_kind(name, getattr(supervisor, name)))


def _popen(command, *, stdin, env, pass_fds, start_new_session):
    """What the supervisor starts: ``python [FLAGS] START MODULE --settings FILE``."""
    told = {"env": env, "pass_fds": pass_fds, "start_new_session": start_new_session}
    words = command[command.index(supervisor.__file__.replace("supervisor", "_start")) :]
    if words[1] not in IMPORTS:
        return subprocess.Popen(command, stdin=stdin, **told)
    settings = Path(words[-1])
    content = json.loads(settings.read_bytes())
    content["parent_pid"] = None  # which is another's; the pipe says when this one has ended
    settings.write_text(json.dumps(content))
    return Forked(words, cwd=Path.cwd(), stdout=1, stderr=2, imports=IMPORTS[words[1]], **told)


def _by_kind(name, known):
    """How the supervisor sees the end of what it did not fork itself."""
    asked = {"_await_end": lambda one: one.wait(), "_has_ended": lambda one: one.poll() is not None}
    return lambda process: (asked[name] if isinstance(process, Forked) else known)(process)
