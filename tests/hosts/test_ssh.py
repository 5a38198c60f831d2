"""`farm launch ssh` against a real sshd on the loopback."""

import json
import os
import signal
import sys

import psutil
import pytest

import farm
from farm.keys.token import Token
from tests.acceptance.conftest import WAIT_SECONDS, Machine
from tests.hosts.sshd import Sshd

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def sshd(tmp_path_factory):
    found = Sshd(tmp_path_factory.mktemp("ssh") / "sshd")
    yield found
    found.stop()


@pytest.fixture
def site(tmp_path, sshd):
    found = Site(tmp_path, sshd)
    yield found
    found.stop()


class Site(Machine):
    """A machine that launches hosts on itself, through sshd."""

    def __init__(self, folder, sshd):
        super().__init__(folder)
        self.sshd = sshd
        self.environ["XDG_STATE_HOME"] = str(folder / "state")
        self.agents = set()

    def hosts(self, hosts, **defaults):
        """Write the file of hosts: what is said of each, by name."""
        told = {
            "address": self.address,
            "python": sys.executable,
            "slots": 1,
            "environment": {
                "FARM_TEST": str(self.folder),
                "XDG_STATE_HOME": self.environ["XDG_STATE_HOME"],
            },
        }
        tables = {"defaults": self.sshd.defaults(**(told | defaults))}
        tables |= {f"hosts.{name}": table for name, table in hosts.items()}
        lines = []
        for name, table in tables.items():
            lines += [f"[{name}]", *(f"{key} = {_toml(value)}" for key, value in table.items())]
        (self.folder / "hosts.toml").write_text("\n".join(lines))

    def launch(self, *words):
        return Launched(self, self.start("launch", "ssh", "hosts.toml", "--json", *words))

    def stop(self):
        super().stop()
        agents = [psutil.Process(pid) for pid in self.agents if psutil.pid_exists(pid)]
        for agent in agents:  # those that nobody keeps any more
            agent.kill()
        psutil.wait_procs(agents, timeout=WAIT_SECONDS)


class Launched:
    """A launcher that goes on."""

    def __init__(self, site, running):
        self.site = site
        self.running = running
        self.signal, self.wait, self.kill = running.signal, running.wait, running.kill

    def until(self, host, state):
        """The next line about a host in this state."""
        while True:
            said = json.loads(self.running.line())
            if said["pid"]:
                self.site.agents.add(said["pid"])
            if (said["host"], said["state"]) == (host, state):
                return said

    def all_until(self, hosts, state):
        """The next line about each of these hosts in this state."""
        found = {}
        while found.keys() != set(hosts):
            said = json.loads(self.running.line())
            if said["pid"]:
                self.site.agents.add(said["pid"])
            if said["host"] in hosts and said["state"] == state:
                found[said["host"]] = said
        return found


def _toml(value):
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key} = {_toml(one)}" for key, one in value.items()) + "}"
    return json.dumps(value)


def gone(pid):
    """Wait until a process has ended, which is no child of ours."""
    try:
        psutil.Process(pid).wait(WAIT_SECONDS)
    except psutil.NoSuchProcess:
        return


def test_hosts_are_started_run_tasks_and_are_drained(site):
    site.coordinator()
    site.hosts({"north": {"labels": ["zone=a"]}, "south": {"labels": ["zone=b"]}})
    launched = site.launch()
    found = launched.all_until({"north", "south"}, "works")
    assert found["north"]["pid"] != found["south"]["pid"]
    with farm.Client(site.address, keys=f"{site.folder}/state/farm/keys") as client:
        for zone in "ab":
            task = client.options(labels=[f"zone={zone}"]).submit(os.getenv, "FARM_TEST")
            assert task.result(WAIT_SECONDS) == str(site.folder)
    assert {row["name"]: row["slots"] for row in site.ask("hosts")} == {"north": 1, "south": 1}
    launched.signal(signal.SIGINT)
    launched.all_until({"north", "south"}, "left")
    assert launched.wait() == 0
    for said in found.values():
        gone(said["pid"])
    assert site.ask("hosts") == []


