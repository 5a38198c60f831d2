"""Settings: where they come from, in which order, and what is said about wrong ones."""

import os
import re

import msgspec
import pytest

from farm import config
from farm.config import Config, files, load, settings
from farm.errors import ConfigError


@pytest.fixture
def places(tmp_path, monkeypatch):
    """A user's and a system's file and a folder that are this test's own."""
    monkeypatch.setattr(config, "SYSTEM_FILE", tmp_path / "etc" / "farm.toml")
    return Places(tmp_path)


class Places:
    def __init__(self, root):
        self.folder = root / "folder"
        self.named = root / "named.toml"
        self.local = self.folder / "farm.toml"
        self.user = root / "home" / ".config" / "farm" / "farm.toml"
        self.system = root / "etc" / "farm.toml"
        self.environ = {"HOME": str(root / "home")}
        for path in (self.local, self.user, self.system):
            path.parent.mkdir(parents=True)

    def load(self, flags=None, **options):
        return load(flags, environ=self.environ, folder=self.folder, **options)

    def error(self, text):
        self.local.write_text(text)
        with pytest.raises(ConfigError) as caught:
            self.load()
        assert str(self.local) in str(caught.value)
        return str(caught.value)


def test_without_any_place_everything_is_its_default(places):
    assert places.load() == Config()
    assert places.load().client.address == "tcp://127.0.0.1:7070"


def test_each_place_beats_those_after_it(places):
    paths = [places.named, places.local, places.user, places.system]
    for path in paths:
        path.write_text(f'[client]\naddress = "tcp://{path.parent.name}:1"')
    places.environ |= {"FARM_CONFIG": str(places.named), "FARM_ADDRESS": "tcp://variable:1"}
    found = [places.load({"client.address": "tcp://flag:1"}), places.load()]
    del places.environ["FARM_ADDRESS"]
    for path in paths:
        found.append(places.load())
        path.unlink()
        places.environ.pop("FARM_CONFIG", None)
    assert [one.client.address for one in found] == [
        f"tcp://{name}:1" for name in ("flag", "variable", *(path.parent.name for path in paths))
    ]
    assert [one.origins["client.address"] for one in found] == [
        "flag",
        "FARM_ADDRESS",
        *map(str, paths),
    ]
    assert places.load() == Config()


def test_places_are_merged_key_by_key(places):
    places.user.write_text('[client]\naddress = "tcp://user:1"\nconnect_timeout = 3')
    places.local.write_text('[client]\nconnect_timeout = "250ms"\n[host]\nslots = 2')
    found = places.load({"host.slots": None, "log.level": "debug"})
    assert found.client == config.ClientConfig(address="tcp://user:1", connect_timeout=0.25)
    assert found.host.slots == 2
    assert found.log.level == "debug"
    assert found.coordinator == config.CoordinatorConfig()


def test_a_named_file_beats_the_one_of_the_environment(places):
    places.named.write_text("[host]\nslots = 7")
    places.environ["FARM_CONFIG"] = "/there/is/no/such.toml"
    assert places.load(named=places.named).host.slots == 7


def test_a_named_file_must_exist(places):
    places.environ["FARM_CONFIG"] = "/there/is/no/such.toml"
    with pytest.raises(ConfigError, match=r"^/there/is/no/such.toml: no such file; .*FARM_CONFIG"):
        places.load()


def test_the_users_file_follows_xdg(places, tmp_path):
    found = files({"XDG_CONFIG_HOME": "/conf", "HOME": "/home/u"}, tmp_path)
    assert found == [
        tmp_path / "farm.toml",
        config.Path("/conf/farm/farm.toml"),
        config.SYSTEM_FILE,
    ]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('[client]\nadress = "x"', r"\[client\] has no 'adress'; did you mean 'address'\?"),
        ("[client]\nqqq = 1", r"\[client\] has no 'qqq'; there are address, connect_timeout"),
        ("[clients]\n", r"no section \[clients\]; did you mean 'client'\?"),
        ("[qqq]\n", r"no section \[qqq\]; there are client, coordinator, host, gateway"),
        ("slots = 2", r"'slots' stands outside every section; did you mean 'slots' under \[host\]"),
        ("qqq = 2", r"'qqq' stands outside every section; it may be misspelt"),
        ("client = 2", r"client is 2; expected a table: write \[client\]"),
        ("[client]\naddress = 2", r"client.address is 2; expected an address, or a list"),
        ('[client]\naddress = ""', r"client.address is ''; expected an address, or a list"),
        ("[host]\nname = 3", r"host.name is 3; expected a text$"),
        (
            '[client]\nconnect_timeout = "soon"',
            r"client.connect_timeout is 'soon'; expected a duration",
        ),
        ("[client]\nconnect_timeout = 0", r"connect_timeout is 0; expected a duration of more"),
        ("[client]\nconnect_timeout = -1", r"connect_timeout is -1; expected a duration"),
        ("[client]\nconnect_timeout = true", r"connect_timeout is True; expected a duration"),
        ('[host]\nslots = "2"', r"host.slots is '2'; expected a whole number of 0 or more"),
        ("[host]\nslots = 1.5", r"host.slots is 1.5; expected a whole number"),
        ("[host]\nslots = -1", r"host.slots is -1; expected a whole number of 0 or more"),
        ('[host]\npreload = "numpy"', r"host.preload is 'numpy'; expected a list of texts"),
        ("[host]\npreload = [1]", r"host.preload is \[1\]; expected a list of texts"),
        ("[coordinator]\nmax_tasks = 0", r"coordinator.max_tasks is 0; expected a whole number of"),
        ('[coordinator]\nmax_bytes = "4 GB!"', r"max_bytes is '4 GB!'; expected a number of bytes"),
        ("[coordinator]\nmax_bytes = []", r"max_bytes is \[\]; expected a number of bytes"),
        ('[log]\nformat = "xml"', r"log.format is 'xml'; expected one of 'text', 'json'"),
        ("[client\n", r"not valid TOML: .*line 1"),
        (f"x = {5000 * '['}", r"not valid TOML: "),
        (f"x = {5000 * '9'}", r"not valid TOML: "),
    ],
)
def test_what_is_wrong_is_named_with_file_and_key(places, text, says):
    assert re.search(says, places.error(text))


