"""One host of a launcher, as a machine."""

from farm_workers.launchers.hosts import HostEntry
from farm_workers.launchers.orders import Said
from farm_workers.launchers.watch import STATES, Watch

REFUSED = ["ssh: connect to host a port 22: Connection refused"]


def watch(**entry):
    return Watch(HostEntry(name="a", **entry), lambda: 1.0, 0.0)


def run(one, now, *, code=1, up=0.0):
    """A run whose agent was there for so long."""
    one.started(now)
    one.hears(Said(state="works", pid=7), now)
    one.ended(code, ["Boom"], now + up)


def test_a_host_that_works_and_is_drained():
    one = watch()
    assert (one.state, one.wants_start, one.due) == ("queued", True, 0.0)
    one.started(1.0)
    assert one.state == "connecting"
    one.hears(Said(state="starting"), 2.0)
    one.hears(Said(state="works", pid=7, slots=2), 3.0)
    assert (one.state, one.said.pid, one.since) == ("works", 7, 3.0)
    assert one.leave(4.0)
    one.hears(Said(state="draining"), 4.0)
    one.ended(0, [], 5.0)
    assert (one.state, one.text, one.over) == ("left", "", True)


def test_one_that_somebody_else_had_drained_is_not_started_again():
    one = watch()
    run(one, 0.0, code=0)
    assert (one.state, one.text) == ("left", "somebody had it drained")


def test_what_cannot_be_reached_is_tried_for_ever_in_longer_and_longer_pauses():
    one, now, pauses = watch(restarts=2), 0.0, []
    for _ in range(20):
        one.started(now)
        one.ended(255, REFUSED, now)
        assert one.state == "pause"
        pauses.append(one.due - now)
        now = one.due
    assert pauses[:7] == [1, 2, 4, 8, 16, 32, 60]
    assert set(pauses[7:]) == {60}
    assert one.restarts == 0


def test_pauses_are_jittered():
    one = Watch(HostEntry(name="a"), iter([0.5, 1.5]).__next__, 0.0)
    one.started(0.0)
    one.ended(255, REFUSED, 0.0)
    assert one.due == 0.5
    one.started(1.0)
    one.ended(255, REFUSED, 1.0)
    assert one.due == 4.0


def test_an_agent_that_dies_is_started_anew_only_so_often_in_a_time():
    one = watch(restarts=2, restarts_within=100.0)
    run(one, 0.0)
    assert (one.state, one.restarts) == ("pause", 1)
    run(one, 10.0)
    assert one.state == "pause"
    run(one, 20.0)
    assert one.state == "failed"
    assert one.text.startswith("it ended more than 2 times within 100 s: the agent ended with")


def test_what_was_long_ago_does_not_count():
    one = watch(restarts=2, restarts_within=100.0)
    for now in range(0, 1000, 60):
        run(one, float(now))
        assert one.state == "pause"


def test_an_agent_that_worked_well_is_started_again_soon():
    one = watch(restarts=9)
    for now in (0.0, 10.0, 20.0):
        run(one, now)
    run(one, 100.0, up=600.0)
    assert one.due == 701.0


def test_no_restarts_at_all():
    one = watch(restarts=0)
    run(one, 0.0)
    assert one.state == "failed"


def test_what_a_person_must_put_right_is_given_up_at_once():
    one = watch()
    one.started(0.0)
    one.ended(127, ["sh: 1: exec: python3: not found"], 0.0)
    assert one.state == "failed"
    assert "install it there" in one.text


def test_an_agent_that_cannot_serve_is_given_up_with_its_own_words():
    one = watch()
    one.started(0.0)
    one.hears(Said(state="starting"), 0.0)
    one.ended(11, ["2026-01-31T12:00:00.123Z error farm.host this host is refused: no"], 0.0)
    assert (one.state, one.text) == ("failed", "this host is refused: no")


def test_ssh_that_says_nothing_is_ended():
    one = watch()
    one.started(0.0)
    assert not one.silent(59.0)
    assert one.silent(60.0)
    one.hears(Said(state="starting"), 60.0)
    assert not one.silent(1000.0)


def test_who_waits_to_be_started_leaves_at_once():
    one = watch()
    one.started(0.0)
    one.ended(255, REFUSED, 0.0)
    assert not one.leave(0.5)
    assert one.state == "left"


def test_who_is_told_to_leave_is_not_started_again():
    one = watch()
    one.started(0.0)
    one.hears(Said(state="works"), 0.0)
    one.leave(1.0)
    one.ended(-9, [], 2.0)
    assert one.state == "left"


def test_states_that_are_not_known_are_shown_as_trouble():
    one = watch()
    one.started(0.0)
    one.hears(Said(state="new"), 0.0)
    assert one.state == "troubled"
    assert one.state in STATES
