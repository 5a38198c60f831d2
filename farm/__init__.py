"""A compute farm in one package: run Python functions on every core of every host you own.

    client = farm.local()                        # a farm on this machine
    client = farm.Client("tcp://farm-host:7070")  # one that others share
    future = client.submit(function, argument)

What is heavy is imported when it is first used.
"""

import sys
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

if sys.platform == "win32":  # pragma: no cover
    raise ImportError(
        "compute-farm does not run on Windows: it needs Unix processes, signals and sockets; "
        "use it under WSL, on Linux, or on macOS"
    )

from farm._version import __version__
from farm.errors import (
    Busy,
    Expired,
    FarmError,
    KeyConflict,
    MemoryLimitExceeded,
    PayloadError,
    SoftTimeLimitExceeded,
    TaskError,
    TaskStopped,
    TimeLimitExceeded,
    UnknownTask,
    WorkerLost,
)
from farm.model import Options
from farm.task import current_client, current_task

if TYPE_CHECKING:
    from farm.client.client import Client
    from farm.client.future import Future
    from farm.client.job import Job
    from farm.local import local
    from farm.registry import task

__all__ = [
    "Busy",
    "Client",
    "Expired",
    "FarmError",
    "Future",
    "Job",
    "KeyConflict",
    "MemoryLimitExceeded",
    "Options",
    "PayloadError",
    "SoftTimeLimitExceeded",
    "TaskError",
    "TaskStopped",
    "TimeLimitExceeded",
    "UnknownTask",
    "WorkerLost",
    "__version__",
    "current_client",
    "current_task",
    "local",
    "task",
]

_LAZY = {
    "Client": "farm.client.client",
    "Future": "farm.client.future",
    "Job": "farm.client.job",
}


class _Package(ModuleType):
    """This module's class: ``farm.local`` and ``farm.task`` are the functions.

    They stay so after modules of these names were imported.
    """

    @property
    def local(self) -> Any:
        """The function; its module of the same name is reached by ``from farm.local import``."""
        return import_module("farm.local").local

    @local.setter
    def local(self, module: ModuleType) -> None:
        """What importing the module does: the name stays the function's."""

    @property
    def task(self) -> Any:
        """The decorator; the module of this name has ``current_task``."""
        return import_module("farm.registry").task

    @task.setter
    def task(self, module: ModuleType) -> None:
        """What importing the module does: the name stays the decorator's."""

    def __reduce__(self) -> tuple[Any, ...]:
        """By name, as other modules: functions that use ``farm`` travel too."""
        return import_module, (self.__name__,)


sys.modules[__name__].__class__ = _Package


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        value = globals()[name] = getattr(import_module(_LAZY[name]), name)
        return value
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
