"""Schedules in files, in modules and in crontabs; what a fire calls."""

import contextlib
import importlib
import re
import signal
import sys
import time
from datetime import UTC, datetime

import psutil
import pytest

from farm.errors import ConfigError, TaskStopped
from farm.payload import load_function
from farm_scheduler import (
    CommandFailed,
    Files,
    Interval,
    Schedule,
    SqlTable,
    command,
    schedule,
)
from farm_scheduler.calls import Target, call_of, check_target, find_function
from farm_scheduler.command import run_command
from farm_scheduler.core import Kind, Row
from farm_scheduler.crontab import import_crontab
from farm_scheduler.declare import declared_in
from farm_scheduler.files import read_aggregates, read_files

FINE = 'cron = "@daily"\nrun = "math:sin"\n'
GOOD = """
[defaults]
tz = "Europe/Berlin"
catch_up = "2h"

[schedules.report]
cron = "*/15 * * * *"
run = "math:factorial"
args = [20]
options = { queue = "default", retries = 2 }

[schedules."back.up"]
cron = "30 2 * * *"
tz = "UTC"
command = ["tar", "c", "/data"]
"""


def read(tmp_path, text, **options):
    path = tmp_path / "schedules.toml"
    path.write_text(text)
    return read_files([str(path)], **options)


def test_a_file_has_schedules_and_what_they_have_in_common(tmp_path):
    found = read(tmp_path, GOOD)
    assert found.problems == []
    report, backup = found.schedules["report"], found.schedules["back.up"]
    assert (report.tz, report.catch_up, report.args) == ("Europe/Berlin", 7200, (20,))
    assert (backup.tz, backup.catch_up, backup.command) == ("UTC", 7200, ("tar", "c", "/data"))
    assert found.file["report"].endswith("schedules.toml")


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        ('cron = "61 * * * *"\nrun = "math:pi"', "minute: '61' is not one"),
        ('cron = "@every 0s"\nrun = "math:sin"', "must be a whole number of seconds"),
        ('cron = "0 0 30 2 *"\nrun = "math:sin"', "can never fire"),
        ('tz = "X"\ncron = "0 0 1 2 *"\nrun = "math:sin"', "there is no time zone 'X'"),
        ('run = "math:sin"', "does not say when: write cron"),
        ('cron = "@daily"\nrun = "math:sin"\noverlapp = "skip"', "did you mean 'overlap'"),
        ('cron = "@daily"\nrun = "math:sinus"', "'math' has no 'sinus'; did you mean 'sin'"),
        ('cron = "@daily"\nrun = "math:pi"', "which is float, not a function; write the name"),
        ('cron = "@daily"\nrun = "no_such_module:f"', "there is no module 'no_such_module'"),
        ('cron = "@daily"\nrun = "math:sin"\noptions = {retriess = 1}', "did you mean 'retries'"),
        ('cron = "@daily"\nrun = "math:sin"\noptions = {unique = "a"}', "leave it out; overlap"),
        ('cron = "@daily"\nrun = "math:sin"\nname = "b"', "has no option 'name'"),
        ('cron = "@daily"\ncommand = ["no-such-program"]', "no such program where PATH says, .*/"),
        ('cron = "@daily"\ncommand = ["./no/such"]', "'./no/such', and there is no such program;"),
        ('cron = "@daily"\ncommand = ["/etc/passwd"]', r"executed: chmod \+x /etc/passwd"),
        (f'{FINE}on_failure = ["no-such-pager"]', "on_failure is 'no-such-pager', and there is no"),
        (f'{FINE}on_late = ["./no/such"]', "since hooks run beside the scheduler, have it on this"),
        (f'{FINE}on_late = ["/etc/passwd"]', r"on_late is .* executed: chmod \+x /etc/passwd"),
        (f'{FINE}on_failure = "ops@example.org"', "on_failure is .* write a URL, http://host/path"),
        (f'{FINE}on_late = "http:///path"', "on_late is 'http:///path'; write a URL"),
        (f'{FINE}on_late = "http://host:port/"', "on_late is 'http://host:port/'; write a URL"),
        ("cron = 7", "say what to run|cron is 7"),
    ],
)
def test_one_bad_entry_stops_itself_alone(tmp_path, entry, said):
    found = read(tmp_path, f"{GOOD}\n[schedules.bad]\n{entry}\n")
    assert set(found.schedules) == {"report", "back.up"}
    ((name, file, message),) = found.problems
    assert (name, file) == ("bad", str(tmp_path / "schedules.toml"))
    assert message.startswith("schedule 'bad'")
    assert re.search(said, message), message


