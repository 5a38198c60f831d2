"""The commands about keys when something is wrong with what was said, or said too early."""

import sys

import pytest

from farm.cli.main import main
from farm.keys import KeyStore


@pytest.fixture
def keys(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FARM_COORDINATOR_KEYS", str(tmp_path / "keys"))
    return KeyStore(tmp_path / "keys")


@pytest.fixture
def said(capsys, monkeypatch):
    def say(*words):
        monkeypatch.setattr(sys, "argv", ["farm", *words])
        with pytest.raises(SystemExit) as ended:
            main()
        found = capsys.readouterr()
        return ended.value.code or 0, " ".join((found.out + found.err).replace("│", " ").split())

    return say


@pytest.mark.parametrize(
    "words",
    [("list",), ("new", "a", "--role", "host"), ("revoke", "a"), ("rotate",), ("invite",),
     ("rotate", "--finish")],
)  # fmt: skip
def test_before_there_are_keys_every_command_says_how_to_make_them(keys, said, words):
    code, text = said("keys", *words)
    assert code == 3
    assert f"there are no keys in {keys.folder}: make them with farm keys init" in text


@pytest.mark.parametrize("words", [("new", "a", "--role", "client"), ("invite", "a")])
def test_a_key_is_good_for_some_time_or_not_made(keys, said, words):
    keys.create("tcp://farm-host:7070")
    code, text = said("keys", *words, "--expires", "0s")
    assert code == 2
    assert "--expires must be more than 0" in text
    assert "a" not in {one.name for one in keys.ring().entries}


@pytest.mark.parametrize(
    ("file", "why"),
    [("missing/a.token", "there is no folder"), (".", "is a folder: name a file in it")],
)
@pytest.mark.parametrize("words", [("new", "a", "--role", "client"), ("invite", "a")])
def test_no_key_is_made_of_which_the_token_would_be_lost(keys, said, words, file, why):
    keys.create("tcp://farm-host:7070")
    code, text = said("keys", *words, "--file", file)
    assert code == 3
    assert why in text
    assert "a" not in {one.name for one in keys.ring().entries}
    assert said("keys", *words, "--file", "a.token")[0] == 0
