"""What a worker does before its first task: imports, and the initializer of the host."""

import os

from farm.payload import load_call, load_function
from farm.registry import import_modules
from farm_workers.channel import Setup

__all__ = ["initialize"]


def initialize(setup: Setup) -> None:
    """Import modules and call the initializer; raises whatever they raise."""
    process = os.getpid()
    try:
        import_modules(setup.imports)
        if setup.initializer is not None:
            (function, arguments), _ = load_call(setup.initializer)
            args, kwargs = load_call(arguments)
            load_function(function, fresh=True)(*args, **kwargs)
    finally:
        if os.getpid() != process:  # a child that it forked came back from it: there is one worker
            os._exit(0)
