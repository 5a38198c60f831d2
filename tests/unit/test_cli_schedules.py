"""Commands about schedules: those that need no farm, and those that ask a scheduler."""

import json
import sys
from datetime import UTC, datetime
from math import inf

import pytest

from farm.cli import main
from farm.cli.exitcodes import ExitCode
from farm_scheduler.core import Backfill, Entry, Pause, Row, Schedule, State
from farm_scheduler.files import Problem
from farm_scheduler.state import State as StateFile

NOON = int(datetime(2026, 3, 7, 12, tzinfo=UTC).timestamp())

FILE = """
[defaults]
tz = "America/New_York"

[schedules.quarter]
cron = "*/15 * * * *"
command = ["true"]

[schedules.night]
cron = "30 2 * * *"
run = "no_such_module:night"

[schedules.bad]
cron = "61 * * * *"
command = ["true"]
"""


@pytest.fixture
def farm(tmp_path, monkeypatch, capsys):
    """Run a command: its exit code, what it wrote to stdout, and to stderr."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "schedules.toml").write_text(FILE)

    def run(*words):
        monkeypatch.setattr(sys, "argv", ["farm", "schedules", *words])
        with pytest.raises(SystemExit) as ended:
            main.main()
        out, err = capsys.readouterr()
        return ended.value.code or 0, out, err

    return run


def test_next_shows_both_clocks(farm):
    code, out, err = farm("next", "night", "-n", "2", "--after", "2026-03-07T12:00")
    assert code == 0
    assert out.splitlines() == [
        "AMERICA/NEW_YORK           UTC",
        "2026-03-08 03:00:00-04:00  2026-03-08 07:00:00+00:00",
        "2026-03-09 02:30:00-04:00  2026-03-09 06:30:00+00:00",
    ]
    assert "schedule 'bad': minute: '61' is not one" in err
    assert "this entry is left out" in err


def test_next_of_a_schedule_that_is_none_names_the_nearest(farm):
    code, _, err = farm("next", "nigth", "--quiet")
    assert code == ExitCode.CONFIG
    assert err == "farm: there is no schedule 'nigth'; did you mean 'night'?\n"


def test_next_of_a_schedule_that_is_wrong_says_what_is(farm):
    code, _, err = farm("next", "bad")
    assert code == ExitCode.CONFIG
    assert err.startswith("farm: schedules.toml: schedule 'bad': minute: '61' is not one")


def test_simulate_prints_every_fire_and_its_fate(farm):
    code, out, err = farm(
        "simulate", "--from", "2026-03-08T05:00", "--to", "2026-03-08T08:00",
        "--takes", "quarter=20m", "--outage", "2026-03-08T06:05/2026-03-08T07:05",
    )  # fmt: skip
    assert code == 0
    lines = [" ".join(line.split()) for line in out.splitlines()]
    assert lines[0] == "NOMINAL SCHEDULE BEGUN FATE"
    assert "2026-03-08 03:00:00-04:00 night 2026-03-08 03:05:00-04:00 ran: succeeded, 0 ms" in lines
    assert "2026-03-08 01:15:00-05:00 quarter coalesced into 2026-03-08 03:00:00-04:00" in lines
    assert len(lines) == 1 + 12 + 1
    assert "13 fires: " in err


def test_simulate_answers_programs(farm):
    words = ("--from", "2026-03-09", "--to", "2026-03-10", "--json")
    code, out, _ = farm("simulate", "schedules.toml", *words)
    assert code == 0
    rows = json.loads(out)
    assert len(rows) == 96 + 1
    assert {row["state"] for row in rows} == {"ran"}


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--from", "soon", "--to", "2026-01-01"), "--from is 'soon'"),
        (("--from", "2026-01-02", "--to", "2026-01-01"), "is not before"),
        (("--from", "2026-01-01", "--to", "2026-01-02", "--takes", "x=1m"), "no schedule 'x'"),
        (("--from", "2026-01-01", "--to", "2026-01-02", "--outage", "2026-01-01"), "--outage"),
    ],
)
def test_simulate_names_what_is_wrong(farm, words, said):
    code, _, err = farm("simulate", *words)
    assert code == ExitCode.USAGE
    assert said in " ".join(err.replace("│", " ").split())


def test_a_crontab_is_imported(farm, tmp_path):
    (tmp_path / "crontab").write_text("0 5 * * * /opt/report\n@reboot /opt/serve\n")
    code, out, err = farm("import-crontab", "crontab", "--tz", "Europe/Berlin")
    assert code == 0
    (tmp_path / "schedules.toml").write_text(out)
    assert "line 2: not carried over: @reboot /opt/serve" in err
    code, out, _ = farm("next", "report", "-n", "1", "--after", "2026-07-01", "--quiet")
    assert out == "2026-07-01 05:00:00+02:00\n"
    assert farm("import-crontab", "none")[0] == ExitCode.CONFIG
    assert farm("import-crontab", "crontab", "--tz", "X")[0] == ExitCode.USAGE


# ---------------------------------------------------------------- what a scheduler keeps


OUTPUT = "1\n2\n3\n4\n5\n6\n"


@pytest.fixture
def kept(farm, tmp_path, monkeypatch):
    """The same, with what a scheduler that is gone has left behind."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    monkeypatch.delenv("FARM_COORDINATOR_STORE", raising=False)
    schedule = Schedule("night", cron="30 2 * * *", tz="America/New_York", command=["true"])
    entry = Entry(schedule, 0, NOON, schedule.timing.next(NOON))
    rows = [
        Row(
            fire_id=f"{number}", schedule="night", nominal=NOON - number * 86_400, state=state,
            due=NOON, ended=NOON + 5, begun=NOON, **more,
        )
        for number, (state, more) in enumerate(
            [
                (State.RAN, {"outcome": "succeeded", "task": "t-1", "output": OUTPUT}),
                (State.COALESCED, {"into": "0"}),
                (State.SKIPPED, {"reason": "paused", "detail": "by ada: testing"}),
                (State.SKIPPED, {"reason": "too old", "until": NOON - 2 * 86_400}),
            ]
        )
    ]  # fmt: skip
    state = StateFile(tmp_path / "farm" / "schedules.db")
    state.commit(rows, [(entry, "schedules.toml")], {"night": 1e12})
    backfill = Backfill(1, "night", "backfill 1", [[NOON - 9 * 86_400, NOON - 10 * 86_400]])
    state.commit([], [], {}, [], [backfill])
    state.put_files({}, [Problem("bad", "schedules.toml", "schedule 'bad': it is bad")])
    state.close()
    return farm


