"""Who imports a module: the program of its author, or the farm, for one of the things that it has.

What a module gets wrong about one thing is an error of the whole program in the first case. In the
second it must not take from the farm whatever else the module has: who makes such things asks
``for_the_farm``, and keeps the error for whoever wants that very thing.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

__all__ = ["for_the_farm", "importing_for_the_farm"]

_wanted = ContextVar("farm_imports", default=False)


@contextmanager
def importing_for_the_farm() -> Iterator[None]:
    """While this lasts, modules that this thread imports are imported for the farm."""
    token = _wanted.set(True)
    try:
        yield
    finally:
        _wanted.reset(token)


def for_the_farm() -> bool:
    """Whether it is the farm that imports the module that is being run by this thread."""
    return _wanted.get()
