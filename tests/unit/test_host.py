"""The host machine: what it emits for each event, and that it emits nothing else."""

from farm.model import Ending
from farm.protocol.messages import (
    Beat,
    Bye,
    Drain,
    Function,
    HostHello,
    NeedFunction,
    Noted,
    Rejected,
    Report,
)
from farm_workers.host import Host
from tests.unit.host_rig import F, RecordingPort, Rig, S, ended, endings, one, runs


def test_a_new_host_starts_its_workers_and_says_nothing():
    port = RecordingPort()
    host = Host(Rig().settings, port, instance=b"i" * 16, now=0.0)
    assert port.take() == [("spawn", 0), ("spawn", 1)]
    assert not host.connected
    host.on_tick(0.0)
    assert port.take() == []


def test_hello_comes_first_and_a_beat_after_the_welcome():
    rig = Rig(connect=False)
    rig.host.on_connected(rig.now)
    ((name, hello),) = rig.take()
    assert name == "send"
    assert isinstance(hello, HostHello)
    assert (hello.connection, hello.slots, hello.window, hello.claims) == (1, 2, 2, [])
    assert not rig.host.connected
    rig.connect()
    assert rig.host.connected
    beats = [call[1] for call in rig.take() if isinstance(call[1], Beat)]
    assert [beat.stamp for beat in beats] == [rig.now]


def test_messages_before_the_welcome_are_ignored():
    rig = Rig(connect=False)
    rig.host.on_connected(rig.now)
    rig.take()
    assert rig.assign() == []
    assert rig.tick() == []


def test_one_task_goes_to_a_worker_and_its_outcome_to_the_coordinator():
    rig = Rig()
    calls = rig.assign()
    assert calls[0] == ("function", 0, F, "fn", b"code")
    slot, part = one(calls)
    assert (part.key, part.first, part.count, part.payloads) == ((1, 1), 1, 1, [b"1"])
    assert rig.tick() == []
    assert rig.ended(slot, part) == []
    report = rig.report()
    assert report.ended == [ended(1, 1, 1, [b"r"], seconds=0.001)]
    assert (report.started, report.returned, report.progress) == ([], [], [])
    assert rig.tick() == []


def test_a_function_is_sent_to_each_worker_once():
    rig = Rig()
    slot, part = one(rig.assign())
    rig.ended(slot, part)
    assert one(rig.assign(lease=2, first=2))[1].offset == 1
    assert [call[0] for call in rig.assign(lease=3, first=3)] == ["function", "run"]


def test_tasks_of_unknown_duration_go_one_by_one_to_idle_workers():
    rig = Rig(slots=2)
    given = runs(rig.assign(5))
    assert {slot: [part.count for part in parts] for slot, parts in given.items()} == {
        0: [1],
        1: [1],
    }


def test_short_tasks_go_in_slices_that_leave_no_worker_idle():
    rig = Rig(slots=2)
    given = runs(rig.assign(10, expected=1e-5))
    assert [(slot, part.count) for slot, parts in given.items() for part in parts] == [
        (0, 5),
        (1, 5),
    ]


def test_short_tasks_fill_a_pipe_with_two_slices():
    rig = Rig(slots=1)
    given = runs(rig.assign(512, expected=1e-5))
    assert [part.count for part in given[0]] == [128, 128]
    assert [part.offset for part in given[0]] == [0, 128]
    assert [part.count for part in runs(rig.ended(0, given[0][0]))[0]] == [128]


def test_tasks_with_a_limit_go_alone_even_if_they_are_short():
    rig = Rig(slots=1)
    given = runs(rig.assign(10, expected=1e-5, time_limit=5.0))
    assert [part.count for part in given[0]] == [1]


def test_a_packed_task_is_one_slice():
    rig = Rig(slots=2)
    _, part = one(rig.assign(1000, packed=True, expected=1e-3, start=50, item=50))
    assert (part.count, part.start, part.item, part.payloads) == (1000, 50, 50, [b"all"])


