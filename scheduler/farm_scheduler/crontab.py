"""Makes a ``schedules.toml`` of a crontab, and says what it could not carry over."""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import PurePath

from farm_scheduler.core import Schedule

__all__ = ["Imported", "import_crontab"]

ASSIGNMENT = re.compile(r"""\s*(?:"([^"]*)"|'([^']*)'|([A-Za-z_]\w*))\s*=\s*(.*?)\s*""")
DEFAULTS = """\
# As cron does: what was missed is not made up for, and a run does not wait for the one before.
# Without these two lines the latest that was missed would run, and one run would wait.
[defaults]
misfire = "skip"
overlap = "allow"
"""
OURS = ("MAILTO", "MAILFROM", "CRON_TZ", "SHELL", "CONTENT_TYPE", "CONTENT_TRANSFER_ENCODING")
"""Variables that cron itself reads."""


@dataclass
class Imported:
    """``toml``: what to write; ``count``: schedules in it; ``notes``: what is not as it was."""

    toml: str = ""
    count: int = 0
    notes: list[str] = field(default_factory=list)


def import_crontab(text: str, tz: str, *, system: bool = False) -> Imported:
    """Read a crontab; ``tz`` is the zone that it was meant for, ``system`` one with a user field.

    What cannot be carried over stands in the TOML as a comment, and in the notes with its line.
    """
    reader = _Reader(tz, system=system)
    parts = [DEFAULTS]
    for number, line in enumerate(text.splitlines(), 1):
        parts += reader.read(number, line)
    found = reader.found
    found.toml = "\n".join(parts).rstrip("\n") + "\n"
    return found


class _Reader:
    """Goes through the lines; what variables say counts for the lines after them."""

    def __init__(self, tz: str, *, system: bool) -> None:
        self.found = Imported()
        self._tz = tz
        self._system = system
        self._shell = "/bin/sh"
        self._environment: dict[str, str] = {}
        self._names: set[str] = set()

    def read(self, number: int, line: str) -> Iterator[str]:
        """The lines of TOML that a line becomes."""
        stripped = line.strip()
        if not stripped:
            yield ""
        elif stripped.startswith("#"):
            yield _comment(stripped)
        elif match := ASSIGNMENT.fullmatch(line):
            self._assign(number, match[1] or match[2] or match[3], match[4])
        else:
            yield from self._entry(number, stripped)

    def _assign(self, number: int, name: str, value: str) -> None:
        if len(value) > 1 and value[0] in "\"'" and value[-1] == value[0]:
            value = value[1:-1]
        if name == "CRON_TZ":
            self._tz = value
        elif name == "SHELL":
            self._shell = value
        elif name not in OURS:
            self._environment[name] = value
        elif value:
            self._note(
                number,
                f"{name}={value} is left out: nothing is mailed; on_failure can call a command",
            )

    def _entry(self, number: int, line: str) -> Iterator[str]:
        times = 1 if line.startswith("@") else 5
        words = line.split(None, times + self._system)
        if len(words) <= times + self._system:
            yield from self._lost(number, line, "it has too few fields")
            return
        cron, command = " ".join(words[:times]), words[-1]
        if cron == "@reboot":
            yield from self._lost(number, line, "@reboot has no time; start it as a service")
            return
        if self._system:
            self._note(number, f"it ran as {words[times]}; it runs as whoever runs the hosts")
        shell, given = _unescaped(command)
        if given:
            yield from self._lost(number, line, "what follows the % was its standard input")
            return
        yield from self._table(number, line, cron, shell)

    def _table(self, number: int, line: str, cron: str, shell: str) -> Iterator[str]:
        words = [self._shell, "-c", shell]
        if self._environment:
            pairs = (f"{name}={value}" for name, value in self._environment.items())
            words = ["/usr/bin/env", *pairs, *words]
        name = self._name(shell)
        try:
            Schedule(name, cron=cron, tz=self._tz, command=words)
        except ValueError as error:
            yield from self._lost(number, line, str(error).partition(": ")[2])
            return
        self._names.add(name)
        self.found.count += 1
        yield f"[schedules.{_key(name)}]"
        yield f"cron = {_text(cron)}"
        yield f"tz = {_text(self._tz)}"
        yield f"command = [{', '.join(map(_text, words))}]"
        yield ""

    def _name(self, shell: str) -> str:
        """A name of its own, after the program that is run."""
        program = next((word for word in shell.split() if "=" not in word), "")
        plain = re.sub(r"[^A-Za-z0-9_-]+", "-", PurePath(program).stem).strip("-_") or "job"
        name, count = plain[:90], 1
        while name in self._names:
            count += 1
            name = f"{plain[:90]}-{count}"
        return name

    def _lost(self, number: int, line: str, why: str) -> Iterator[str]:
        self._note(number, f"not carried over: {line}: {why}")
        yield _comment(f"# not carried over: {why}")
        yield _comment(f"# {line}")
        yield ""

    def _note(self, number: int, text: str) -> None:
        self.found.notes.append(f"line {number}: {text}")


def _unescaped(command: str) -> tuple[str, bool]:
    r"""A command without the backslash of ``\%``, and whether a bare ``%`` ends it."""
    parts = re.split(r"(?<!\\)%", command, maxsplit=1)
    return parts[0].replace("\\%", "%").strip(), len(parts) > 1


def _comment(text: str) -> str:
    """A line of comment: what TOML takes for none, as the colours of a terminal, is a ``?``."""
    return re.sub(r"[\x00-\x08\x0a-\x1f\x7f]", "?", text)


def _key(name: str) -> str:
    return name if re.fullmatch(r"[A-Za-z0-9_-]+", name) else _text(name)


def _text(value: str) -> str:
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
