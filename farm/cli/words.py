"""Numbers, and what processes say of themselves, as people read them."""

import re

__all__ = [
    "ago_text",
    "bytes_text",
    "count_text",
    "dash",
    "rate_text",
    "seconds_text",
    "share_text",
    "without_own_frames",
]

MINUTE, HOUR, DAY = 60, 3600, 86_400
_OWN_FRAMES = re.compile(
    r'^  File "[^"\n]*/farm_workers/worker\.py", line \d+ in _run_\w+'
    r'(?:\n  File "[^"\n]*", line .*)*\n?',
    re.MULTILINE,
)
"""In a stack that ``faulthandler`` writes, the task's last: what of the farm has called it."""


def seconds_text(seconds: float | None) -> str:
    """A duration in its two largest units: ``0.25 s``, ``4 min 10 s``, ``3 d 2 h``."""
    if seconds is None or seconds < 0:
        return "-"
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    if seconds < MINUTE:
        return f"{seconds:.1f} s"
    whole = int(seconds)
    if whole < HOUR:
        return f"{whole // MINUTE} min {whole % MINUTE} s"
    if whole < DAY:
        return f"{whole // HOUR} h {whole % HOUR // MINUTE} min"
    return f"{whole // DAY} d {whole % DAY // HOUR} h"


def ago_text(seconds: float | None) -> str:
    """How long ago something was: ``4 min 10 s ago``."""
    return "-" if seconds is None else f"{seconds_text(seconds)} ago"


def bytes_text(count: float) -> str:
    """A number of bytes: ``312 B``, ``1.5 MiB``."""
    value = float(count)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if value < 1024:  # noqa: PLR2004 - what the units mean
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1024
    return f"{value:.1f} TiB"


def count_text(count: float | None) -> str:
    """A number with its thousands apart: ``12,345``."""
    return "-" if count is None else f"{count:,.0f}"


def rate_text(value: float | None) -> str:
    """Tasks a second: ``12.5``."""
    return "-" if value is None else f"{value:.3g}"


def share_text(value: float | None) -> str:
    """A share: ``85%``."""
    return "-" if value is None else f"{value:.0%}"


def dash(value: object) -> str:
    """Any value as text, and a dash for none."""
    return "-" if value is None or value == "" else str(value)


def without_own_frames(text: str) -> str:
    """The stacks in what a worker has printed, down to the function of the task."""
    return _OWN_FRAMES.sub("", text)
