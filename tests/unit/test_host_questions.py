"""The host's part of questions about running tasks."""

from farm.model import Ending
from farm.protocol.messages import Ask, Noted, Told
from farm_workers import host_questions
from tests.unit.host_rig import Rig, one


def ask(rig, request=5, what="stack", lease=1, counter=1):
    rig.host.receive(Ask(request, what, 1, lease, counter, 3), rig.now)
    return rig.take()


def test_the_worker_that_is_at_the_task_is_asked_and_its_answer_told():
    rig = Rig()
    slot, _ = one(rig.assign())
    ((name, *arguments),) = ask(rig)
    assert (name, arguments) == ("ask", [slot, 1, "stack", 3])
    rig.host.on_worker_told(1, b"frames", 2, "")
    assert rig.take() == [("send", Told(5, b"frames", 2, ""))]
    rig.host.on_worker_told(1, b"frames", 2, "")
    assert rig.take() == []


def test_what_does_not_run_is_said_at_once():
    rig = Rig(slots=1)
    rig.assign(3, expected=0.0001)
    ((_, told),) = ask(rig, lease=9)
    assert "does not run it any more" in told.error
    rig.assign(1, lease=2, first=9, expected=0.0001)
    ((_, told),) = ask(rig, lease=2, counter=9)
    assert "waits on host h behind another" in told.error


def test_kinds_and_number_are_bounded(monkeypatch):
    monkeypatch.setattr(host_questions, "ASKED_MAX", 1)
    rig = Rig()
    rig.assign()
    ((_, told),) = ask(rig, what="passwords")
    assert "does not know" in told.error
    assert ask(rig)[0][0] == "ask"
    ((_, told),) = ask(rig, 6)
    assert "asked too much" in told.error


def test_answers_go_to_the_connection_that_asked_only():
    rig = Rig()
    rig.assign()
    ask(rig)
    rig.host.on_disconnected(rig.now)
    rig.connect()
    rig.take()
    rig.host.on_worker_told(1, b"old", 0, "")
    assert rig.take() == []


def test_output_goes_with_the_end_that_it_belongs_to_and_counts():
    rig = Rig(slots=1)
    slot, part = one(rig.assign(3, expected=0.0001))
    quiet, loud = part.end(1, 1, Ending.OK, [b"r"]), part.end(2, 1, Ending.OK, [b"r"])
    after = part.end(3, 1, Ending.OK, [b"r"])
    loud.output = b"printed"
    rig.host.on_worker_ended(slot, [quiet, loud, after], rig.now)
    assert rig.host._reports.bytes == 3 + len("printed")
    report = rig.report()
    assert [(end.first, end.count, end.output) for end in report.ended] == [
        (1, 1, b""),
        (2, 1, b"printed"),
        (3, 1, b""),
    ]
    rig.host.receive(Noted(report.number, 1), rig.now)
    assert rig.host._reports.bytes == 0
