"""Small things that a worker's process stands on: the page, the environment, the settings."""

import json
import os
import subprocess
import sys

import pytest

from farm.errors import ConfigError
from farm_workers import kin
from farm_workers.page import Page
from farm_workers.settings import AgentSettings
from farm_workers.system import clean_environment


def test_both_sides_see_the_page():
    agent = Page.create()
    worker = Page(os.dup(agent.fd))
    assert agent.index is None
    assert agent.seconds(5.0) == 0.0
    worker.words[1] = 3_000_000_000
    worker.words[0] = 8
    assert agent.index == 7
    assert agent.seconds(5.0) == 2.0
    agent.limit(9)
    assert worker.words[2] == 9
    agent.clear()
    assert list(worker.words[:3]) == [0, 0, 0]
    worker.close()
    agent.close()


def test_secrets_are_taken_from_the_environment_and_threads_set_where_nobody_did():
    environment = {
        "FARM_ADDRESS": "tcp://a:1",
        "FARM_KEY_FILE": "k",
        "FARM_API_TOKEN": "t",
        "MY_TOKEN": "mine",
        "OMP_NUM_THREADS": "7",
    }
    clean_environment(environment)
    assert environment["OMP_NUM_THREADS"] == "7"
    assert environment["MKL_NUM_THREADS"] == "1"
    assert {"FARM_ADDRESS", "MY_TOKEN"} <= environment.keys()
    assert not {"FARM_KEY_FILE", "FARM_API_TOKEN"} & environment.keys()


def test_settings_come_from_json(tmp_path):
    path = tmp_path / "s.json"
    path.write_text(json.dumps({"address": "tcp://h:7070", "slots": 3, "initializer": "AAE="}))
    settings = AgentSettings.read(path)
    assert (settings.slot_count(), settings.initializer) == (3, b"\0\1")
    assert settings.host_name(5).endswith("-5")


@pytest.mark.parametrize("text", ["{", "{}", '{"address": 3}', '{"address": "a", "slts": 1}'])
def test_wrong_settings_name_the_file(tmp_path, text):
    path = tmp_path / "s.json"
    path.write_text(text)
    with pytest.raises(ConfigError, match=r"s\.json"):
        AgentSettings.read(path)


def test_a_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(ConfigError, match="none"):
        AgentSettings.read(tmp_path / "none")


@pytest.fixture
def family():
    """A process with a child and a grandchild in sessions of their own."""
    script = (
        "import subprocess, sys, time\n"
        "if sys.argv[1] != '0':\n"
        "    args = [sys.executable, '-c', sys.argv[2], str(int(sys.argv[1]) - 1), sys.argv[2]]\n"
        "    subprocess.Popen(args, start_new_session=True)\n"
        "else:\n"
        "    print('up', flush=True)\n"
        "time.sleep(1000)\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", script, "2", script], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "up\n"
    yield process
    process.kill()
    process.stdout.close()
    process.wait(20)


def test_descendants_are_found_and_ended(family):
    pids = kin.descendants(family.pid)
    assert len(pids) == 2
    kin.kill(family.pid)
    assert family.wait(20) == -9
    assert family.stdout.read() == ""  # ends when the last that holds it does


def test_the_kin_of_a_process_that_is_gone_is_nobody():
    process = subprocess.Popen([sys.executable, "-c", "pass"])
    process.wait(20)
    assert kin.descendants(process.pid) == []
    assert not kin.exists(process.pid)
    kin.kill(process.pid)
