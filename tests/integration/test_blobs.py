"""Large payloads through real farms: by reference, across deaths, for peers near and far."""

import gc
import os
import signal
import sys
import tempfile
import time
from concurrent.futures import wait
from pathlib import Path

import cloudpickle
import pytest

import farm
from farm.blobs import Blobs
from farm.client.dead import retry_dead
from farm.local import LocalFarm
from farm.store.care import backup, check, restore
from tests.integration.conftest import coordinator_of

# Workers need not import this module, and what it imports, to run its functions.
cloudpickle.register_pickle_by_value(sys.modules[__name__])

pytestmark = pytest.mark.usefixtures("forked_services")

PATIENCE = 60.0
LARGE = os.urandom(1_000_000)


@pytest.fixture(autouse=True)
def folder(monkeypatch):
    """Where temporary folders of farms are made; with a path short enough for sockets."""
    with tempfile.TemporaryDirectory(prefix="t-", dir="/tmp") as short:
        monkeypatch.setenv("TMPDIR", short)
        monkeypatch.setattr(tempfile, "tempdir", None)
        yield Path(short)


@pytest.fixture
def local():
    clients = []

    def make(**options):
        client = farm.local(**{"workers": 2} | options)
        clients.append(client)
        return client

    yield make
    for client in clients:
        client.shutdown(cancel_futures=True)


def echo(data):
    return data


def nap_and_echo(seconds, data):
    time.sleep(seconds)
    return data


def die_once(path, data):
    if not Path(path).exists():
        Path(path).touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return data


def die_until(path, data):
    if not Path(path).exists():
        os.kill(os.getpid(), signal.SIGKILL)
    return data


def hold(path, data):
    made = [bytes(data), os.urandom(len(data))]
    Path(path).touch()
    time.sleep(600)
    return made


class Stuck:
    """Takes for ever to be pickled, in the middle of the file that it is written to."""

    def __init__(self, path, data):
        self.path, self.data = path, data

    def __reduce__(self):
        Path(self.path).touch()
        time.sleep(600)
        return Stuck, (self.path, self.data)


def result_that_sticks(path, data):
    return [data + data, Stuck(path, data)]


def wait_for(condition):
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def names(root, kind):
    return [p for p in (root / kind).rglob("*") if p.is_file() and p.name != "lock"]


def root_of(client):
    return Path(client.connection.sharing.blobs.root)


@pytest.mark.parametrize("durable", [True, False])
def test_large_payloads_travel_as_files_and_leave_none(local, tmp_path, durable):
    client = local(directory=tmp_path if durable else None)
    futures = [client.submit(echo, LARGE) for _ in range(12)]
    assert all(future.result(PATIENCE) == LARGE for future in futures)
    root = root_of(client)
    wait_for(lambda: not names(root, "kept") and not names(root, "peers"))
    assert names(root, "free")  # to be written again
    assert all(path.stat().st_nlink == 1 for path in names(root, "free"))


def test_large_exceptions_and_maps_and_mixed_sizes(local):
    client = local()

    def fail(data):
        raise ValueError(data)

    error = client.submit(fail, LARGE).exception(PATIENCE)
    assert error.args == (LARGE,)
    items = [LARGE[:n] for n in (1, 300_000, 1000, 900_000, 70_000)]
    assert list(client.map(echo, items, chunksize=2)) == items
    big = list(range(200_000))
    assert client.submit(echo, big).result(PATIENCE) == big


def test_results_can_be_read_after_the_farm_has_ended(local, tmp_path):
    for directory in (None, tmp_path):
        client = local(directory=directory)
        futures = [client.submit(echo, LARGE) for _ in range(3)]
        wait(futures, PATIENCE)
        client.shutdown()
        assert [future.result() == LARGE for future in futures] == [True] * 3


def test_the_death_of_the_coordinator_loses_no_large_payload(local, tmp_path):
    client = local(directory=tmp_path)
    futures = [client.submit(nap_and_echo, 0.02, LARGE[n:]) for n in range(60)]
    futures[3].result(PATIENCE)
    coordinator_of(client).kill()
    assert all(f.result(PATIENCE) == LARGE[n:] for n, f in enumerate(futures))


def test_the_death_of_a_coordinator_without_a_disk_loses_no_large_payload(local):
    client = local()
    futures = [client.submit(nap_and_echo, 0.02, LARGE[n:]) for n in range(60)]
    futures[3].result(PATIENCE)
    coordinator_of(client).kill()
    assert all(f.result(PATIENCE) == LARGE[n:] for n, f in enumerate(futures))


def test_a_worker_that_dies_reads_its_arguments_again(local, tmp_path):
    client = local(workers=1)
    future = client.submit(die_once, str(tmp_path / "died"), LARGE)
    assert future.result(PATIENCE) == LARGE