def test_an_unreadable_file_is_named(places):
    places.local.mkdir()
    with pytest.raises(ConfigError, match=r"farm\.toml: cannot be read: .*directory"):
        places.load()


def test_a_file_that_is_not_text_is_named(places):
    places.local.write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigError, match=r"farm\.toml: cannot be read: .*utf-8"):
        places.load()


@pytest.mark.parametrize(
    ("text", "count"),
    [("1", 1), ("10 kB", 10_000), ("512MiB", 512 << 20), ("1.5gib", 3 << 29), ("2tb", 2 * 10**12)],
)
def test_sizes_may_have_units(places, text, count):
    places.environ["FARM_COORDINATOR_MAX_BYTES"] = text
    assert places.load().coordinator.max_bytes == count


def test_variables_are_text_and_become_what_the_setting_is(places):
    places.environ |= {
        "FARM_CONNECT_TIMEOUT": "2m",
        "FARM_HOST_SLOTS": "3",
        "FARM_HOST_PRELOAD": "numpy, pandas",
        "FARM_LOG_FORMAT": "json",
        "FARM_ADDRESS": "",
    }
    found = places.load()
    assert found.client.connect_timeout == 120
    assert found.host == config.HostConfig(slots=3, preload=["numpy", "pandas"])
    assert found.log.format == "json"
    assert found.client.address == config.DEFAULT_ADDRESS  # an empty variable is not set
    assert set(found.origins.values()) == set(places.environ) - {"HOME", "FARM_ADDRESS"}


def test_a_wrong_variable_is_named(places):
    places.environ["FARM_HOST_SLOTS"] = "many"
    with pytest.raises(ConfigError, match=r"^FARM_HOST_SLOTS: host.slots is 'many'; expected a "):
        places.load()


def test_a_misspelt_variable_is_named_with_the_nearest(places):
    places.environ["FARM_ADRESS"] = "tcp://h:1"
    with pytest.raises(ConfigError, match=r"FARM_ADRESS is no setting; did you mean FARM_ADDRESS"):
        places.load()


def test_variables_of_strangers_are_none_of_our_business(places):
    # What Kubernetes sets beside services called farm, farm-coordinator and farm-host.
    places.environ |= {
        f"FARM{service}_{name}": "tcp://10.0.0.1:7070"
        for service in ("", "_COORDINATOR", "_HOST")
        for name in ("PORT", "SERVICE_HOST", "SERVICE_PORT", "PORT_7070_TCP_ADDR")
    }
    assert places.load() == Config()


