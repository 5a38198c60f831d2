"""How ``farm launch`` shows its hosts: one live line each on a terminal, plain lines in a pipe."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Protocol

import msgspec

from farm.cli.output import Listener, Output

if TYPE_CHECKING:
    from rich.table import Table

    from farm_workers.launchers.watch import Watch

__all__ = ["View", "shown"]

WORDS = {
    "queued": "waits for its turn",
    "connecting": "connects",
    "starting": "starts",
    "works": "works",
    "away": "looks for the farm",
    "troubled": "gets no work",
    "draining": "finishes its tasks",
    "pause": "is tried again soon",
    "left": "has left",
    "failed": "is given up",
}
STYLES = {"works": "green", "failed": "red", "troubled": "yellow", "pause": "yellow"}


class View(Protocol):
    """Who is told what becomes of hosts."""

    def changed(self, watch: "Watch") -> None:
        """A host is in another state, or says something else."""

    def logged(self, name: str, line: str) -> None:
        """Its agent, or ``ssh``, has written a line."""

    def note(self, text: str) -> None:
        """A remark for people."""


@contextmanager
def shown(output: Output, names: list[str]) -> Iterator[View]:
    """Show hosts while the context lasts."""
    if not (output.listener is Listener.PEOPLE and output.stdout.isatty()):
        yield _Lines(output)
        return
    from rich.console import Console
    from rich.live import Live

    table = _Table(names)
    with Live(
        get_renderable=table.draw, console=Console(file=output.stdout), refresh_per_second=4
    ) as live:
        table.console = live.console
        yield table


class _Lines:
    """A line for each change; what agents log goes to stderr."""

    def __init__(self, output: Output) -> None:
        self._output = output
        self._said: dict[str, tuple[Any, ...]] = {}

    def changed(self, watch: "Watch") -> None:
        name = watch.entry.name
        pid = watch.said.pid if watch.said else 0
        said = watch.state, watch.text, pid
        if self._said.get(name) == said:
            return
        self._said[name] = said
        data = {
            "host": name,
            "state": watch.state,
            "text": watch.text,
            "pid": pid,
            "slots": watch.said.slots if watch.said else 0,
            "restarts": watch.restarts,
        }
        text = f"{name}: {WORDS[watch.state]}" + (f": {watch.text}" if watch.text else "")
        if self._output.listener is Listener.PROGRAM:
            text = msgspec.json.encode(data).decode()
        self._output.stream(text + "\n")

    def logged(self, name: str, line: str) -> None:
        if self._output.listener is not Listener.QUIET:
            self._output.stderr.write(f"[{name}] {line}\n")
            self._output.stderr.flush()

    def note(self, text: str) -> None:
        self._output.note(text)


class _Table:
    """A table that is drawn anew as hosts change; what agents log scrolls above it."""

    def __init__(self, names: list[str]) -> None:
        self.console: Any = None
        self._watches: dict[str, Watch | None] = dict.fromkeys(names)

    def changed(self, watch: "Watch") -> None:
        self._watches[watch.entry.name] = watch

    def logged(self, name: str, line: str) -> None:
        self.console.print(f"[{name}] {line}", markup=False, highlight=False)

    def note(self, text: str) -> None:
        self.console.print(text, markup=False, highlight=False)

    def draw(self) -> "Table":
        """As it is now."""
        from rich.box import SIMPLE_HEAD
        from rich.table import Table
        from rich.text import Text

        table = Table(box=SIMPLE_HEAD, pad_edge=False)
        for heading in ("HOST", "STATE", "RUNNING", "SINCE", "RESTARTS", ""):
            right = heading in {"RUNNING", "SINCE", "RESTARTS"}
            table.add_column(heading, justify="right" if right else "left", overflow="fold")
        now = time.monotonic()
        for name, watch in self._watches.items():
            if watch is None:
                table.add_row(Text(name), Text(WORDS["queued"]))
                continue
            said = watch.said
            table.add_row(
                Text(name),
                Text(WORDS[watch.state], style=STYLES.get(watch.state, "")),
                Text(f"{said.running}/{said.slots}" if said else ""),
                Text(f"{now - watch.since:.0f} s"),
                Text(str(watch.restarts or "")),
                Text(watch.text),
            )
        return table
