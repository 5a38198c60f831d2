"""Some seconds of each proof of the gateway; `make http` runs minutes."""

import pytest

from tests.gateway import load, random_requests

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("tokens", [False, True], ids=["open", "tokens"])
def test_random_requests_find_no_problem(tokens):
    problems, _ = random_requests.run(2, seed=1, tokens=tokens)
    assert not problems, "\n".join(problems)  # whole, for it says how to ask again


def test_more_load_than_the_farm_can_do_loses_nothing():
    found = load.run(1, connections=60, holders=12, probes=1)
    assert found.problems == []
    assert found.statuses[503] > 0
    assert found.statuses[202] > load.ROOM