def test_list_says_what_is_next_and_what_is_stopped(kept):
    night, bad = json.loads(kept("list", "--json")[1])
    assert night["next"] == "2026-03-08 03:00:00-04:00"
    assert (night["state"], night["backfill"]) == ("works; backfill: 2 left", 2)
    assert "ran: succeeded, 5.0 s" in night["last"]
    assert bad == {"name": "bad", "file": "schedules.toml", "state": "stopped: it is bad"}


def test_history_says_what_became_of_each(kept):
    code, out, _ = kept("history", "night")
    lines = [" ".join(line.split()) for line in out.splitlines()]
    assert code == 0
    assert lines[1:] == [
        "2026-03-04 07:00:00-05:00 … 2026-03-05 07:00:00-05:00 night time skipped: too old -",
        "2026-03-05 07:00:00-05:00 night time skipped: paused: by ada: testing -",
        "2026-03-06 07:00:00-05:00 night time coalesced into 2026-03-07 07:00:00-05:00 -",
        "2026-03-07 07:00:00-05:00 night time ran: succeeded, 5.0 s t-1",
    ]
    words = ("--from", "2026-03-06", "--to", "2026-03-07", "--json")
    assert len(json.loads(kept("history", *words)[1])) == 1


def test_show_has_the_options_and_the_next_times(kept):
    shown = json.loads(kept("show", "night", "--json")[1])
    assert (shown["overlap"], shown["command"]) == ("buffer_one", ["true"])
    assert len(shown["next_times"]) == 5
    assert shown["backfill"] == 2
    lines = kept("show", "night")[1].splitlines()
    assert {"catch_up    1d", "backfill    2", "command     true"} <= set(lines)
    assert lines[-5:] == ["output      2", *(f"            {n}" for n in range(3, 7))]
    first = lines.index("next_times  2026-03-08 03:00:00-04:00")
    assert lines[first + 1] == "            2026-03-09 02:30:00-04:00"
    assert "            2026-03-06 07:00:00-05:00 coalesced into 2026-03-07 07:00:00-05:00" in lines


def test_show_says_why_a_schedule_is_stopped(kept):
    code, out, _ = kept("show", "bad")
    assert (code, out.splitlines()[-1]) == (0, "state  stopped: it is bad")


def test_a_pause_until_after_the_calendar_has_no_end(farm, monkeypatch):
    answer = {"name": "night", "until": None}
    monkeypatch.setattr("farm.cli.schedules._order", lambda *_, **__: answer)
    code, out, _ = farm("pause", "night", "--until", "9999-12-31T23:59:59-05:00")
    assert (code, out) == (0, "night is paused\n")


def test_of_several_pauses_the_longest_counts(kept, tmp_path):
    state = StateFile(tmp_path / "farm" / "schedules.db")
    (entry, file), *_ = state.entries()
    entry.pauses = (Pause(0, 1e10, "ada", "one"), Pause(0, inf, "bob", "two"))
    state.commit([], [(entry, file)], {})
    state.close()
    assert json.loads(kept("list", "--json")[1])[0]["state"] == (
        "paused by bob: two; backfill: 2 left"
    )


def test_a_dry_run_says_what_a_backfill_would_do(kept):
    words = ("night", "--from", "2026-03-05", "--to", "2026-03-08", "--dry-run", "--json")
    rows = json.loads(kept("backfill", *words)[1])
    assert [(row["time"][:10], row["runs"]) for row in rows] == [
        ("2026-03-07", True), ("2026-03-06", True), ("2026-03-05", True),
    ]  # fmt: skip


def test_an_order_waits_for_the_next_scheduler(kept):
    code, out, _ = kept("pause", "night", "--why", "tests")
    assert (code, out) == (0, "No scheduler runs now; it is done when one starts.\n")
    assert json.loads(kept("resume", "night", "--json")[1])["done"] is False


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("show", "nigth"), ExitCode.UNKNOWN, "did you mean 'night'"),
        (("pause", "night", "--until", "2020-01-01"), ExitCode.USAGE, "is over"),
        (
            ("backfill", "night", "--from", "2026-03-08", "--to", "2026-03-07"),
            ExitCode.USAGE,
            "not",
        ),
        (("backfill", "night"), ExitCode.USAGE, "say which times: --from TIME --to TIME"),
        (("backfill", "night", "--cancel", "--dry-run"), ExitCode.USAGE, "give it alone"),
        (("backfill", "nigth", "--cancel"), ExitCode.UNKNOWN, "did you mean 'night'"),
        (("list", "--state", "none.db"), ExitCode.STORE, "no scheduler has run here"),
    ],
)
def test_what_is_wrong_with_an_order_is_named(kept, words, code, said):
    found, _, err = kept(*words)
    assert (found, said in " ".join(err.split())) == (code, True)
