"""The launcher: what one host does costs the others nothing."""

import resource

import pytest

from farm.descriptors import raise_file_limit
from farm_workers.launchers import launcher
from farm_workers.launchers.hosts import HostEntry
from farm_workers.launchers.launcher import Launcher, Planned

WORKS = '{"state": "works", "pid": 7}'


@pytest.fixture
def launched(tmp_path, monkeypatch):
    """Run a launcher of hosts by name, each a shell script in place of ssh; how they were."""

    def run(scripts):
        monkeypatch.setattr(launcher, "command", lambda entry, _: ["sh", "-c", scripts[entry.name]])
        planned = [Planned(HostEntry(name=name), b"{}\n") for name in scripts]
        states = {name: [] for name in scripts}
        one = Launcher(
            planned, tmp_path, lambda watch: states[watch.entry.name].append(watch.state), print
        )
        one.run()
        return states

    return run


def test_a_line_that_nests_too_deep_is_none_of_an_agent(launched, tmp_path):
    (tmp_path / "line").write_text('{"x":' + "[" * 50_000 + "\n")
    states = launched({"odd": f"cat {tmp_path}/line; echo '{WORKS}'"})
    assert states["odd"] == ["connecting", "works", "left"]


def test_as_many_files_may_be_open_as_hosts_have_pipes(launched):
    before, most = resource.getrlimit(resource.RLIMIT_NOFILE), raise_file_limit()
    resource.setrlimit(resource.RLIMIT_NOFILE, (most - 1, before[1]))
    try:
        launched({"north": f"echo '{WORKS}'"})
        assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] == most
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
