"""What is asked, and not answered yet, needs steps: a seed that asks much works less."""

from dataclasses import replace

import pytest

from tests.sim.budget import OF_ASKED, OF_TOLD
from tests.sim.plan import Plan
from tests.sim.world import World

QUESTIONS = 30


@pytest.fixture
def world():
    """A farm where all clients are connected, one has tasks that are over, and nothing is open."""
    world = World(replace(Plan.of(0), faults=[], nested=0.0, owners=0, queues={}, clients=2))
    world.faults.stop()
    owner = world.clients[0].program
    while not world.truth.tasks:
        owner.submit()
    world.resting = True  # nobody does anything by himself
    steps_until(world, lambda: not world.truth.unsettled and all_answered(world))
    return world


def steps_until(world, done):
    while not done():
        world._step()


def all_answered(world):
    return all(client.connection for client in world.clients) and not any(
        client.program.unanswered for client in world.clients
    )


def test_a_question_needs_steps_until_it_is_answered(world):
    before = world.budget._needed(0)
    program = world.clients[1].program
    for _ in range(QUESTIONS):
        request = program._request()
        program.questions.add(request)
        program.client.machine.query(request, "status", {}, program.client.now)
    assert world.budget._needed(0) == before + QUESTIONS * OF_ASKED
    steps_until(world, lambda: all_answered(world))
    assert world.budget._needed(0) == before


@pytest.mark.parametrize("follower", [0, 1])
def test_a_job_that_is_followed_needs_steps_before_the_farm_says_what_is_in_it(world, follower):
    owner, program = world.clients[0].program, world.clients[follower].program
    tasks = list(world.truth.tasks.values())
    for task in tasks:
        task.job = 1
    before = world.budget._needed(0)
    request = program._request()
    program.follows[request] = set()
    program.followed_jobs[request] = f"{owner.client.name}-1"
    assert world.budget._needed(0) == before + OF_ASKED + len(tasks) * OF_TOLD
