"""Ten seconds of real faults; and the judge of a history notices what it is there for."""

import pytest

from tests.chaos.history import Execution, History, Outcome, judge
from tests.chaos.run import run

TASK = f"{'ab' * 16}-1"
FIRST, SECOND = (7, 1), (7, 2)


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_under_faults_nothing_is_lost_and_nothing_is_published_twice():
    report = run(5, 10.0)
    assert not report.broken, str(report)
    assert report.history.acknowledged
    assert report.history.keyed
    assert sum(report.faults.values()) >= 3, "hardly any fault was injected"


def history(*, acknowledged=True, runs=((FIRST, "n1"),), published=((FIRST, "n1"),), kind="work"):
    made = History()
    if acknowledged:
        made.acknowledged.add(TASK)
    for at, (token, nonce) in enumerate(runs):
        made.began[TASK].append(Execution(kind, token, nonce, float(at)))
        made.ended.add(nonce)
    for token, nonce in published:
        made.outcomes[TASK][Outcome("OK", TASK, token, nonce)] += 1
    return made


def test_a_good_history_has_nothing_to_say():
    assert judge(history()) == {}
    assert judge(history(acknowledged=False, published=())) == {}
    again = history(runs=[(FIRST, "n1"), (SECOND, "n2")], published=[(SECOND, "n2")])
    assert judge(again) == {}
    assert again.overtaken == 0


def test_an_execution_that_was_overtaken_is_counted_and_may_happen():
    late = history(runs=[(SECOND, "n2"), (FIRST, "n1")], published=[(SECOND, "n2")])
    assert judge(late) == {}
    assert late.overtaken == 1


@pytest.mark.parametrize(
    ("what", "bad"),
    [
        ("lost", {"published": ()}),
        ("published twice", {"published": [(FIRST, "n1"), (FIRST, "n2")]}),
        ("stale", {"runs": [(FIRST, "n1"), (SECOND, "n2")]}),
        ("never ran", {"runs": [(SECOND, "n1")]}),
        ("token twice", {"runs": [(FIRST, "n1"), (FIRST, "n2")]}),
        ("ran twice", {"runs": [(FIRST, "n0"), (SECOND, "n1")], "kind": "once"}),
    ],
)
def test_a_broken_promise_is_noticed(what, bad):
    assert what in judge(history(**bad))


def test_calls_with_one_key_end_alike():
    made = history()
    made.keyed["k"] = {"a", "b"}
    made.kept["k"] = {"a": ("OK", "n"), "b": ("OK", "n")}
    assert judge(made) == {}
    made.kept["k"]["b"] = "OK", "m"
    assert "key" in judge(made)
    del made.kept["k"]["b"]
    assert "lost" in judge(made)


def test_what_was_published_must_have_ended():
    cut = history()
    cut.ended.clear()
    assert "never ran" in judge(cut)


def test_a_task_that_was_published_and_is_unknown_later_is_noticed():
    made = history()
    made.void[TASK].add("UNKNOWN")
    assert "forgotten" in judge(made)


def test_the_value_of_another_task_is_noticed():
    made = history(published=())
    made.outcomes[TASK][Outcome("OK", "another", FIRST, "n1")] += 1
    assert "another's" in judge(made)
