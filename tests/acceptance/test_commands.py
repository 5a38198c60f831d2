"""The commands against a farm that runs: what a person at a shell sees."""

import os
import signal
import subprocess
import sys

import pytest

from farm.cli.exitcodes import ExitCode
from tests.acceptance.conftest import WAIT_SECONDS

MODULE = """\
def double(n, times=1):
    return n * 2 ** times

def fail(text):
    raise ValueError(text)

def steps(gate):
    import farm, gates
    farm.current_task().progress(3, 4, "reading")
    return gates.hold(gate)
"""


@pytest.fixture
def up(shared):
    (shared.folder / "mine.py").write_text(MODULE)
    return shared


def test_a_function_of_ones_own(up):
    assert up.farm("submit", "mine:double", "21") == (0, "42\n", "")
    assert up.ask("submit", "mine:double", "21", "times=2")["result"] == 84


def test_a_task_that_fails(up):
    code, out, err = up.farm("submit", "mine:fail", "no such day")
    assert (code, out) == (ExitCode.FAILED, "")
    assert err.startswith("farm: task ")
    assert err.endswith("failed: ValueError: no such day\n")
    code, _, err = up.farm("submit", "mine:fail", "no such day", "--debug")
    assert code == ExitCode.FAILED
    assert "in fail" in err  # the traceback of the worker


def test_a_task_whose_worker_dies(up):
    code, _, err = up.farm("submit", "os:abort")
    assert code == ExitCode.FAILED
    assert "WorkerLost" in err
    assert "SIGABRT" in err
    assert up.farm("submit", "mine:double", "1") == (0, "2\n", "")


def test_a_module_that_the_host_does_not_have(up):
    elsewhere = up.folder / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "theirs.py").write_text("def f(): return 1")
    up.environ["PYTHONPATH"] += f":{elsewhere}"
    code, _, err = up.farm("submit", "theirs:f")
    assert code == ExitCode.FAILED
    assert "theirs" in err


def test_a_task_from_submission_to_result(up):
    gate = up.gate()
    code, out, err = up.farm("submit", "--detach", "gates:hold", gate.path)
    task = out.strip()
    assert (code, err) == (0, "")
    code, out, err = up.farm("result", task)
    assert (code, out) == (ExitCode.NOT_DONE, "")
    assert err.endswith("--wait waits for it\n")
    code, _, err = up.farm("result", task, "--timeout", "300ms")
    assert code == ExitCode.NOT_DONE
    assert "has not ended after 0.3 s" in err
    waiting = up.start("result", "--wait", task)
    gate.open()
    assert waiting.line() == "seen"
    assert waiting.wait() == 0
    # Reading did not consume it.
    assert up.farm("result", task) == (0, "seen\n", "")
    assert up.ask("result", task)["result"] == "seen"


def test_progress_of_a_task_in_a_pipe_is_lines(up):
    gate = up.gate()
    running = up.start("submit", "mine:steps", gate.path)
    assert running.log(": 3 of 4 (reading)").startswith("task ")
    gate.open()
    assert running.line() == "seen"


def test_ctrl_c_stops_the_waiting_and_not_the_task(up):
    gate = up.gate()
    running = up.start("submit", "gates:hold", gate.path)
    gate.wait_begun()
    (row,) = up.ask("tasks", "--state", "running")
    task = row["id"]
    running.signal(signal.SIGINT)
    assert running.wait() == ExitCode.INTERRUPTED
    assert running.stderr() == f"The task goes on: farm result --wait {task}\n"
    gate.open()
    assert up.farm("result", "--wait", task) == (0, "seen\n", "")


def test_cancelling(up):
    gate = up.gate()
    for _ in range(2):  # both slots
        up.farm("submit", "-d", "gates:hold", gate.path)
    gate.wait_begun(2)
    _, out, _ = up.farm("submit", "--detach", "mine:double", "1")
    task = out.strip()
    assert up.farm("cancel", task) == (0, "cancelled\n", "")
    code, _, err = up.farm("result", task)
    assert code == ExitCode.CANCELLED
    assert err == f"farm: task {task} was cancelled\n"
    running = up.ask("tasks", "--state", "running")[0]["id"]
    code, _, err = up.farm("cancel", running)
    assert code == ExitCode.FAILED
    assert "a worker has begun it" in err
    for _ in range(3):
        up.farm("submit", "-d", "--job", "nightly", "mine:double", "1")
    assert up.ask("cancel", "nightly")["cancelled"] == 1  # the newest of the name
    gate.open()


def test_what_nobody_knows(up):
    task = "0" * 32 + "-7"
    for words in (["result", task], ["result", "--wait", task], ["cancel", task]):
        code, out, err = up.farm(*words)
        assert (code, out) == (ExitCode.UNKNOWN, "")
        assert err.count("\n") == 1
    code, _, err = up.farm("cancel", "no-such-job")
    assert code == ExitCode.UNKNOWN
    assert "no-such-job" in err


