"""A service for the tests of the supervisor: does what its settings say, first, second, … time."""

import json
import logging
import os
import signal
import sys
from pathlib import Path


def main(arguments):
    _, path = arguments
    settings = json.loads(Path(path).read_text())
    lives = Path(settings["lives"])
    with lives.open("a") as file:
        facts = {
            "pid": os.getpid(),
            "cwd_is_searched": "" in sys.path or os.getcwd() in sys.path,  # noqa: PTH109
            "python_path": os.environ.get("PYTHONPATH"),
            "start": os.environ.get("FARM_START"),
            "session": os.getsid(0),
            "optimize": sys.flags.optimize,
        }
        file.write(json.dumps(facts) + "\n")
    life = len(lives.read_text().splitlines())
    act = settings["acts"][min(life, len(settings["acts"])) - 1]
    if act == "fail":
        logging.getLogger("farm.test").error("there is no bread")
        return 3
    if act == "raise":
        raise LookupError("nor wine")
    if act == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    if act == "refuse":
        say(settings, {"error": "StoreLocked", "message": "the cellar is locked"})
        return 10
    if act == "child" and os.fork() == 0:
        signal.pause()
    if act == "deaf":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    say(settings, {"epoch": life})
    if act == "deaf":
        while True:
            signal.pause()
    os.read(settings["parent_fd"], 1)
    return 0


def say(settings, word):
    if settings["ready_fd"] is not None:
        with os.fdopen(settings["ready_fd"], "w") as ready:
            ready.write(json.dumps(word) + "\n")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
