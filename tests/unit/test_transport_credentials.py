"""Files with tokens: which one is meant, and what is said of one that cannot be used."""

import pytest

from farm.identity import Role
from farm.keys import KeyStore, TokenError
from farm.transport import Credentials


@pytest.fixture
def token(tmp_path, monkeypatch):
    """A host's, in the file ``h.token`` of the folder in which this process is."""
    monkeypatch.chdir(tmp_path)
    store = KeyStore(tmp_path / "keys")
    store.create("tcp://farm-host:7070")
    made = store.new("h", Role.HOST)
    (tmp_path / "h.token").write_text(made)
    (tmp_path / "h.token").chmod(0o600)
    return made


def test_a_file_stays_the_same_when_the_process_goes_elsewhere(token, tmp_path, monkeypatch):
    made = Credentials("host", "", "h.token")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert [str(door.address) for door in made.doors()] == 2 * ["tcp://farm-host:7070"]
    assert made.for_tasks() == str(tmp_path / "h.token")
    assert made.text() == token


def test_a_token_needs_no_folder(token, tmp_path, monkeypatch):
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    assert Credentials("host", "", token).text() == token
    with pytest.raises(TokenError, match=r"there is no file h\.token"):
        Credentials("host", "", "h.token")


@pytest.mark.parametrize("said", ["nowhere.token", "~no-such-user/h.token"])
def test_a_file_that_is_not_there_is_called_as_it_was(token, said):
    with pytest.raises(TokenError, match=f"there is no file {said}"):
        Credentials("host", "", said)


def test_what_may_be_a_token_is_not_shown_and_a_folder_with_a_long_name_is_none(
    token, tmp_path, monkeypatch
):
    (tmp_path / ("long" * 20)).mkdir()
    monkeypatch.chdir(tmp_path / ("long" * 20))
    with pytest.raises(TokenError, match=r"there is no file h\.token"):
        Credentials("host", "", "h.token")
    with pytest.raises(TokenError, match="neither a token nor the path") as raised:
        Credentials("host", "", token[6:])
    assert token[6:] not in str(raised.value)
