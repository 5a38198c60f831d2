"""docs/http.md is true: its module, its session in a shell and its client do what it says."""

import random
import re
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import httpx
import pytest
import tenacity

from farm.local import LocalFarm
from tests.processes import free_ports

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "http.md").read_text()
PYTHON = re.findall(r"^```python\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
SHELL = re.findall(r"^```sh\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
SECONDS = 60


@pytest.fixture(scope="module")
def gateway(tmp_path_factory):
    """The address of a farm that has the module of the page, and a queue ``mail`` of two tasks."""
    tmp_path = tmp_path_factory.mktemp("http")
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


# ---------------------------------------------------------------- the client that tries again


class Clock:
    """Time that passes only while somebody sleeps."""

    def __init__(self):
        self.now = 1000.0
        self.slept = []

    def monotonic(self):
        return self.now

    def sleep(self, seconds):
        self.slept.append(seconds)
        self.now += seconds


class Gateway:
    """Answers as it is told, and keeps what it was asked."""

    def __init__(self, clock, *answers):
        self.clock = clock
        self.answers = list(answers)
        self.asked = []

    def __call__(self, request):
        self.asked.append((self.clock.now, request.headers["idempotency-key"]))
        status, headers = self.answers.pop(0) if self.answers else (202, {})
        if status == 0:
            raise httpx.ConnectError("nobody is there")
        return httpx.Response(status, headers=headers, json={"url": "/v1/tasks/1"})


@pytest.fixture
def recipe(monkeypatch):
    """Makes the client of the page, and a gateway of the test's for it."""
    clock = Clock()
    module = ModuleType("farm_http")
    exec(PYTHON[1], vars(module))
    module.time = clock
    monkeypatch.setattr("tenacity.nap.time", clock)
    random.seed(7)

    def make(*answers, **options):
        gateway = Gateway(clock, *answers)
        transport = httpx.MockTransport(gateway)
        return module, module.Farm("http://farm", transport=transport, **options), gateway

    return make


def test_the_client_comes_back_with_the_same_key_and_not_too_soon(recipe):
    refused = (503, {"Retry-After": "7"})
    _, farm, gateway = recipe(refused, (0, {}), (429, {"Retry-After": "20"}))
    assert farm.submit("f", 1) == "/v1/tasks/1"
    times = [at for at, _ in gateway.asked]
    assert len({key for _, key in gateway.asked}) == 1
    assert times[1] - times[0] >= 7
    assert times[3] - times[2] >= 20
    assert (farm.calls, farm.retries) == (1, 3)
    farm.submit("f", 1)
    assert gateway.asked[-1][1] != gateway.asked[0][1]


def test_the_client_spends_a_tenth_of_its_calls_on_trying_again(recipe):
    module, farm, gateway = recipe(*[(503, {})] * 5000, longest=0.01)
    for _ in range(1000):
        with pytest.raises(module.NotNow):
            farm.submit("f")
    assert farm.retries <= module.TO_BEGIN_WITH + module.SHARE * farm.calls
    assert farm.retries >= module.SHARE * farm.calls
    assert len(gateway.asked) == farm.calls + farm.retries


def test_the_client_waits_for_all_times_up_to_a_bound_that_doubles(recipe):
    _, farm, _ = recipe()
    waits = {}
    for attempt in (1, 3, 20):
        state = tenacity.RetryCallState(None, None, (), {})
        state.attempt_number = attempt
        waits[attempt] = [farm._jitter(state) for _ in range(300)]
    for attempt, most in ((1, 0.5), (3, 2.0), (20, 30.0)):
        assert max(waits[attempt]) <= most
        assert max(waits[attempt]) > 0.9 * most
        assert min(waits[attempt]) < 0.1 * most


def test_while_one_call_is_refused_the_others_wait_with_it(recipe):
    module, farm, gateway = recipe((503, {"Retry-After": "30"}))
    farm._budget = 0
    with pytest.raises(module.NotNow):
        farm.submit("f")
    farm.submit("g")
    assert gateway.asked[1][0] - gateway.asked[0][0] >= 30


def test_the_client_does_not_repeat_what_is_wrong(recipe):
    _, farm, gateway = recipe((422, {}))
    with pytest.raises(httpx.HTTPStatusError):
        farm.submit("f")
    assert len(gateway.asked) == 1


def test_the_client_calls_a_real_farm(gateway):
    module = ModuleType("farm_http")
    exec(PYTHON[1], vars(module))
    farm = module.Farm(f"http://{gateway}")
    url = farm.submit("thumbnails.make", "cat", width=7)
    assert farm.result(url) == {"path": "cat.7.png"}
    farm._http.close()
