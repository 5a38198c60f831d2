"""A local farm: what it fails with is documented, and its coordinators have ascending epochs."""

import pickle

import pytest

from farm import errors
from farm.coordinator.service import Unsafe, _documented
from farm.errors import ConfigError, FarmError, ServiceFailed, StoreError, StoreLocked
from farm.local import LocalFarm, _as_documented
from farm.store import StoreFailed, StoreFull, StoreStalled
from farm.transport import AddressError

KINDS = [
    (StoreFailed, StoreError),
    (StoreFull, StoreError),
    (StoreStalled, StoreError),
    (StoreLocked, StoreLocked),
    (Unsafe, ConfigError),
    (AddressError, AddressError),
]


@pytest.mark.parametrize(("raised", "caught"), KINDS)
def test_what_the_coordinator_ends_with_arrives_as_what_users_know(raised, caught):
    failed = ServiceFailed("the coordinator ended: why", _documented(raised("why")))
    error = _as_documented(failed)
    assert (type(error), str(error)) == (caught, str(failed))


@pytest.mark.parametrize("kind", ["", "ZeroDivisionError", "Word"])
def test_anything_else_is_a_service_that_failed(kind):
    failed = ServiceFailed("the host was killed by SIGKILL", kind)
    assert _as_documented(failed) is failed


def test_it_survives_pickling():
    copy = pickle.loads(pickle.dumps(ServiceFailed("the host ended", "MemoryError")))
    assert (str(copy), copy.kind) == ("the host ended", "MemoryError")


def test_every_documented_error_is_a_farm_error():
    assert all(issubclass(getattr(errors, name), FarmError) for name in errors.__all__)


def test_a_coordinator_that_is_started_again_begins_above_every_epoch_that_was_seen():
    """Its journal may be in memory: nothing else remembers which epochs were used."""
    local = LocalFarm(slots=1)
    assert local._launch_coordinator(3, None)["epoch_floor"] == 0
    local.coordinator._on_ready({"epoch": 41})
    local.note_epoch(7)
    assert local._launch_coordinator(3, None)["epoch_floor"] == 42
    local.note_epoch(50)
    assert local._launch_coordinator(3, None)["epoch_floor"] == 51
    local.stop()
