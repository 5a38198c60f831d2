"""The commands that run a farm: what they hand to it, and how they end."""

import json
import os
import signal
import sys
from importlib import import_module
from pathlib import Path
from typing import ClassVar

import pytest

import farm
import farm.coordinator.service
import farm_workers.service
from farm.cli import main
from farm.cli.exitcodes import ExitCode
from farm.errors import ConfigError, ServiceFailed, StoreError, StoreLocked
from farm.transport import AddressError


@pytest.fixture
def served(monkeypatch, tmp_path):
    """What the services are told instead of being run."""
    told = {}
    for module in (farm.coordinator.service, farm_workers.service):
        monkeypatch.setattr(module, "serve", lambda settings: told.update(settings=settings) or 75)
    monkeypatch.setattr(import_module("farm.local"), "LocalFarm", FakeLocalFarm)
    monkeypatch.setattr(farm, "Client", FakeClient)
    FakeClient.answers = [0, 0, 3]
    FakeLocalFarm.made, FakeLocalFarm.start_error, FakeLocalFarm.failed = [], None, None
    FakeLocalFarm.http_error = None
    monkeypatch.chdir(tmp_path)
    for name in [name for name in os.environ if name.startswith(("FARM_", "XDG_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    yield told
    for number, handler in before.items():  # `farm up` sets its own
        signal.signal(number, handler)


class FakeClient:
    """Of a farm whose host connects after some time."""

    answers: ClassVar = []

    def __init__(self, address, *, token, keys):
        pass

    def query(self, what):
        slots = FakeClient.answers.pop(0)
        if slots:
            os.kill(os.getpid(), signal.SIGTERM)
        return {"slots": slots}

    def shutdown(self, wait):
        assert FakeClient.answers == []


class FakeLocalFarm:
    """Is stopped by a SIGTERM as soon as it is ready."""

    pids = (2, 3)
    start_error = None
    failed = None
    http_error = None
    made: ClassVar = []

    def __init__(self, **settings):
        self.settings = settings
        self.address = settings["listen"]
        self.http = f"http://{settings['gateway']['listen']}" if settings["gateway"] else ""
        self.stopped = None
        FakeLocalFarm.made.append(self)

    def start(self):
        if self.start_error:
            raise self.start_error

    def stop(self, *, drain):
        self.stopped = drain


@pytest.fixture
def cli(served, monkeypatch, capsys):
    def run(*words):
        monkeypatch.setattr(sys, "argv", ["farm", *words])
        with pytest.raises(SystemExit) as ended:
            main.main()
        out, err = capsys.readouterr()
        return ended.value.code or 0, out, err

    return run


def test_a_coordinator_is_told_what_the_settings_say(cli, served, tmp_path):
    (tmp_path / "farm.toml").write_text(
        '[coordinator]\nlisten = "tcp://127.0.0.1:1"\nmax_tasks = 5\nbeat_seconds = "1s"\n'
        '[log]\nformat = "json"'
    )
    code, _, _ = cli("coordinator", "--store", "memory:", "--log-level", "debug")
    settings = served["settings"]
    assert code == 75
    assert (settings.listen, settings.store) == ("tcp://127.0.0.1:1", "memory:")
    assert (settings.log_format, settings.log_level) == ("json", "debug")
    assert settings.core_settings().max_tasks == 5
    assert settings.core_settings().beat_seconds == 1.0


FLAGS = {
    "--lease": ("lease_seconds", "20s", 20.0),
    "--beat": ("beat_seconds", "2s", 2.0),
    "--unclaimed-ttl": ("unclaimed_ttl", "1d", 86_400.0),
    "--result-ttl": ("result_ttl", "2d", 172_800.0),
    "--history-ttl": ("history_ttl", "1h", 3600.0),
    "--max-result-bytes": ("max_result_bytes", "1GiB", 1 << 30),
}


def test_leases_and_what_is_kept_are_set_by_flags_too(cli, served):
    words = [word for flag, (_, text, _) in FLAGS.items() for word in (flag, text)]
    cli("coordinator", *words)
    core = served["settings"].core_settings()
    assert {name: getattr(core, name) for name, _, _ in FLAGS.values()} == {
        name: value for name, _, value in FLAGS.values()
    }
    cli("up", *words)
    made = FakeLocalFarm.made[0].settings["coordinator"]["core"]
    assert all(made[name] == value for name, _, value in FLAGS.values())


@pytest.mark.parametrize("command", ["coordinator", "up"])
def test_a_lease_and_a_beat_that_do_not_fit_are_refused_before_anything_starts(
    cli, served, command
):
    code, out, err = cli(command, "--lease", "15s")
    assert (code, out) == (ExitCode.CONFIG, "")
    assert err == (
        "farm: lease_seconds is 15 and beat_seconds 10; a lease must last two beats or more: "
        "raise the one or lower the other\n"
    )
    assert FakeLocalFarm.made == []
    assert served == {}


@pytest.mark.parametrize(("words", "most"), [([], None), (["--max-lent", "3"], 3)])
def test_how_many_slots_are_lent_is_said_by_a_flag(cli, served, words, most):
    cli("worker", *words)
    assert served["settings"].max_lent == most
    cli("up", *words)
    assert FakeLocalFarm.made[0].settings["host"]["max_lent"] == most


def test_how_many_slots_are_lent_is_at_least_none(cli, served):
    code, _, err = cli("worker", "--max-lent", "-1")
    assert code == ExitCode.USAGE
    assert "--max-lent" in err
    assert served == {}


def test_from_when_on_arguments_wait_in_the_store_is_a_setting(cli, served, tmp_path):
    (tmp_path / "farm.toml").write_text('[coordinator]\nfar_seconds = "5m"\n')
    cli("coordinator")
    assert served["settings"].core_settings().far_seconds == 300.0
    served.clear()
    (tmp_path / "farm.toml").write_text("[coordinator]\nfar_seconds = 0\n")
    code, _, err = cli("coordinator")
    assert code == ExitCode.CONFIG
    assert "far_seconds" in err
    assert "farm.toml" in err
    assert served == {}


@pytest.mark.parametrize(("words", "seconds"), [([], None), (["--grace", "1m"], 60.0)])
def test_a_host_that_stops_gives_its_tasks_a_grace(cli, served, words, seconds):
    cli("worker", *words)
    assert served["settings"].grace_seconds == seconds
    cli("up", *words)
    assert FakeLocalFarm.made[0].settings["host"]["grace_seconds"] == seconds


def test_a_coordinator_keeps_its_tasks_in_the_users_state_folder(cli, served, tmp_path):
    cli("coordinator")
    folder = tmp_path / ".local" / "state" / "farm"
    assert served["settings"].store == str(folder / "farm.db")
    assert folder.stat().st_mode & 0o777 == 0o700


def test_the_state_folder_follows_xdg(cli, served, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    cli("coordinator")
    assert served["settings"].store == str(tmp_path / "state" / "farm" / "farm.db")


@pytest.mark.parametrize("command", ["coordinator", "up"])
def test_listening_to_other_machines_has_to_be_asked_for(cli, served, command):
    code, out, err = cli(command, "--listen", "tcp://0.0.0.0:7070")
    assert (code, out) == (ExitCode.REFUSED, "")
    assert "allow it with --insecure" in err
    assert "settings" not in served
    assert FakeLocalFarm.made == []


@pytest.mark.parametrize("variable", ["FARM_INSECURE", "FARM_COORDINATOR_INSECURE"])
def test_no_variable_allows_it(cli, served, monkeypatch, variable):
    monkeypatch.setenv(variable, "true")
    code, _, err = cli("coordinator", "--listen", "tcp://0.0.0.0:7070")
    assert code == ExitCode.REFUSED
    assert "allow it with --insecure" in err
    assert "settings" not in served


def test_insecure_is_handed_on(cli, served):
    cli("coordinator", "--listen", "tcp://0.0.0.0:7070", "--insecure")
    assert served["settings"].insecure
    assert served["settings"].listen == "tcp://0.0.0.0:7070"


def test_a_host_is_told_what_the_settings_say(cli, served, tmp_path, monkeypatch):
    monkeypatch.setenv("FARM_HOST_SLOTS", "3")
    words = ["--name", "north", "--preload", "json", "--preload", "ast"]
    code, _, _ = cli("worker", "tcp://h:7070", *words)
    settings = served["settings"]
    assert code == 75
    assert (settings.address, settings.slots, settings.name) == ("tcp://h:7070", 3, "north")
    assert settings.preload == ["json", "ast"]
    assert settings.sys_path[0] == str(tmp_path)
    assert set(filter(None, sys.path)) <= set(settings.sys_path)


def test_a_host_has_a_slot_for_each_cpu_and_finds_the_farm_by_itself(cli, served, monkeypatch):
    monkeypatch.setenv("FARM_ADDRESS", "tcp://h:1")
    cli("worker")
    assert (served["settings"].address, served["settings"].slots) == ("tcp://h:1", None)


def test_up_is_a_farm_on_disk(cli, tmp_path):
    code, out, err = cli("up", "--slots", "3")
    (local,) = FakeLocalFarm.made
    store = str(tmp_path / ".local" / "state" / "farm" / "farm.db")
    assert code == 0
    assert out == (
        f"The farm is up at tcp://127.0.0.1:7070 with 3 slots, its tasks in {store}, HTTP at "
        "http://127.0.0.1:8080.\n"
    )
    assert "farm submit math:factorial 20" in err
    assert "Stopping when the running tasks have ended" in err
    assert local.settings["slots"] == 3
    assert local.settings["store"] == store
    assert local.settings["host"]["sys_path"][0] == str(tmp_path)
    assert local.settings["coordinator"]["core"]["max_tasks"] == 1_000_000
    assert local.stopped is True


@pytest.mark.parametrize(
    ("words", "made"),
    [((), True), (("--insecure",), False), (("--listen", "ipc:///tmp/f.sock"), False)],
)
def test_the_token_is_there_before_the_host_looks_for_it(cli, tmp_path, monkeypatch, words, made):
    monkeypatch.setattr(FakeLocalFarm, "start", lambda self: seen.append(Path(token).is_file()))
    token, seen = tmp_path / ".local/state/farm/keys/local.token", []
    cli("up", *words)
    assert seen == [made]


def test_up_tells_a_program_when_it_is_ready(cli):
    code, out, err = cli("up", "--json", "--listen", "tcp://127.0.0.1:9", "--store", "x.db")
    assert (code, err) == (0, "")
    assert json.loads(out) == {
        "address": "tcp://127.0.0.1:9",
        "store": "x.db",
        "slots": 3,
        "pids": [2, 3],
        "http": "http://127.0.0.1:8080",
    }


def test_up_answers_http_where_it_is_told(cli, tmp_path):
    (tmp_path / "farm.toml").write_text("[gateway]\nmax_items = 5")
    cli(
        "up", "--http", "127.0.0.1:9000", "--import", "json", "--import", "email.mime", "--insecure"
    )
    settings = FakeLocalFarm.made[0].settings
    told = settings["gateway"]
    assert (told["listen"], told["modules"], told["max_items"], told["insecure"]) == (
        "127.0.0.1:9000",
        ["json", "email.mime"],
        5,
        True,
    )
    assert (settings["host"]["imports"], told["sys_path"][0]) == (
        ["json", "email.mime"],
        str(tmp_path),
    )


def test_up_goes_on_without_http_unless_that_was_asked_for(cli, monkeypatch):
    FakeLocalFarm.http_error = ServiceFailed("127.0.0.1:8080: address in use")
    code, _, err = cli("up")
    assert (code, "It does not answer HTTP: 127.0.0.1:8080: address in use\n" in err) == (0, True)
    FakeClient.answers = [3]
    code, _, err = cli("up", "--http", "127.0.0.1:8080")
    assert (code, err) == (ExitCode.REFUSED, "farm: 127.0.0.1:8080: address in use\n")
    FakeLocalFarm.http_error = None
    cli("up", "--no-gateway")
    assert FakeLocalFarm.made[-1].settings["gateway"] is None


@pytest.mark.parametrize("words", [["up"], ["worker"], ["gateway"]])
def test_a_module_that_is_not_there_is_refused_before_anything_starts(cli, served, words):
    code, _, err = cli(*words, "--import", "no_such_module.at_all")
    assert (code, err.count("\n")) == (ExitCode.CONFIG, 1)
    assert "--import no_such_module.at_all: there is no module 'no_such_module' in this" in err
    assert (FakeLocalFarm.made, served) == ([], {})


def test_up_does_not_go_on_with_a_module_that_cannot_be_imported(cli):
    FakeLocalFarm.http_error = ConfigError("the module 'one' cannot be imported: no licence")
    code, _, err = cli("up")
    assert (code, err) == (
        ExitCode.CONFIG,
        "farm: the module 'one' cannot be imported: no licence\n",
    )


def test_without_the_gateways_packages_there_is_no_http(cli, monkeypatch):
    monkeypatch.setattr("farm.cli.gateway.find_spec", lambda name: None)
    code, _, err = cli("up")
    assert (code, FakeLocalFarm.made[0].settings["gateway"]) == (0, None)
    assert "It does not answer HTTP: the HTTP gateway is not installed: pip install" in err
    for words in (["up", "--gateway"], ["gateway"]):
        code, _, err = cli(*words)
        assert (code, err.startswith("farm: the HTTP gateway is not")) == (ExitCode.REFUSED, True)


def test_a_gateway_is_told_what_the_settings_say(cli, served, monkeypatch, tmp_path):
    monkeypatch.setattr(
        "farm.gateway.service.serve",
        lambda settings, desk, _library: served.update(settings=settings, desk=desk) or 75,
    )
    (tmp_path / "farm.toml").write_text('[gateway]\nmax_body = "1MiB"\nnames = ["farm.example"]')
    words = ["--import", "json", "--listen", "127.0.0.1:9", "--docs", "--address", "tcp://h:1"]
    code, _, _ = cli("gateway", *words)
    assert served["desk"].path.name == "schedules.db"
    told = served["settings"]
    assert (code, told.address, told.listen, told.modules) == (
        75,
        "tcp://h:1",
        "127.0.0.1:9",
        ["json"],
    )
    assert (told.max_body, told.names, told.docs, told.insecure) == (
        1 << 20,
        ["farm.example"],
        True,
        False,
    )


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (StoreLocked("process 7 has it"), ExitCode.STORE),
        (AddressError("taken"), ExitCode.REFUSED),
        (ServiceFailed("it ended"), ExitCode.REFUSED),
        (StoreError("the disk is gone"), ExitCode.STORE),
    ],
)
def test_up_that_cannot_start(cli, error, code):
    FakeLocalFarm.start_error = error
    found, out, err = cli("up")
    assert (found, out, err) == (code, "", f"farm: {error}\n")


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (ServiceFailed("the host ended with exit code 1"), ExitCode.REFUSED),
        (StoreError("the disk is gone"), ExitCode.STORE),
    ],
)
def test_up_that_is_given_up(cli, error, expected):
    FakeLocalFarm.failed = error
    code, _, err = cli("up")
    assert code == expected
    assert err.endswith(f"farm: {error}\n")
    assert FakeLocalFarm.made[0].stopped is False


