"""How commands speak: to people, to programs (``--json``), or as little as possible (``--quiet``).

A command says what it has to say once; who listens is decided here. Answers go to stdout,
everything else to stderr. On a terminal tables and progress are drawn; in a pipe they are plain
lines that are never cut.
"""

import math
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from enum import Enum
from typing import Any, NamedTuple, TextIO

import msgspec

from farm.cli.exitcodes import ExitCode

__all__ = ["Advance", "Column", "Listener", "Output", "plain"]

Advance = Callable[..., None]
"""``advance(count=1, note="")``: so many more are done; the note is a remark on how it goes."""

Show = Callable[[float, float, str], None]
"""``show(done, total, note)``: how far it is; a total of 0 means that nobody knows."""

PLAIN_STEPS = 10
"""How many lines a progress writes in a pipe."""


class Listener(Enum):
    """Whom a command speaks to."""

    PEOPLE = "people"
    PROGRAM = "program"
    QUIET = "quiet"


class Column(NamedTuple):
    """A column of a table: the key in its rows, its heading, how a value is written."""

    key: str
    heading: str
    show: Callable[[Any], str] = str
    right: bool = False


Rows = Sequence[Mapping[str, Any]]


class Output:
    """What a command may say."""

    def __init__(
        self,
        listener: Listener = Listener.PEOPLE,
        *,
        stdout: TextIO | None = None,
        stderr: TextIO | None = None,
    ) -> None:
        self.listener = listener
        self.stdout = stdout or sys.stdout
        self.stderr = stderr or sys.stderr

    @property
    def draws(self) -> bool:
        """Whether progress is drawn, on a terminal that somebody looks at."""
        return self.listener is Listener.PEOPLE and self.stderr.isatty()

    def answer(self, data: Any, text: str) -> None:
        """What was asked for: ``data`` for programs, ``text`` for people."""
        _write(self.stdout, _json(data) if self.listener is Listener.PROGRAM else text)

    def stream(self, text: str) -> None:
        """A piece of a text that goes on, as it is."""
        _write(self.stdout, text, end="")

    def facts(self, data: Mapping[str, Any], shown: Mapping[str, str]) -> None:
        """Facts about one thing: all of them for programs, those ``shown`` for people.

        A fact may have several lines.
        """
        if self.listener is Listener.PROGRAM:
            _write(self.stdout, _json(data))
        elif self.listener is Listener.QUIET:
            _write(self.stdout, next(iter(shown.values()), ""))
        else:
            width = max(map(len, shown), default=0)
            for name, value in shown.items():
                lines = value.replace("\n", "\n" + " " * (width + 2))
                _write(self.stdout, f"{name:<{width}}  {lines}")

    def table(self, rows: Rows, columns: Sequence[Column], *, empty: str) -> None:
        """Things of one kind; ``empty`` is the remark if there are none.

        Quiet output has the first column alone.
        """
        if self.listener is Listener.PROGRAM:
            _write(self.stdout, _json(rows))
            return
        if self.listener is Listener.QUIET:
            columns = columns[:1]
        cells = [[column.show(row.get(column.key)) for column in columns] for row in rows]
        if self.listener is Listener.QUIET:
            for line in cells:
                _write(self.stdout, line[0])
        elif not rows:
            self.note(empty)
        elif self.stdout.isatty():
            self._draw(cells, columns)
        else:
            self._align(cells, columns)

    def _draw(self, cells: list[list[str]], columns: Sequence[Column]) -> None:
        from rich.box import SIMPLE_HEAD
        from rich.console import Console
        from rich.table import Table
        from rich.text import Text

        table = Table(box=SIMPLE_HEAD, pad_edge=False)
        for column in columns:
            table.add_column(
                Text(column.heading), justify="right" if column.right else "left", overflow="fold"
            )
        for line in cells:
            table.add_row(*map(Text, line))
        Console(file=self.stdout).print(table)

    def _align(self, cells: list[list[str]], columns: Sequence[Column]) -> None:
        lines = [[column.heading for column in columns], *cells]
        widths = [max(map(len, lane)) for lane in zip(*lines, strict=True)]
        for line in lines:
            padded = (
                cell.rjust(width) if column.right else cell.ljust(width)
                for cell, width, column in zip(line, widths, columns, strict=True)
            )
            _write(self.stdout, "  ".join(padded).rstrip())

    def note(self, text: str) -> None:
        """A remark for people."""
        if self.listener is Listener.PEOPLE:
            _write(self.stderr, text)

    @contextmanager
    def progress(self, label: str, total: int) -> Iterator[Advance]:
        """Show how far a long work is, while the context lasts."""
        if not self.draws:
            yield _PlainProgress(self.note, label, total)
            return
        from rich.console import Console
        from rich.progress import (
            BarColumn,
            MofNCompleteColumn,
            Progress,
            TextColumn,
            TimeRemainingColumn,
        )

        bar = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[note]}", markup=False),
            console=Console(file=self.stderr),
        )
        with bar:
            task = bar.add_task(label, total=total, note="")

            def advance(count: int = 1, note: str = "") -> None:
                if note:
                    bar.update(task, note=note)
                bar.advance(task, count)

            yield advance

    @contextmanager
    def waiting(self, label: str) -> Iterator[Show]:
        """Show that something is waited for, and how far it says it is."""
        if not self.draws:
            yield _PlainWaiting(self.note, label)
            return
        from rich.console import Console
        from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

        bar = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            TimeElapsedColumn(),
            TextColumn("{task.fields[note]}", markup=False),
            console=Console(file=self.stderr),
            transient=True,
        )
        with bar:
            task = bar.add_task(label, total=None, note="")
            yield lambda done, total, note: bar.update(
                task, completed=done, total=total or None, note=note
            )

    def error(self, message: str, code: ExitCode) -> None:
        """What went wrong, in one line."""
        if self.listener is Listener.PROGRAM:
            data = {"error": message, "kind": code.name.lower(), "exit_code": int(code)}
            _write(self.stderr, _json(data))
        else:
            _write(self.stderr, f"farm: {message}")