def test_a_module_that_needs_another_one_says_which(tmp_path, monkeypatch):
    (tmp_path / "needy_jobs.py").write_text("import no_such_module_at_all\n")
    monkeypatch.syspath_prepend(tmp_path)
    (problem,) = read(tmp_path, '[schedules.a]\ncron = "@daily"\nrun = "needy_jobs:f"\n').problems
    assert "its module needs 'no_such_module_at_all', which is not there" in problem.message


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[schedules.a", "not valid TOML"),
        (f"x = {5000 * '['}", "not valid TOML"),
        (f"x = {5000 * '9'}", "not valid TOML"),
        ("[schedule.a]\n", r"there is no \[schedule\]; write each schedule as \[schedules.NAME\]"),
        ("[defaults]\nrun = 'a:b'", r"\[defaults\] has 'run'"),
        ("[defaults]\ntzz = 'UTC'", "did you mean 'tz'"),
        ("schedules = 3", "it must be a table"),
    ],
)
def test_a_file_that_is_none_is_named(tmp_path, text, said):
    with pytest.raises(ConfigError, match=said):
        read(tmp_path, text)
    with pytest.raises(ConfigError, match="no such file; write one"):
        read_files([str(tmp_path / "none.toml")])
    with pytest.raises(ConfigError, match=r"end in \.toml or \.py"):
        read_files(["jobs.yaml"])
    with pytest.raises(ConfigError, match="no module 'no_such_module_either'"):
        read_files(["no_such_module_either"])


def test_two_of_one_name_in_two_files_are_one_too_many(tmp_path):
    for name in ("one.toml", "two.toml"):
        (tmp_path / name).write_text(GOOD)
    found = read_files([str(tmp_path / "one.toml"), str(tmp_path / "two.toml")])
    assert len(found.schedules) == 2
    assert [one.name for one in found.problems] == ["report", "back.up"]
    assert "one.toml already; give one of them another name" in found.problems[0].message


MODULE = """
from farm_scheduler import Schedule, schedule


@schedule(cron="*/15 * * * *", tz="Europe/Berlin")
@schedule("nightly", cron="@daily", overlap="skip")
def crunch(nominal, interval, *, deep=False):
    return nominal, interval, deep


@schedule(cron="61 * * * *")
def wrong():
    pass


@schedule(tz="UTC")
def never():
    pass


MORE = [Schedule(f"part{n}", cron="H * * * *", run=crunch, kwargs={"deep": True}) for n in (1, 2)]
"""


@pytest.fixture
def module(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "path", [*sys.path])
    path = tmp_path / "jobs_of_tests.py"
    path.write_text(MODULE)
    yield path
    sys.modules.pop("jobs_of_tests", None)
    find_function.cache_clear()


def test_a_module_has_decorated_functions_and_schedules(module):
    found = read_files([str(module)])
    assert set(found.schedules) == {"crunch", "nightly", "part1", "part2"}
    assert found.schedules["nightly"].run == "jobs_of_tests:crunch"
    assert [one.name for one in found.problems] == ["wrong", "never"]
    assert "'never' does not say when" in found.problems[1].message
    module.write_text(MODULE.replace("nightly", "every night").replace("crunch", "crush"))
    again = read_files([str(module)])  # as it is now
    assert "crush" in again.schedules
    assert set(again.schedules) == {"crush", "part1", "part2"}
    assert "it must be up to 100 letters" in again.problems[0].message


def test_a_module_that_raises_is_named(module):
    module.write_text("1 / 0")
    with pytest.raises(ConfigError, match=r"jobs_of_tests.py, line 1: cannot be imported: ZeroDiv"):
        read_files([str(module)])


