"""The shell of a host: what becomes of it when its parent ends."""

import threading

from farm_workers import service


class Assembled:
    """An agent, as far as its end is concerned."""

    def __init__(self, said):
        self._said = said

    def last_words(self, seconds):
        self._said.append("last words")


def test_a_parent_that_ends_while_the_agent_is_put_together_leaves_nothing_of_it(monkeypatch):
    said = []
    monkeypatch.setattr(service, "_agents", [])
    monkeypatch.setattr(service, "_assembling", threading.Lock())
    monkeypatch.setattr(service, "LAST_WORDS_SECONDS", 60.0)
    monkeypatch.setattr(service.os, "_exit", lambda code: said.append("exit"))
    ends = threading.Thread(target=service._leave)
    with service._assembling:  # it has made its folders, and nobody knows it yet
        ends.start()
        ends.join(0.2)
        assert said == []
        service._agents.append(Assembled(said))
    ends.join(60.0)
    assert said == ["last words", "exit"]
