"""What the processes of a local farm load before they serve: each is waited for at every start."""

import subprocess
import sys

import pytest

from farm.keys import KeyStore
from farm.transport import Credentials

SEEN = "import sys; print([name for name in {names!r} if name in sys.modules])"


def loaded(code, names):
    done = subprocess.run(
        [sys.executable, "-c", f"{code}; {SEEN.format(names=names)}"],
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout


NOBODY = ("farm.config", "farm.keys", "typer", "rich", "tomllib", "hashlib", "difflib", "asyncio")


@pytest.mark.parametrize(
    ("code", "own"),
    [
        (
            "import farm.coordinator.__main__",
            ("farm.coordinator.guard", "farm.transport.dealer", "sqlite3", "cloudpickle"),
        ),
        (
            "import farm_workers.__main__, farm_workers.assembly",
            ("farm.transport.router", "cloudpickle", "importlib.metadata", "zipfile", "psutil"),
        ),
        ("import farm_workers.forkserver", ("zmq", "farm.client.client", "zipfile", "psutil")),
        ("import farm.client.client", ("farm.transport.router", "sqlite3", "psutil")),
    ],
)
def test_a_service_loads_nothing_that_a_farm_on_one_machine_does_not_need(code, own):
    assert loaded(code, [*NOBODY, *own]) == "[]\n"


def test_a_local_farm_starts_its_processes_before_it_loads_its_client():
    code = (
        "import farm, farm.supervisor\n"
        "class Stop(Exception): pass\n"
        "def start(self): raise Stop\n"
        "farm.supervisor.Service.start = start\n"
        "try: farm.local()\n"
        "except Stop: pass"
    )
    done = subprocess.run(
        [sys.executable, "-c", f"{code}\n{SEEN.format(names=['zmq', 'farm.client.client'])}"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "[]\n"


def test_who_may_need_a_key_still_finds_it(tmp_path):
    store = KeyStore(tmp_path / "keys")
    store.create("tcp://127.0.0.1:7070")
    [door, *_] = Credentials("client", "", keys=store.folder).doors()
    assert door.server
    assert door.secret
    assert Credentials("client", "", "none", keys=store.folder).doors()[0].secret == b""
    [door] = Credentials("client", "ipc:///run/farm", keys=store.folder).doors()
    assert door.secret == b""