class _PlainProgress:
    """Progress as a few lines, at even steps of the work and with every note."""

    def __init__(self, write: Callable[[str], None], label: str, total: int) -> None:
        self._write, self._label, self._total = write, label, total
        self._done = self._said = 0

    def __call__(self, count: int = 1, note: str = "") -> None:
        self._done += count
        step = self._done * PLAIN_STEPS // max(self._total, 1)
        if step > self._said or note:
            self._said = step
            tail = f" ({note})" if note else ""
            self._write(f"{self._label}: {self._done} of {self._total}{tail}")


class _PlainWaiting:
    """What a task says of its progress, as lines: at even steps, and when its note changes."""

    def __init__(self, write: Callable[[str], None], label: str) -> None:
        self._write, self._label = write, label
        self._said: tuple[int, str] = (0, "")

    def __call__(self, done: float, total: float, note: str) -> None:
        steps = done * PLAIN_STEPS / total if total else 0.0
        step = int(steps) if math.isfinite(steps) else 0  # a task may say anything
        if (step, note) != self._said:
            self._said = step, note
            of = f": {done:g} of {total:g}" if total else ""
            self._write(f"{self._label}{of}{f' ({note})' if note else ''}")


def _write(stream: TextIO, text: str, end: str = "\n") -> None:
    try:
        stream.write(text + end)
    except UnicodeEncodeError:  # names of files need not be text
        stream.write(text.encode("ascii", "backslashreplace").decode() + end)
    stream.flush()


def _json(data: Any) -> str:
    return bytes(plain(data)).decode()


def plain(value: Any) -> msgspec.Raw:
    """Any value as JSON, for use inside ``data``; what JSON cannot say is as ``repr`` has it."""
    try:
        return msgspec.Raw(msgspec.json.encode(value, enc_hook=repr))
    except (TypeError, ValueError, RecursionError):
        return msgspec.Raw(msgspec.json.encode(repr(value)))
