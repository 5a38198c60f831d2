"""Services as processes: ``python -m MODULE --settings FILE``, with a file of JSON."""

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Self, TypeVar

import msgspec

from farm.errors import ConfigError, FarmError

__all__ = ["CONFIG", "FileSettings", "run_service"]

CONFIG = 3
"""The exit code of a service that cannot use its settings; it is that of the ``farm`` command."""


class FileSettings:
    """What a service is told at its start."""

    @classmethod
    def read(cls, path: str | Path) -> Self:
        """Those of a file; raises ``ConfigError`` naming it and what is wrong."""
        try:
            return msgspec.json.decode(Path(path).read_bytes(), type=cls)
        except (OSError, msgspec.MsgspecError) as error:
            raise ConfigError(f"{path}: {error}") from None


S = TypeVar("S", bound=FileSettings)


def run_service(
    module: str, arguments: Sequence[str], kind: type[S], serve: Callable[[S], int]
) -> int:
    """Read the settings and serve; the exit code says how it ended."""
    match arguments:
        case ["--settings", path]:
            pass
        case _:
            sys.stderr.write(f"usage: python -m {module} --settings FILE\n")
            return CONFIG
    try:
        return serve(kind.read(path))
    except FarmError as error:  # of a file that it was told of, too
        sys.stderr.write(f"{module}: {error}\n")
        return CONFIG