def test_an_expired_task(up):
    gate = up.gate()
    for _ in range(2):
        up.farm("submit", "-d", "gates:hold", gate.path)
    gate.wait_begun(2)
    code, _, err = up.farm("submit", "mine:double", "1", "--expires", "200ms")
    gate.open()
    assert code == ExitCode.EXPIRED
    assert err.count("\n") == 1


def test_looking(up):
    gate = up.gate()
    _, out, _ = up.farm("submit", "-d", "--job", "weekly", "gates:hold", gate.path)
    task = out.strip()
    gate.wait_begun()
    status = up.ask("status")
    assert status["durable"]
    assert (status["hosts"], status["slots"]) == (1, 2)
    assert status["tasks"]["leased"] == 1
    (host,) = up.ask("hosts")
    assert (host["slots"], host["running"], host["state"]) == (2, 1, "works")
    (row,) = up.ask("tasks", "--state", "leased")
    assert (row["id"], row["function"], row["host"]) == (task, "gates.hold", host["name"])
    assert up.ask("tasks", "--longer-than", "1h") == []
    (job,) = [one for one in up.ask("jobs") if one["name"] == "weekly"]
    assert job["total"] == 1
    for words in (["status"], ["hosts"], ["jobs"], ["tasks"]):
        code, out, err = up.farm(*words)
        assert (code, err) == (0, "")
        assert out
    assert up.farm("tasks", "--quiet", "--state", "running") == (0, f"{task}\n", "")
    gate.open()


def test_a_reader_that_goes_away(up):
    reads, writes = os.pipe()
    os.close(reads)
    try:
        done = subprocess.run(
            [sys.executable, "-m", "farm", "config"],
            env=up.environ,
            stdout=writes,
            stderr=subprocess.PIPE,
            timeout=WAIT_SECONDS,
            check=False,
        )
    finally:
        os.close(writes)
    assert (done.returncode, done.stderr) == (ExitCode.PIPE, b"")


def test_up_that_is_told_to_stop_lets_the_tasks_end(machine):
    gate = machine.gate()
    farm = machine.up("--slots", "1", forks=False)
    _, out, _ = machine.farm("submit", "--detach", "gates:hold", gate.path)
    gate.wait_begun()
    farm.signal(signal.SIGTERM)
    farm.log("draining")
    gate.open()
    assert farm.wait() == 0
    machine.up("--slots", "1")
    assert machine.farm("result", out.strip()) == (0, "seen\n", "")


def test_up_that_is_told_twice_stops_at_once(machine):
    gate = machine.gate()
    farm = machine.up("--slots", "1", forks=False)
    _, out, _ = machine.farm("submit", "--detach", "gates:hold", gate.path)
    gate.wait_begun()
    family = farm.family()
    farm.signal(signal.SIGINT)
    farm.log("draining")
    farm.signal(signal.SIGINT)
    assert farm.wait() == 0
    machine.gone(family)
    machine.up("--slots", "1")
    gate.open()
    assert machine.farm("result", "--wait", out.strip()) == (0, "seen\n", "")


def test_up_that_is_killed_leaves_nobody_behind(machine):
    gate = machine.gate()
    farm = machine.up("--slots", "1", forks=False)
    machine.farm("submit", "--detach", "gates:hold", gate.path)
    gate.wait_begun()
    family = farm.family()
    assert len(family) > 3
    farm.kill()
    machine.gone(family)


QUEUES = """\
[queues.mail]
max_tasks = 1
[queues.mail.options]
retries = 0
"""
BUSY = """
import farm
client = farm.Client()
mail = client.options(queue="mail", block=False)
gate = {gate!r}
import gates
first = mail.submit(gates.hold, gate)
while True:  # until the coordinator has said that the queue is full
    try:
        mail.submit(len, "abc")
    except farm.Busy as busy:
        print(busy, flush=True)
        break
print(client.submit(len, "abcd").result(), flush=True)
try:
    client.options(queue="mial").submit(len, "abc")
except ValueError as error:
    print(error, flush=True)
client.shutdown(wait=False)
"""


def test_a_full_queue_holds_up_nobody_else(machine):
    (machine.folder / "farm.toml").write_text(QUEUES)
    machine.up("--slots", "2")
    gate = machine.gate()
    script = machine.script(BUSY.format(gate=gate.path))
    assert "queue mail is full: it has 1 of 1 tasks" in script.line()
    assert script.line() == "4"
    assert script.line() == "there is no queue 'mial'; did you mean 'mail'?"
    gate.wait_begun()
    machine.ask("queues", "pause", "mail")
    (mail,) = [row for row in machine.ask("queues") if row["name"] == "mail"]
    assert (mail["paused"], mail["running"], mail["policy"]["max_tasks"]) == (True, 1, 1)
    gate.open()
