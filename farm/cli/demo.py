"""The command ``farm demo``; what it does is in ``demo_job``, which is slow to import."""

from pathlib import Path
from typing import Annotated

import typer

from farm.cli.run import Run, command

__all__: list[str] = []


@command(
    "demo",
    panel="Start",
    examples=["farm demo", "farm demo --path ~/src --workers 8", "farm demo --json"],
)
def demo(
    run: Run,
    path: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="A folder of Python files. Default: the standard library of this Python.",
            show_default=False,
        ),
    ] = None,
    workers: Annotated[
        int | None,
        typer.Option(
            min=1, help="Worker processes. Default: one for each CPU.", show_default=False
        ),
    ] = None,
) -> None:
    """Analyse a tree of Python files on a farm of its own, and survive a killed worker."""
    from farm.cli.demo_job import run_demo

    run_demo(run, path, workers)
