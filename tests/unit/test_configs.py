"""Every file in configs/ is read by what it is for."""

import configparser
import re
import shlex
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest
import typer.main
import yaml

from farm.cli.main import app
from farm.config import Config, GatewayConfig, load
from farm_scheduler.files import read_files
from farm_workers.launchers.hosts import read_hosts
from farm_workers.launchers.ssh import start_line, start_of
from tests.tools import find

CONFIGS = Path(__file__).resolve().parents[2] / "configs"
FILES = sorted(path for path in CONFIGS.rglob("*") if path.is_file())
UNITS = [path for path in FILES if path.suffix == ".service"]
BINARY = "/opt/farm/bin/farm"


def settings(path):
    found = load(named=path, environ={}, folder=path.parent / "none")
    assert set(found.origins.values()) == {str(path)}


def hosts(path):
    for entry in read_hosts(path):
        assert start_line(start_of(entry, "", ""))


def schedules(path):
    found = read_files([str(path)])
    assert found.schedules
    assert not found.problems


def scraping(path):
    told = yaml.safe_load(path.read_text())
    targets = [target for job in told["scrape_configs"] for target in job["static_configs"]]
    assert [one["targets"] for one in targets] == [[GatewayConfig().listen]]
    assert [(path.parent / name).is_file() for name in told["rule_files"]] == [True]


def alerts(path):
    (group,) = yaml.safe_load(path.read_text())["groups"]
    metrics = Path(sys.modules["farm.config"].__file__).with_name("gateway") / "metrics.py"
    text = metrics.read_text()
    for rule in group["rules"]:
        assert {"alert", "expr"} <= rule.keys() <= {"alert", "expr", "for"}
        for name in re.findall(r"\bfarm_[a-z_]+", rule["expr"]):
            last = name.removesuffix("_total").partition("farm_queue_")[2]
            assert f'"{name.removesuffix("_total")}"' in text or f'"{last}"' in text, name


def unit(path):
    """The command that a unit runs is one that there is, and its settings are known."""
    parser = configparser.RawConfigParser(strict=False)
    parser.optionxform = str
    parser.read(path)
    words = shlex.split(parser["Service"]["ExecStart"])
    assert words[0] == BINARY
    commands = typer.main.get_command(app)
    found = commands.commands[words[1]]
    context = found.make_context(words[1], [word.replace("%l", "north") for word in words[2:]])
    assert context.params


def page(path):
    for target in re.findall(r"\]\(([^)#:]+)\)", path.read_text()):
        assert (path.parent / target).exists()


READERS = {
    "one-machine/farm.toml": settings,
    "many-hosts/client.toml": settings,
    "many-hosts/coordinator.toml": settings,
    "many-hosts/host.toml": settings,
    "many-hosts/hosts.toml": hosts,
    "schedules.toml": schedules,
    "systemd/schedules.toml": schedules,
    "systemd/*.service": unit,
    "prometheus/prometheus.yml": scraping,
    "prometheus/alerts.yml": alerts,
    "README.md": page,
    "systemd/README.md": page,
}


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(CONFIGS)))
def test_the_examples_are_right(path):
    readers = [read for pattern, read in READERS.items() if path in CONFIGS.glob(pattern)]
    assert len(readers) == 1, "nothing reads this file"
    readers[0](path)


def test_the_example_for_one_machine_says_the_defaults():
    found = load(named=CONFIGS / "one-machine" / "farm.toml", environ={}, folder=CONFIGS)
    assert msgspec.structs.replace(found, origins={}) == Config()


@pytest.mark.parametrize("path", UNITS, ids=lambda path: path.name)
def test_systemd_finds_nothing_wrong_with_the_units(path, tmp_path):
    verify = find("systemd-analyze")
    if verify is None:
        pytest.skip("systemd-analyze is not there (python -m tests.tools installs it)")
    copy = tmp_path / path.name  # a program that is not there would be a mistake
    copy.write_text(path.read_text().replace(BINARY, sys.executable))
    done = subprocess.run(
        [verify, "verify", "--man=no", str(copy)], capture_output=True, text=True, check=False
    )
    ours = [line for line in done.stderr.splitlines() if "farm-" in line]
    assert (done.returncode, ours) == (0, []), done.stderr


def test_systemd_would_find_what_is_wrong(tmp_path):
    verify = find("systemd-analyze")
    if verify is None:
        pytest.skip("systemd-analyze is not there (python -m tests.tools installs it)")
    copy = tmp_path / UNITS[0].name
    text = UNITS[0].read_text().replace(BINARY, sys.executable)
    copy.write_text(text.replace("RestartSec=", "RestartSecs="))
    done = subprocess.run(
        [verify, "verify", "--man=no", str(copy)], capture_output=True, text=True, check=False
    )
    assert "RestartSecs" in done.stderr
