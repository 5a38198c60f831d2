"""The events of a job, and the numbers of a gateway, without a farm."""

import asyncio
import json

import pytest
from prometheus_client.parser import text_string_to_metric_families

from farm.gateway import events
from farm.gateway.events import job_events
from farm.gateway.metrics import Metrics
from farm.gateway.schemas import JobTask, JobView


class Reading:
    """A job that is looked at: at each look its tasks are in the states that are next."""

    def __init__(self, *looks, stops=None):
        self.looks = list(looks)
        self.paused = []
        self.stops = stops

    def view(self):
        states = self.looks[0]
        counts = {state: states.count(state) for state in states}
        waiting = counts.get("queued", 0) + counts.get("running", 0)
        return JobView("j", "", "sealed", not waiting, len(states), waiting, counts, 0.0)

    async def job(self, _):
        if len(self.looks) > 1:
            del self.looks[0]
        return self.view()

    async def job_tasks(self, _, start, limit):
        found = [JobTask(at, f"t{at}", state) for at, state in enumerate(self.looks[0])]
        return found[start : start + limit]

    async def pause(self, seconds):
        self.paused.append(seconds)
        return len(self.paused) == self.stops


def told(reading, first=0):
    """Kinds, ids and indices of all events."""

    async def gather():
        return [event async for event in job_events(reading, reading.view(), first)]

    found = []
    for event in asyncio.run(asyncio.wait_for(gather(), 20)):
        lines = dict(line.split(": ", 1) for line in event.decode().splitlines() if ": " in line)
        data = json.loads(lines["data"]) if "data" in lines else {}
        found.append((lines.get("event"), lines.get("id"), data.get("index")))
    return found


def test_tasks_are_told_in_the_order_of_the_job_and_counts_at_once():
    reading = Reading(["running", "succeeded"], ["failed", "succeeded"])
    assert told(reading) == [
        ("progress", "0", None),
        ("task", "1", 0),
        ("task", "2", 1),
        ("progress", "2", None),
        ("end", "2", None),
    ]


def test_whoever_comes_back_hears_the_rest():
    assert told(Reading(["succeeded"] * 3), 2) == [
        ("task", "3", 2),
        ("progress", "3", None),
        ("end", "3", None),
    ]


def test_a_long_job_is_told_in_pieces_without_a_pause(monkeypatch):
    monkeypatch.setattr(events, "TASKS_MAX", 2)
    reading = Reading(["succeeded"] * 5)
    assert [index for kind, _, index in told(reading) if kind == "task"] == [0, 1, 2, 3, 4]
    assert reading.paused == []


def test_where_nothing_moves_there_is_a_sign_of_life_and_less_looking():
    reading = Reading(["running"], stops=40)
    found = told(reading)
    assert found[0] == ("progress", "0", None)
    assert found[1:] == [(None, None, None)] * 2
    assert (reading.paused[0], reading.paused[-1]) == (0.1, 1.0)


@pytest.mark.parametrize("counts", [{}, {"waits": 3.0}])
def test_without_a_farm_there_are_still_numbers(counts):
    metrics = Metrics()
    metrics.answered("GET", "/v1/tasks/{id}", 503, 0.2)
    text = metrics.text(None, [], counts).decode()
    found = {
        (sample.name, *sorted(sample.labels.values())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }
    assert found["farm_up",] == 0
    assert found["farm_gateway_requests_total", "/v1/tasks/{id}", "503", "GET"] == 1
    assert found.get(("farm_gateway_waits",)) == counts.get("waits")
