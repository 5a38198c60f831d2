"""A scheduler on a real farm, driven turn by turn in this process."""

import json
import os
import signal
import sqlite3
import struct
import subprocess
import sys
import time
import zoneinfo
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from datetime import datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from math import inf
from queue import Queue
from threading import Event, Thread
from types import SimpleNamespace

import pytest

import farm
from farm.errors import ConfigError, StoreUnreadable
from farm_scheduler.clock import Alarm
from farm_scheduler.core import Entry, Kind, Row, Schedule, Timing
from farm_scheduler.core.backfills import SLICE
from farm_scheduler.desk import Desk
from farm_scheduler.loading import Loader
from farm_scheduler.refreshing import Refresher
from farm_scheduler.service import Scheduler
from farm_scheduler.settings import SchedulerSettings, state_path
from farm_scheduler.state import State
from farm_scheduler.submitting import Ended, Submitter, outcome_of
from farm_scheduler.turns import Turn, holder, poke
from tests.processes import free_ports, own_environment

WAIT_SECONDS = 30.0
DAY = 86_400
TEXT = 'cron = "@yearly"\nrun = "math:factorial"\nargs = [5]\n'


@pytest.fixture(scope="module")
def client():
    with farm.local(workers=2) as made:
        yield made


@pytest.fixture
def place(tmp_path, client):
    found = Rig(tmp_path, client)
    yield found
    found.close()


class Rig:
    """A folder with schedules, and one scheduler after the other."""

    def __init__(self, folder, client):
        self.folder, self.client = folder, client
        self.file = folder / "schedules.toml"
        self.path = folder / "schedules.db"
        self.file.write_text("[schedules]\n")
        self.alarm = None
        self.scheduler = None

    def write(self, text):
        self.file.write_text(text)

    def start(self):
        self.close()
        self.alarm = Alarm()
        settings = SchedulerSettings(
            files=[str(self.file)], address=self.client.address, state=str(self.path)
        )
        self.scheduler = Scheduler(settings, self.client, self.alarm)
        self.scheduler.take_over()
        return self.scheduler

    def until(self, good):
        """Turn after turn, until something is so."""
        end = time.monotonic() + WAIT_SECONDS
        while True:
            deadline = self.scheduler.turn()
            if good():
                return
            if time.monotonic() > end:
                pytest.fail(f"it did not come to that: {self.rows()}")
            self.alarm.sleep(min(deadline, time.time() + 1))

    def rows(self, name="a", kind=None):
        found = self.scheduler.state.rows("schedule = ?", name)
        return [row for row in found if kind is None or row.kind is kind]

    def over(self, count=1, name="a", kind=None):
        """Wait until so many fires are over."""
        self.until(
            lambda: len([one for one in self.rows(name, kind) if one.state.is_final]) >= count
        )
        return self.rows(name, kind)

    def order(self, what, **arguments):
        other = State(self.path)
        number = other.order(time.time(), what, arguments)
        self.scheduler.turn()
        answer = other.answer(number)
        other.close()
        return answer

    def close(self):
        if self.scheduler is not None:
            self.scheduler.close()
            self.alarm.close()
            self.scheduler = None


def entry(text):
    return f"[schedules.a]\n{text}\n"


# ---------------------------------------------------------------- fires run


def test_a_fire_runs_and_has_its_row(place):
    place.write(entry('cron = "@every 1s"\nrun = "math:factorial"\nargs = [5]'))
    place.start()
    row = place.over()[0]
    assert (row.state, row.outcome, row.since) == ("ran", "succeeded", row.nominal - 1)
    assert place.client.future(row.task).result(WAIT_SECONDS) == 120
    assert 0 <= row.begun - row.due < WAIT_SECONDS


