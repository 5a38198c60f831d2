"""What `farm submit` makes of the words of a shell."""

import math
import os.path
import sys

import pytest
import typer

from farm.cli.arguments import find_function, parse_arguments
from farm.cli.exitcodes import TaskFailed


@pytest.mark.parametrize(
    ("words", "positional", "keywords"),
    [
        ([], [], {}),
        (["20", "-3", "-1.5e3", "1e400"], [20, -3, -1500.0, math.inf], {}),
        (["true", "null", "[1, 2]", '{"a": 1}', '"7"'], [True, None, [1, 2], {"a": 1}, "7"], {}),
        (["data.csv", "", "a b", "{broken"], ["data.csv", "", "a b", "{broken"], {}),
        (["n=3", "text=a=b", "list=[1]"], [], {"n": 3, "text": "a=b", "list": [1]}),
        (["1", "n=2", "3"], [1, 3], {"n": 2}),
        (['"a=b"', "1=2", '"--x"'], ["a=b", "1=2", "--x"], {}),
        (["9" * 5000, "[" * 100_000], ["9" * 5000, "[" * 100_000], {}),
    ],
    ids=range(8),
)
def test_words_become_values(words, positional, keywords):
    assert parse_arguments(words) == (positional, keywords)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--detatch"], "no such option: --detatch; if it is an argument, write it as JSON"),
        (["-x"], "no such option: -x"),
        (["a=1", "a=2"], "'a' is given twice"),
    ],
)
def test_words_that_are_likely_slips(words, says):
    with pytest.raises(typer.BadParameter, match=says):
        parse_arguments(words)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The current folder; what is imported from it is forgotten afterwards."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    before = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - before:
        del sys.modules[name]


def test_functions_are_found_by_name():
    assert find_function("math:factorial") is math.factorial
    assert find_function("os.path:join") is os.path.join
    assert find_function("collections:Counter.most_common").__name__ == "most_common"


def test_modules_of_the_current_folder_are_found(folder):
    (folder / "mine_a.py").write_text("def double(n): return 2 * n")
    assert find_function("mine_a:double")(4) == 8


@pytest.mark.parametrize(
    ("reference", "says"),
    [
        ("math", "write MODULE:FUNCTION"),
        ("math:", "write MODULE:FUNCTION"),
        (":sin", "write MODULE:FUNCTION"),
        ("math:factoral", "'math' has no 'factoral'; did you mean 'factorial'?"),
        ("math:qqq", "'math' has no 'qqq'$"),
        ("math:pi", "'math:pi' is float, not a function"),
        ("no_such_module:f", "no module 'no_such_module' in "),
        ("mine_b.py:f", "write 'mine_b', without .py"),
    ],
)
def test_references_that_are_slips(folder, reference, says):
    (folder / "mine_b.py").write_text("def f(): pass")
    with pytest.raises(typer.BadParameter, match=says):
        find_function(reference)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("import no_such_module_either", "No module named 'no_such_module_either'"),
        ("1 / 0", "ZeroDivisionError"),
        ("def (", "SyntaxError"),
    ],
)
def test_a_module_that_cannot_be_imported_is_no_slip(folder, text, says):
    (folder / "mine_c.py").write_text(text)
    with pytest.raises(TaskFailed, match=f"'mine_c' cannot be imported: .*{says}"):
        find_function("mine_c:f")
