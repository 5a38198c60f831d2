"""Clients and hosts come back by themselves, as who they were, on a connection of their own."""

import itertools
import random
import signal
import socket
import time

import pytest
import zmq

import farm
from farm.client import loop
from farm.client.line import Line
from farm.transport import Credentials, Poller, Router, Waker, host_address, parse_address
from farm.transport.naps import GAP_SECONDS
from farm.transport.pauses import CROWDED_SECONDS
from farm_workers.link import Link
from tests.integration.agent_rig import AgentProcess, Coordinator
from tests.integration.fake_farm import FakeFarm
from tests.processes import Place, free_ports

HOUR = 3600.0
PATIENCE = 30.0


def wait(until):
    deadline = time.monotonic() + PATIENCE
    while not until():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_a_client_whose_machine_slept_opens_another_connection_at_once(tmp_path, monkeypatch):
    asleep = 0.0
    monkeypatch.setattr(loop, "time", lambda: time.time() + asleep)
    fake = FakeFarm(tmp_path).start()
    fake.held = True
    with farm.Client(fake.address) as client:
        future = client.submit(abs, -1)
        fake.wait(lambda fake: fake.groups)
        asleep = HOUR
        client.submit(abs, -2)  # whatever wakes the thread, or a few seconds
        fake.wait(lambda fake: len(fake.hellos) > 1)
        fake.release()
        assert future.result(20) == 1
    first, second, *_ = fake.hellos
    assert (second.session, second.secret) == (first.session, first.secret)
    assert (first.connection, second.connection) == (1, 2)
    assert sum(group.count for group in fake.groups) == 2, "a task was taken twice"
    fake.stop()


@pytest.mark.slow
def test_a_host_that_was_stopped_for_long_opens_another_connection_and_keeps_its_tasks(tmp_path):
    url = f"ipc://{tmp_path}/farm"
    coordinator = Coordinator(url)
    agent = AgentProcess(tmp_path, address=url, slots=1)
    try:
        counters = coordinator.submit(time.sleep, [(GAP_SECONDS + 3.0,)])
        coordinator.run(lambda: coordinator.started)
        agent.signal(signal.SIGSTOP)
        stopped = time.monotonic()
        coordinator.run(lambda: time.monotonic() > stopped + GAP_SECONDS + 1.0, 2 * GAP_SECONDS)
        agent.signal(signal.SIGCONT)
        coordinator.run(lambda: len(coordinator.hellos) > 1)
        first, second = coordinator.hellos
        assert (second.name, second.instance) == (first.name, first.instance)
        assert (first.connection, second.connection) == (1, 2)
        assert [claim.first for claim in second.claims] == counters
        assert coordinator.values(counters) == [None]
        assert "was stopped for" in agent.text()
    finally:
        agent.end()
        coordinator.close()


def test_of_two_hosts_of_one_name_the_first_works_on_until_it_is_gone():
    with Place("names", forks=True) as place:
        place.coordinator().start()
        told = {"address": place.address, "name": "twin", "slots": 1}
        first, second = (place.module(f"twin-{n}", "farm_workers", told) for n in (1, 2))
        first.start()
        wait(lambda: "connected to" in first.log.read_text())
        second.start()
        wait(lambda: "a name of its own" in second.log.read_text())
        with farm.Client(place.address) as client:
            assert client.submit(abs, -3).result(PATIENCE) == 3
            (host,) = client.query("hosts")
            assert host["pid"] == first.pid
            first.kill()
            wait(lambda: "connected to" in second.log.read_text())
            assert client.submit(abs, -4).result(PATIENCE) == 4


def test_of_several_addresses_the_one_that_answers_is_used_by_clients_hosts_and_tasks():
    with Place("route", forks=True) as place:
        dead = f"tcp://127.0.0.1:{free_ports()}"
        place.coordinator().start()
        address = f"{dead},{place.address}"
        told = {"address": address, "name": "h", "slots": 1}
        place.module("h", "farm_workers", told).start()
        with farm.Client(address, connect_timeout=PATIENCE) as client:
            assert client.address == address
            assert client.submit(nested).result(PATIENCE) == 5
        with pytest.raises(ConnectionError, match=r"127.0.0.1:.*; .*127.0.0.2:"):
            farm.Client(f"{dead},{dead.replace('127.0.0.1', '127.0.0.2')}", connect_timeout="2s")


def nested():
    return farm.current_client().submit(abs, -5).result()


def attempts_of(step, due, seconds):
    """When, on a clock of its own, a peer tries to connect to where nobody is."""
    now, found = 0.0, []
    while now < seconds:
        found.append(now)
        until = time.monotonic() + PATIENCE
        while not step(now):  # the attempt itself is real, and fails in a moment
            assert time.monotonic() < until
            time.sleep(0.0001)
        now = due(now)
    return found


def client_away(address, seconds):
    """The attempts of a client's connection; and that it comes about when somebody is there."""
    line = Line(Credentials("client", address, "none"), Waker(), random.random)
    found = attempts_of(
        lambda now: line.step(1, now)[2], lambda now: now + line.patience(HOUR, now), seconds
    )
    assert not line.up
    return found, lambda: line.step(1, 2 * HOUR)[0], lambda: line.close(2 * HOUR)


def host_away(address, seconds):
    link = Link(Credentials("host", address, "none"), Poller(), 0.0)
    found = attempts_of(lambda now: link.receive(now, ())[1], link.next_deadline, seconds)
    return found, lambda: link.receive(2 * HOUR, ()) and link.up, link.close


@pytest.mark.parametrize(
    ("away", "side", "low", "high"),
    [(client_away, "client", 1.0, 2.0), (host_away, "host", 1.5, 4.5)],
)
def test_a_coordinator_that_is_away_for_an_hour_is_looked_for_after_jittered_pauses(
    away, side, low, high
):
    where = f"tcp://0.0.0.0:{free_ports()}"  # this machine, although it does not look so
    found, comes_back, close = away(where, HOUR)
    pauses = [after - before for before, after in itertools.pairwise(found)]
    assert max(pauses[:3]) < low / 2  # they begin short,
    assert sum(pauses[4:8]) > 2 * sum(pauses[:4])  # and double,
    assert all(low <= pause <= high for pause in pauses[10:])  # to a bound,
    assert max(pauses[10:]) - min(pauses[10:]) > (high - low) / 2  # and no two peers keep in step
    context = zmq.Context()
    router = Router(context, side)
    address = parse_address(where)
    router.bind(host_address(address) if side == "host" else address)
    wait(comes_back)
    close()
    router.shut()
    context.term()


@pytest.mark.parametrize("away", [client_away, host_away])
def test_a_coordinator_that_is_overrun_is_left_in_peace_for_longer(away, monkeypatch):
    monkeypatch.setattr("farm.transport.credentials.ALONE_SECONDS", 0.2)
    port = free_ports()
    with (  # they never say anything
        socket.create_server(("127.0.0.1", port)),
        socket.create_server(("127.0.0.1", port + 1)),
    ):
        found, _, close = away(f"tcp://0.0.0.0:{port}", 8.0)
        close()
    pauses = [after - before for before, after in itertools.pairwise(found)]
    assert min(pauses) >= CROWDED_SECONDS / 2
