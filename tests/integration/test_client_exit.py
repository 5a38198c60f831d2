"""How scripts end that do not close their clients."""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from tests.integration.fake_farm import FakeFarm

ROOT = Path(__file__).resolve().parents[2]
PATH = os.pathsep.join(str(ROOT / folder) for folder in (".", "workers"))


@pytest.fixture
def fake():
    folder = tempfile.mkdtemp(prefix="f-", dir="/tmp")
    fake = FakeFarm(folder).start()
    yield fake
    fake.stop()
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def script(tmp_path):
    running = []

    def start(text, *arguments):
        path = tmp_path / "script.py"
        path.write_text("import sys, time, operator, farm\n" + text)
        process = subprocess.Popen(
            [sys.executable, str(path), *arguments],
            env=os.environ | {"PYTHONPATH": PATH},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        running.append(process)
        return process

    yield start
    for process in running:
        process.kill()
        process.communicate()


def ends(process):
    """Wait for a script; its exit code, and what it said to stdout and stderr."""
    said, errors = process.communicate(timeout=30)
    return process.returncode, said, errors


REMOTE = """
client = farm.Client(sys.argv[1])
futures = [client.submit(operator.add, i, 1) for i in range(100)]
print("submitted", flush=True)
"""


def test_a_remote_farm_has_accepted_all_when_the_script_ends(fake, script):
    fake.held = True
    process = script(REMOTE, fake.address)
    assert ends(process) == (0, "submitted\n", "")
    assert sum(group.count for group in fake.groups) == 100
    assert fake.cancelled == []


def test_a_script_waits_until_a_remote_farm_has_room(fake, script):
    fake.credit = 0
    process = script(REMOTE, fake.address)
    assert process.stdout.readline() == "submitted\n"
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(0.3)
    fake.grant(100)
    assert ends(process)[0] == 0
    assert sum(group.count for group in fake.groups) == 100


def test_after_ctrl_c_the_exit_cancels(fake, script):
    fake.held = True
    process = script(REMOTE + "futures[0].result()", fake.address)
    assert process.stdout.readline() == "submitted\n"
    fake.wait(lambda fake: fake.groups)
    process.send_signal(signal.SIGINT)
    code, _, errors = ends(process)
    assert code == -signal.SIGINT
    assert errors.count("KeyboardInterrupt") == 1
    assert len(fake.cancelled) == 100


def test_a_ctrl_c_at_a_prompt_is_over_when_the_session_is_left(fake, script):
    fake.held = True
    prompt = 'sys.ps1, sys.last_value = ">>> ", KeyboardInterrupt()  # as Python leaves them'
    process = script(REMOTE + prompt, fake.address)
    assert ends(process) == (0, "submitted\n", "")
    assert sum(group.count for group in fake.groups) == 100
    assert fake.cancelled == []


def test_ctrl_c_in_a_with_block_does_not_wait(fake, script):
    fake.held = True
    process = script(
        """
with farm.Client(sys.argv[1]) as client:
    future = client.submit(operator.add, 1, 1)
    print("submitted", flush=True)
    future.result()
""",
        fake.address,
    )
    assert process.stdout.readline() == "submitted\n"
    process.send_signal(signal.SIGINT)
    assert ends(process)[0] == -signal.SIGINT
    assert len(fake.cancelled) == 1


def test_ctrl_c_while_the_exit_waits_ends_it_without_a_word(fake, script):
    fake.credit = 0
    process = script(REMOTE, fake.address)
    assert process.stdout.readline() == "submitted\n"
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(0.3)
    process.send_signal(signal.SIGINT)
    assert ends(process) == (-signal.SIGINT, "", "")


def test_an_unclosed_client_of_a_farm_that_is_gone_does_not_hang(fake, script):
    process = script(
        "client = farm.Client(sys.argv[1])\nprint('ready', flush=True)\nsys.stdin.read()",
        fake.address,
    )
    assert process.stdout.readline() == "ready\n"
    assert ends(process)[0] == 0


LOCAL = """
client = farm.local(workers=2)
def work(seconds):
    time.sleep(seconds)
    return seconds
futures = [client.submit(work, float(sys.argv[1])) for _ in range(4)]
futures[-1].add_done_callback(lambda one: one.cancelled() or print("done", one.result()))
print("submitted", flush=True)
"""


def test_a_local_farm_is_waited_for(script):
    assert ends(script(LOCAL, "0.1")) == (0, "submitted\ndone 0.1\n", "")


def test_ctrl_c_ends_a_local_farm_that_is_waited_for(script):
    process = script(LOCAL, "1000")
    assert process.stdout.readline() == "submitted\n"
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(0.3)
    process.send_signal(signal.SIGINT)
    assert ends(process) == (-signal.SIGINT, "", "")


def test_a_forgotten_local_farm_finishes_its_work(script):
    process = script("print(farm.local(workers=1).submit(operator.add, 1, 1).result())")
    assert ends(process) == (0, "2\n", "")


def test_importing_the_farm_is_light(script):
    process = script("print([name for name in ('zmq', 'cloudpickle') if name in sys.modules])")
    assert ends(process) == (0, "[]\n", "")


def test_the_farm_is_a_function_whatever_was_imported(script):
    process = script(
        "import farm.local, farm.client.client\nfrom farm.local import LocalFarm\n"
        "print(callable(farm.local), farm.Client.__name__, 'Job' in dir(farm))"
    )
    assert ends(process) == (0, "True Client True\n", "")
