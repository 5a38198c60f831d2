"""Limits on a real farm with several clients at once: full to the last task, and never one more."""

import sys
import time
from contextlib import ExitStack
from threading import Barrier, Thread

import cloudpickle

import farm
from tests.processes import Place

# Workers need not import this module, and what it imports, to run its functions.
cloudpickle.register_pickle_by_value(sys.modules[__name__])

PATIENCE = 60.0
LOOK_SECONDS = 0.005
CLIENTS, EACH = 4, 20
FARM, CLIENT, QUEUE = 10, 4, 3


def double(number):
    return 2 * number


def test_limits_of_farm_queue_and_client_are_exact_when_all_submit_at_once():
    core = {
        "max_tasks": FARM,
        "session_max_tasks": CLIENT,
        "queues": {"default": {}, "mail": {"max_tasks": QUEUE}},
    }
    with Place("admission", forks=True) as place, ExitStack() as stack:
        place.coordinator(core, store="memory:").start()
        clients = [
            stack.enter_context(farm.Client(place.address, connect_timeout=PATIENCE))
            for _ in range(CLIENTS)
        ]
        ready, futures = Barrier(CLIENTS), {}

        def submit(client):
            ready.wait(PATIENCE)
            mail = client.options(queue="mail")
            futures[client] = [
                (n, one.submit(double, n)) for n in range(EACH) for one in (client, mail)
            ]

        threads = [Thread(target=submit, args=(client,)) for client in clients]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(PATIENCE)
        watcher = stack.enter_context(farm.Client(place.address, connect_timeout=PATIENCE))
        deadline = time.monotonic() + PATIENCE
        while check(watcher) < FARM:
            assert time.monotonic() < deadline
            time.sleep(LOOK_SECONDS)
        place.agent("host").start()
        for client in clients:
            for number, future in futures[client]:
                assert future.result(PATIENCE) == 2 * number
                check(watcher)
        assert place.complaints() == []


def check(watcher):
    """Nothing is ever above its limit; how many tasks are open."""
    status = watcher.query("status")
    open_tasks = status["limits"]["open_tasks"]
    assert open_tasks <= FARM
    mail = next(row for row in status["queues"] if row["name"] == "mail")
    assert mail["open_tasks"] <= QUEUE
    return open_tasks
