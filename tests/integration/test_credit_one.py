"""Everything works with every credit set to 1, and with every socket's high-water mark set to 1.

As the ZeroMQ guide proves credit-based flow control: what works with a window of one message is
right, and all the rest is speed. Real sockets, real processes.
"""

import sys
import time
from concurrent.futures import wait
from pathlib import Path

import cloudpickle
import pytest

import farm
from farm.client.flow import Flow
from tests.processes import Place

# Workers need not import this module, and what it imports, to run its functions.
cloudpickle.register_pickle_by_value(sys.modules[__name__])

PATIENCE = 60.0
LOOK_SECONDS = 0.005
LARGE = 300_000
"""Bytes of a payload that travels as a blob on one machine."""
CREDIT = {
    "session_tasks": 1,
    "grant_tasks": 1,
    "reply_seconds": 0.0,
    "upkeep_seconds": 0.0,
    "session_outcomes": 1,
    "resident_result_bytes": 1,
}
"""One task on the way from a client, one in a lease; one outcome may wait for its reader."""


def square(number):
    return number * number


def blob(size):
    return b"b" * size


def length(data):
    return len(data)


def chatty(text):
    print(text, flush=True)  # noqa: T201 - it is what the task does
    return text


def stays(begun, opens):
    Path(begun).touch()
    while not Path(opens).exists():
        time.sleep(LOOK_SECONDS)
    return "stayed"


def look_for(path):
    deadline = time.monotonic() + PATIENCE
    while not Path(path).exists():
        assert time.monotonic() < deadline
        time.sleep(LOOK_SECONDS)


class Narrow:
    """A farm of one host with one slot, and its clients, all as narrow as they can be."""

    def __init__(self, place, folder, *, credit, hwm):
        marks = {"messages_hwm": 1} if hwm else {}
        core = CREDIT if credit else {}
        window = {"window_max": 1} if credit else {}  # and so nothing waits in a worker's pipe
        self.place = place
        self.coordinator = place.coordinator(core, store=str(folder / "farm.db"), **marks)
        self.coordinator.start()
        told = {"address": place.address, "name": "narrow", "slots": 1, **window, **marks}
        place.module("narrow", "farm_workers", told).start()
        flow = Flow()
        flow = flow._replace(window_bytes=1) if credit else flow
        self.flow = flow._replace(messages_hwm=1) if hwm else flow

    def check_marks(self, client):
        """Where sockets are narrow, messages met full ones, and waited; nobody was dropped."""
        status = client.query("status")["process"]
        met = status["congested"] + client.connection._loop.line.congested
        assert (met > 0) == (self.flow.messages_hwm == 1)
        assert status["overflowed"] == 0

    def client(self):
        return farm.Client(self.place.address, connect_timeout=PATIENCE, flow=self.flow)


@pytest.fixture(params=["credit", "hwm", "both"])
def narrow(request, tmp_path):
    with Place("one", forks=True) as place:
        kind = request.param
        yield Narrow(place, tmp_path, credit=kind != "hwm", hwm=kind != "credit")
        assert place.complaints() == []


def test_tasks_maps_blobs_logs_cancels_and_a_restart(narrow, tmp_path):
    begun, opens = str(tmp_path / "begun"), str(tmp_path / "opens")
    with narrow.client() as client, narrow.client() as other:
        futures = [client.submit(square, n) for n in range(40)]
        others = [other.submit(square, n) for n in range(40)]
        assert [one.result(PATIENCE) for one in futures] == [n * n for n in range(40)]
        assert [one.result(PATIENCE) for one in others] == [n * n for n in range(40)]
        assert list(client.map(square, range(60), chunksize=7)) == [n * n for n in range(60)]
        assert list(client.map(square, range(20))) == [n * n for n in range(20)]
        large = [client.submit(blob, LARGE + n) for n in range(4)]
        assert [len(one.result(PATIENCE)) for one in large] == [LARGE + n for n in range(4)]
        sent = [client.submit(length, b"x" * (LARGE + n)) for n in range(4)]
        assert [one.result(PATIENCE) for one in sent] == [LARGE + n for n in range(4)]
        said = client.submit(chatty, "words")
        assert said.result(PATIENCE) == "words"
        assert "words" in said.logs()[0].text
        error = client.submit(square, "no").exception(PATIENCE)
        assert isinstance(error, TypeError)
        job = client.options(name="squares").submit_many(square, range(30))
        wait(list(job), PATIENCE)
        found = other.job("squares")  # far more than may wait for who only reads
        assert [one.result(PATIENCE) for one in found] == [n * n for n in range(30)]
        narrow.check_marks(client)
        long = client.submit(stays, begun, opens)
        look_for(begun)
        behind = [client.submit(square, n) for n in range(5)]
        assert behind[-1].cancel()
        narrow.coordinator.kill()
        more = [client.submit(square, n) for n in range(5, 10)]
        narrow.coordinator.start()
        Path(opens).touch()
        assert long.result(PATIENCE) == "stayed"
        done, _ = wait(behind[:-1] + more, PATIENCE)
        assert [one.result(0) for one in behind[:-1] + more] == [
            n * n for n in (*range(4), *range(5, 10))
        ]
        assert len(done) == 9
