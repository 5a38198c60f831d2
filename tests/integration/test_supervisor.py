"""The supervisor: services are started, kept, given up and ended, and see nothing of the user's."""

import json
import multiprocessing
import os
import signal
import threading

import psutil
import pytest

from farm import supervisor
from farm.errors import ServiceFailed
from farm.supervisor import Service

PATIENCE = 20.0


@pytest.fixture
def service(tmp_path, monkeypatch):
    monkeypatch.setattr(supervisor, "PAUSE_SECONDS", (0.0, 0.01, 0.01))
    made = []

    def make(*acts, **options):
        words, errors = Words(), Words()

        def launch(parent_fd, ready_fd):
            fds = {"parent_fd": parent_fd, "ready_fd": ready_fd}
            return {"acts": acts, "lives": str(tmp_path / "lives"), **fds}

        one = Service(
            "butler",
            "tests.integration.service_program",
            tmp_path,
            launch,
            **{"says_ready": True, "on_ready": words.add, "on_failed": errors.add} | options,
        )
        one.words, one.errors = words, errors
        made.append(one)
        one.start()
        return one

    yield make
    for one in made:
        one.end(at_once=True)
        one.join()


class Words:
    """What a callback was told, to be waited for."""

    def __init__(self):
        self.all = []
        self._changed = threading.Condition()

    def add(self, word):
        with self._changed:
            self.all.append(word)
            self._changed.notify_all()

    def wait(self, count):
        with self._changed:
            assert self._changed.wait_for(lambda: len(self.all) >= count, PATIENCE), self.all
        return self.all


def lives(tmp_path):
    return [json.loads(line) for line in (tmp_path / "lives").read_text().splitlines()]


@pytest.mark.parametrize("said", [object(), "\udcff"])
def test_settings_that_cannot_be_written_are_a_failure_to_start(tmp_path, said):
    one = Service("butler", "no.module", tmp_path, lambda *_: {"said": said})
    one.start()
    with pytest.raises(ServiceFailed, match="could not be started"):
        one.wait(PATIENCE)


def test_a_service_serves_until_it_is_ended(service, tmp_path):
    one = service("serve")
    one.wait(PATIENCE)
    assert one.words.all == [{"epoch": 1}]
    [life] = lives(tmp_path)
    assert (life["pid"], life["session"]) == (one.pid, one.pid)
    assert one.pid != os.getsid(0)
    one.end(at_once=True)
    one.join(PATIENCE)
    assert not psutil.pid_exists(one.pid)
    assert one.starts == 1


def test_a_service_sees_neither_the_current_folder_nor_the_users_path(
    service, tmp_path, monkeypatch
):
    trap = tmp_path / "trap"
    trap.mkdir()
    for name in ("farm_workers", "farm", "zmq", "json", "tests"):
        (trap / f"{name}.py").write_text("raise SystemExit('a trap')")
    monkeypatch.chdir(trap)
    monkeypatch.setenv("PYTHONPATH", str(trap))
    service("serve", flags=("-O",)).wait(PATIENCE)
    [life] = lives(tmp_path)
    assert life["cwd_is_searched"] is False
    assert life["python_path"] == str(trap)
    assert life["start"] is None
    assert life["optimize"] == 1


def test_a_service_that_dies_is_started_again(service):
    one = service("serve")
    one.wait(PATIENCE)
    first = one.pid
    one.tell(signal.SIGKILL)
    assert one.words.wait(2) == [{"epoch": 1}, {"epoch": 2}]
    assert one.pid != first
    assert one.starts == 2
    assert one.failed is None


def test_a_service_that_fails_again_and_again_is_given_up_with_its_last_words(service):
    one = service("serve", "fail")
    one.wait(PATIENCE)
    one.tell(signal.SIGKILL)
    [error] = one.errors.wait(1)
    assert str(error) == "the butler ended with exit code 3: there is no bread"
    assert one.failed is error
    one.join(PATIENCE)


@pytest.mark.parametrize(
    ("act", "said", "kind"),
    [
        ("fail", "ended with exit code 3: there is no bread", ""),
        ("raise", "LookupError: nor wine", ""),
        ("die", "was killed by SIGKILL", ""),
        ("refuse", "ended with exit code 10: the cellar is locked", "StoreLocked"),
    ],
)
def test_a_service_that_cannot_start_is_not_tried_again(service, act, said, kind):
    one = service(act)
    with pytest.raises(ServiceFailed) as caught:
        one.wait(PATIENCE)
    assert said in str(caught.value)
    assert caught.value.kind == kind
    one.join(PATIENCE)
    assert one.starts == 1
    assert one.errors.all == []


def test_what_a_dead_service_left_behind_ends_with_it(service):
    one = service("child", "serve")
    one.wait(PATIENCE)
    [child] = psutil.Process(one.pid).children()
    one.tell(signal.SIGKILL)
    one.words.wait(2)
    psutil.wait_procs([child], timeout=PATIENCE)
    assert not child.is_running() or child.status() == psutil.STATUS_ZOMBIE


def test_a_service_that_does_not_listen_is_killed(service):
    one = service("deaf")
    one.wait(PATIENCE)
    one.end(at_once=False)
    one.join(0.01)
    assert not psutil.pid_exists(one.pid)


def test_a_process_forked_from_here_does_not_keep_a_service_alive(service):
    one = service("serve")
    one.wait(PATIENCE)
    process = psutil.Process(one.pid)
    context = multiprocessing.get_context("fork")
    forked = context.Process(target=signal.pause)
    forked.start()
    try:
        one.end(at_once=True)
        gone, _ = psutil.wait_procs([process], timeout=PATIENCE)
        assert gone == [process]
    finally:
        forked.kill()
        forked.join()


def test_a_service_that_was_never_started_can_be_ended(tmp_path):
    one = Service("butler", "nothing", tmp_path, lambda parent_fd, ready_fd: {})
    one.end(at_once=False)
    one.join()


def test_a_service_that_cannot_be_started_says_so(service, tmp_path):
    (tmp_path / "butler.errors").mkdir()
    one = service("serve")
    with pytest.raises(ServiceFailed, match=r"the butler could not be started: .*butler\.errors"):
        one.wait(PATIENCE)