PROXY = """
class Proxy:
    @property
    def __class__(self):
        raise RuntimeError("working outside of a request")

    def __getattr__(self, name):
        raise RuntimeError("working outside of a request")


request, requests = Proxy(), [Proxy()]
"""


def test_what_does_not_say_what_it_is_is_no_schedule(module):
    module.write_text(MODULE + PROXY)
    assert set(read_files([str(module)]).schedules) == {"crunch", "nightly", "part1", "part2"}
    assert read_aggregates([str(module)]) == {}


def test_a_module_that_ends_the_program_ends_no_scheduler(module):
    module.write_text("import sys\n\nsys.exit(3)\n")
    with pytest.raises(ConfigError, match="line 3: cannot be imported: SystemExit: 3"):
        read_files([str(module)])
    other = module.with_name("of_tests.toml")
    run = 'cron = "@daily"\nrun = "jobs_of_tests:main"\n'
    other.write_text(f"[schedules.fine]\n{FINE}\n[schedules.ends]\n{run}")
    found = read_files([str(other)])
    assert set(found.schedules) == {"fine"}
    assert "cannot be imported: SystemExit: 3" in found.problems[0].message


WRONG = """
from farm_scheduler import Schedule, schedule


def work():
    pass


@schedule(cron="61 * * * *")
def decorated():
    pass


first = Schedule("first", cron="@daily", run=work)
hour = Schedule("hour", cron="0 25 * * *", run=work)
zone = Schedule("zone", cron="@daily", tz="Mars/Base", run=work)
MORE = [
    Schedule(f"every{n}", cron=f"@every {n}s", run=work)
    for n in (0, 1)
]
odd = Schedule("odd", cron="@daily", run=work, overlapp="skip")
never = Schedule("never", run=work)
nameless = Schedule(cron="@daily", run=work)
KNOWN = {one.name: (one.cron, one.tz) for one in (first, hour, zone, *MORE)}
last = Schedule("last", cron="@daily", run=work)
"""


def test_a_wrong_schedule_in_a_module_stops_itself_alone(module):
    module.write_text(WRONG)
    found = read_files([str(module)])
    assert list(found.schedules) == ["first", "every1", "last"]
    said = {one.name: one.message for one in found.problems}
    assert list(said) == ["decorated", "hour", "zone", "every0", "odd", "never", "(no name)"]
    assert said["decorated"].startswith("schedule 'decorated': minute: '61' is not one")
    assert said["hour"].startswith("schedule 'hour': hour: '25' is not one; write *")
    assert "there is no time zone 'Mars/Base'" in said["zone"]
    assert "must be a whole number of seconds" in said["every0"]
    assert said["odd"].startswith("schedule 'odd' has no option 'overlapp'; did you mean 'overlap")
    assert said["never"].startswith("schedule 'never' does not say when: write cron")
    assert said["(no name)"].startswith("a schedule has no name; write it first, as in Schedule(")
    places = [re.search(r" \(line (\d+)\)$", text)[1] for text in said.values()]
    assert places == ["9", "15", "16", "18", "21", "22", "23"]


AGGREGATES = """
from farm_scheduler import Aggregate, Count, Files, Sum
from farm_scheduler import Schedule

FILES = Files("*.json", time="time")
first = Aggregate("first", FILES, schedule="@hourly")
level = Aggregate("level", FILES, every="1d", schedule="@hourly")
zone = Aggregate(name="zone", source=FILES, zone="Mars/Base")
odd = Aggregate("odd", FILES, lateniss="2h")
query = Aggregate.sql("query", FILES, "select channel, count(distinct user) from x")
cron = Aggregate("cron", FILES, schedule="61 * * * *")
last = Schedule("last", cron="@daily", command=["true"])
"""


