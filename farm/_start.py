"""Runs a service of the farm as a program: ``python farm/_start.py MODULE ARGUMENTS``.

A supervisor starts its services through this file, by path, so that they find this farm and
nothing of the user's: neither the current folder nor ``PYTHONPATH`` is searched, and a user's
``farm_workers.py`` or ``zmq.py`` does not shadow ours. What the supervisor says stands in the
variable ``FARM_START``, as JSON:

- ``path``: folders in which this farm and what it needs are found, searched after the standard
  library and before what is installed;
- ``python_path``: what ``PYTHONPATH`` was; processes that tasks start see it again;
- ``errors``: a file for the last words of a service that fails.

Nothing else is imported from here, and it imports nothing of the farm.
"""

import sys

if not sys.flags.safe_path:  # a flag that tasks would have, too
    del sys.path[0]  # this folder, in which nothing is to be found by its short name

import collections
import contextlib
import json
import logging
import os
import runpy
import traceback

__all__: list[str] = []

LAST_LINES = 20


class _LastWords(logging.Handler):
    """Remembers what was logged last, bounded by LAST_LINES."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.lines: collections.deque[str] = collections.deque(maxlen=LAST_LINES)

    def emit(self, record: logging.LogRecord) -> None:
        with contextlib.suppress(Exception):
            self.lines.append(record.getMessage())


def _run(module: str, path: list[str], errors: str) -> None:
    """Run the module as ``__main__``; if it fails, write down why, and fail alike."""
    installed = [one for one in sys.path if one.endswith(("site-packages", "dist-packages"))]
    at = sys.path.index(installed[0]) if installed else len(sys.path)
    sys.path[at:] = path + [one for one in sys.path[at:] if one not in path]
    del sys.argv[0]
    words = _LastWords()
    logging.getLogger("farm").addHandler(words)
    pid = os.getpid()
    try:
        runpy.run_module(module, run_name="__main__", alter_sys=True)
    except BaseException as error:
        # A process that was forked in there has a supervisor of its own.
        if os.getpid() == pid and not (isinstance(error, SystemExit) and not error.code):
            if not isinstance(error, SystemExit):
                words.lines.extend(traceback.format_exc().splitlines()[-LAST_LINES:])
            with contextlib.suppress(OSError), open(errors, "w", encoding="utf-8") as file:  # noqa: PTH123
                file.write("\n".join(words.lines))
        raise


if __name__ == "__main__":
    said = json.loads(os.environ.pop("FARM_START"))
    if said["python_path"] is not None:
        os.environ["PYTHONPATH"] = said["python_path"]
    _run(sys.argv[1], said["path"], said["errors"])