def test_a_host_says_what_it_has(cli, served):
    says = (
        "--resource",
        "gpu=2",
        "--resource",
        "memory=1GB",
        "--label",
        "ssd",
        "--label",
        "zone=a",
    )
    cli("worker", "ipc:///tmp/f", *says)
    settings = served["settings"]
    assert settings.resources == {"gpu": 2.0, "memory": 1e9}
    assert settings.labels == {"ssd": "", "zone": "a"}


def test_a_coordinator_knows_the_resources_that_its_hosts_may_have(cli, served, tmp_path):
    (tmp_path / "farm.toml").write_text(
        '[coordinator]\nresources = ["licence"]\n[host]\nresources = {probe = 1}'
    )
    cli("coordinator", "--store", "memory:")
    assert served["settings"].core_settings().resources == ["licence"]
    cli("up")
    made = FakeLocalFarm.made[0].settings
    assert made["coordinator"]["core"]["resources"] == ["licence", "probe"]
    assert made["host"]["resources"] == {"probe": 1.0}


def test_options_of_a_queue_that_clash_name_the_queue(cli, tmp_path):
    (tmp_path / "farm.toml").write_text(
        "[queues.mail.options]\nsoft_time_limit = 5\ntime_limit = 3"
    )
    _, _, err = cli("coordinator", "--store", "memory:")
    assert "queues.mail: options: soft_time_limit is 5 s" in err