def test_the_ends_of_a_turn_are_one_report_and_runs_are_merged():
    rig = Rig(slots=2)
    given = runs(rig.assign(10, expected=1e-5))
    rig.ended(0, given[0][0])
    rig.ended(1, given[1][0])
    report = rig.report()
    assert endings(report) == [(1, 1, 10, Ending.OK)]
    assert report.ended[0].payloads == [b"r"] * 10


def test_a_report_is_closed_at_512_payloads():
    rig = Rig(slots=8)
    for lease in range(8):
        rig.assign(100, lease=lease + 1, first=1 + 1000 * lease, expected=1e-9)
    for slot in rig.host._work.roster.slots:
        for running in list(slot.pipe):
            rig.ended(slot.number, running.part)
    reports = [call[1] for call in rig.tick() if isinstance(call[1], Report)]
    assert [sum(len(e.payloads) for e in r.ended) for r in reports] == [510, 290]
    assert [r.number for r in reports] == [1, 2]


def test_started_is_said_after_five_milliseconds_and_once():
    rig = Rig(slots=1)
    slot, part = one(rig.assign())
    assert rig.host.next_deadline() == rig.now + 0.005
    assert rig.tick(0.004) == []
    assert rig.report(0.002).started == [(1, 1, 1, 1)]
    assert rig.tick(0.05) == []
    rig.ended(slot, part)
    assert rig.report().started == []


def test_of_a_slice_only_what_the_worker_is_at_is_said_to_have_begun():
    rig = Rig(slots=1)
    slot, part = one(rig.assign(3, expected=1e-4))
    assert part.count == 3
    assert rig.report(0.006).started == [(1, 1, 1, 1)]
    rig.ended(slot, part, count=1)
    assert rig.report().started == []
    assert rig.report(0.006).started == [(1, 1, 2, 1)]
    beat = [call[1] for call in rig.all(10.0) if isinstance(call[1], Beat)][-1]
    assert beat.running == [(1, 1, 2, 1)]


def test_a_packed_run_is_said_to_have_begun_as_a_whole():
    rig = Rig(slots=1)
    slot, part = one(rig.assign(5, packed=True))
    assert rig.report(0.006).started == [(1, 1, 1, 5)]
    rig.ended(slot, part, count=2)
    assert rig.report().started == []
    assert rig.tick(0.006) == []


def test_a_beat_says_how_long_the_line_is_once_that_is_known():
    rig = Rig()
    assert rig.host._pace.round_trip == -1
    rig.host.receive(Beat(echo=rig.now - 0.25), rig.now)
    (beat,) = [call[1] for call in rig.all(10.0) if isinstance(call[1], Beat)]
    assert beat.load == {"round_trip": 0.25}


def test_outcomes_are_kept_until_noted_and_sent_again_after_a_reconnect():
    rig = Rig(slots=1)
    rig.ended(*one(rig.assign()))
    first = rig.report()
    rig.ended(*one(rig.assign(lease=2, first=2)))
    second = rig.report()
    rig.host.receive(Noted(first.number, 9), rig.now)
    rig.host.on_disconnected(rig.now)
    assert rig.tick() == []
    rig.connect()
    sent = [message for _, message in rig.take()]
    assert [(c.lease, c.first, c.count, c.started) for c in sent[0].claims] == [(2, 2, 1, True)]
    assert sent[0].commit_seen == 9
    again = [m for m in sent if isinstance(m, Report)]
    assert [(r.number, r.ended) for r in again] == [(second.number, second.ended)]
    rig.host.receive(Noted(second.number, 10), rig.now)
    assert rig.host._work.backlog.leases == {}


def test_hello_claims_what_runs_waits_and_is_done():
    rig = Rig(slots=1)
    slot, part = one(rig.assign(3))
    rig.ended(slot, part, seconds=1.0)
    rig.assign(2, lease=2, first=10)
    rig.host.on_disconnected(rig.now)
    rig.host.on_connected(rig.now)
    ((_, hello),) = rig.take()
    assert [(c.lease, c.attempt, c.session, c.first, c.count, c.started) for c in hello.claims] == [
        (1, 1, S, 1, 2, True),
        (1, 1, S, 3, 1, False),
        (2, 1, S, 10, 2, False),
    ]
    assert hello.window == 0


