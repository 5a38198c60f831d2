"""The demo: what its tasks find, and what is said about it."""

import io
import json
import os
from concurrent.futures import ThreadPoolExecutor

import pytest
import typer

from farm.cli import demo_job as demo
from farm.cli.demo_tasks import analyse
from farm.cli.exitcodes import TaskFailed
from farm.cli.output import Listener, Output

SOURCE = '''\
"""A module."""
import os

class A:
    def simple(self):
        return 1

    def hard(self, x):
        if x and os or not x:
            for i in range(3):
                def inner(y):
                    return y if y else None
        return [a for a in x if a]

async def other():
    while True:
        pass
'''


@pytest.fixture
def tree(tmp_path):
    for name, text in {
        "one.py": SOURCE,
        "pack/__init__.py": "",
        "pack/two.py": SOURCE * 3,
        "pack/deep/three.py": "x = 1\n",
        "pack/old.py": "print 'hello'\n",
        "pack/bytes.py": "\0",
        "text.txt": "no Python",
        ".hidden/four.py": "x = 1\n",
        "__pycache__/five.py": "x = 1\n",
        "tests/six.py": "x = 1\n",
    }.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    (tmp_path / "gone.py").symlink_to(tmp_path / "nowhere")
    return tmp_path


def test_a_file_is_analysed(tree):
    found = analyse(str(tree / "one.py"))
    assert (found.size, found.lines) == (len(SOURCE), 17)
    assert (found.functions, found.classes) == (4, 1)
    assert (found.hardest, found.paths) == ("hard", 6)  # if, and, or, for, comprehension, and one
    assert found.tokens > found.names > 20
    assert 0 < found.zlib_bytes < found.size
    assert found.lzma_bytes > 0
    assert found.worker == os.getpid()
    assert found.seconds > 0
    assert found.problem == ""


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("pack/old.py", "SyntaxError: Missing parentheses"),
        ("pack/bytes.py", "null bytes"),
        ("nowhere.py", "cannot be read: No such file"),
    ],
)
def test_a_file_that_cannot_be_analysed_is_a_finding(tree, name, problem):
    found = analyse(str(tree / name))
    assert problem in found.problem
    assert found.functions == 0


def test_an_empty_file_is_analysed(tree):
    found = analyse(str(tree / "pack/__init__.py"))
    assert (found.size, found.functions, found.problem) == (0, 0, "")


def test_the_files_of_a_folder(tree):
    root, files = demo._find(tree)
    names = {os.path.relpath(name, root) for name, _ in files}
    assert names == {
        "one.py",
        "pack/__init__.py",
        "pack/two.py",
        "pack/deep/three.py",
        "pack/old.py",
        "pack/bytes.py",
        "tests/six.py",
    }
    assert dict(files)[str(root / "one.py")] == len(SOURCE)


def test_the_files_of_the_standard_library_are_without_its_tests():
    root, files = demo._find(None)
    names = {os.path.relpath(name, root) for name, _ in files}
    assert {"ast.py", "asyncio/events.py"} <= names
    assert len(names) > 300
    assert not any(name.startswith(("test/", "site-packages/")) for name in names)


@pytest.mark.parametrize("name", ["nowhere", "empty", "one.py"])
def test_a_folder_without_files_is_refused(tree, name):
    (tree / "empty").mkdir()
    with pytest.raises(typer.BadParameter, match=r"is not a folder|has no Python files"):
        demo._find(tree / name)


def run_on_threads(tree, listener=Listener.PEOPLE):
    """The demo with threads in place of the farm: no worker of those can be killed."""
    output = Output(listener, stdout=io.StringIO(), stderr=io.StringIO())
    root, files = demo._find(tree)
    with ThreadPoolExecutor(1) as pool:
        outcome = demo._run_on(pool, [name for name, _ in files], output)
    data = demo._report(output, root, outcome, alone=2 * outcome.seconds, slots=2)
    demo._conclude(output, data)
    return output.stdout.getvalue(), output.stderr.getvalue()


def test_the_findings_are_shown_by_package(tree):
    out, err = run_on_threads(tree)
    lines = {line.split()[0]: line.split() for line in out.splitlines()}
    assert lines["pack"][:5] == ["pack", "5", "53", "12", "hard"]
    assert lines["tests"][1:4] == ["1", "1", "0"]
    assert lines["all"][1:4] == ["7", "71", "16"]
    assert "(single" in lines
    assert "analysing: 7 of 7" in err
    assert "not parsed: pack/old.py: SyntaxError" in err
    assert "2.00 times as fast" in err
    assert "farm up" in err
    assert "killed" not in err


def test_the_findings_for_a_program(tree):
    out, err = run_on_threads(tree, Listener.PROGRAM)
    data = json.loads(out)
    assert err == ""
    assert data["files"] == 7
    assert data["speed_up"] == pytest.approx(2)
    assert data["killed_worker"] is None
    assert set(data["problems"]) == {str(tree / "pack/old.py"), str(tree / "pack/bytes.py")}
    assert [row["package"] for row in data["packages"]] == ["pack", "(single files)", "tests"]


def test_the_shortest_finding_is_the_speed_up(tree):
    assert run_on_threads(tree, Listener.QUIET) == ("2.00\n", "")


def test_a_small_tree_is_measured_whole(tree):
    _, files = demo._find(tree)
    sample = demo._measure_alone(files)
    assert sample.files == 7
    assert sample.size == sum(size for _, size in files)


def test_the_sample_of_a_large_tree_ends_with_its_time(tree, monkeypatch):
    monkeypatch.setattr(demo, "SAMPLE_SECONDS", 0.0)
    assert demo._measure_alone([(str(tree / "one.py"), 1)] * 1000).files == demo.SAMPLE_FILES_MIN


def test_only_workers_of_this_process_are_killed():
    assert not demo._kill(1)
    assert not demo._kill(os.getpid())
    assert not demo._kill(2**22 + 1)


def test_a_task_that_fails_fails_the_demo(tree, monkeypatch):
    output = Output(stdout=io.StringIO(), stderr=io.StringIO())
    monkeypatch.setattr(demo, "analyse", lambda path: 1 / 0)
    with ThreadPoolExecutor(1) as pool, pytest.raises(TaskFailed, match="division by zero"):
        demo._run_on(pool, ["x"], output)
