"""What was said, kept for when something goes wrong."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tests.sim.clock import Clock

__all__ = ["Trace", "text"]

KEPT = 400
WIDTH_MAX = 260


class Trace:
    """The last lines of a run; all are printed at once if it is ``verbose``."""

    def __init__(self, clock: Clock, *, verbose: bool) -> None:
        self._clock = clock
        self._verbose = verbose
        self._lines: deque[tuple[float, str, Any, str]] = deque(maxlen=KEPT)

    def add(self, who: str, to: Any, what: Any) -> None:
        if self._verbose:
            print(_line(self._clock.now, who, to, text(what)))
        else:
            self._lines.append((self._clock.now, who, to, what))

    def lines(self) -> list[str]:
        return [_line(when, who, to, text(what)) for when, who, to, what in self._lines]


def _line(when: float, who: str, to: Any, what: str) -> str:
    return f"{when:10.4f}  {who:12} -> {to!s:14} {what}"[:WIDTH_MAX]


def text(value: Any) -> str:
    """A message in short: ids by their first bytes, defaults left out."""
    if isinstance(value, bytes):
        return value.hex()[:4] if len(value) in {8, 16} else value.decode("ascii", "replace")[:40]
    if isinstance(value, (list, tuple)):
        inside = ", ".join(text(one) for one in value[:8]) + (", …" if len(value) > 8 else "")
        return f"[{inside}]"
    fields = getattr(value, "__struct_fields__", None)
    if fields is None:
        return str(value)
    shown = [
        f"{name}={text(getattr(value, name))}"
        for name in fields
        if getattr(value, name) not in (None, "", 0, b"", [], {}, False)
        and name not in {"farm", "python", "protocol", "secret", "template", "data"}
    ]
    return f"{type(value).__name__}({', '.join(shown)})"
