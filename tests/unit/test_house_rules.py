"""The house rules hold, and each of them bites."""

from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

import farm
from tests.unit import house_rules
from tests.unit.house_rules import Source

ROOT = Path(__file__).resolve().parents[2]
SOURCES = house_rules.read_sources(ROOT)

PUBLIC_API = [
    "Busy",
    "Client",
    "Expired",
    "FarmError",
    "Future",
    "Job",
    "KeyConflict",
    "MemoryLimitExceeded",
    "Options",
    "PayloadError",
    "SoftTimeLimitExceeded",
    "TaskError",
    "TaskStopped",
    "TimeLimitExceeded",
    "UnknownTask",
    "WorkerLost",
    "__version__",
    "current_client",
    "current_task",
    "local",
    "task",
]

Rule = Callable[[Mapping[str, Source]], list[str]]
RULES: list[Rule] = [
    house_rules.import_direction,
    house_rules.no_cycles,
    house_rules.pure_modules,
    house_rules.pickle_in_one_place,
    house_rules.no_zmq_asyncio,
    house_rules.sizes,
    house_rules.exports_documented,
    house_rules.words,
]

TYPE_CHECKING = "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    "

# A rule, sources by module ("package/" is an __init__), and what the one problem reported says;
# None where the sources are good.
CASES: list[tuple[Rule, dict[str, str], str | None]] = [
    (house_rules.import_direction, {"farm.core.a": "import farm.store"}, "may not import farm.sto"),
    (house_rules.import_direction, {"farm.core.a": "from ..store import x"}, "farm.store"),
    (house_rules.import_direction, {"farm.core/": "from ..store import x"}, "farm.store"),
    (house_rules.import_direction, {"farm.core.a": "def f():\n import farm.store"}, "farm.store"),
    (house_rules.import_direction, {"farm.core.a": TYPE_CHECKING + "import farm.cli"}, "farm.cli"),
    (house_rules.import_direction, {"farm.core.a": "from farm import Client"}, "import farm"),
    (house_rules.import_direction, {"farm.coordinator.a": "import farm.client"}, "farm.client"),
    (house_rules.import_direction, {"farm.coordinator.a": "import farm.payload"}, "farm.payload"),
    (house_rules.import_direction, {"farm.client.session": "import farm.transport"}, "session"),
    (house_rules.import_direction, {"farm.local": "import farm_workers"}, "farm_workers"),
    (house_rules.import_direction, {"farm_workers.agent": "import farm.core"}, "farm.core"),
    (house_rules.import_direction, {"farm_workers.agent": "import farm_scheduler"}, "_scheduler"),
    (house_rules.import_direction, {"farm.novelty": ""}, "no row"),
    (house_rules.import_direction, {"farm.core.a": "from . import b\nimport farm.protocol"}, None),
    (house_rules.import_direction, {"farm.client.a": "import farm.client.session"}, None),
    (house_rules.import_direction, {"farm.cli.main": "import farm_workers, farm.core"}, None),
    (house_rules.no_cycles, {"farm.a": "import farm.b", "farm.b": "import farm.a"}, "cycle"),
    (house_rules.no_cycles, {"farm/": "from farm.a import x", "farm.a": "import farm"}, "cycle"),
    (
        house_rules.no_cycles,
        {"farm.a": "from .b import x", "farm.b": "from .c import x", "farm.c": "from . import a"},
        "cycle",
    ),
    (house_rules.no_cycles, {"farm.a": "import farm.b", "farm.b": "def f(): import farm.a"}, None),
    (
        house_rules.no_cycles,
        {"farm.a": "import farm.b", "farm.b": TYPE_CHECKING + "import farm.a"},
        None,
    ),
    (house_rules.pure_modules, {"farm.core.a": "import time"}, "import time"),
    (house_rules.pure_modules, {"farm.core.a": "from os import path"}, "os.path"),
    (house_rules.pure_modules, {"farm.protocol.messages": "import zmq"}, "zmq"),
    (house_rules.pure_modules, {"farm.client.session_jobs": "import threading"}, "threading"),
    (house_rules.pure_modules, {"farm_workers.host_slots": "import subprocess"}, "subprocess"),
    (house_rules.pure_modules, {"farm_scheduler.core": "def f():\n import random"}, "random"),
    (house_rules.pure_modules, {"farm.core.a": TYPE_CHECKING + "import random"}, None),
    (house_rules.pure_modules, {"farm.store.sqlite": "import sqlite3"}, None),
    (house_rules.pickle_in_one_place, {"farm.client.a": "import pickle"}, "pickle"),
    (house_rules.pickle_in_one_place, {"farm_workers.a": "from cloudpickle import dumps"}, "dumps"),
    (house_rules.pickle_in_one_place, {"farm.payload": "import cloudpickle, pickle"}, None),
    (house_rules.no_zmq_asyncio, {"farm.transport.a": "import zmq.asyncio as z"}, "zmq.asyncio"),
    (house_rules.no_zmq_asyncio, {"farm.cli.a": "from zmq import asyncio"}, "zmq.asyncio"),
    (house_rules.no_zmq_asyncio, {"farm.cli.a": "from zmq.asyncio import Context"}, "zmq.asyncio"),
    (house_rules.no_zmq_asyncio, {"farm.transport.a": "import zmq"}, None),
    (house_rules.sizes, {"farm.a": "x = 1\n" * 401}, "401 lines"),
    (house_rules.sizes, {"farm.a": "x = 1\n" * 400}, None),
    (house_rules.sizes, {"farm.a": "class A:\n def f(self):\n" + "  x = 1\n" * 60}, "61 lines"),
    (house_rules.sizes, {"farm.a": "def f():\n" + ' """' + "\n" * 90 + '"""\n x = 1'}, None),
    (house_rules.exports_documented, {"farm/": "__all__ = ['f']\ndef f(): pass"}, "farm.f"),
    (house_rules.exports_documented, {"farm/": "__all__ = ['f']"}, "farm.f"),
    (
        house_rules.exports_documented,
        {"farm/": "from .a import A as B\n__all__: list = ['B']", "farm.a": "class A: pass"},
        "farm.B",
    ),
    (house_rules.exports_documented, {"farm/": "__all__ = ['X']\nX = 1"}, "farm.X"),
    (house_rules.exports_documented, {"farm/": "__all__ = ['X']\nX = 1\n'What it is.'"}, None),
    (
        house_rules.exports_documented,
        {
            "farm/": TYPE_CHECKING + "from farm.a import A\n__all__ = ['A', '__version__']",
            "farm.a": "class A:\n 'What it is.'",
        },
        None,
    ),
    (house_rules.words, {"farm.a": "class TaskBroker: pass"}, "say coordinator"),
    (house_rules.words, {"farm.a": "class Scheduled(BrokenExecutor): pass"}, None),
]


