"""Random requests, valid and not, made from the gateway's own OpenAPI document by schemathesis.

Judged: no server error, no answer that the document does not have, in status, type, headers and
schema; nothing accepted that it forbids, nothing refused that it allows.
"""

import contextlib
import subprocess
import sys
import tempfile
from pathlib import Path

from farm.identity import Role
from farm.keys import KeyStore
from farm_scheduler.core import Entry, Schedule
from farm_scheduler.state import State
from tests.integration.gateway_rig import rig

__all__ = ["run"]

CONFIG = Path(__file__).with_name("schemathesis.toml")


def _schedules(folder):
    """The state of a scheduler that is not there now; it knows one schedule, named 0."""
    path = Path(folder, "schedules.db")
    schedule = Schedule("0", cron="@yearly", run="math:sqrt", args=[4])
    state = State(path)
    state.commit([], [(Entry(schedule, 0, 0, None), "")], {})
    state.close()
    return str(path)


def _token(folder):
    """A folder of keys with a token of an admin, and that."""
    keys = KeyStore(Path(folder, "keys"))
    keys.create("tcp://localhost:7070")
    return str(keys.folder), keys.new("root", Role.ADMIN, http=True)


def run(seconds, seed, *, tokens=False):
    """The problems that were found, as text; and what the run says of itself.

    With ``tokens`` requests have to show one, and do; some without are made, too.
    """
    schemathesis = Path(sys.executable).with_name("schemathesis")
    with (
        tempfile.TemporaryDirectory() as folder,
        contextlib.ExitStack() as stack,
    ):
        keys, token = _token(folder) if tokens else (f"{folder}/none", "")
        shown = {"authorization": f"Bearer {token}"} if tokens else {}
        gateway = stack.enter_context(
            rig(
                core={"queues": {"small": {}}},
                schedules=_schedules(folder),
                keys=keys,
                docs=tokens,  # so that the document can be read by the tool
                http={"headers": shown},
            )
        )
        done = subprocess.run(
            [
                *(schemathesis, "--config-file", CONFIG, "run"),
                f"{gateway.local.http}/openapi.json",
                *("--max-time", str(seconds), "--seed", str(seed)),
                *("--request-timeout", "20", "--no-color"),
                *(("--header", f"Authorization: Bearer {token}") if tokens else ()),
            ],
            capture_output=True,
            text=True,
            check=False,
            cwd=folder,
        )
        alive = gateway.http.get("/health/ready").status_code == 200
    said = done.stdout + done.stderr
    if done.returncode or not alive:
        return [said if alive else f"the gateway is not ready any more\n{said}"], said
    return [], said