def test_a_wrong_aggregate_in_a_module_stops_itself_alone(module, monkeypatch):
    monkeypatch.syspath_prepend(str(module.parent))
    module.write_text(AGGREGATES)
    found = read_files([str(module)])
    assert list(found.schedules) == ["first", "last"]
    said = {one.name: one.message for one in found.problems}
    assert list(said) == ["level", "zone", "odd", "query", "cron"]
    assert said["level"].startswith("aggregate 'level': every is '1d'; the finest windows are")
    assert said["zone"].startswith("aggregate 'zone': there is no time zone 'Mars/Base'")
    assert said["odd"].startswith("aggregate 'odd' has no option 'lateniss'; did you mean 'laten")
    assert said["query"].startswith("aggregate 'query': ")
    places = [re.search(r" \(line (\d+)\)$", said[name])[1] for name in list(said)[:4]]
    assert places == ["7", "8", "9", "10"]
    defined = read_aggregates([str(module)])
    assert defined["first"].levels
    with pytest.raises(ConfigError, match="there is no time zone 'Mars/Base'"):
        _ = defined["zone"].levels
    del sys.modules["jobs_of_tests"]
    with pytest.raises(ConfigError, match="the finest windows are shorter"):
        importlib.import_module("jobs_of_tests")


OWN_CODE = """
from farm_scheduler import Aggregate, Custom, Files

FILES = Files('*.json', time='at')

class Raising(Custom):
    columns = ("x",)

    def zero(self):
        return {}["zero"]

    lift = merge = finalize = zero

class Odd(Files):
    def check(self):
        return {}["check"]

good = Aggregate('good', FILES, schedule='@hourly')
own = Aggregate('own', FILES, measures={'own': Raising()})
odd = Aggregate('odd', Odd('*.json', time='at'))
"""


def test_code_of_an_aggregate_that_raises_when_it_is_checked_stops_it_alone(module):
    module.write_text(OWN_CODE)
    found = read_files([str(module)])
    assert list(found.schedules) == ["good"]
    assert [one.message for one in found.problems] == [
        "aggregate 'own': measure 'own' cannot be checked: KeyError: 'zero' (line 19)",
        "aggregate 'odd': its source cannot be checked: KeyError: 'check' (line 20)",
    ]


MORE_AGGREGATES = """
from farm_scheduler import Aggregate, Files, SqlTable, schedule

FILES = Files('*.json', time='at')
unread = Aggregate('unread', Files('*.foo', time='at'), schedule='@hourly')
nowhere = Aggregate.sql('nowhere', SqlTable('mysql://x', 't', 'at'), 'select count(*) as n from t')
text = Aggregate('text', '*.json')
listed = Aggregate('listed', FILES, measures=['rows'])
by = Aggregate('by', FILES, by=5)
zone = Aggregate('zone', FILES, zone=3)
sourceless = Aggregate('sourceless')
nameless = Aggregate(FILES)
nothing = Aggregate()
good = also_good = Aggregate('good', FILES, schedule='@hourly')
older = Aggregate('good', FILES, every='7m')

@schedule(cron='@daily')
def work(): ...
"""


def test_what_is_wrong_with_the_parts_of_an_aggregate_stops_it_alone(module):
    module.write_text(MORE_AGGREGATES)
    found = read_files([str(module)])
    assert list(found.schedules) == ["good", "work"]
    nameless = "an aggregate has no name; write it first, as in Aggregate('edits', Files(…))"
    expected = [
        ("unread", "aggregate 'unread': Files('*.foo'): what kind of file is that?", 5),
        ("nowhere", "aggregate 'nowhere': SqlTable: 'mysql' is no database", 6),
        ("text", "aggregate 'text': source is '*.json'; write for instance Files(", 7),
        ("listed", "aggregate 'listed': measures is ['rows']; write {'rows': Count()}", 8),
        ("by", "aggregate 'by': by is 5; write by=['channel']", 9),
        ("zone", "aggregate 'zone': there is no time zone 3; write for instance", 10),
        ("sourceless", "aggregate 'sourceless' has no source; write source=Files(…)", 11),
        ("(no name)", nameless, 12),
        ("(no name)", nameless, 13),
        ("good", "aggregate 'good': every is '7m'; a day must be", 15),
    ]
    assert len(found.problems) == len(expected)
    for problem, (name, says, line) in zip(found.problems, expected, strict=True):
        assert problem.name == name
        assert problem.message.startswith(says)
        assert problem.message.endswith(f"(line {line})")
    defined = read_aggregates([str(module)])
    assert defined["good"].every == "1h"
    with pytest.raises(ValueError, match=r"run is .*, and aggregate 'text': source is"):
        check_target(Target(f"{module.stem}:text", "", "", ""))


