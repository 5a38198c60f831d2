"""Some seconds of three schedulers under faults."""

import pytest

from tests.chaos.schedulers import run


@pytest.mark.slow
@pytest.mark.timeout(200)
def test_of_three_schedulers_one_decides_and_each_fire_runs_once():
    report = run(3, 4.0)
    assert not report.broken, str(report)
    assert set(report.runs) == {1}