def test_a_lease_that_is_held_already_is_not_taken_twice():
    rig = Rig(slots=2)
    rig.assign()
    assert rig.assign() == []


def test_an_unknown_function_is_asked_for_once_and_its_tasks_wait():
    rig = Rig()
    need = [("send", NeedFunction(b"g" * 16))]
    assert rig.assign(function=b"g" * 16) == need
    assert rig.assign(lease=2, first=2, function=b"g" * 16) == []
    assert one(rig.assign(lease=3, first=3))[1].first == 3
    rig.host.receive(Function(b"g" * 16, "g", b"code"), rig.now)
    assert one(rig.take())[1].first == 1


def test_an_unknown_function_is_asked_for_again_after_a_reconnect():
    rig = Rig()
    rig.assign(function=b"g" * 16)
    rig.host.on_disconnected(rig.now)
    rig.connect()
    assert ("send", NeedFunction(b"g" * 16)) in rig.take()


def test_progress_travels_with_the_next_report_and_only_of_what_runs():
    rig = Rig(slots=1)
    slot, part = one(rig.assign())
    rig.host.on_worker_progress(slot, part.key, 1, (1.0, 4.0, "a"), rig.now)
    rig.host.on_worker_progress(slot, part.key, 1, (2.0, 4.0, "b"), rig.now)
    rig.host.on_worker_progress(slot, part.key, 99, (2.0, 4.0, "b"), rig.now)
    assert rig.report().progress == [(1, 1, 1, 2.0, 4.0, "b")]
    rig.host.on_disconnected(rig.now)
    rig.connect()
    assert [m.progress for _, m in rig.take() if isinstance(m, Report)] == [[]]


def test_a_beat_is_echoed_with_what_runs():
    rig = Rig(slots=1)
    rig.assign()
    rig.host.receive(Beat(stamp=3.5), rig.now)
    assert rig.take() == [("send", Beat(echo=3.5, running=[(1, 1, 1, 1)]))]


def test_beats_go_out_and_silence_ends_the_connection():
    rig = Rig()
    assert rig.host.next_deadline() == rig.now + 10.0
    for _ in range(2):
        calls = rig.all(10.0)
        assert [type(call[1]) for call in calls] == [Beat]
    assert rig.all(10.0) == [("disconnect", "the coordinator is silent")]
    assert not rig.host.connected


def test_a_host_that_was_stopped_does_not_take_its_own_sleep_for_silence():
    rig = Rig()
    assert [type(call[1]) for call in rig.all(300.0)] == [Beat]
    assert rig.host.connected


def test_a_welcome_that_never_comes_ends_the_connection():
    rig = Rig(connect=False)
    rig.host.on_connected(rig.now)
    rig.take()
    rig.tick()
    while rig.host.next_deadline() < float("inf"):
        calls = rig.tick(rig.host.next_deadline() - rig.now)
    assert calls == [("disconnect", "the coordinator is silent")]


def test_an_epoch_below_the_last_is_refused():
    rig = Rig()
    rig.connect(epoch=5)
    rig.host.on_disconnected(rig.now)
    rig.take()
    rig.connect(epoch=4)
    calls = rig.take()
    assert [call[0] for call in calls] == ["send", "disconnect"]
    assert "epoch 4" in calls[1][1]
    assert not rig.host.connected


def test_a_rejection_is_kept_and_ends_the_connection():
    rig = Rig(connect=False)
    rig.host.on_connected(rig.now)
    rig.take()
    rejected = Rejected("version", "too old")
    rig.host.receive(rejected, rig.now)
    assert rig.take() == [("disconnect", "too old")]
    assert rig.host.rejected == rejected


def test_a_coordinator_that_leaves_is_left():
    rig = Rig()
    rig.host.receive(Bye("restart"), rig.now)
    assert [call[0] for call in rig.take()] == ["disconnect"]