def test_the_environment_and_folder_are_this_process_own_unless_given(places, monkeypatch):
    monkeypatch.chdir(places.folder)
    for name in [name for name in os.environ if name.startswith(("FARM_", "XDG_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", places.environ["HOME"])
    monkeypatch.setenv("FARM_HOST_NAME", "north")
    places.local.write_text("[host]\nslots = 5")
    assert load().host == config.HostConfig(slots=5, name="north")


def test_every_setting_says_what_it_is_for_and_accepts_its_own_default():
    known = settings()
    assert {setting.section for setting in known} == set(config.SECTIONS)
    assert len({setting.variable for setting in known}) == len(known)
    for setting in known:
        assert setting.description
        assert setting.read(setting.default, "default") == setting.default


def test_settings_cannot_be_changed_by_accident():
    with pytest.raises(AttributeError):
        Config().client.address = "x"
    assert isinstance(Config().client, msgspec.Struct)


# ---------------------------------------------------------------- what a host has


def test_what_a_host_has_is_said_in_files_variables_and_flags(places):
    places.local.write_text(
        '[host]\nresources = {gpu = 2, memory = "32GB"}\nlabels = ["zone=a", "ssd"]'
    )
    host = places.load().host
    assert (host.resources, host.labels) == ({"gpu": 2.0, "memory": 32e9}, ["ssd", "zone=a"])
    places.environ["FARM_HOST_RESOURCES"] = "gpu=1,licence=0.5"
    places.environ["FARM_HOST_LABELS"] = "hdd"
    host = places.load().host
    assert (host.resources, host.labels) == ({"gpu": 1.0, "licence": 0.5}, ["hdd"])
    host = places.load({"host.resources": ["gpu=4"], "host.labels": ["x"]}).host
    assert (host.resources, host.labels) == ({"gpu": 4.0}, ["x"])


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("resources = {gpu = -1}", "host.resources has gpu=-1; expected a whole number of 0 or"),
        ("resources = {slots = 4}", "host.resources has 'slots'; a host has a setting of its own"),
        ('resources = {memory = "much"}', "host.resources has memory='much'"),
        ("resources = 3", "host.resources is 3; write amounts by name"),
        ('resources = ["gpu"]', "host.resources is 'gpu'; write NAME=AMOUNT"),
        ('labels = "ssd"', "host.labels is 'ssd'; write a list"),
        ('labels = ["zone=a", "zone=b"]', "host.labels says 'zone' twice"),
        ("resource = {gpu = 1}", "did you mean 'resources'"),
    ],
)
def test_what_a_host_cannot_have_is_named(places, text, says):
    assert says in places.error(f"[host]\n{text}")


# ---------------------------------------------------------------- queues


def test_queues_are_merged_key_by_key(places):
    places.local.write_text(
        '[queues.mail]\nweight = 2\nmax_bytes = "64KiB"\nageing_seconds = "5m"\n[queues.bulk]\n'
        '[queues.mail.options]\nretries = 3\ntime_limit = "30s"\nretry_on = "builtins.OSError"\n'
    )
    places.user.write_text("[queues.mail]\nweight = 9\nrate = 0.5\n[queues.mail.options]\ndelay=1")
    found = places.load()
    mail = found.queues["mail"]
    assert (mail.weight, mail.max_bytes, mail.rate, mail.ageing_seconds) == (2, 65536, 0.5, 300.0)
    assert mail.options == {"retries": 3, "time_limit": 30.0, "retry_on": ["OSError"], "delay": 1}
    assert found.queues["bulk"] == config.QueueConfig()
    assert found.origins["queues.mail.weight"] == str(places.local)
    assert found.origins["queues.mail.options.delay"] == str(places.user)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[queues.mail]\nmax_tasks = 0", "queues.mail.max_tasks is 0; expected a whole number of"),
        ("[queues.mail]\nmax_bytes = 0", "queues.mail.max_bytes is 0; expected a number of bytes"),
        ("[queues.mail]\nmax_running = 1.5", "queues.mail.max_running is 1.5; expected a whole"),
        ("[queues.mail]\nmax_running = true", "queues.mail.max_running is True"),
        ("[queues.mail]\nweight = 0", "queues.mail.weight is 0; expected a number from 0.001"),
        ("[queues.mail]\nweight = nan", "queues.mail.weight is nan"),
        ("[queues.mail]\nrate = -1", "queues.mail.rate is -1; expected a number of more than 0"),
        ("[queues.mail]\nrate = inf", "queues.mail.rate is inf"),
        ("[queues.mail]\nageing_seconds = 0", "queues.mail.ageing_seconds is 0"),
        ("[queues.mail]\nwieght = 1", "[queues.mail] has no 'wieght'; did you mean 'weight'?"),
        ("[queues.mail]\noptions = 1", "queues.mail.options is 1; expected a table"),
        ("[queues.mail.options]\nretires = 1", "did you mean 'retries'?"),
        ("[queues.mail.options]\nretries = -1", "queues.mail.options.retries is -1"),
        ("[queues.mail.options]\nmemory_limit = 0", "queues.mail.options.memory_limit is 0"),
        ("[queues.mail.options]\nretry_on = ['a b']", "queues.mail.options.retry_on is ['a b']"),
        ("[queues.mail.options]\nresources = {gpu = 0}", "queues.mail.options.resources is {'gpu'"),
        (
            "[queues.mail.options]\nlabels = 'x'",
            "queues.mail.options.labels is 'x'; expected a list",
        ),
        ("[queues.mail.options]\nretry_on = 3", "queues.mail.options.retry_on is 3"),
        ("[queues.'a b']", "'a b' cannot be the name of a queue"),
        ("[queues]\nmail = 1", "queues.mail is 1; expected a table: write [queues.mail]"),
        ("queues = 1", "queues is 1; expected tables"),
        ("[queue.mail]", "there is no section [queue]; did you mean 'queues'?"),
    ],
)
def test_what_is_wrong_with_a_queue_is_named(places, text, says):
    assert says in places.error(text)