def sources_of(texts: dict[str, str]) -> dict[str, Source]:
    return {
        name.rstrip("/"): Source(name.rstrip("/"), text, is_package=name.endswith("/"))
        for name, text in texts.items()
    }


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_the_rule_holds(rule):
    assert rule(SOURCES) == []


@pytest.mark.parametrize(("rule", "texts", "problem"), CASES)
def test_the_rule_bites(rule, texts, problem):
    problems = rule(sources_of(texts))
    if problem is None:
        assert problems == []
    else:
        assert len(problems) == 1
        assert problem in problems[0]


def test_every_rule_is_proven_to_bite():
    assert {rule for rule, _, problem in CASES if problem} == set(RULES)


def test_the_sources_of_all_three_packages_are_read():
    assert set(house_rules.PACKAGES) <= {name.partition(".")[0] for name in SOURCES}


def test_the_public_api_is_exactly_this():
    assert sorted(farm.__all__) == PUBLIC_API
    assert [name for name in PUBLIC_API if not hasattr(farm, name)] == []


def texts_of_the_repository() -> dict[str, str]:
    folders = ["farm", "workers", "scheduler", "tests", "docs", "configs", ".ci"]
    suffixes = {
        "",
        ".cfg",
        ".json",
        ".md",
        ".py",
        ".service",
        ".sh",
        ".sql",
        ".toml",
        ".yaml",
        ".yml",
    }
    # In a second worktree .git is a file, and names the folder of the first.
    paths = [p for p in ROOT.iterdir() if p.suffix in suffixes and p.name != ".git"]
    paths += [path for folder in folders for path in (ROOT / folder).rglob("*")]
    return {
        str(path.relative_to(ROOT)): path.read_text("utf-8", "replace")
        for path in paths
        if path.suffix in suffixes and path.is_file() and path != Path(__file__)
    }


def test_no_file_names_a_folder_of_this_machine():
    texts = texts_of_the_repository()
    assert {"Makefile", "pyproject.toml", "farm/_version.py"} <= set(texts)
    assert house_rules.machine_paths(texts) == []


@pytest.mark.parametrize("line", ["see /work/main", "cd /root/x", "'/work/a'"])
def test_a_path_of_this_machine_is_found(line):
    assert len(house_rules.machine_paths({"README.md": f"one\n{line}\n"})) == 1


@pytest.mark.parametrize("line", ["docs/work/a", "/workers/", "~/work/x", "the root/leaf"])
def test_other_paths_are_fine(line):
    assert house_rules.machine_paths({"README.md": line}) == []


def test_another_session_of_tests_leaves_the_temporary_folders_of_this_one_alone(
    pytestconfig, tmp_path_factory
):
    if pytestconfig.getoption("basetemp") and not hasattr(pytestconfig, "workerinput"):
        pytest.skip("--basetemp says where they are")
    mine = tmp_path_factory.getbasetemp()
    locks = [folder / ".lock" for folder in (mine, mine.parent)]  # xdist's are one level below
    assert any(lock.exists() for lock in locks)