def test_drain_gives_back_what_has_not_begun_finishes_the_rest_and_says_goodbye():
    rig = Rig(slots=1)
    slot, part = one(rig.assign(3))
    rig.host.drain(rig.now)
    assert rig.take() == [("limit", 0, 1)]
    rig.host.on_worker_limited(0, 0, rig.now)
    report = rig.report()
    assert report.returned == [(1, 1, 2, 2)]
    assert report.window == 0
    assert rig.assign(lease=2, first=7) == []
    assert rig.report().returned == [(1, 2, 7, 1)]
    rig.ended(slot, part)
    last = rig.report()
    assert endings(last) == [(1, 1, 1, Ending.OK)]
    assert not rig.host.drained
    rig.host.receive(Noted(last.number, 1), rig.now)
    assert rig.tick() == [("send", Bye("drained"))]
    assert rig.host.drained


def test_drain_does_not_wait_for_ever_for_a_coordinator_that_is_gone():
    rig = Rig(slots=1, drain_seconds=5.0)
    rig.ended(*one(rig.assign()))
    rig.host.on_disconnected(rig.now)
    rig.host.drain(rig.now)
    assert rig.tick() == []
    assert rig.tick(4.9) == []
    assert not rig.host.drained
    rig.tick(0.2)
    assert rig.host.drained


def test_a_task_of_some_milliseconds_has_the_next_behind_it():
    rig = Rig(slots=2)
    given = runs(rig.assign(8, expected=0.02))
    assert {slot: [p.count for p in parts] for slot, parts in given.items()} == {
        0: [1, 1],
        1: [1, 1],
    }


def test_nothing_waits_behind_a_long_task():
    rig = Rig(slots=1)
    assert [p.count for p in runs(rig.assign(8, expected=0.2))[0]] == [1]
    assert rig.assign(8, lease=2, first=20, expected=1e-5) == []


def test_an_idle_worker_takes_what_waits_behind_another():
    rig = Rig(slots=2)
    given = runs(rig.assign(4, expected=0.02))
    rig.ended(1, given[1][0], seconds=0.02)
    assert rig.ended(1, given[1][1], seconds=0.02) == [("limit", 0, 2)]
    rig.host.on_worker_limited(0, 0, rig.now)
    slot, part = one(rig.take())
    assert (slot, part.first) == (1, given[0][1].first)


def test_a_host_whose_coordinator_is_gone_leaves_if_it_keeps_nothing_of_what_became_of_tasks():
    rig = Rig(slots=1)
    rig.ended(*one(rig.assign()))
    rig.host.receive(Noted(rig.report().number, 1), rig.now)
    rig.host.drain(rig.now)
    assert rig.report().window == 0
    assert rig.tick() == []  # there may be tasks on the way until that is noted
    assert not rig.host.drained
    rig.host.receive(Bye("restart"), rig.now)
    rig.tick()
    assert rig.host.drained


def test_drain_ends_what_runs_on_when_the_grace_is_over_and_gives_it_back():
    rig = Rig(slots=1, grace_seconds=30.0)
    slot, _ = one(rig.assign())
    rig.tick(0.01)  # said to be started
    rig.host.drain(rig.now)
    rig.tick(29.0)
    assert rig.host.next_deadline() <= rig.now + 1.0
    assert ("kill", slot) in rig.tick(1.0)
    rig.exit(slot, 0, code=-9)
    report = rig.report()
    assert (report.ended, report.returned) == ([], [(1, 1, 1, 1)])
    rig.host.receive(Noted(report.number, 8), rig.now)
    assert rig.tick() == [("send", Bye("drained"))]


def test_what_must_not_run_twice_is_not_given_back_when_the_grace_is_over():
    rig = Rig(slots=1, grace_seconds=1.0)
    slot, _ = one(rig.assign(2, alone=True))
    rig.host.drain(rig.now)
    rig.tick(1.0)
    rig.exit(slot, 0, code=-9)
    report = rig.report()
    assert endings(report) == [(1, 1, 1, Ending.LOST)]
    assert report.ended[0].failure.cause == "drained"


def test_a_host_drains_when_the_coordinator_says_so():
    rig = Rig(slots=1)
    rig.host.receive(Drain("somebody asked for it"), rig.now)
    report = rig.report()
    assert report.window == 0
    rig.host.receive(Noted(report.number, 8), rig.now)
    assert rig.tick() == [("send", Bye("drained"))]
    assert rig.host.drained
