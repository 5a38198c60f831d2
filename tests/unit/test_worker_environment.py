"""What a host tells of its environment."""

import importlib.metadata
import platform
import subprocess
import sys
import zipfile

import msgspec

from farm_workers.environment import package_versions, platform_name
from farm_workers.launchers.hosts import HostEntry
from farm_workers.launchers.ssh import start_of
from farm_workers.settings import AgentSettings


def test_packages_that_are_there_are_told_with_their_versions():
    found = package_versions(["msgspec", "no-such-package", ""])
    assert found["msgspec"] == importlib.metadata.version("msgspec")
    assert "cloudpickle" in found
    assert found.keys() <= {"cloudpickle", "numpy", "msgspec"}


def test_the_platform_is_told():
    assert platform_name().endswith(platform.machine().lower())


def test_what_a_launcher_tells_an_agent_is_what_an_agent_understands():
    entry = HostEntry(name="a", packages=["torch"], labels=["zone=a"], slots=2)
    told = start_of(entry, "tcp://h:7070", "").settings
    assert msgspec.convert(told, AgentSettings).packages == ["torch"]


def test_what_is_installed_in_any_way_is_found(tmp_path, monkeypatch):
    def say(folder, name, text):
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / name).write_text(text)

    say(
        "a/A_Wheel-1.2+local.3.dist-info", "METADATA", "Name: x\nVersion: 1.2+local.3\n\nVersion: 0"
    )
    say("b/a_wheel-9.dist-info", "METADATA", "Version: 9\n")
    say("b/of_old.egg-info", "PKG-INFO", "Metadata-Version: 1.0\nName: of_old\nVersion: 0.7\n")
    say("b/cut-3.dist-info", "RECORD", "")
    with zipfile.ZipFile(tmp_path / "c.zip", "w") as archive:
        archive.writestr("zipped-4.dist-info/METADATA", "Name: zipped\nVersion: 4\n")
    monkeypatch.setattr(sys, "path", [str(tmp_path / one) for one in ("a", "none", "b", "c.zip")])
    found = package_versions(["a-wheel", "A.Wheel", "of-old", "cut", "zipped", "absent"])
    expected = {"a-wheel": "1.2+local.3", "A.Wheel": "1.2+local.3", "of-old": "0.7", "zipped": "4"}
    assert found == expected


def test_what_finds_everything_is_loaded_where_there_may_be_more_only():
    program = (
        "import sys; from farm_workers.environment import package_versions;"
        "package_versions(['msgspec', 'no-such-package']);"
        "print('importlib.metadata' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout == "False\n"
