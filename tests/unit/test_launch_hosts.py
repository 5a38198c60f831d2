"""The file that says which hosts there are, and the command line of ssh that follows from it."""

import json

import pytest

from farm.errors import ConfigError
from farm_workers.launchers.hosts import HostEntry, read_hosts
from farm_workers.launchers.ssh import command, start_line, start_of, why_ended

WHOLE = """\
[defaults]
address = "tcp://10.0.0.1:7070"
user = "farm"
venv = "~/farm"
slots = 4
ssh_options = ["ProxyJump=gate"]
environment = { A = "1", B = "2" }
resources = { licence = 1 }

[hosts.north]
ssh = "10.0.0.11"
port = 2222
identity = "keys/north"
labels = ["zone=a"]
resources = { memory = "32GB" }
environment = { B = "3" }
grace = "5m"
modules = ["tasks"]

[hosts.south]
python = "/usr/bin/python3.12"
detach = true
"""


def read(tmp_path, text):
    path = tmp_path / "hosts.toml"
    path.write_text(text)
    return read_hosts(path)


def test_what_hosts_say_adds_to_the_defaults(tmp_path):
    north, south = read(tmp_path, WHOLE)
    assert (north.name, north.target, north.user, north.slots) == ("north", "10.0.0.11", "farm", 4)
    assert north.resources == {"licence": 1.0, "memory": 32e9}
    assert north.environment == {"A": "1", "B": "3"}
    assert north.grace == 300.0
    assert (south.target, south.environment) == ("south", {"A": "1", "B": "2"})
    assert (south.venv, south.python) == ("", "/usr/bin/python3.12")


def test_the_command_line_of_ssh(tmp_path):
    north, south = read(tmp_path, WHOLE)
    words = command(north, tmp_path)
    assert words[:2] == ["ssh", "-T"]
    assert words[words.index("ProxyJump=gate") - 1] == "-o"
    assert words.index("ProxyJump=gate") < words.index("BatchMode=yes")
    assert words[words.index("-i") + 1] == str(tmp_path / "keys" / "north")
    assert words[words.index("-p") + 1] == "2222"
    assert words[words.index("-l") + 1] == "farm"
    far = 'exec "$HOME"/farm/bin/python -P -m farm_workers.launchers.remote'
    assert words[-3:] == ["--", "10.0.0.11", far]
    assert command(south, tmp_path)[-1].startswith("exec /usr/bin/python3.12 -P -m")


def test_what_shells_would_take_apart_is_quoted(tmp_path):
    entry = HostEntry(name="a", python="/opt/a b/$(reboot)/python")
    assert command(entry, tmp_path)[-1].startswith("exec '/opt/a b/$(reboot)/python' -P")


def test_the_agent_is_told_everything_and_the_command_line_nothing_secret(tmp_path):
    north, south = read(tmp_path, WHOLE)
    told = json.loads(start_line(start_of(north, "", "farm1-secret")))
    assert told["environment"] == {"A": "1", "B": "3", "FARM_TOKEN": "farm1-secret"}
    assert told["settings"]["address"] == "tcp://10.0.0.1:7070"
    assert told["settings"]["labels"] == {"zone": "a"}
    assert told["settings"]["imports"] == ["tasks"]
    assert (told["settings"]["name"], told["linger"]) == ("north", 60.0)
    assert start_of(south, "", "").linger is None
    assert "farm1-secret" not in " ".join(command(north, tmp_path))


def test_more_than_fits_into_a_pipe_is_refused():
    entry = HostEntry(name="a", environment={"A": "x" * 70_000})
    with pytest.raises(ConfigError, match=r"host a: what is said of it has .* bytes"):
        start_line(start_of(entry, "tcp://h:1", ""))


WRONG = {
    "[hosts.a]\nslotz = 2": r"hosts.toml: \[hosts.a\] has no 'slotz'; did you mean 'slots'\?",
    "[defaults]\nvenvv = 'x'\n[hosts.a]": r"\[defaults\] has no 'venvv'; did you mean 'venv'\?",
    "[hosts.a]\nslots = -1": "hosts.a.slots is -1; expected a whole number of 0 or more",
    "[hosts.a]\nport = 70000": "hosts.a.port is 70000; expected a whole number of 0 to 65535",
    "[hosts.a]\ndetach = 1": "hosts.a.detach is 1; expected true or false",
    "[hosts.a]\ngrace = 'soon'": "hosts.a.grace is 'soon'; expected a duration",
    "[hosts.a]\nresources = {gpu = 0.5}": "hosts.a.resources has gpu=0.5",
    "[hosts.a]\nlabels = ['a b']": "hosts.a.labels has 'a b', which can be no label",
    "[hosts.a]\nssh = '-oProxyCommand=x'": "hosts.a.ssh is .*; it has characters",
    "[hosts.a]\nuser = 'a b'": "hosts.a.user is 'a b'; it has characters",
    "[hosts.a]\nssh_options = ['ProxyJump']": "'ProxyJump' is no option of ssh: write NAME=VALUE",
    "[hosts.a]\nvenv = 'x'\npython = 'y'": r"\[hosts.a\] has venv and python; one of them",
    "[hosts.a]\nenvironment = {A = 1}": "hosts.a.environment has A = 1; expected variables by name",
    "[hosts.a]\nenvironment = {FARM_TOKEN = 'x'}": "tokens do not stand in this file",
    "[hosts.'a b']": "'a b' cannot be the name of a host",
    "[hosts]\na = 1": r"hosts.a is 1; expected a table: write \[hosts.a\]",
    "[host.a]": "there is no 'host'; did you mean 'hosts'",
    "[defaults]": "it names 0 hosts",
    "[hosts.a": "not valid TOML",
    f"x = {5000 * '['}": "not valid TOML",
    f"x = {5000 * '9'}": "not valid TOML",
}


@pytest.mark.parametrize("text", WRONG)
def test_what_is_wrong_is_refused_by_file_and_key(tmp_path, text):
    with pytest.raises(ConfigError, match=WRONG[text]) as raised:
        read(tmp_path, text)
    assert str(raised.value).startswith(str(tmp_path / "hosts.toml"))


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(ConfigError, match=r"nowhere.toml: cannot be read"):
        read_hosts(tmp_path / "nowhere.toml")


ENDS = [
    (255, "Host key verification failed.", "its host key is not known here", False),
    (255, "ssh: connect to host a port 22: Connection refused", "nothing answers at", True),
    (255, "ssh: Could not resolve hostname a: Name or service", "name cannot be resolved", True),
    (255, "a@b: Permission denied (publickey).", "refuses the login", False),
    (255, "something new", "ssh could not connect: something new", True),
    (127, "sh: 1: exec: python3: not found", "there is no python3 that could be run", False),
    (1, "python3: No module named farm_workers", "has no farm, or one too old", False),
    (1, "ModuleNotFoundError: No module named 'zmq'", "lacks the module zmq", False),
    (2, "Unknown option: -P", "older than 3.11", False),
    (1, "x\nMemoryError\n", "the agent ended with code 1: MemoryError", True),
]


@pytest.mark.parametrize(("code", "said", "text", "again"), ENDS)
def test_why_ssh_has_ended(code, said, text, again):
    why = why_ended(HostEntry(name="a"), code, said.splitlines(), began=False)
    assert text in why.text
    assert why.again is again


def test_what_tasks_print_says_nothing_about_ssh():
    lines = ["Permission denied (publickey)", "No module named farm"]
    why = why_ended(HostEntry(name="a"), 255, lines, began=True)
    assert why.again
    assert "the connection ended, or the agent was killed" in why.text