def test_a_wrong_source_is_an_error_of_its_own_program():
    with pytest.raises(ConfigError, match="what kind of file is that"):
        Files("*.foo", time="at")
    with pytest.raises(ConfigError, match="'mysql' is no database"):
        SqlTable("mysql://x", "t", "at")


def test_a_wrong_schedule_is_an_error_of_its_own_program(module, monkeypatch):
    monkeypatch.syspath_prepend(str(module.parent))
    module.write_text(WRONG)
    with pytest.raises(ValueError, match="schedule 'hour': hour: '25' is not one"):
        importlib.import_module("jobs_of_tests")
    with pytest.raises(TypeError, match="overlapp"):
        Schedule("odd", cron="@daily", command=["true"], overlapp="skip")
    read_files([str(module)])
    with pytest.raises(ValueError, match="there is no time zone"):  # after reading, too
        Schedule("zone", cron="@daily", tz="Mars/Base", command=["true"])


def test_functions_of_a_module_are_found_whatever_is_wrong_with_its_schedules(module, monkeypatch):
    monkeypatch.syspath_prepend(str(module.parent))
    module.write_text(WRONG)
    assert find_function("jobs_of_tests:work").__name__ == "work"
    sys.modules.pop("jobs_of_tests")
    work = load_function(b"\x80\x05cjobs_of_tests\nwork\n.")  # as workers do
    assert work.__name__ == "work"
    wrong = sys.modules["jobs_of_tests"].hour
    assert (wrong.name, wrong.cron, wrong.misfire) == ("hour", "0 25 * * *", "latest")
    with pytest.raises(ValueError, match="hour: '25' is not one"):
        _ = wrong.timing


def test_a_wrong_schedule_of_another_module_is_named_with_that(module, monkeypatch):
    monkeypatch.syspath_prepend(str(module.parent))
    other = module.with_name("shared_of_tests.py")
    other.write_text(
        "from farm_scheduler import Schedule\n"
        "MORE = [Schedule('far', cron='@never', command=['true'])]\n"
    )
    module.write_text("from shared_of_tests import MORE\n")
    try:
        ((name, file, message),) = read_files([str(module)]).problems
    finally:
        sys.modules.pop("shared_of_tests", None)
    assert (name, file) == ("far", str(module))
    assert message.endswith(f"({other}, line 2)")


def test_the_schedule_of_an_aggregate_stops_its_own_entry_alone(module):
    module.write_text(
        "from farm_scheduler import Aggregate, Files, schedule\n"
        "edits = Aggregate('edits', Files('*.json', time='at'), schedule='61 * * * *')\n"
        "others = Aggregate('others', Files('*.json', time='at'), schedule='@hourly')\n"
        "@schedule(cron='@daily')\n"
        "def work(): ...\n"
    )
    found = read_files([str(module)])
    assert list(found.schedules) == ["others", "work"]
    ((name, _, message),) = found.problems
    assert (name, "minute: '61' is not one" in message) == ("edits", True)
    assert list(read_aggregates([str(module)])) == ["edits", "others"]


def test_a_schedule_that_has_several_names_in_its_module_is_one(module):
    module.write_text(
        "from farm_scheduler import Schedule\n"
        "one = two = Schedule('one', cron='@daily', command=['true'])\n"
        "ALL = [one, one]\n"
    )
    found = read_files([str(module)])
    assert (list(found.schedules), found.problems) == (["one"], [])


def test_the_decorator_leaves_a_function_as_it_is():
    @schedule(cron="@daily")
    def own():
        return 7

    assert own() == 7