@pytest.mark.parametrize("task", [hold, result_that_sticks])
def test_a_worker_that_is_ended_by_a_limit_leaves_no_file(local, tmp_path, task):
    client = local(workers=1, directory=tmp_path)
    limited = client.options(time_limit=2.0)
    future = limited.submit(task, str(tmp_path / "began"), LARGE)
    with pytest.raises(farm.TimeLimitExceeded):
        future.result(PATIENCE)
    assert (tmp_path / "began").exists()
    root = root_of(client)
    wait_for(lambda: not names(root, "kept") and not names(root, "peers"))
    assert client.submit(echo, LARGE).result(PATIENCE) == LARGE


def test_a_dead_task_keeps_its_large_arguments_and_runs_again(local, tmp_path):
    path = tmp_path / "may live"
    first = local(directory=tmp_path / "farm")
    future = first.options(max_losses=0).submit(die_until, str(path), LARGE)
    with pytest.raises(farm.WorkerLost):
        future.result(PATIENCE)
    first.shutdown()
    client = local(directory=tmp_path / "farm")
    (row,) = client.query("dead")
    assert (row["id"], row["bytes"] > len(LARGE)) == (future.id, True)
    path.touch()
    assert retry_dead(client, future.id).result(PATIENCE) == LARGE
    root = root_of(client)
    wait_for(lambda: not names(root, "kept") and not names(root, "peers"))


def test_a_restored_farm_has_the_large_payloads_of_its_copy(local, tmp_path):
    copy = tmp_path / "copy.db"
    first = local(workers=1, directory=tmp_path / "farm")
    job = first.options(name="kept").submit_many(echo, [LARGE, LARGE[1:]])
    wait(list(job), PATIENCE)
    (store,) = (tmp_path / "farm").glob("*.db")
    assert backup(store, copy).files == 2
    first.options(name="later").submit(echo, LARGE[2:]).result(PATIENCE)
    first.shutdown()
    assert check(copy).problems == []
    restore(copy, store, force=True)
    second = local(directory=tmp_path / "farm")
    assert [f.result(PATIENCE) for f in second.job("kept")] == [LARGE, LARGE[1:]]
    assert len(names(root_of(second), "kept")) == 2


def test_a_directory_keeps_large_results_for_the_next_farm(local, tmp_path):
    first = local(directory=tmp_path)
    job = first.options(name="kept").submit_many(echo, [LARGE, LARGE[1:]])
    wait(list(job), PATIENCE)
    first.shutdown()
    del job
    gc.collect()
    second = local(directory=tmp_path)
    assert [f.result(PATIENCE) for f in second.job("kept")] == [LARGE, LARGE[1:]]


def test_a_file_removed_by_hand_fails_its_own_task(local):
    client = local(workers=1)
    client.submit(echo, 1).result(PATIENCE)
    blocker = client.submit(time.sleep, 1.0)
    wait_for(blocker.running)
    lost, fine = client.submit(echo, LARGE), client.submit(echo, LARGE[1:])
    root = root_of(client)
    wait_for(lambda: len(names(root, "kept")) == 2)
    sizes = {path.stat().st_size: path for path in names(root, "kept")}
    for path in names(root, "peers"):
        if path.samefile(sizes[max(sizes)]):
            path.unlink()
    sizes[max(sizes)].unlink()
    with pytest.raises(farm.PayloadError, match=sizes[max(sizes)].name.replace(".", r"\.")):
        lost.result(PATIENCE)
    assert fine.result(PATIENCE) == LARGE[1:]


@pytest.fixture
def strangers(monkeypatch):
    """Clients of this process do not see the coordinator's folder."""
    monkeypatch.setattr(Blobs, "join", classmethod(lambda _cls, _root, _token: None))


@pytest.mark.usefixtures("strangers")
def test_a_client_that_does_not_see_the_folder_is_sent_the_bytes(local, tmp_path):
    client = local(directory=tmp_path)
    assert client.connection.sharing.blobs is None
    futures = [client.submit(echo, LARGE[n:]) for n in range(12)]
    assert all(f.result(PATIENCE) == LARGE[n:] for n, f in enumerate(futures))


def test_a_client_near_and_one_far_read_the_same_job(tmp_path, monkeypatch):
    service = LocalFarm(slots=2, store=str(tmp_path / "farm.db"))
    service.start()
    try:
        near = farm.Client(service.address)
        job = near.options(name="shared").submit_many(echo, [LARGE])
        assert next(iter(job)).result(PATIENCE) == LARGE
        monkeypatch.setattr(Blobs, "join", classmethod(lambda _cls, _root, _token: None))
        far = farm.Client(service.address)
        assert next(iter(far.job("shared"))).result(PATIENCE) == LARGE
        near.shutdown()
        far.shutdown()
    finally:
        service.stop()


def test_what_a_client_that_died_has_left_is_removed(local, tmp_path):
    client = local(directory=tmp_path)
    root = root_of(client)
    pid = os.fork()
    if not pid:
        try:
            other = farm.Client(client.address)
            other.connection.sharing.blobs.keep(LARGE).give()
        finally:
            os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(pid, 0)
    wait_for(lambda: not names(root, "peers"))
    assert client.submit(echo, LARGE).result(PATIENCE) == LARGE
