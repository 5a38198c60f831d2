"""What a worker says of a slice, and when."""

import time
from unittest.mock import Mock

import pytest

from farm_workers.channel import Ends
from farm_workers.host_slices import Slice
from farm_workers.outcomes import FLUSH_SECONDS, Outcomes
from tests.packed import load_values

PATIENCE = 20.0


class Said(list):
    """A pipe that keeps what is put."""

    put = list.append


def a_slice(**more):
    call = {"first": 1, "count": 2, "function": b"f", "payloads": []}
    return Slice(key=(1, 1), attempt=1, session=b"s" * 16, **call, **more)


def said_of(said):
    return [(end.first, end.count) for one in said if isinstance(one, Ends) for end in one.parts]


def begin_and_wait(outcomes, said):
    """A slice whose first item ends; the flusher says so."""
    outcomes.begin(a_slice())
    outcomes.entries.append(b"1")
    end = time.monotonic() + PATIENCE
    while not said:
        assert time.monotonic() < end
        time.sleep(FLUSH_SECONDS)


def test_an_outcome_does_not_wait_for_the_item_that_runs_unless_the_worker_has_to_judge_it():
    said = Said()
    outcomes = Outcomes(said, lambda: False)
    begin_and_wait(outcomes, said)
    outcomes.entries.append(b"2")
    outcomes.finish(more=False)
    said.clear()
    outcomes.begin(a_slice(memory_limit=1 << 20))
    outcomes.entries.append(b"1")
    time.sleep(FLUSH_SECONDS * 10)  # it may have taken more than it was to have
    assert not said
    outcomes.flush()
    assert said_of(said) == [(1, 1)]


class Hasty(Outcomes):
    """Whose worker, as soon as the flusher has looked, ends an item that has submitted others."""

    @property
    def held(self):
        before, self._held = self._held, True
        if not before:
            self.entries.append(b"2")
        return before

    @held.setter
    def held(self, value):
        self._held = value


def test_an_item_that_ends_after_the_flusher_has_looked_waits_for_what_it_has_submitted():
    said = Said()
    outcomes = Hasty(said, lambda: False)
    begin_and_wait(outcomes, said)
    assert said_of(said) == [(1, 1)]
    outcomes.held = False
    outcomes.finish(more=False)
    assert said_of(said) == [(1, 1), (2, 1)]


def test_a_task_may_do_to_the_clock_what_it_likes(monkeypatch):
    said = Said()
    outcomes = Outcomes(said, lambda: False)
    outcomes.begin(a_slice())
    outcomes.entries.append(b"1")
    with monkeypatch.context() as patch:
        patch.setattr(time, "monotonic", lambda: -1e12)
        outcomes.flush()
        patch.setattr(time, "monotonic", None)
        outcomes.entries.append(b"2")
        outcomes.finish(more=False)
    assert said_of(said) == [(1, 1), (2, 1)]
    assert all(0 <= end.seconds < PATIENCE for one in said for end in one.parts)


def test_what_there_is_no_memory_to_say_is_said_later_and_of_the_same_tasks(monkeypatch):
    said = Said()
    outcomes = Outcomes(said, lambda: False)
    outcomes.begin(a_slice(packed=True))
    outcomes.entries.append(1)
    with monkeypatch.context() as patch:
        patch.setattr("farm_workers.outcomes.dump_values", Mock(side_effect=MemoryError))
        with pytest.raises(MemoryError):
            outcomes.flush()
    outcomes.entries.append(2)
    outcomes.finish(more=False)
    ((part,),) = (one.parts for one in said)
    assert (part.first, part.count, load_values(part.payloads[0])) == (1, 2, [1, 2])