def test_of_two_entries_of_one_name_the_first_counts_and_the_others_go_on(tmp_path):
    again = '[schedules.report]\ncron = "@hourly"\nrun = "math:cos"\nargs = [1]\n'
    text = f'{GOOD}\n{again}\n[schedules.last]\ncron = "@hourly"\nrun = "math:cos"\n'
    found = read(tmp_path, text)
    assert list(found.schedules) == ["report", "back.up", "last"]
    assert found.schedules["report"].run != "math:cos"
    ((name, _, message),) = found.problems
    assert name == "report"
    assert message.startswith("schedule 'report' is in /")
    assert message.endswith("schedules.toml twice; give one of them another name")
    with pytest.raises(ConfigError, match="not valid TOML"):
        read(tmp_path, f"{text}oops")


def test_what_is_imported_from_elsewhere_is_not_declared_twice():
    assert list(declared_in(sys.modules[__name__])) == []


# ---------------------------------------------------------------- what a fire calls


def fire(**more):
    return Row(fire_id="f" * 32, schedule="a", nominal=1_772_944_200, since=1_772_857_800, **more)


def asking(first, *, nominal, interval, fire_id, other=1):
    return first, nominal, interval, fire_id, other


def test_a_function_is_given_what_it_asks_for():
    own = Schedule("a", cron="@daily", tz="America/New_York", run=asking, args=[7])
    function, args, kwargs = call_of(own, fire())
    first, nominal, interval, name, other = function(*args, **kwargs)
    assert (first, name, other) == (7, "f" * 32, 1)
    assert nominal.isoformat() == "2026-03-07T23:30:00-05:00"
    assert interval == Interval(
        datetime(2026, 3, 7, 4, 30, tzinfo=UTC), datetime(2026, 3, 8, 4, 30, tzinfo=UTC)
    )


def test_what_kwargs_say_counts():
    own = Schedule("a", cron="@daily", run=asking, args=[7], kwargs={"nominal": "mine"})
    assert call_of(own, fire()).kwargs["nominal"] == "mine"


def test_a_function_that_asks_for_nothing_gets_nothing():
    assert call_of(Schedule("a", cron="@daily", run=len, args=["x"]), fire()).kwargs == {}


def test_a_command_knows_its_fire_from_the_environment(capfd):
    script = "import os; print(os.environ['FARM_NOMINAL'], os.environ['FARM_FIRE_ID'])"
    own = Schedule("a", cron="@daily", tz="UTC", command=[sys.executable, "-c", script])
    function, args, kwargs = call_of(own, fire(kind=Kind.MANUAL))
    said = f"2026-03-08T04:30:00+00:00 {'f' * 32}\n"
    assert function(*args, **kwargs) == {"exit_code": 0, "output": said}


def test_a_command_that_fails_keeps_its_exit_code_and_output():
    with pytest.raises(CommandFailed, match="ended with exit code 3") as caught:
        run_command(["/bin/sh", "-c", "echo so; exit 3"], {})
    assert (caught.value.exit_code, caught.value.output) == (3, "so\n")
    with pytest.raises(CommandFailed, match=r"'/no/such' cannot be run on .*whole path"):
        run_command(["/no/such"], {})


@pytest.mark.parametrize("ignored", ["", "trap '' TERM; "], ids=["asked", "forced"])
def test_a_command_ends_with_its_task(tmp_path, ignored, monkeypatch):
    def stop(*_):
        raise TaskStopped("somebody stopped it")

    monkeypatch.setattr(command, "END_SECONDS", 0.01 if ignored else 30.0)
    before = signal.signal(signal.SIGUSR1, stop)
    script = f"{ignored}sleep 600 & echo $$ $! > pids; kill -USR1 $PPID; wait"
    try:
        monkeypatch.chdir(tmp_path)
        with pytest.raises(TaskStopped):
            run_command(["/bin/sh", "-c", script], {})
    finally:
        signal.signal(signal.SIGUSR1, before)
    for pid in map(int, (tmp_path / "pids").read_text().split()):
        with contextlib.suppress(psutil.NoSuchProcess):
            found = psutil.Process(pid)  # somebody else's child, so it may be dead and still there
            while found.status() != psutil.STATUS_ZOMBIE:
                time.sleep(0.01)


# ---------------------------------------------------------------- crontabs