def test_a_drain_lets_a_task_end_and_a_second_signal_does_not(site):
    gate = site.gate()
    site.coordinator()
    site.hosts({"north": {}}, directory=str(site.folder))
    launched = site.launch()
    pid = launched.until("north", "works")["pid"]
    code, out, _ = site.farm("submit", "gates:hold", gate.path, "--detach", "--quiet")
    assert code == 0
    gate.wait_begun()
    launched.signal(signal.SIGINT)
    launched.until("north", "draining")
    assert psutil.pid_exists(pid)
    launched.signal(signal.SIGINT)
    assert launched.wait() == 130
    gone(pid)
    assert out


def test_an_agent_that_is_killed_is_started_anew_and_only_so_often(site):
    site.coordinator()
    site.hosts({"north": {"restarts": 1}})
    launched = site.launch()
    first = launched.until("north", "works")["pid"]
    os.kill(first, signal.SIGKILL)
    assert "the agent was killed" in launched.until("north", "pause")["text"]
    again = launched.until("north", "works")
    assert again["pid"] != first
    assert again["restarts"] == 1
    os.kill(again["pid"], signal.SIGKILL)
    said = launched.until("north", "failed")
    assert said["text"].startswith("it ended more than 1 times within 600 s")
    assert launched.wait() == 1


def test_a_connection_that_breaks_costs_no_task(site):
    gate = site.gate()
    site.coordinator()
    site.hosts({"north": {}}, directory=str(site.folder))
    launched = site.launch()
    pid = launched.until("north", "works")["pid"]
    _, task, _ = site.farm("submit", "gates:hold", gate.path, "--detach", "--quiet")
    gate.wait_begun()
    (ssh,) = psutil.Process(launched.running.pid).children()
    ssh.kill()
    launched.until("north", "pause")
    assert launched.until("north", "works")["pid"] == pid
    gate.open()
    assert site.farm("result", task.strip(), "--wait", "--quiet") == (0, "seen\n", "")
    launched.signal(signal.SIGINT)
    assert launched.wait() == 0
    gone(pid)


def test_without_its_launcher_an_agent_drains(site):
    site.coordinator()
    site.hosts({"north": {}}, linger="0s")
    launched = site.launch()
    pid = launched.until("north", "works")["pid"]
    launched.kill()
    gone(pid)


def test_unless_another_launcher_comes_in_time(site):
    site.coordinator()
    site.hosts({"north": {}})
    first = site.launch()
    pid = first.until("north", "works")["pid"]
    first.kill()
    second = site.launch()
    assert second.until("north", "works")["pid"] == pid
    second.signal(signal.SIGTERM)
    assert second.wait() == 0
    gone(pid)


def test_one_that_is_detached_stays_until_it_is_told_to_leave(site):
    gate = site.gate()
    site.coordinator()
    site.hosts({"north": {}}, detach=True, linger="0s", directory=str(site.folder))
    first = site.launch()
    pid = first.until("north", "works")["pid"]
    first.kill()
    gate.open()
    for _ in range(3):  # it runs tasks, though nobody listens to what they print
        code, out, _ = site.farm("submit", "gates:hold", gate.path, "--quiet")
        assert (code, out) == (0, "seen\n")
    second = site.launch()
    assert second.until("north", "works")["pid"] == pid
    second.signal(signal.SIGTERM)
    assert second.wait() == 0
    gone(pid)


def test_an_agent_that_was_told_something_else_makes_room(site):
    site.coordinator()
    site.hosts({"north": {}}, detach=True)
    first = site.launch()
    pid = first.until("north", "works")["pid"]
    first.kill()
    site.hosts({"north": {"slots": 2}}, detach=True)
    second = site.launch()
    while (said := second.until("north", "works"))["pid"] == pid:
        pass
    assert said["slots"] == 2
    gone(pid)
    second.signal(signal.SIGTERM)
    assert second.wait() == 0


