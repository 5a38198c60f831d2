from queue import SimpleQueue

from farm.client.callbacks import CallbackThread
from farm.client.future import Origin
from farm.client.mapping import Chunk
from farm.client.waiting import Waiting

SESSION = b"s" * 16


class Counted(dict):
    """A dictionary that counts how often it is asked."""

    asked = 0

    def get(self, key):
        self.asked += 1
        return super().get(key)


def test_items_of_a_map_that_start_cost_nothing_each(monkeypatch):
    waiting = Waiting(Origin(SESSION, lambda future, wait: False, CallbackThread(), None))
    futures = Counted()
    monkeypatch.setattr(waiting, "_futures", futures)
    before, after = waiting.new(1), waiting.new(10_002)
    waiting.add_chunk(Chunk(10_000, 5, SimpleQueue()), 2)
    waiting.started([(1, 1), (2, 10_000), (10_002, 1)])
    assert before.running()
    assert after.running()
    assert futures.asked == 2
