"""Clients and hosts over real sockets: what a stranger tries with the tasks of another."""

import sys
import time
from pathlib import Path

import cloudpickle
import pytest

import farm
from farm.client.flow import USUAL
from farm.errors import FarmError, UnknownTask
from farm.identity import Identity, Role
from farm.local import LocalFarm
from farm.model import Ending, TaskId
from farm.protocol import messages as m
from tests.integration.test_coordinator_process import (
    HASH,
    client_hello,
    connect,  # noqa: F401 - a fixture
    coordinator,  # noqa: F401 - a fixture
    host_hello,
    receive,
)

# Workers need not import this module, and what it imports, to run its functions.
cloudpickle.register_pickle_by_value(sys.modules[__name__])

pytestmark = pytest.mark.usefixtures("forked_services")

WAIT = 20.0


@pytest.fixture(scope="module")
def people(tmp_path_factory):
    """Clients of one real farm, each with an identity of its own."""
    folder = tmp_path_factory.mktemp("farm")
    local = LocalFarm(slots=2, store=str(folder / "farm.db"))
    local.start()
    made = {}
    try:
        for name, scope in (("ann", "own"), ("bob", "own"), ("reader", "all")):
            who = Identity(name, Role.CLIENT, scope, "")
            made[name] = farm.Client(local.address, flow=USUAL._replace(behalf=who))
        yield made
    finally:
        for client in made.values():
            client.shutdown(wait=False)
        local.stop()


@pytest.fixture
def held(people, tmp_path):
    """A task of ann's in a job of hers that runs until its gate is there."""
    gate = tmp_path / "gate"

    def wait_for(path):
        while not Path(path).exists():
            time.sleep(0.005)
        return "done"

    future = people["ann"].options(name="nightly").submit(wait_for, str(gate))
    while not future.running():
        assert not future.done()
    yield future
    gate.touch()
    assert future.result(WAIT) == "done"


def test_a_stranger_attaches_to_nothing(people, held):
    with pytest.raises(UnknownTask):
        people["bob"].future(held.id).result(WAIT)
    with pytest.raises(FarmError, match="the farm has no job 'nightly'"):
        people["bob"].job("nightly")
    assert people["reader"].job("nightly").name == "nightly"


def test_a_stranger_cancels_and_stops_nothing(people, held):
    theirs = people["bob"].future(held.id)
    assert not theirs.cancel()
    with pytest.raises(UnknownTask):
        theirs.result(WAIT)
    bob = people["bob"]._connection
    for grace in (None, 0.0):
        task = TaskId.parse(held.id)
        reply = bob.cancels.tasks([(*task, 1)], grace).wait(WAIT)
        assert (reply.cancelled, reply.stopped, reply.stopping) == ([], [], [])
    assert held.running()


@pytest.mark.parametrize("what", ["task", "explain", "logs", "stack", "call", "function"])
def test_a_stranger_is_told_what_is_told_of_a_task_that_never_was(people, held, what):
    never = f"{held.id.partition('-')[0]}-999999"
    said = []
    for task in (held.id, never):
        with pytest.raises(FarmError) as told:
            people["bob"].query(what, id=task)
        said.append(str(told.value).replace(task, "ID"))
    assert said[0] == said[1]
    assert people["ann"].query(what, id=held.id)


def test_a_stranger_has_no_lists_and_gives_no_orders(people, held):
    bob = people["bob"]
    assert [bob.query(what) for what in ("tasks", "jobs", "dead", "history")] == [[], [], [], []]
    assert len(people["reader"].query("jobs")) >= 1
    for order in ("pause_queue", "purge_queue"):
        with pytest.raises(FarmError, match="only an admin may"):
            people["reader"].query(order, name="default")


def test_a_session_is_not_another_names(coordinator, connect):  # noqa: F811 - fixtures
    process = coordinator(store="memory:")
    ann = Identity("ann", Role.CLIENT, "own", "")
    first = connect(process.address, "client", with_behalf(1, ann))
    receive(first, m.ClientWelcome)
    thief = connect(process.address, "client", with_behalf(2, ann._replace(name="bob")))
    assert receive(thief, m.Rejected).code == "secret"
    receive(connect(process.address, "client", with_behalf(2, ann)), m.ClientWelcome)


def with_behalf(connection, who):
    hello = client_hello(connection)
    hello.behalf = who
    return hello


def test_a_host_reports_nothing_of_anothers_lease(coordinator, connect):  # noqa: F811 - fixtures
    process = coordinator(store="memory:")
    client = connect(process.address, "client", client_hello())
    receive(client, m.ClientWelcome)
    client.send(m.Function(HASH, "f", b"pickle"))
    client.send(m.Submit([m.Group(1, 1, HASH, [b"x"], 1)]))
    hosts = [connect(process.address, "host", hello) for hello in (host_hello(), other_host())]
    for host in hosts:
        receive(host, m.HostWelcome)
    client.send(m.Query(1, "hosts", {}))
    holder = next(row["name"] for row in receive(client, m.Answer).data if row["held"])
    mine, other = hosts if holder == "host-1" else hosts[::-1]
    assign = receive(mine, m.Assign)
    for host, value in ((other, b"forged"), (mine, b"true")):
        host.send(m.Report(1, 1, [ending(assign, value)]))
        receive(host, m.Noted)
    [entry] = receive(client, m.Results).entries
    assert (entry.ending, entry.payloads) == (Ending.OK, [b"true"])
    client.send(m.Query(2, "status", {}))
    assert receive(client, m.Answer).data["counters"]["stale"] == 1


def other_host():
    hello = host_hello()
    hello.name, hello.instance = "host-2", b"k" * 16
    return hello


def ending(assign, value):
    grant = assign.grants[0]
    token = assign.epoch, grant.lease, grant.attempt
    return m.Ended(*token, grant.first, 1, Ending.OK, [value], len(value))
