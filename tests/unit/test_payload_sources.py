"""Versions of the user's modules: what a function names, and what a worker makes of it."""

import functools
import importlib
import json
import os
import pickle
import sys
import textwrap

import cloudpickle
import pytest

from farm import _payload_sources as sources
from farm import payload
from farm._payload_sources import SourceDiffers, SourceIsStale, module_names, sources_of


@pytest.fixture
def project(tmp_path, monkeypatch):
    """Writes modules of a user, which are forgotten afterwards."""
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    monkeypatch.setattr(sources, "LOOK_SECONDS", 0.0)
    for memory in ("_hashes", "_imported", "_files"):
        monkeypatch.setattr(sources, memory, {})
    before = set(sys.modules)

    def write(name, text):
        path = tmp_path.joinpath(*name.split(".")).with_suffix(".py")
        path.parent.mkdir(exist_ok=True)
        path.write_text(textwrap.dedent(text))
        importlib.invalidate_caches()
        return path

    yield write
    for name in set(sys.modules) - before:
        del sys.modules[name]


def forget(name):
    """As in another process, which has imported nothing of it."""
    del sys.modules[name]
    sources._imported.pop(name, None)


def test_what_a_pickle_imports_is_found_without_opening_it(project):
    project("first", "class Thing: pass\ndef work(): pass")
    first = importlib.import_module("first")
    for value, names in [
        (first.work, {"first"}),
        ([first.Thing, first.work, first.Thing], {"first"}),
        ({"a": [first.Thing(), json.JSONDecoder]}, {"first", "json.decoder"}),
        (functools.partial(first.work, "json", 3), {"first", "functools"}),
        (["json", "os", ("json",)], set()),
    ]:
        assert module_names(pickle.dumps(value, 5)) == names
        assert module_names(pickle.dumps(value, 4)) == names


def test_modules_that_a_function_captures_are_found(project):
    project("helper", "def twice(x): return 2 * x")
    helper = importlib.import_module("helper")

    def work(x):
        return json.dumps(helper.twice(x))

    assert {"helper", "json"} <= module_names(cloudpickle.dumps(work, 5))
    assert [source.module for source in sources_of(cloudpickle.dumps(work, 5))] == ["helper"]


def test_only_the_users_own_modules_are_looked_at(project):
    path = project("mine", "def work(): pass")
    mine = importlib.import_module("mine")
    named = [mine.work, json.loads, pytest.raises, payload.dump_function]
    [source] = sources_of(pickle.dumps(named, 5))
    assert (source.module, source.path) == ("mine", os.path.realpath(path))
    assert sources_of(pickle.dumps(["mine", 1], 5)) == []


def test_in_a_large_pickle_names_are_taken_to_be_modules(project):
    project("mine", "def work(): pass")
    importlib.import_module("mine")
    large = ["mine", bytes(sources.SCAN_BYTES_MAX)]
    assert [source.module for source in sources_of(pickle.dumps(large, 5))] == ["mine"]


def test_a_function_is_pickled_anew_when_its_file_was_edited(project):
    project("mine", "def work(): return 1")
    work = importlib.import_module("mine").work
    first = payload.dump_function(work)
    assert payload.dump_function(work) is first
    project("mine", "def work(): return 22")
    second = payload.dump_function(work)
    assert second.hash != first.hash
    assert payload.dump_function(work) is second


def test_files_are_looked_at_once_a_second(project, monkeypatch):
    monkeypatch.setattr(sources, "LOOK_SECONDS", 3600.0)
    project("mine", "def work(): return 1")
    work = importlib.import_module("mine").work
    first = payload.dump_function(work)
    project("mine", "def work(): return 22")
    assert payload.dump_function(work) is first


def test_the_same_version_is_opened(project):
    project("mine", "def work(): return 1")
    data = payload.dump_function(importlib.import_module("mine").work).data
    forget("mine")
    assert payload.load_function(data, fresh=False)() == 1
    assert payload.load_function(data, fresh=False)() == 1


def test_another_file_on_this_machine_is_refused(project):
    path = project("mine", "def work(): return 1")
    data = payload.dump_function(importlib.import_module("mine").work).data
    forget("mine")
    project("mine", "def work(): return 22")
    with pytest.raises(SourceDiffers, match=rf"'mine'.*{path}.*differs from {path} at the client"):
        payload.load_function(data, fresh=False)
    assert "mine" not in sys.modules


def test_a_process_that_imported_the_old_version_is_stale(project):
    project("mine", "def work(): return 1")
    old = payload.dump_function(importlib.import_module("mine").work).data
    forget("mine")
    payload.load_function(old, fresh=False)  # the worker has it now
    project("mine", "def work(): return 22")
    new = payload.dump_function(sys.modules["mine"].work).data
    with pytest.raises(SourceIsStale):
        payload.load_function(new, fresh=False)
    assert payload.load_function(new, fresh=True)() == 22
    assert payload.load_function(new, fresh=False)() == 22


def test_what_was_imported_by_others_is_of_no_known_version(project):
    project("mine", "def work(): return 1")
    data = payload.dump_function(importlib.import_module("mine").work).data
    with pytest.raises(SourceIsStale):
        payload.load_function(data, fresh=False)


def test_what_opening_a_function_imports_is_known(project):
    project("helper", "def help(): return 1")
    project("mine", "import helper\ndef work(): return helper.help()")
    mine = importlib.import_module("mine")
    work = payload.dump_function(mine.work).data
    help_ = payload.dump_function(mine.helper.help).data
    for name in ("mine", "helper"):
        forget(name)
    payload.load_function(work, fresh=False)
    assert payload.load_function(help_, fresh=False)() == 1


def test_a_module_inside_a_package_is_forgotten_whole(project):
    project("pack.__init__", "")
    project("pack.mine", "def work(): return 1")
    importlib.import_module("pack.mine")
    project("pack.mine", "def work(): return 22")
    data = payload.dump_function(sys.modules["pack.mine"].work).data
    assert payload.load_function(data, fresh=True)() == 22


def test_a_module_that_is_not_here_is_missing_as_always(project):
    path = project("mine", "def work(): return 1")
    data = payload.dump_function(importlib.import_module("mine").work).data
    forget("mine")
    path.unlink()
    importlib.invalidate_caches()
    with pytest.raises(payload.PayloadError, match="No module named 'mine'"):
        payload.load_function(data, fresh=False)