def test_the_output_of_a_command_is_kept_and_a_failure_is_told(place):
    told = place.folder / "told"
    script = "echo out; echo err >&2; exit 3"
    hook = f"cat > {told}.part && mv {told}.part {told}"
    place.write(
        entry(
            f'cron = "@yearly"\ncommand = ["sh", "-c", "{script}"]\n'
            f'on_failure = ["sh", "-c", "{hook}"]'
        )
    )
    place.start()
    assert place.order("run", name="a")["state"] == "running"
    (row,) = place.over()
    assert (row.outcome, row.detail) == ("failed", "'sh' ended with exit code 3")
    assert row.output == "out\nerr\n"
    place.until(told.exists)
    record = json.loads(told.read_text())
    assert (record["event"], record["fire_id"]) == ("failure", row.fire_id)


@pytest.fixture
def listener():
    """A real HTTP server: its address, and a queue of what was posted there."""
    posted = Queue()

    class Listener(BaseHTTPRequestHandler):
        def do_POST(self):
            body = self.rfile.read(int(self.headers["Content-Length"]))
            posted.put((self.path, self.headers["Content-Type"], json.loads(body)))
            self.send_response(200 if self.path == "/good" else 500)
            self.end_headers()

        def log_message(self, *_):
            """Nothing on stderr."""

    server = ThreadingHTTPServer(("127.0.0.1", int(free_ports())), Listener)
    thread = Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}", posted
    server.shutdown()
    server.server_close()
    thread.join()


def test_a_url_is_told_of_what_failed_and_of_what_is_late(place, listener, caplog):
    url, posted = listener
    place.write(
        entry(
            f'cron = "@yearly"\ncommand = ["false"]\non_failure = "{url}/good"\n'
            f'on_late = "{url}/broken"\nlate_after = "1s"'
        )
    )
    scheduler = place.start()
    kept = scheduler.machine.entries["a"]
    nominal = int(time.time()) - 3600
    kept.cursor, kept.next = nominal - 1, nominal
    scheduler.state.commit([], [(kept, str(place.file))], {})
    place.start()
    (row,) = place.over()
    calls = dict.fromkeys(["/good", "/broken"])
    for _ in calls:
        path, kind, calls[path] = posted.get(timeout=WAIT_SECONDS)
        assert kind == "application/json"
    assert (calls["/good"]["event"], calls["/broken"]["event"]) == ("failure", "late")
    assert calls["/good"]["outcome"] == "failed"
    assert {one["fire_id"] for one in calls.values()} == {row.fire_id}
    place.close()  # waits for the hooks
    assert "on_late of schedule a" in caplog.text
    assert "HTTP Error 500" in caplog.text
    assert "on_failure of" not in caplog.text


def test_what_cannot_be_submitted_is_refused_and_says_why(place, monkeypatch):
    place.write(entry('cron = "@yearly"\nrun = "math:factorial"\nargs = [5]'))
    scheduler = place.start()
    scheduler.machine.entries["a"].schedule = Schedule("a", cron="@yearly", run="math:no_such")
    place.order("run", name="a")
    (row,) = place.over()
    assert row.reason == "refused"
    assert row.detail.startswith("run is 'math:no_such', and 'math' has no 'no_such'")


def test_a_full_farm_is_asked_again(place, monkeypatch):
    place.write(entry('cron = "@yearly"\nrun = "math:factorial"\nargs = [5]'))
    scheduler = place.start()
    submit, refused = scheduler._submitter.submit, []

    def busy(*arguments):
        if not refused:
            refused.append(arguments)
            raise farm.Busy("full", 0.05)
        return submit(*arguments)

    monkeypatch.setattr(scheduler._submitter, "submit", busy)
    place.order("run", name="a")
    (row,) = place.over()
    assert (len(refused), row.outcome) == (1, "succeeded")


def test_a_fire_that_waits_for_room_can_be_stopped(place, monkeypatch):
    text = 'cron = "@yearly"\nrun = "math:factorial"\nargs = [5]\noverlap = "cancel"'
    place.write(entry(text))
    scheduler = place.start()
    submit, held = scheduler._submitter.submit, []

    def busy(row, *more):
        held[:] = held or [row.fire_id]
        if row.fire_id in held:
            raise farm.Busy("full", 1000)
        return submit(row, *more)

    monkeypatch.setattr(scheduler._submitter, "submit", busy)
    place.order("run", name="a")
    place.order("run", name="a")
    assert sorted(row.outcome for row in place.over(2)) == ["cancelled", "succeeded"]


