"""Commands about schedules that need no farm."""

import json
import sys

import pytest

from farm.cli import main
from farm.cli.exitcodes import ExitCode

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
