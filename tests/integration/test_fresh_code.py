"""Edited modules: what runs is what was submitted, or the task says why not."""

import importlib
import os
import sys
import tempfile
from pathlib import Path

import pytest

import farm
from farm import _payload_sources as sources
from farm.local import LocalFarm

pytestmark = pytest.mark.usefixtures("forked_services")

PATIENCE = 30.0


@pytest.fixture
def project(tmp_path, monkeypatch):
    """Writes the user's module ``edited_often`` and imports it anew, as a new script would."""
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    monkeypatch.setattr(sources, "LOOK_SECONDS", 0.0)
    folder = tmp_path / "project"
    folder.mkdir()
    monkeypatch.syspath_prepend(folder)

    def write(text, folder=folder):
        (folder / "edited_often.py").write_text(f"import os\n{text}\n")
        sys.modules.pop("edited_often", None)
        importlib.invalidate_caches()
        return importlib.import_module("edited_often")

    yield write
    sys.modules.pop("edited_often", None)


def test_an_edited_module_runs_as_it_was_edited(project):
    module = project("def work(): return 1, os.getpid()")
    with farm.local(workers=1) as client:
        first, pid = client.submit(module.work).result(PATIENCE)
        assert client.submit(module.work).result(PATIENCE) == (first, pid)
        module = project("def work(): return 'two', os.getpid()")
        second, other = client.submit(module.work).result(PATIENCE)
        assert (first, second) == (1, "two")
        assert other != pid  # the worker was replaced, and the next task finds it as it is
        assert client.submit(module.work).result(PATIENCE) == (second, other)


def test_a_map_goes_on_over_an_edit(project):
    module = project("def work(x): return x")
    with farm.local(workers=2) as client:
        assert list(client.map(module.work, range(500))) == list(range(500))
        module = project("def work(x): return -x  # edited")
        assert list(client.map(module.work, range(500))) == [-x for x in range(500)]


def test_a_preloaded_module_is_loaded_anew_when_it_was_edited(project):
    module = project("def work(): return 1")
    with farm.local(workers=1, preload=["edited_often"]) as client:
        assert client.submit(module.work).result(PATIENCE) == 1
        module = project("def work(): return 'two'")
        assert client.submit(module.work).result(PATIENCE) == "two"


def test_a_host_with_another_file_says_so(project, tmp_path):
    other = tmp_path / "of the host"
    other.mkdir()
    (other / "edited_often.py").write_text("def work(): return 'the wrong one'\n")
    module = project("def work(): return 'the right one'")
    with tempfile.TemporaryDirectory(dir="/tmp") as short:
        running = LocalFarm(
            slots=1,
            name="elsewhere",
            listen=f"ipc://{short}/farm",
            host={"sys_path": [str(other), *sys.path]},
        )
        running.start()
        try:
            with farm.Client(running.address) as client:
                with pytest.raises(farm.TaskError, match="on host elsewhere") as caught:
                    client.submit(module.work).result(PATIENCE)
                for folder in (other, Path(module.__file__).parent):
                    assert os.path.realpath(folder / "edited_often.py") in str(caught.value)
                assert client.submit(abs, -3).result(PATIENCE) == 3
        finally:
            running.stop()
