"""Schedules as people have them: ``farm up`` beside a file, a scheduler of its own."""

import signal

import httpx

from tests.processes import free_ports

FILE = """
[schedules.held]
cron = "@every 1s"
run = "gates:hold"
args = ["{path}"]

[schedules.bad]
cron = "61 * * * *"
command = ["true"]
"""


def test_a_farm_beside_a_file_runs_it(machine):
    gate = machine.gate()
    (machine.folder / "schedules.toml").write_text(FILE.format(path=gate.path))
    http = f"127.0.0.1:{free_ports()}"
    up = machine.up("--slots", "2", "--http", http)
    gate.wait_begun()
    (of_bad, of_held) = httpx.get(f"http://{http}/v1/schedules").json()
    assert (of_bad["state"], of_held["last"]["state"]) == ("stopped", "running")
    held, bad = machine.ask("schedules", "list")
    assert (held["name"], held["state"]) == ("held", "works")
    assert bad["state"].startswith("stopped: minute: '61' is not one")
    paused = machine.ask("schedules", "pause", "held", "--why", "enough", "--who", "ada")
    assert paused == {"name": "held", "until": None}
    assert machine.ask("schedules", "list")[0]["state"] == "paused by ada: enough"
    gate.open()
    assert {row["schedule"] for row in machine.ask("schedules", "history")} == {"held"}
    up.signal(signal.SIGTERM)
    assert up.wait() == 0


JOBS = """
from farm_scheduler import Schedule, schedule
from gates import hold

wrong = Schedule("wrong", cron="61 * * * *", command=["true"])


@schedule(cron="@every 1s", args=["{path}"])
def held(path):
    return hold(path)
"""


def test_what_a_module_gets_wrong_of_one_schedule_stops_no_other_and_no_worker(machine):
    gate = machine.gate()
    (machine.folder / "jobs.py").write_text(JOBS.format(path=gate.path))
    machine.up("--slots", "1", "--no-gateway", "--schedules", "jobs.py")
    gate.wait_begun()  # its worker has imported the module
    held, wrong = machine.ask("schedules", "list")
    assert (held["name"], held["state"]) == ("held", "works")
    assert wrong["state"].startswith("stopped: minute: '61' is not one")
    assert wrong["state"].endswith("(line 5)")


def test_a_scheduler_whose_farm_is_away_ends_when_it_is_told_to(machine):
    (machine.folder / "mine.toml").write_text(
        '[schedules.a]\ncron = "@yearly"\ncommand = ["true"]\n'
    )
    coordinator = machine.coordinator()
    scheduler = machine.start("scheduler", "mine.toml")
    scheduler.log("decides about 1 schedule,")
    coordinator.kill()
    assert machine.ask("schedules", "run", "a")["state"] == "running"
    scheduler.signal(signal.SIGTERM)
    assert scheduler.wait() == 0  # whoever takes over submits it


def test_a_scheduler_of_its_own(machine):
    gate = machine.gate()
    machine.up("--slots", "2", "--no-gateway")
    file = machine.folder / "mine.toml"
    file.write_text('[schedules.a]\ncron = "@yearly"\ncommand = ["true"]\n')
    first = machine.start("scheduler", "mine.toml")
    first.log("decides about 1 schedule,")
    second = machine.start("scheduler", "mine.toml")
    second.log("another scheduler decides; this one stands by")
    second.log("ready to take over 1 schedule")
    file.write_text(FILE.format(path=gate.path))
    first.signal(signal.SIGHUP)
    first.log("this entry is stopped")
    gate.wait_begun()
    first.kill()
    second.log("decides about 1 schedule,")
    gate.open()
    second.signal(signal.SIGTERM)
    assert second.wait() == 0
