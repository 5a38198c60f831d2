"""A local farm with a gateway, and a client of it."""

import contextlib
import os
import signal
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import httpx

import tests.integration.http_functions as functions
from farm.local import LocalFarm
from tests.processes import free_ports

__all__ = ["Rig", "rig"]

MODULE = functions.__name__
PATIENCE = 30.0
LOOK_SECONDS = 0.01


class Rig:
    """``http`` is a client of the gateway, ``folder`` for files that tests make."""

    def __init__(self, local: LocalFarm, folder: Path, **http: Any) -> None:
        self.local = local
        self.folder = folder
        self.http = httpx.Client(base_url=local.http, timeout=PATIENCE, **http)

    def submit(self, function, *args, queue="", options=None, **kwargs):
        body = {"function": function, "args": args, "kwargs": kwargs, "options": options or {}}
        return self.http.post("/v1/tasks", json=body, params={"queue": queue} if queue else {})

    def submitted(self, function, *args, **kwargs):
        """The id of a task that was accepted."""
        answer = self.submit(function, *args, **kwargs)
        assert answer.status_code == 202, answer.text
        assert answer.headers["location"] == answer.json()["url"]
        return answer.json()["id"]

    def read(self, task, wait=0.0):
        return self.http.get(f"/v1/tasks/{task}", params={"wait": wait})

    def ended(self, task):
        """A task when it is over."""
        return self.until(lambda: found if (found := self.read(task, 20).json())["over"] else None)

    def until(self, look):
        """What ``look`` returns as soon as it is true."""
        end = time.monotonic() + PATIENCE
        while time.monotonic() < end:
            with contextlib.suppress(httpx.HTTPError, KeyError):
                if found := look():
                    return found
            time.sleep(LOOK_SECONDS)
        raise AssertionError("it did not come to be so")

    def running(self, task):
        """Wait until a worker is at a task."""
        self.until(lambda: self.read(task).json()["state"] == "running")

    def path(self, name):
        return str(self.folder / name)

    def release(self, path):
        Path(path).touch()

    def kill_gateway(self):
        """SIGKILL; returns when another one serves."""
        gateway = self.local._gateway
        pid, starts = gateway.pid, gateway.starts
        os.kill(pid, signal.SIGKILL)
        self.until(lambda: gateway.starts > starts)
        self.until(lambda: self.http.get("/health/ready").status_code == 200)


@contextlib.contextmanager
def rig(slots=2, core=None, store="", http=None, **gateway):
    with tempfile.TemporaryDirectory(prefix="gw-") as folder:
        path = [str(Path(one or ".").absolute()) for one in sys.path]
        listen = f"127.0.0.1:{free_ports()}"  # the same when it is started again
        local = LocalFarm(
            slots=slots,
            store=store or f"{folder}/farm.db",
            coordinator={"core": core or {}},
            host={"imports": [MODULE], "sys_path": path},
            gateway={"listen": listen, "modules": [MODULE], "sys_path": path, **gateway},
            gateway_module="farm.cli.gateway_process" if "schedules" in gateway else "farm.gateway",
        )
        local.start()
        try:
            assert local.http_error is None, local.http_error
            made = Rig(local, Path(folder), **(http or {}))
            with made.http:
                made.until(lambda: made.http.get("/health/ready").status_code == 200)
                yield made
        finally:
            local.stop()
