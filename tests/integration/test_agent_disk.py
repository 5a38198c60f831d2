"""A host whose folder for temporary files fills up, on a small disk of its own."""

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.integration.agent_rig import PATIENCE, ROOT, Coordinator

MOUNT = 'mount -t tmpfs -o size=4m farm-test "$TMPDIR" && exec "$0" "$@"'


@pytest.fixture
def small(tmp_path):
    """The command that runs another with a TMPDIR of 4 MiB, which nobody else sees."""
    folder = tmp_path / "tmp"
    folder.mkdir()
    command = ["unshare", "-Urm", "sh", "-c", MOUNT]
    if shutil.which("unshare") is None:
        pytest.skip("there is no unshare here")
    environment = os.environ | {"TMPDIR": str(folder)}
    if subprocess.run([*command, "true"], env=environment, check=False).returncode:
        pytest.skip("no disk can be mounted here")
    return command, environment, folder


def test_it_asks_for_nothing_says_why_and_goes_on_when_there_is_room(small, tmp_path):
    command, environment, folder = small
    url = f"ipc://{tmp_path}/farm"
    coordinator = Coordinator(url, beat=0.5)
    settings = tmp_path / "agent.json"
    settings.write_text(f'{{"name": "h", "slots": 1, "address": "{url}"}}')
    environment["PYTHONPATH"] = os.pathsep.join([str(ROOT), str(ROOT / "workers")])
    run = [sys.executable, "-m", "farm_workers", "--settings", str(settings)]
    with subprocess.Popen([*command, *run], env=environment) as agent:
        try:
            coordinator.run(lambda: coordinator.window > 0)
            assert coordinator.values(coordinator.submit(len, [("abc",)])) == [3]
            inside = Path(f"/proc/{agent.pid}/root{folder}/much")
            inside.write_bytes(b"x" * (3_900 << 10))  # of 4,096 KiB
            coordinator.run(lambda: coordinator.reports[-1].trouble)
            assert "is full" in coordinator.reports[-1].trouble
            assert coordinator.window == 0
            inside.unlink()
            coordinator.run(lambda: coordinator.window > 0)
            assert coordinator.reports[-1].trouble == ""
            assert coordinator.values(coordinator.submit(len, [("abcd",)])) == [4]
        finally:
            agent.send_signal(signal.SIGKILL)
            agent.wait(PATIENCE)
            coordinator.close()
