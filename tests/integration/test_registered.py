"""Registered functions on real hosts: run by name, by whoever has no code of theirs."""

import importlib
import sys
import textwrap
import threading

import pytest

import farm
from farm import registry
from farm.errors import ArgumentError, PayloadError, UnknownFunction, WorkerLost
from farm.json_payload import json_text
from farm.named import NamedCall, call_text

pytestmark = pytest.mark.usefixtures("forked_services")

FUNCTIONS = """
import farm
from farm import registry

@farm.task(name="host.add")
def add(a: int, b: int = 1):
    return {"sum": a + b}

@farm.task(name="host.open")
def opened():
    return object()

@farm.task(name="host.large")
def large(count: int):
    return "x" * count
"""


@pytest.fixture(scope="module")
def module(tmp_path_factory):
    folder = tmp_path_factory.mktemp("modules")
    (folder / "sums_of_host.py").write_text(textwrap.dedent(FUNCTIONS))
    return folder


@pytest.fixture
def local(module, monkeypatch):
    """A local farm whose workers find the module; this process does not import it."""
    monkeypatch.syspath_prepend(module)
    clients = []

    def make(*imports):
        clients.append(farm.local(1, imports=imports))
        return clients[-1]

    yield make
    for client in clients:
        client.shutdown(cancel_futures=True)


def test_a_function_runs_by_its_name_where_its_module_is_imported(local):
    client = local("sums_of_host")
    future = client.submit(NamedCall("host.add"), call_text([2], {"b": 3}))
    assert future.result(30) == {"sum": 5}
    failures = [
        (NamedCall("host.ad"), call_text([2], {}), UnknownFunction, "did you mean 'host.add'"),
        (NamedCall("host.add"), call_text(["2"], {}), ArgumentError, r"args\[0\]: expected"),
        (NamedCall("host.open"), call_text([], {}), PayloadError, "the result is object, which"),
    ]
    for call, text, kind, says in failures:
        with pytest.raises(kind, match=says):
            client.submit(call, text).result(30)
    large = client.submit(NamedCall("host.large"), call_text([1 << 20], {}))
    assert large.result(30) == "x" * (1 << 20)


def test_a_result_is_read_without_being_unpickled(local):
    client = local("sums_of_host")
    future = client.submit(NamedCall("host.add"), call_text([2], {"b": 3}))
    ended = threading.Event()
    future.add_done_callback(lambda _: ended.set())
    assert ended.wait(30)
    assert json_text(future._outcome) == b'{"sum":5}'


def test_a_module_that_cannot_be_imported_is_told_to_whoever_submits(local):
    client = local("no_such_module_of_host")
    with pytest.raises(WorkerLost, match="'no_such_module_of_host' cannot be imported: ModuleNot"):
        client.submit(max, 1, 2).result(60)


def test_functions_of_an_imported_module_are_submitted_as_any_other(local, monkeypatch):
    monkeypatch.setattr(registry, "_functions", {})  # what is registered here is gone after it
    client = local("sums_of_host")
    sums = importlib.import_module("sums_of_host")
    try:
        assert client.submit(sums.add, 1, 2).result(30) == {"sum": 3}
        assert client.submit(NamedCall("host.add"), call_text([2], {})).result(30) == {"sum": 3}
    finally:
        del sys.modules["sums_of_host"]
