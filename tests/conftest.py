"""Fixtures that every kind of test may ask for."""

import gc
import os
import signal
from pathlib import Path

import pytest
from hypothesis import settings

settings.register_profile("tests", settings.get_profile("ci"), max_examples=40)

REPOSITORY = Path(__file__).resolve().parents[1]


def pytest_configure():
    """What tests start hears Ctrl-C: a shell has what it runs in the background ignore it."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_finish():
    """What is loaded by now stays: looking through it for garbage again and again takes long."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(10_000, 20, 20)


@pytest.fixture(autouse=True, scope="session")
def no_keys_of_the_user(tmp_path_factory):
    """Tests neither find nor make keys in the state folder of whoever runs them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_STATE_HOME", str(tmp_path_factory.mktemp("state")))
        for name in ("FARM_TOKEN", "FARM_TOKEN_FILE"):
            patch.delenv(name, raising=False)
        yield


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """The folder of real data sets; FARM_TEST_DATA names another place for it."""
    folder = Path(os.environ.get("FARM_TEST_DATA", REPOSITORY.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"no test data: {folder} is not a folder (set FARM_TEST_DATA)")
    return folder
