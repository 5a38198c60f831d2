"""What services write to stderr: one event a line, as text or JSON.

The library logs under ``farm`` and installs no handlers; only the processes of a farm call
``setup``. Extra fields worth finding again (``task``, ``host``, ``epoch`` and others that stand in
``extra=``) follow the message. Nothing here raises on account of what is logged.
"""

import logging
import sys
import time
from typing import Any, TextIO

import msgspec

__all__ = ["Seldom", "setup"]

_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


def setup(format: str = "text", level: str = "info", stream: TextIO | None = None) -> None:  # noqa: A002
    """Log everything under ``farm`` of this level and above to ``stream``, by default stderr.

    ``format`` is ``text`` or ``json``. Calling it again replaces what it set up before.
    """
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(_Json() if format == "json" else _Text())
    logger = logging.getLogger("farm")
    for old in list(logger.handlers):
        if isinstance(old.formatter, _Json | _Text):
            logger.removeHandler(old)
    logger.addHandler(handler)
    logger.setLevel(level.upper())
    logger.propagate = False


def _fields(record: logging.LogRecord) -> dict[str, Any]:
    return {key: value for key, value in vars(record).items() if key not in _STANDARD}


def _when(record: logging.LogRecord) -> str:
    moment = time.gmtime(record.created)
    return f"{time.strftime('%Y-%m-%dT%H:%M:%S', moment)}.{int(record.msecs):03d}Z"


class _Text(logging.Formatter):
    """``2026-01-31T12:00:00.123Z warning farm.core message task=…``, and a traceback below."""

    def format(self, record: logging.LogRecord) -> str:
        text = " ".join(record.getMessage().splitlines())
        fields = "".join(f" {key}={value}" for key, value in _fields(record).items())
        line = f"{_when(record)} {record.levelname.lower()} {record.name} {text}{fields}"
        if record.exc_info:
            line += "\n" + self.formatException(record.exc_info)
        return line


class _Json(logging.Formatter):
    """One JSON object a line; a traceback is a field of it."""

    def format(self, record: logging.LogRecord) -> str:
        event = {
            "time": _when(record),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **_fields(record),
        }
        if record.exc_info:
            event["traceback"] = self.formatException(record.exc_info)
        return msgspec.json.encode(event, enc_hook=str).decode("utf-8")


class Seldom:
    """Logs what may happen very often at most once a second, and says how often it did."""

    def __init__(self, logger: logging.Logger) -> None:
        self._logger = logger
        self._next = 0.0
        self._more = 0

    def warning(self, text: str, **fields: object) -> None:
        """Log a warning, or only count it if one was logged within the last second."""
        now = time.monotonic()
        if now < self._next:
            self._more += 1
            return
        more = f" ({self._more} more like it since)" if self._more else ""
        self._logger.warning("%s%s", text, more, extra=fields)
        self._next = now + 1.0
        self._more = 0