CRONTAB = """\
# m h dom mon dow command
MAILTO=ops@example.org
PATH=/usr/local/bin:/usr/bin
*/15 * * * * /opt/report --day "$(date +\\%F)" 2>&1
CRON_TZ=America/New_York
30 2 * * 1-5 cd /data && tar c .
@daily /opt/report
@reboot /opt/serve
0 5 * * * mail -s hello root%Hello%world
0~30 * * * * /opt/spread
5 4 * *
"""


def test_a_crontab_becomes_toml(tmp_path):
    imported = import_crontab(CRONTAB, "Europe/Berlin")
    found = read(tmp_path, imported.toml)
    assert found.problems == []
    assert imported.count == len(found.schedules) == 3
    report = found.schedules["report"]
    assert (report.cron, report.tz, report.misfire) == ("*/15 * * * *", "Europe/Berlin", "skip")
    assert report.command == (
        "/usr/bin/env", "PATH=/usr/local/bin:/usr/bin",
        "/bin/sh", "-c", '/opt/report --day "$(date +%F)" 2>&1',
    )  # fmt: skip
    assert found.schedules["cd"].tz == "America/New_York"
    assert found.schedules["report-2"].cron == "@daily"
    notes = "\n".join(imported.notes)
    for said in (
        "line 2: MAILTO=ops@example.org is left out",
        "line 8: not carried over: @reboot",
        "line 9: .*what follows the % was its standard input",
        "line 10: .*minute: '0~30'",
        "line 11: .*too few fields",
    ):
        assert re.search(said, notes), said
    assert "# m h dom mon dow command" in imported.toml
    assert "# @reboot /opt/serve" in imported.toml


@pytest.mark.parametrize("line", ["# \x1b[31mred\x07", "99 * * * * echo \x1b[1mx", "5 5 * * \x7f"])
def test_what_no_comment_of_toml_may_have_is_left_out_of_it(tmp_path, line):
    imported = import_crontab(f"{line}\n0 5 * * * true\n", "UTC")
    (tmp_path / "schedules.toml").write_text(imported.toml)
    assert set(read_files([str(tmp_path / "schedules.toml")]).schedules) == {"true"}


def test_a_system_crontab_names_users():
    imported = import_crontab("17 * * * * root run-parts /etc/cron.hourly\n", "UTC", system=True)
    assert imported.count == 1
    assert imported.notes == ["line 1: it ran as root; it runs as whoever runs the hosts"]


# ---------------------------------------------------------------- large files


def many(count, extra=""):
    return (
        "".join(
            f'[schedules.job{n}]\ncron = "{n % 60} * * * *"\nrun = "math:sqrt"\nargs = [{n}]\n'
            f"[schedules.job{n}.options]\nretries = {n % 3}\n"
            for n in range(count)
        )
        + extra
    )


def test_a_large_file_is_read_by_pieces(tmp_path):
    found = read(tmp_path, '[defaults]\ntz = "Asia/Tokyo"\n' + many(1200))
    assert found.problems == []
    assert len(found.schedules) == 1200
    last = found.schedules["job1199"]
    assert (last.tz, last.args, last.options) == ("Asia/Tokyo", (1199,), {"retries": 2})


def test_pieces_that_belong_together_are_read_together(tmp_path):
    text = '[schedules.odd]\ncron = "@daily"\nrun = "math:sqrt"\nargs = ["""\n'
    inside = "".join(f"[schedules.x{n}]\n" for n in range(600))
    found = read(tmp_path, text + inside + '"""]\n' + many(600, '[defaults]\ntz = "Asia/Tokyo"\n'))
    assert found.problems == []
    assert len(found.schedules) == 601
    assert {one.tz for one in found.schedules.values()} == {"Asia/Tokyo"}
    found = read(tmp_path, many(1200) + "[schedules.job7]\n")
    assert ([one.name for one in found.problems], len(found.schedules)) == (["job7"], 1200)
    with pytest.raises(ConfigError, match=r"not valid TOML: .*at line 7201"):
        read(tmp_path, many(1200) + "[schedules.job7]]\n")
