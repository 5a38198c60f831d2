"""What a host tells of its environment."""

import importlib.metadata
import platform

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
