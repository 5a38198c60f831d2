"""docs/http.md is true: its module and its session in a shell run, and say what it promises."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from farm.local import LocalFarm
from tests.processes import free_ports

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "http.md").read_text()
PYTHON = re.findall(r"^```python\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
SHELL = re.findall(r"^```sh\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
SECONDS = 60


@pytest.fixture
def gateway(tmp_path):
    """The address of a farm that has the module of the page, and a queue ``mail`` of two tasks."""
    (tmp_path / "thumbnails.py").write_text(PYTHON[0])
    path = [str(tmp_path), *(str(Path(one or ".").absolute()) for one in sys.path)]
    local = LocalFarm(
        slots=2,
        coordinator={"core": {"queues": {"mail": {"max_tasks": 2}}}},
        host={"imports": ["thumbnails"], "sys_path": path},
        gateway={
            "listen": f"127.0.0.1:{free_ports()}",
            "modules": ["thumbnails"],
            "sys_path": path,
        },
    )
    local.start()
    yield local.http.removeprefix("http://")
    local.stop()


@pytest.mark.skipif(shutil.which("curl") is None, reason="there is no curl")
def test_the_session_says_what_it_promises(gateway, tmp_path):
    assert len(SHELL) >= 6
    for number, block in enumerate(SHELL):
        script = block.replace("localhost:8080", gateway)
        done = subprocess.run(
            ["bash", "-eu", "-o", "pipefail", "-c", script],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=SECONDS,
            check=False,
        )
        assert done.returncode == 0, f"block {number + 1}: {done.stderr}"
        at = 0
        for promise in re.findall(r"^# (.+)$", block, re.MULTILINE):
            pattern = ".*".join(map(re.escape, promise.split("…")))
            found = re.compile(pattern).search(done.stdout, at)
            assert found, f"block {number + 1} promises {promise!r}, and printed {done.stdout}"
            at = found.end()
