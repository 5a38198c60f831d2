"""What a host says of the environment in which its tasks run: platform and packages."""

import platform
import sys
from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError, version

__all__ = ["ALWAYS", "package_versions", "platform_name"]

ALWAYS = ("cloudpickle", "numpy")
"""Told of without being named: on the first, functions depend that travel by value."""


def platform_name() -> str:
    """The system and the processor: ``linux-x86_64``."""
    return f"{sys.platform}-{platform.machine().lower() or 'unknown'}"


def package_versions(names: Iterable[str]) -> dict[str, str]:
    """Those of these packages that are installed, with their versions, each as it is named here.

    Only what is told about them is read; nothing is imported.
    """
    found = {}
    for name in dict.fromkeys((*ALWAYS, *names)):
        try:
            found[name] = version(name)
        except (PackageNotFoundError, ValueError):
            continue
    return found