# ---------------------------------------------------------------- nobody was there for a day


@pytest.mark.parametrize(
    ("misfire", "expected"),
    [
        ("latest", {"too old": 24, "coalesced": 23, "ran": 1}),
        ("all(3)", {"too old": 24, "missed": 21, "ran": 3}),
        ("skip", {"too old": 24, "missed": 24}),
    ],
)
def test_a_scheduler_that_was_away(place, misfire, expected):
    hour = (int(time.time()) // 60 - 30) * 60  # nothing is due now, nor soon
    text = f'cron = "{hour // 60 % 60} * * * *"\nrun = "math:sqrt"\nargs = [4]\n'
    place.write(entry(text + f'misfire = "{misfire}"\noverlap = "allow"'))
    place.start()
    state, machine = place.scheduler.state, place.scheduler.machine
    old = machine.entries["a"]
    before = Entry(old.schedule, 0, hour - 48 * 3600, hour - 47 * 3600)
    state.commit([], [(before, str(place.file))], {})
    place.start()
    rows = place.over(48)
    found = {}
    for row in rows:
        what = row.reason or str(row.state)
        found[what] = found.get(what, 0) + 1
    assert found == expected


# ---------------------------------------------------------------- orders


def test_pause_and_resume(place, caplog):
    caplog.set_level("INFO")
    place.write(entry('cron = "@every 1s"\nrun = "math:sqrt"\nargs = [4]'))
    place.start()
    answer = place.order("pause", name="a", until=None, who="ada", why="testing")
    assert answer == {"name": "a", "until": None}
    assert "pause a: who=ada why=testing" in caplog.messages
    place.order("pause", name="a", until=4e9, who="bob", why="")
    assert "pause a: until=2096-10-02 07:06:40+00:00 who=bob" in caplog.messages
    rows = place.over()
    assert (rows[-1].reason, rows[-1].detail) == ("paused", "by ada: testing")
    place.start()  # it stays so
    assert place.scheduler.machine.entries["a"].pauses[0].until == inf
    assert place.order("resume", name="a")["was_paused"]
    place.until(lambda: any(row.state == "ran" for row in place.rows()))
    assert "there is no schedule 'b'" in place.order("resume", name="b")["error"]
    assert "nobody knows how to dance" in place.order("dance", name="a")["error"]


def test_a_backfill_leaves_out_what_ran_well(place):
    place.write(entry('cron = "0 0 * * *"\nrun = "math:sqrt"\nargs = [4]'))
    place.start()
    end = int(time.time()) // DAY * DAY
    told = {"name": "a", "at_once": 2, "again": False}
    assert place.order("backfill", begin=end - 3 * DAY, end=end, **told)["fires"] == 3
    place.over(3, kind=Kind.BACKFILL)
    answer = place.order("backfill", begin=end - 5 * DAY, end=end, **told)
    assert (answer["fires"], answer["left_out"]) == (2, 3)
    rows = place.over(5, kind=Kind.BACKFILL)
    assert [row.nominal for row in rows] == [end - n * DAY for n in range(5, 0, -1)]


# ---------------------------------------------------------------- files change


def test_a_long_backfill_is_planned_in_many_turns_and_begun_anew_after_a_restart(place):
    text = entry('cron = "* * * * *"\noverlap = "allow"\nrun = "math:sqrt"\nargs = [4]')
    place.write(text + '[schedules.b]\ncron = "@yearly"\nrun = "math:sqrt"\nargs = [4]\n')
    place.start()
    end = int(time.time()) // DAY * DAY
    told = {"name": "a", "at_once": 1, "again": False, "begin": end - DAY, "end": end}
    assert place.order("backfill", **told) is None
    assert place.scheduler.turn() <= time.time()  # there is more to do at once
    row = place.order("run", name="b")  # meanwhile it does other things
    assert row["state"] == "running"
    assert place.scheduler.state.backfills() == []
    place.start()  # nothing was kept, so it begins anew
    other = place.order("backfill", **told)  # waits for the first
    assert other is None
    desk = Desk(place.path)
    place.until(lambda: desk.answer(3) is not None)
    assert desk.answer(1) == {"name": "a", "fires": 1440, "left_out": 0}
    assert desk.answer(3) == {"name": "a", "fires": 0, "left_out": 1440}
    (left,) = place.scheduler.state.backfills()
    ended = [row.nominal for row in place.rows("a", Kind.BACKFILL) if row.state.is_final]
    assert len(left) == 1440 - SLICE * left.taken
    assert sorted(ended, reverse=True) == [end - 60 * n for n in range(1, len(ended) + 1)]
    place.start()
    assert [one.taken for one in place.scheduler.state.backfills()] == [left.taken]


def test_a_backfill_is_ended_while_it_is_planned_and_while_it_runs(place):
    text = entry('cron = "* * * * *"\noverlap = "allow"\nrun = "math:sqrt"\nargs = [4]')
    place.write(text + '[schedules.b]\ncron = "* * * * *"\nrun = "math:sqrt"\nargs = [4]\n')
    place.start()
    end = int(time.time()) // DAY * DAY
    told = {"at_once": 1, "again": False, "begin": end - DAY, "end": end}
    assert place.order("backfill", name="a", **told) is None  # it is being planned
    assert place.order("backfill", name="a", **told) is None  # it waits for that
    assert place.order("backfill", name="b", **told) is None
    place.order("end backfill", name="a", who="ada")
    desk = Desk(place.path)
    place.until(lambda: desk.answer(4) is not None and desk.answer(3) is not None)
    assert "was ended before it had begun" in desk.answer(1)["error"]
    assert "was ended before it had begun" in desk.answer(2)["error"]
    assert desk.answer(4) == {"name": "a", "left": 0}
    assert place.rows("a", Kind.BACKFILL) == []
    assert desk.answer(3)["fires"] == 1440  # that of another one goes on
    assert place.scheduler.state.backfilling()["b"] > 1440 - 2 * SLICE
    place.client.query("pause_queue", name="default")
    left = place.order("end backfill", name="b", who="ada")["left"]
    assert left > 0
    assert place.scheduler.state.backfills() == []
    place.client.query("resume_queue", name="default")
    place.until(lambda: not place.scheduler.state.backfilling())
    ended = place.rows("b", Kind.BACKFILL)
    assert {(row.reason, row.detail) for row in ended if row.reason} == {("cancelled", "by ada")}


def test_who_is_retired_while_its_backfill_is_planned_is_told(place):
    place.write(entry('cron = "* * * * *"\noverlap = "allow"\nrun = "math:sqrt"\nargs = [4]'))
    place.start()
    end = int(time.time()) // DAY * DAY
    told = {"at_once": 1, "again": False, "begin": end - DAY, "end": end}
    assert place.order("backfill", name="a", **told) is None
    place.write(entry(TEXT).replace("[schedules.a]", "[schedules.b]"))
    place.scheduler.reload = True
    assert place.order("backfill", name="b", **told) is not None
    assert "there is no schedule 'a'" in Desk(place.path).answer(1)["error"]


def test_a_backfill_is_less_urgent_than_what_fires_by_itself(place):
    begun, go_on = place.folder / "begun", place.folder / "go_on"
    begun.touch()
    script = f"echo $FARM_NOMINAL >> {begun}; until [ -e {go_on} ]; do sleep 0.05; done"
    command = f'command = ["sh", "-c", "{script}"]\n'
    place.write(entry(f'cron = "0 0 1 1 *"\noverlap = "allow"\n{command}'))
    place.start()
    place.client.query("pause_queue", name="default")
    told = {"name": "a", "at_once": 20, "again": True, "begin": 0, "end": 19 * 366 * DAY}
    place.order("backfill", **told)
    place.order("run", name="a")
    place.client.connection.wait_acknowledged()  # or the queue goes on before the farm has all
    place.client.query("resume_queue", name="default")

    def years():
        return [datetime.fromisoformat(line).year for line in begun.read_text().splitlines()]

    place.until(lambda: len(years()) == 2)
    assert max(years()) > 2000  # two begin at once, and stay until they may go on
    go_on.touch()
    place.over(kind=Kind.MANUAL)
    place.over(20, kind=Kind.BACKFILL)
    assert sorted(years())[:20] == [*range(1970, 1990)]


def test_a_scheduler_with_nothing_to_do_sleeps(place):
    place.write(entry(TEXT))
    place.start()
    place.until(lambda: place.scheduler.turn() > time.time() + 3000)  # then old rows are dropped


def test_files_are_read_again(place, caplog):
    caplog.set_level("INFO")
    place.write(entry('cron = "@yearly"\nrun = "math:sqrt"\nargs = [4]'))
    place.start()
    place.write('[schedules.b]\ncron = "@yearly"\nrun = "math:sqrt"\n[schedules.bad]\ncron = "x"\n')
    place.scheduler.reload = True
    place.scheduler.turn()
    entries = place.scheduler.machine.entries
    assert entries["a"].retired is not None
    assert entries["b"].retired is None
    assert "its files have 1 schedule" in caplog.text
    (problem,) = place.scheduler.state.problems()
    assert (problem.name, "say what to run" in problem.message) == ("bad", True)
    place.write("[broken")
    place.scheduler.reload = True
    place.scheduler.turn()
    assert entries["b"].retired is None  # all stays as it was


def test_of_two_entries_of_one_name_the_first_works_and_the_other_is_named(place):
    place.write(entry(TEXT) + entry(TEXT.replace("@yearly", "@daily")))
    place.start()
    (found,) = Desk(place.path).schedules(after="", limit=9, retired=False)
    assert (found["state"], found["cron"]) == ("works", "@yearly")
    assert found["problem"].endswith("twice; give one of them another name")


def test_a_scheduler_that_starts_does_not_die_of_a_hang_up(tmp_path):
    settings = tmp_path / "settings"
    os.mkfifo(settings)
    words = [sys.executable, "-m", "farm_scheduler", "--settings", str(settings)]
    with subprocess.Popen(words, env=own_environment(tmp_path), stderr=subprocess.DEVNULL) as made:
        with settings.open("w") as told:  # it has begun to read
            made.send_signal(signal.SIGHUP)
            told.write("{}")
        assert made.wait(WAIT_SECONDS) > 0


def test_a_file_that_is_none_is_an_error_at_the_start(place):
    with pytest.raises(ConfigError, match="no such file"):
        Loader.check([str(place.folder / "none.toml")])
    place.write("[broken")
    with pytest.raises(ConfigError, match="not valid TOML"):
        place.start()


def test_unchanged_files_are_not_read_again(place, monkeypatch):
    place.write(entry('cron = "@yearly"\nrun = "math:sqrt"\nargs = [4]'))
    place.start()
    following = place.scheduler.machine.entries["a"].next
    monkeypatch.setattr("farm_scheduler.loading.read_files", lambda _: pytest.fail("read again"))
    place.start()
    assert place.scheduler.machine.entries["a"].next == following


def test_what_was_missing_at_the_last_start_is_looked_for_again(place):
    tool = place.folder / "tool"
    text = f'cron = "@yearly"\ncommand = ["{tool}"]\n[schedules.b]\ncron = "@yearly"\n'
    place.write(entry(f'{text}run = "math:sqrt"\nargs = [4]'))
    place.start()
    assert set(place.scheduler.machine.entries) == {"b"}
    (problem,) = place.scheduler.state.problems()
    assert (problem.name, "no such program" in problem.message) == ("a", True)
    tool.write_text("#!/bin/sh\n")
    tool.chmod(0o700)
    place.start()
    assert place.scheduler.machine.entries["a"].retired is None
    assert place.scheduler.state.problems() == []
    tool.unlink()
    place.start()  # its file is as it was
    assert place.scheduler.machine.entries["a"].retired is not None
    assert [one.name for one in place.scheduler.state.problems()] == ["a"]


def test_a_clock_that_is_set_is_spoken_of(place, caplog):
    place.write(entry('cron = "@yearly"\nrun = "math:sqrt"\nargs = [4]'))
    scheduler = place.start()
    scheduler._clock._now += 3600  # as if it had been an hour later before
    scheduler.turn()
    assert "the clock was set back by 3600 s: nothing fires twice" in caplog.text
    scheduler._clock._now -= 7200
    scheduler.turn()
    assert "the clock is 7200 s ahead of what has passed: it was set, or" in caplog.text
    kept = scheduler.machine.entries["a"]
    kept.cursor = int(time.time()) + 9 * DAY
    scheduler.state.commit([], [(kept, str(place.file))], {})
    caplog.clear()
    place.start()
    assert "a clock that was ahead decided about 1 schedule: these fire again" in caplog.text
    assert place.scheduler.turn() is not None
    assert "the clock" not in caplog.text.replace("set the clock right", "")


def test_new_rules_of_time_zones_change_what_is_next(place, monkeypatch):
    place.write(entry('cron = "@yearly"\nrun = "math:sqrt"\nargs = [4]'))
    scheduler = place.start()
    kept = scheduler.machine.entries["a"]
    following = kept.next
    kept.next = 7  # as other rules may have had it
    scheduler.state.commit([], [(kept, str(place.file))], {})
    monkeypatch.setattr("farm_scheduler.loading.zones_version", lambda: "2099a")
    for _ in range(2):  # it is kept, too: the rules are new but once
        place.start()
        assert place.scheduler.machine.entries["a"].next == following


def test_a_new_time_zone_database_changes_only_the_future(place, monkeypatch):
    zones = place.folder / "zones"
    zones.mkdir()
    paths = zoneinfo.TZPATH

    def offset_is(hours):
        """The rules of a zone, as its file has them: always so far ahead of UTC."""
        header = struct.pack(">4sc15x6l", b"TZif", b"\0", 0, 0, 0, 0, 1, 4)
        (zones / "Moved").write_bytes(header + struct.pack(">lBB4s", hours * 3600, 0, 0, b"AAA"))
        monkeypatch.setattr("farm_scheduler.loading.zones_version", lambda: f"{hours}")
        zoneinfo.ZoneInfo.clear_cache()
        Timing.of.cache_clear()

    zoneinfo.reset_tzpath([str(zones), *paths])
    noon = 12 - int(time.time() % DAY // 3600)  # where it is about noon: no midnight is near
    try:
        offset_is(noon)
        more = 'misfire = "all"\noverlap = "allow"\ncatch_up = "9d"\n'
        place.write(entry(f'cron = "0 0 * * *"\ntz = "Moved"\nrun = "math:sqrt"\nargs=[4]\n{more}'))
        kept = place.start().machine.entries["a"]
        today = kept.next - DAY
        kept.cursor, kept.next = today - 4 * DAY, today - 3 * DAY
        place.scheduler.state.commit([], [(kept, str(place.file))], {})
        place.start()
        before = place.over(4)
        offset_is(noon + 2)  # the times of those four days would have been two hours earlier
        place.start()
        kept = place.scheduler.machine.entries["a"]
        assert [row.nominal for row in place.rows()] == [row.nominal for row in before]
        assert kept.cursor >= before[-1].nominal
        assert (kept.next + (noon + 2) * 3600) % DAY == 0
        assert kept.next > kept.cursor
    finally:
        zoneinfo.reset_tzpath(paths)
        offset_is(0)


# ---------------------------------------------------------------- a takeover


def test_who_takes_over_hears_of_what_the_other_has_started(place):
    place.write(entry('cron = "@yearly"\nrun = "time:sleep"\nargs = [0.2]'))
    place.start()
    place.order("run", name="a")
    (row,) = place.rows()
    assert row.task
    place.start()
    (row,) = place.over()
    assert row.outcome == "succeeded"


def test_who_stands_by_has_the_schedules_ready(place):
    place.write(entry(TEXT))
    first = place.start()
    settings = SchedulerSettings(files=[str(place.file)], address="", state=str(place.path))
    standing = Scheduler(settings, place.client, place.alarm, State(place.path, must_exist=True))
    assert standing.follow() == 1
    ready = standing.machine.entries["a"]
    assert ready.schedule == first.machine.entries["a"].schedule
    assert standing.follow() == 1
    assert standing.machine.entries["a"] is ready  # nothing has changed
    place.order("pause", name="a", until=None, who="ada", why="testing")
    place.write(entry(f"{TEXT}[schedules.b]\n{TEXT.replace('@yearly', '@every 1s')}"))
    first.reload = True
    first.turn()
    assert (standing.follow(), standing.machine.entries["b"].schedule.cron) == (2, "@every 1s")
    assert [one.who for one in standing.machine.entries["a"].pauses] == ["ada"]
    place.until(lambda: place.rows("b"))
    cursor = first.machine.entries["b"].cursor
    place.write(entry(TEXT))
    first.reload = True
    first.turn()
    first.close()
    place.scheduler = standing
    standing.take_over()
    machine = standing.machine
    assert machine.entries["b"].cursor >= cursor
    assert machine.entries["b"].retired is not None
    assert machine.next_deadline() == machine.entries["a"].next  # and no time that b once had
    with pytest.raises(StoreUnreadable, match="no scheduler has run here"):
        State(place.folder / "none.db", must_exist=True)


def test_who_takes_over_runs_nothing_that_was_retired_and_forgotten_unseen(place):
    place.write(entry(f"{TEXT}[schedules.b]\n{TEXT.replace('@yearly', '@every 1s')}"))
    first = place.start()
    settings = SchedulerSettings(files=[str(place.file)], address="", state=str(place.path))
    standing = Scheduler(settings, place.client, place.alarm, State(place.path, must_exist=True))
    assert standing.follow() == 2
    place.write(entry(TEXT.replace("@yearly", "@monthly")))
    first.reload = True
    first.turn()
    first.close()
    with closing(sqlite3.connect(place.path)) as db, db:
        db.execute("DELETE FROM ledger")  # its history is over
        db.execute("UPDATE schedules SET turn = turn + 1 WHERE name = 'a'")
    with closing(State(place.path, must_exist=True)) as state:
        state.forget(time.time())
        assert state.names() == ["a"]
    place.scheduler = standing
    standing.take_over()
    assert standing.machine.next_deadline() == standing.machine.entries["a"].next
    assert {row.schedule for row in place.rows()} <= {"a"}


def test_who_takes_over_knows_of_a_newer_format_what_it_cannot_read(place):
    place.write(entry(TEXT))
    place.start()
    settings = SchedulerSettings(files=[str(place.file)], address="", state=str(place.path))
    standing = Scheduler(settings, place.client, Alarm(), State(place.path, must_exist=True))
    standing.follow()
    place.close()
    with closing(sqlite3.connect(place.path)) as db:
        db.execute("PRAGMA user_version=99")
    with pytest.raises(StoreUnreadable, match="written by a newer farm, in format 99"):
        standing.take_over()
    standing.close()


def test_who_takes_over_submits_what_nobody_knows_of(place):
    place.write(entry('cron = "@yearly"\nrun = "math:factorial"\nargs = [5]'))
    scheduler = place.start()
    started = []
    scheduler._submitter.submit = lambda row, *_: started.append(row) or ""
    place.order("run", name="a")
    (row,) = place.rows()
    assert (row.state, row.task) == ("running", "")
    place.start()
    (row,) = place.over()
    assert (row.outcome, bool(row.task)) == ("succeeded", True)


def test_what_ends_while_it_is_attached_to_is_heard_of():
    class Known:
        def future(self, task):
            over = Future()
            over.set_result(None)
            return over

    heard = []
    row = Row(fire_id="f", schedule="a", nominal=0, task="t")
    assert Submitter(Known(), heard.append).attach(row).done()
    assert [one.outcome for one in heard] == ["succeeded"]


def test_a_task_that_the_farm_never_had_is_submitted_again(place):
    place.write(entry('cron = "@yearly"\nrun = "math:factorial"\nargs = [5]'))
    scheduler = place.start()
    scheduler._submitter.submit = lambda *_: f"{'0' * 31}1-1"
    place.order("run", name="a")
    place.start()
    (row,) = place.over()
    assert row.outcome == "succeeded"


def test_what_is_too_old_to_be_submitted_again_is_lost(place):
    place.write(entry('cron = "@yearly"\nrun = "math:factorial"\nargs = [5]'))
    scheduler = place.start()
    scheduler._submitter.submit = lambda *_: ""
    place.order("run", name="a")
    (row,) = place.rows()
    row.begun -= 2 * DAY
    scheduler.state.commit([row], [], {"a": 1e9})
    place.start()
    (row,) = place.over()
    assert (row.outcome, row.detail) == ("lost", "nobody knows whether it was submitted")


def test_whoever_writes_a_catalog_has_its_turn_until_that_is_done(place):
    begun, over, heard = Event(), Event(), Queue()
    scheduler = place.start()
    refresher = Refresher(place.folder / "aggregates.db", place.client, heard.put)

    def build(fire, *_):
        begun.set()
        assert over.wait(WAIT_SECONDS)
        return Ended(fire, "succeeded")

    refresher._built = build
    refresher.start("fire", SimpleNamespace(name="a", keep="1d"))
    assert begun.wait(WAIT_SECONDS)
    scheduler._refresher = refresher
    assert not scheduler.let_go()
    over.set()
    assert heard.get(timeout=WAIT_SECONDS).outcome == "succeeded"
    assert scheduler.let_go()


# ---------------------------------------------------------------- the state, the lock, the clock


def test_old_rows_are_dropped(place):
    place.write(entry('cron = "@yearly"\nrun = "math:sqrt"\nargs = [4]'))
    place.start()
    place.order("run", name="a")
    place.over()
    state = place.scheduler.state
    assert state.forget(time.time() + 89 * DAY) == 0
    assert state.forget(time.time() + 91 * DAY) == 1


def test_a_state_that_is_not_there_says_so(tmp_path):
    with pytest.raises(StoreUnreadable, match="no scheduler has run here; start one"):
        State(tmp_path / "none.db", must_exist=True)


def test_one_at_a_time_has_its_turn(tmp_path):
    path = tmp_path / "s.db"
    assert holder(path) == 0
    assert not poke(path)
    first, second = Turn(path), Turn(path)
    assert first.take()
    assert not second.take()
    assert holder(path) > 0
    ear = first.ear()
    assert poke(path)
    first.listen(ear)
    taken = Event()
    second.take_later(taken.set)
    os.close(ear)
    first.give_back()  # the kernel does it for whoever ends
    assert taken.wait(WAIT_SECONDS)


def test_an_alarm_wakes_at_its_time_or_when_it_is_told():
    alarm = Alarm()
    alarm.sleep(time.time() - 5)
    alarm.sleep(time.time() + 0.01)
    with ThreadPoolExecutor(1) as threads:
        threads.submit(alarm.wake)
        alarm.sleep(None)
    alarm.close()


def test_where_state_is_kept(tmp_path):
    assert state_path("memory:", tmp_path) == tmp_path / "schedules.db"
    assert state_path("/x/farm.db", tmp_path).name == "schedules.db"
    assert state_path("/x/other.db", tmp_path).name == "other-schedules.db"


@pytest.mark.parametrize(
    ("error", "outcome"),
    [
        (farm.Expired("late"), "expired"),
        (farm.WorkerLost("gone"), "dead"),
        (farm.KeyConflict("other"), "lost"),
        (farm.PayloadError("what"), ""),
        (KeyError("x"), "failed"),
        (farm.UnknownTask("x"), "unknown"),
    ],
)
def test_what_errors_mean(error, outcome):
    future = Future()
    future.set_exception(error)
    assert outcome_of("f", future).outcome == outcome
    closed = Future()
    closed.set_exception(ConnectionError("closed"))
    assert outcome_of("f", closed) is None