def test_what_is_wrong_with_a_host_is_said_and_the_others_go_on(site, tmp_path):
    bare = tmp_path / "bare-python"
    bare.write_text(f'#!/bin/sh\nexec {sys.executable} -I -S "$@"\n')
    bare.chmod(0o755)
    other = tmp_path / "other"
    key = (site.sshd.folder / "stranger.pub").read_text()
    other.write_text(f"[127.0.0.1]:{site.sshd.port} {key}")
    empty = tmp_path / "empty"
    empty.touch()
    site.coordinator()
    site.hosts(
        {
            "good": {},
            "closed": {"port": 1},
            "changed": {"ssh_options": [f"UserKnownHostsFile={other}"]},
            "unknown": {"ssh_options": [f"UserKnownHostsFile={empty}"]},
            "stranger": {"identity": str(site.sshd.folder / "stranger")},
            "missing": {"python": "/nowhere/python"},
            "bare": {"python": str(bare)},
            "lost": {"directory": "/nowhere"},
        }
    )
    launched = site.launch()
    words = {
        "changed": "its host key is not the one that is known",
        "unknown": "its host key is not known here",
        "stranger": "it refuses the login",
        "missing": "there is no /nowhere/python that could be run",
        "bare": "has no farm, or one too old",
        "lost": "directory '/nowhere' cannot be used",
        "closed": "nothing answers at its ssh port",
    }
    found, works = {}, False
    while found.keys() != words.keys() or not works:
        said = json.loads(launched.running.line())
        works = works or (said["host"], said["state"]) == ("good", "works")
        if said["state"] == ("pause" if said["host"] == "closed" else "failed"):
            found[said["host"]] = said["text"]
    wrong = {host: text for host, text in found.items() if words[host] not in text}
    assert wrong == {}
    launched.signal(signal.SIGINT)
    launched.until("good", "left")
    assert launched.wait() == 1


def test_a_token_stands_on_no_command_line_and_in_no_environment(site):
    token = Token((site.address,), os.urandom(32), host=os.urandom(32)).text()
    site.environ["FARM_TOKEN"] = token
    site.hosts({"north": {}})
    launched = site.launch()
    pid = launched.until("north", "away")["pid"]
    family = psutil.Process(launched.running.pid).children(recursive=True)
    agent = psutil.Process(pid)
    seen = [*family, agent, *agent.children(recursive=True)]
    assert len(seen) > 2
    for process in seen:
        assert token not in " ".join(process.cmdline())
        assert token not in process.environ().values()
    launched.signal(signal.SIGINT)
    assert launched.wait() == 0


@pytest.mark.parametrize("by_variable", [False, True], ids=["token_file", "FARM_TOKEN"])
def test_hosts_join_with_the_tokens_of_their_files_and_those_alone_say_where(site, by_variable):
    assert site.farm("keys", "init", "--address", site.address)[0] == 0
    site.coordinator()
    elsewhere = {"XDG_STATE_HOME": str(site.folder / "no-keys-here")}
    entry = {} if by_variable else {"token_file": "north.token"}
    if by_variable:
        site.environ["FARM_TOKEN"] = "north.token"
    site.hosts({"north": entry}, address="", environment=elsewhere)
    words = ("keys", "new", "north", "--role", "host", "--one", "--file", "north.token")
    assert site.farm(*words)[0] == 0
    del site.environ["FARM_ADDRESS"]
    launched = site.launch()
    pid = launched.until("north", "works")["pid"]
    token = (site.folder / "north.token").read_text().strip()
    family = psutil.Process(launched.running.pid).children(recursive=True)
    agent = psutil.Process(pid)
    for process in [*family, agent, *agent.children(recursive=True)]:
        assert token not in " ".join(process.cmdline())
        assert token not in process.environ().values()
    launched.signal(signal.SIGINT)
    assert launched.wait() == 0


def test_a_dry_run_prints_what_would_be_run_and_no_token(site):
    token = Token((site.address,), os.urandom(32), host=os.urandom(32)).text()
    site.environ["FARM_TOKEN"] = token
    site.hosts({"north": {}, "south": {}})
    code, out, err = site.farm("launch", "ssh", "hosts.toml", "--dry-run", "--only", "south")
    assert (code, err) == (0, "")
    command, told = out.splitlines()
    assert command.startswith("south: ssh -T -o UserKnownHostsFile=")
    assert command.endswith(
        f"127.0.0.1 'exec {sys.executable} -P -m farm_workers.launchers.remote'"
    )
    assert json.loads(told.removeprefix("south < "))["environment"]["FARM_TOKEN"] == "(the token)"
    assert token not in out
    (row,) = site.ask("launch", "ssh", "hosts.toml", "--dry-run", "--only", "south")
    assert row["host"] == "south"
    assert row["command"][0] == "ssh"


def test_where_the_farm_is_must_be_said(site):
    site.hosts({"north": {}}, address="")
    code, _, err = site.farm("launch", "ssh", "hosts.toml", "--dry-run")
    assert code == 3
    assert "nothing says where host 'north' finds the farm" in err
    assert site.farm("launch", "ssh", "hosts.toml", "--only", "west")[0] == 3
