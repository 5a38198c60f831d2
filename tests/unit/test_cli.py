"""The commands, with a client that answers as the farm would."""

import json
import subprocess
import sys
from concurrent.futures import CancelledError, Future

import pytest

import farm
from farm.cli import main
from farm.cli.exitcodes import ExitCode, exit_code
from farm.config import DEFAULT_ADDRESS
from farm.errors import (
    Busy,
    ConfigError,
    Delivered,
    Expired,
    FarmError,
    PayloadError,
    StoreLocked,
    UnknownTask,
    WorkerLost,
)

TASK = "0" * 31 + "1-42"

STATUS = {
    "epoch": 7,
    "version": "0.1.0",
    "python": "3.11",
    "recovering": False,
    "durable": True,
    "uptime_seconds": 250.0,
    "tasks": {"queued": 1200, "leased": 2, "dead": 0},
    "stuck": {},
    "hosts": 1,
    "slots": 2,
    "sessions": 3,
    "limits": {
        "max_tasks": 1_000_000,
        "open_tasks": 1202,
        "max_bytes": 2 << 30,
        "open_bytes": 3 << 20,
        "max_result_bytes": 4 << 30,
        "result_bytes": 5 << 20,
        "unread_bytes": 1 << 20,
    },
    "memory": {
        "payload_bytes": 2 << 20,
        "payload_budget": 2 << 20,
        "payload_bytes_pinned": 0,
        "payload_bytes_stored": 1 << 20,
        "dropped": 5,
        "read_back": 3,
        "result_bytes": 1 << 20,
        "sent_result_bytes": 0,
        "result_budget": 256 << 20,
    },
    "journal": {"committed": 9, "behind": 0},
    "counters": {"stale": 0, "before_hello": 4},
}
HOST = {
    "name": "north",
    "instance": "ab",
    "slots": 4,
    "running": 2,
    "held": 3,
    "window": 5,
    "connected": True,
    "unusable": "",
    "draining": False,
    "trouble": "",
    "last_seen_seconds": 0.5,
    "pid": 17,
    "address": "10.0.0.2",
    "python": "3.11",
}
JOB = {
    "id": "0" * 31 + "1-j1",
    "name": "nightly",
    "state": "open",
    "total": 10,
    "counts": {"queued": 7, "succeeded": 3},
    "age_seconds": 60.0,
    "session": "0" * 31 + "1",
}
ROW = {
    "id": TASK,
    "count": 1,
    "state": "leased",
    "function": "mod.f",
    "job": None,
    "attempt": 1,
    "host": "north",
    "age_seconds": 12.0,
    "running_seconds": 3.0,
    "priority": 0,
}


class FakeClient:
    """Answers queries from a table and runs what is submitted at once."""

    def __init__(self, address, *, connect_timeout, token, keys):
        self.address, self.connect_timeout = address or DEFAULT_ADDRESS, connect_timeout
        self.token, self.keys = token, keys
        self.connection = self
        self.acknowledged = False
        self.asked, self.used = [], {}
        self.answers = {"status": STATUS, "hosts": [HOST], "jobs": [JOB], "tasks": [ROW]}
        self.outcome = None
        self.closed = False
        FakeClient.made.append(self)
        if FakeClient.prepare:
            FakeClient.prepare(self)

    def query(self, what, **arguments):
        self.asked.append((what, arguments))
        answer = self.answers[what]
        if isinstance(answer, Exception):
            raise answer
        return answer

    def options(self, **options):
        self.used |= options
        return self

    def drain_host(self, name, timeout):
        assert timeout > 0
        return {"name": name, "held": 3}

    def submit(self, function, *args, **kwargs):
        if self.outcome is not None:
            return self.outcome
        try:
            return done(function(*args, **kwargs))
        except Exception as error:  # noqa: BLE001 - it becomes the outcome
            return done(error=error)

    def future(self, task):
        self.asked.append(("future", task))
        return self.outcome

    def job(self, name):
        if name != "nightly":
            raise UnknownTask(f"there is no job {name}")
        return FakeJob()

    def wait_acknowledged(self):
        self.acknowledged = True

    def shutdown(self, wait=True):
        self.closed = not wait


class FakeJob:
    id = JOB["id"]

    def __len__(self):
        return 10

    def cancel(self):
        return 7

    def stop(self, grace):
        return 8 if grace == 60.0 else 9


def done(value=None, error=None):
    future = Future()
    future.id, future.progress = TASK, None
    if error is not None:
        future.set_exception(error)
    else:
        future.set_result(value)
    return future


def pending():
    future = Future()
    future.id, future.progress = TASK, None
    return future


def cancelled():
    future = pending()
    future.cancel()
    future.set_running_or_notify_cancel()
    return future


@pytest.fixture
def cli(monkeypatch, tmp_path, capsys):
    """Runs a command line; `prepare` may change the client before it is used."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("XDG_CONFIG_HOME", raising=False)
    monkeypatch.setattr(farm, "Client", FakeClient, raising=False)
    monkeypatch.setattr(sys, "path", list(sys.path))
    FakeClient.made, FakeClient.prepare = [], None

    def run(*words, prepare=None):
        FakeClient.prepare = prepare
        monkeypatch.setattr(sys, "argv", ["farm", *words])
        with pytest.raises(SystemExit) as ended:
            main.main()
        out, err = capsys.readouterr()
        return ended.value.code or 0, out, err

    return run


def answers(**tables):
    return lambda client: client.answers.update(tables)


def ends(outcome):
    return lambda client: setattr(client, "outcome", outcome)


# ---------------------------------------------------------------- looking


def test_status_for_people(cli):
    code, out, err = cli("status")
    lines = dict(line.split("  ", 1) for line in out.splitlines())
    assert (code, err) == (0, "")
    assert "tcp://127.0.0.1:7070, version 0.1.0" in lines["farm"]
    assert "1,200 queued, 2 leased" in lines["tasks"]
    assert lines["room"].strip() == "1,202 of 1,000,000 tasks, 3.0 MiB of 2.0 GiB"
    assert lines["counted"].strip() == "4 before hello"  # nothing that is zero


def test_status_says_when_sockets_were_full(cli):
    assert "sockets" not in cli("status")[1]
    process = {"congested": 1200, "overflowed": 1}
    out = cli("status", prepare=answers(status=STATUS | {"process": process}))[1]
    assert "1,200 messages met a full socket, and 1 peers were dropped that read too slowly" in out


def test_every_status_says_that_no_keys_are_in_use(cli):
    insecure = answers(status=STATUS | {"process": {"insecure": 1}})
    assert (
        "keys       NONE: whoever can connect to it can run code"
        in cli("status", prepare=insecure)[1]
    )
    assert "NONE" not in cli("status", prepare=answers(status=STATUS | {"process": {}}))[1]


def test_status_says_when_nothing_can_run(cli):
    _, _, err = cli("status", prepare=answers(status=STATUS | {"hosts": 0}))
    assert "No host is connected" in err
    assert "farm worker tcp://127.0.0.1:7070" in err


@pytest.mark.parametrize(
    ("what", "data"), [("status", STATUS), ("hosts", [HOST]), ("jobs", [JOB]), ("tasks", [ROW])]
)
def test_what_a_program_is_told_is_what_the_coordinator_said(cli, what, data):
    code, out, err = cli(what, "--json")
    told = json.loads(out)
    assert (code, err) == (0, "")
    if what == "hosts":
        assert told[0].pop("state") == "works"
    assert told == data


def test_hosts_say_why_they_get_no_work(cli):
    rows = [HOST, HOST | {"connected": False}, HOST | {"unusable": "it runs Python 3.12"}]
    _, out, _ = cli("hosts", prepare=answers(hosts=rows))
    assert [line.split("10.0.0.2")[1].strip() for line in out.splitlines()[1:]] == [
        "works",
        "gone",
        "it runs Python 3.12",
    ]


def test_a_host_that_drains_says_so_and_one_can_be_drained(cli):
    _, out, _ = cli("hosts", prepare=answers(hosts=[HOST | {"draining": True}]))
    assert out.splitlines()[1].endswith("drains")
    assert cli("hosts", "drain", "north") == (0, "host north: it drains; it holds 3 tasks\n", "")
    gone = iter([[HOST], [HOST], []])

    def prepare(client):
        query = client.query
        client.query = lambda what, **more: next(gone) if what == "hosts" else query(what, **more)

    found = cli("hosts", "drain", "--wait", "north", prepare=prepare)
    assert found == (0, "host north: it has left\n", "")


EXPLAINED = {
    "id": TASK,
    "state": "queued",
    "function": "mod.f",
    "job": "",
    "attempt": 2,
    "retries": [1, 3],
    "losses": [0, 3],
    "age_seconds": 250.0,
    "hosts": [{"name": "north", "says": "is busy"}, {"name": "south", "says": "has room"}],
    "why": ["5 tasks go first", "no host has room"],
}


def test_why_a_task_is_where_it_is_in_one_screen(cli):
    code, out, err = cli("explain", TASK, prepare=answers(explain=EXPLAINED))
    assert (code, err) == (0, "")
    assert [line.split(None, 1) for line in out.splitlines()] == [
        ["state", "queued"],
        ["function", "mod.f"],
        ["attempt", "2, 1 of 3 retries spent"],
        ["submitted", "4 min 10 s ago"],
        ["why", "5 tasks go first"],
        ["no", "host has room"],
        ["hosts", "north is busy"],
        ["south", "has room"],
    ]
    assert json.loads(cli("explain", TASK, "--json", prepare=answers(explain=EXPLAINED))[1])


def test_a_task_that_nobody_knows_is_not_explained(cli):
    code, _, err = cli("explain", TASK, prepare=answers(explain=FarmError("there is none")))
    assert (code, err) == (5, "farm: there is none\n")
    assert cli("explain", "x")[0] == 2


def test_what_is_gone_is_asked_for_by_job_and_state(cli):
    gone = ROW | {"ended_seconds_ago": 60.0, "error": "ValueError: no", "state": "failed"}
    prepare = answers(history=[gone])
    words = ("tasks", "--gone", "--job", "nightly", "--state", "failed")
    _, out, _ = cli(*words, prepare=prepare)
    asked = {"limit": 100, "state": "failed", "job": "nightly"}
    assert FakeClient.made[-1].asked == [("history", asked)]
    assert "ValueError: no" in out
    assert "1 min 0 s ago" in out
    cli("jobs", "--gone", prepare=answers(history=[JOB]))
    assert FakeClient.made[-1].asked == [("history", {"by_job": True})]
    assert cli("tasks", "--job", "nightly")[0] == 2
    assert cli("tasks", "--gone", "--longer-than", "5m")[0] == 2


def test_jobs_say_how_far_they_are(cli):
    _, out, _ = cli("jobs")
    assert "nightly" in out
    assert "7 queued, 3 succeeded" in out


def test_tasks_are_asked_for_by_state_and_time(cli):
    _, out, err = cli("tasks", "--state", "Leased", "--longer-than", "5m", "--limit", "1")
    assert FakeClient.made[0].asked == [
        ("tasks", {"state": "leased", "longer_than": 300.0, "limit": 1})
    ]
    assert TASK in out
    assert "There may be more than 1" in err


def test_the_shortest_list_of_tasks_is_their_ids(cli):
    assert cli("tasks", "-q") == (0, f"{TASK}\n", "")


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        (["tasks", "--state", "lost"], 2, "'lost' is no state; there are scheduled, queued"),
        (["tasks", "--longer-than", "soon"], 3, "--longer-than is 'soon'"),
        (["tasks", "--limit", "0"], 2, "--limit"),
        (["status", "--json", "--quiet"], 2, "choose one of --json and --quiet"),
        (["stats"], 2, "No such command 'stats'"),
        (["submit"], 2, "Missing argument"),
        (["submit", "math:factoral", "1"], 2, "did you mean 'factorial'?"),
        (["submit", "math:factorial", "--detatch"], 2, "no such option: --detatch"),
        (["result", "nonsense"], 2, "'nonsense' is not a task id"),
    ],
)
def test_slips_of_the_command_line(cli, words, code, says):
    found, out, err = cli(*words)
    assert (found, out) == (code, "")
    assert says in " ".join(err.replace("│", " ").split())


# ---------------------------------------------------------------- working


def test_submit_prints_the_result(cli):
    assert cli("submit", "math:factorial", "20") == (0, "2432902008176640000\n", "")
    assert FakeClient.made[0].used == {"block": False}
    assert FakeClient.made[0].closed


def test_submit_prints_a_text_as_it_is(cli):
    assert cli("submit", "os.path:join", "a", "b") == (0, "a/b\n", "")


def test_submit_for_a_program(cli):
    _, out, _ = cli("submit", "builtins:sorted", "[3, 1]", "reverse=true", "--json")
    assert json.loads(out) == {"id": TASK, "state": "succeeded", "result": [3, 1]}
    _, out, _ = cli("submit", "builtins:complex", "1", "2", "--json")
    assert json.loads(out)["result"] == "(1+2j)"


def test_submit_takes_options_anywhere_and_numbers_below_zero(cli):
    code, out, _ = cli("submit", "--retries", "2", "builtins:abs", "-3", "--time-limit", "5m", "-q")
    assert (code, out) == (0, "3\n")
    used = FakeClient.made[0].used
    assert (used["retries"], used["time_limit"]) == (2, 300.0)


def test_submit_finds_modules_of_the_current_folder(cli, tmp_path):
    (tmp_path / "mine_of_cli.py").write_text("def hello(name='you'): return f'hello {name}'")
    assert cli("submit", "mine_of_cli:hello", "name=farm") == (0, "hello farm\n", "")


def test_submit_that_does_not_wait_prints_the_id_once_it_is_safe(cli):
    assert cli("submit", "-d", "--job", "nightly", "math:sqrt", "4") == (0, f"{TASK}\n", "")
    (client,) = FakeClient.made
    assert client.acknowledged
    assert client.used["name"] == "nightly"
    _, out, _ = cli("submit", "--detach", "--json", "math:sqrt", "4")
    assert json.loads(out) == {"id": TASK}


def test_submit_says_when_nothing_can_run(cli):
    prepare = answers(status=STATUS | {"hosts": 0})
    assert "No host is connected" in cli("submit", "math:sqrt", "4", prepare=prepare)[2]
    assert cli("submit", "math:sqrt", "4", "--quiet", prepare=prepare) == (0, "2.0\n", "")


def test_submit_to_a_full_farm(cli):
    def prepare(client):
        client.submit = Full()

    code, _, err = cli("submit", "math:sqrt", "4", prepare=prepare)
    assert (code, err) == (ExitCode.BUSY, "farm: no room, try again in 2 s\n")


class Full:
    def __call__(self, *args):
        raise Busy("no room, try again in 2 s", 2.0)


AT_ONCE = pytest.mark.parametrize("more", [(), ("--timeout", "0"), ("--wait", "--timeout", "0s")])


@AT_ONCE
def test_result_of_a_task_that_ended(cli, more):
    def prepare(client):
        client.answers["task"] = ROW | {"state": "succeeded"}
        client.outcome = done([1, 2])

    assert cli("result", TASK, *more, prepare=prepare) == (0, "[1, 2]\n", "")
    assert FakeClient.made[0].asked == [("future", TASK), ("task", {"id": TASK})]


@AT_ONCE
def test_result_of_a_task_that_runs(cli, more):
    code, out, err = cli("result", TASK, *more, prepare=answers(task=ROW))
    assert (code, out) == (ExitCode.NOT_DONE, "")
    assert err == f"farm: task {TASK} is leased; --wait waits for it\n"


def test_result_waits_when_told(cli):
    assert cli("result", TASK, "--wait", prepare=ends(done(5))) == (0, "5\n", "")
    assert FakeClient.made[0].asked == [("future", TASK)]


@pytest.mark.parametrize(
    ("outcome", "code", "says"),
    [
        (done(error=ValueError("no such day")), ExitCode.FAILED, "failed: ValueError: no such day"),
        (done(error=ConnectionError()), ExitCode.FAILED, "failed: ConnectionError\n"),
        (done(error=WorkerLost("signal 9")), ExitCode.FAILED, "failed: WorkerLost: signal 9"),
        (done(error=PayloadError("argument 1")), ExitCode.FAILED, "PayloadError: argument 1"),
        (done(error=Expired()), ExitCode.EXPIRED, "expired"),
        (done(error=UnknownTask("none such")), ExitCode.UNKNOWN, "none such"),
        (done(error=Delivered()), ExitCode.UNKNOWN, "was delivered"),
        (cancelled(), ExitCode.CANCELLED, f"task {TASK} was cancelled"),
        (pending(), ExitCode.NOT_DONE, "has not ended after 0.001 s"),
    ],
)
def test_other_ends_are_a_line_and_a_code(cli, outcome, code, says):
    found, out, err = cli("result", TASK, "--timeout", "1ms", prepare=ends(outcome))
    assert (found, out) == (code, "")
    assert err.startswith("farm: ")
    assert says in err
    assert err.count("\n") == 1


def test_result_of_a_task_that_nobody_knows(cli):
    def prepare(client):
        client.answers["task"] = FarmError("the farm has no task")
        client.outcome = done(error=UnknownTask("none such"))

    code, _, err = cli("result", TASK, prepare=prepare)
    assert (code, err) == (ExitCode.UNKNOWN, "farm: none such\n")


def test_cancel_of_a_task(cli):
    future = pending()
    assert cli("cancel", TASK, prepare=ends(future)) == (0, "cancelled\n", "")
    assert future.cancelled()


def test_cancel_of_a_task_that_had_begun_before(cli):
    def prepare(client):
        client.answers["task"] = ROW | {"state": "cancelled"}
        client.outcome = done(1)

    said = "cancelled; it had begun before, and is not tried again\n"
    assert cli("cancel", TASK, prepare=prepare) == (0, said, "")


@pytest.mark.parametrize(
    ("answer", "code", "says"),
    [
        (ROW, ExitCode.FAILED, "was not cancelled: a worker has begun it"),
        (ROW | {"state": "failed"}, ExitCode.FAILED, "was not cancelled: it has ended"),
        (FarmError("x"), ExitCode.UNKNOWN, "the farm has no task"),
    ],
)
def test_cancel_that_comes_too_late(cli, answer, code, says):
    def prepare(client):
        client.answers["task"] = answer
        client.outcome = done(1)

    found, out, err = cli("cancel", TASK, prepare=prepare)
    assert (found, out) == (code, "")
    assert says in err


class Stoppable:
    def __init__(self, *, ends):
        self.ends = ends
        self.graces = []

    def stop(self, grace):
        self.graces.append(grace)
        return self.ends


def test_stop_of_a_task(cli):
    future = Stoppable(ends=True)
    assert cli("stop", TASK, prepare=ends(future)) == (0, "stopped\n", "")
    _, out, _ = cli("stop", TASK, "--json", "--grace", "250ms", prepare=ends(future))
    assert json.loads(out) == {"id": TASK, "stopped": 1}
    assert future.graces == [5.0, 0.25]
    assert cli("stop", TASK, "--grace", "soon")[0] == ExitCode.CONFIG


@pytest.mark.parametrize(
    ("answer", "code", "says"),
    [
        (ROW, ExitCode.FAILED, "was not stopped: the farm has not answered yet"),
        (ROW | {"state": "failed"}, ExitCode.FAILED, "was not stopped: it has ended"),
        (FarmError("no task"), ExitCode.UNKNOWN, "the farm has no task"),
        (ROW | {"state": "cancelled"}, ExitCode.OK, "stopped"),
    ],
)
def test_stop_that_comes_too_late(cli, answer, code, says):
    def prepare(client):
        client.answers["task"] = answer
        client.outcome = Stoppable(ends=False)

    found, out, err = cli("stop", TASK, prepare=prepare)
    assert found == code
    assert says in out + err


def test_stop_of_a_job(cli):
    assert cli("stop", "nightly") == (0, "9 of 10 tasks stopped\n", "")
    _, out, _ = cli("stop", "nightly", "--json", "--grace", "1m")
    assert json.loads(out) == {"id": JOB["id"], "stopped": 8}
    assert cli("stop", "weekly")[0] == ExitCode.UNKNOWN


def test_cancel_of_a_job(cli):
    assert cli("cancel", "nightly") == (0, "7 of 10 tasks cancelled\n", "")
    _, out, _ = cli("cancel", "nightly", "--json")
    assert json.loads(out) == {"id": JOB["id"], "cancelled": 7}
    code, _, err = cli("cancel", "weekly")
    assert (code, err) == (ExitCode.UNKNOWN, "farm: there is no job weekly\n")


def test_an_error_for_a_program(cli):
    code, out, err = cli("result", TASK, "--wait", "--json", prepare=ends(done(error=Expired("x"))))
    assert (code, out) == (8, "")
    assert json.loads(err) == {"error": "x", "kind": "expired", "exit_code": 8}


def test_debug_shows_where_an_error_comes_from(cli):
    prepare = ends(done(error=ValueError("no such day")))
    _, _, err = cli("result", TASK, "--wait", "--debug", prepare=prepare)
    assert "Traceback" in err
    assert "ValueError: no such day" in err
    assert err.splitlines()[-1].startswith("farm: ")


class Slow(Future):
    """Says how far it is, then ends."""

    id = TASK

    def __init__(self):
        super().__init__()
        self.said = [(1, 4, ""), (1, 4, "reading"), (2, 4, "reading")]
        self.progress = None
        self.set_result("done")

    def exception(self, timeout=None):
        if self.said:
            self.progress = self.said.pop(0)
            raise TimeoutError


def test_progress_of_a_task_is_shown(cli):
    assert cli("result", TASK, "--wait", prepare=ends(Slow())) == (
        0,
        "done\n",
        f"task {TASK}: 1 of 4\ntask {TASK}: 1 of 4 (reading)\ntask {TASK}: 2 of 4 (reading)\n",
    )
    assert cli("result", TASK, "--wait", "--quiet", prepare=ends(Slow())) == (0, "done\n", "")


class Interrupted(Future):
    id = TASK

    def exception(self, timeout=None):
        raise KeyboardInterrupt


def test_ctrl_c_ends_quietly_and_says_that_the_task_goes_on(cli):
    prepare = ends(Interrupted())
    code, out, err = cli("submit", "math:sqrt", "1", prepare=prepare)
    assert (code, out) == (130, "")
    assert err == f"The task goes on: farm result --wait {TASK}\n"
    assert cli("result", TASK, "--wait", prepare=prepare) == (130, "", "")


# ---------------------------------------------------------------- settings


def test_the_address_is_from_the_flag_or_the_settings(cli, monkeypatch, tmp_path):
    (tmp_path / "farm.toml").write_text('[client]\naddress = "tcp://file:1"\nconnect_timeout = 2')
    cli("status")
    monkeypatch.setenv("FARM_ADDRESS", "tcp://variable:1")
    cli("status")
    cli("status", "-a", "tcp://flag:1")
    (tmp_path / "other.toml").write_text("[client]\nconnect_timeout = 3")
    cli("status", "--config", "other.toml")
    assert [(client.address, client.connect_timeout) for client in FakeClient.made] == [
        ("tcp://file:1", 2.0),
        ("tcp://variable:1", 2.0),
        ("tcp://flag:1", 2.0),
        ("tcp://variable:1", 3.0),
    ]


def test_a_wrong_setting_is_a_line_and_a_code(cli, tmp_path):
    (tmp_path / "farm.toml").write_text('[client]\nadress = "x"')
    code, out, err = cli("status")
    assert (code, out) == (ExitCode.CONFIG, "")
    assert err == (
        f"farm: {tmp_path}/farm.toml: [client] has no 'adress'; did you mean 'address'?\n"
    )


def test_config_says_where_each_value_comes_from(cli, tmp_path):
    (tmp_path / "farm.toml").write_text("[host]\nslots = 3")
    _, out, _ = cli("config", "--json")
    rows = {row["setting"]: row for row in json.loads(out)}
    assert rows["host.slots"]["value"] == 3
    assert rows["host.slots"]["from"] == str(tmp_path / "farm.toml")
    assert rows["client.address"]["from"] == "default"
    _, out, _ = cli("config")
    assert "FARM_HOST_SLOTS" in out


def test_version(cli):
    _, out, _ = cli("version", "--json")
    assert json.loads(out)["farm"] == farm.__version__
    assert cli("--version")[1] == f"farm {farm.__version__}\n"


# ---------------------------------------------------------------- help and codes


def test_help_names_all_commands_and_all_codes(cli):
    code, out, _ = cli("--help")
    text = " ".join(out.replace("│", " ").split())
    assert code == 0
    for name in main.ORDER:
        assert f" {name} " in text
    for one in ExitCode:
        assert one.meaning in text


GROUPED = [
    f"{group.info.name} {one.name}"
    for group in (found.typer_instance for found in main.app.registered_groups)
    for one in group.registered_commands
]


@pytest.mark.parametrize("name", [*(one.name for one in main.app.registered_commands), *GROUPED])
def test_help_of_a_command_has_examples(cli, name):
    code, out, _ = cli(*name.split(), "--help")
    assert code == 0
    assert f"$ farm {name}" in out or f" farm {name}" in out
    assert "--json" in out


def test_help_of_a_group_names_its_commands(cli):
    _, out, _ = cli("dead", "--help")
    assert all(f" {name} " in out for name in ("list", "show", "retry", "drop"))


def names_of(asked):
    groups = [one.typer_instance.info.name for one in asked.registered_groups]
    return [*(one.name for one in asked.registered_commands), *groups]


EVERYTHING = names_of(main.app)


@pytest.mark.parametrize("name", EVERYTHING)
def test_of_all_commands_only_the_one_that_is_asked_for_is_prepared(name):
    assert names_of(main.asked([name, "--help"], {})) == [name]
    assert names_of(main.app) == EVERYTHING


@pytest.mark.parametrize("words", [[], ["--help"], ["--version"], ["statsu"], ["--", "status"]])
def test_whoever_asks_for_no_command_that_there_is_sees_all(words):
    assert names_of(main.asked(words, {})) == EVERYTHING
    assert names_of(main.asked(["status"], {"_FARM_COMPLETE": "complete_bash"})) == EVERYTHING


def test_help_loads_nothing_that_runs_a_farm():
    heavy = ["zmq", "psutil", "cloudpickle", "sqlite3", "farm.client", "farm.core"]
    program = (
        "import sys; from farm.cli import main; "
        f"print([name for name in {heavy!r} if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout == "[]\n"


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (ConfigError("x"), ExitCode.CONFIG),
        (ConnectionError("x"), ExitCode.NO_FARM),
        (ConnectionRefusedError("x"), ExitCode.NO_FARM),
        (BrokenPipeError(), ExitCode.PIPE),
        (StoreLocked("x"), ExitCode.STORE),
        (Busy("x"), ExitCode.BUSY),
        (Delivered("x"), ExitCode.UNKNOWN),
        (PayloadError("x"), ExitCode.FAILED),
        (CancelledError(), ExitCode.CANCELLED),
        (TimeoutError("x"), ExitCode.NOT_DONE),
        (PermissionError("x"), ExitCode.REFUSED),
        (KeyboardInterrupt(), ExitCode.INTERRUPTED),
        (AttributeError("x"), ExitCode.BUG),
    ],
)
def test_every_kind_of_error_has_a_code(error, code):
    assert exit_code(error) is code


def test_what_nobody_foresaw_says_so(cli):
    def prepare(client):
        raise AttributeError("no x")

    code, _, err = cli("status", prepare=prepare)
    assert code == 70
    assert err == ("farm: AttributeError: no x; this is a mistake in farm, --debug shows where\n")


def test_what_no_host_could_ever_run_is_said(cli):
    rows = [
        {
            "queue": "mail",
            "tasks": 3,
            "needs": "gpu=8",
            "why": "needs gpu=8, the largest host has 2",
        },
        {
            "queue": "bulk",
            "tasks": 1,
            "needs": "label x",
            "why": "needs label x, which no host has",
        },
    ]
    out = cli("status", prepare=answers(status=STATUS | {"cannot_run": rows}))[1]
    assert "cannot run" in out
    assert "3 tasks (queue mail): needs gpu=8, the largest host has 2" in out
    assert "1 tasks (queue bulk): needs label x, which no host has" in out


def test_hosts_say_what_they_have_and_what_is_in_use(cli):
    has = {"gpu": {"total": 2.0, "used": 1.0}, "memory": {"total": 32e9, "used": 0.0}}
    row = HOST | {"resources": has, "labels": {"ssd": "", "zone": "a"}}
    out = cli("hosts", prepare=answers(hosts=[row]))[1]
    assert "gpu 1/2, memory 0/32GB" in out
    assert "ssd, zone=a" in out


def test_tasks_that_are_stuck_are_said(cli):
    stuck = answers(status=STATUS | {"stuck": {"queued": 3}})
    assert "3 queued; that is a bug" in cli("status", prepare=stuck)[1]
    assert "bug" not in cli("status")[1]


def test_a_host_that_takes_nothing_says_why(cli):
    full = answers(hosts=[HOST | {"trouble": "the disk is full"}])
    assert "takes nothing: the disk is full" in cli("hosts", prepare=full)[1]


# ---------------------------------------------------------------- queues

QUEUE = {
    "name": "mail",
    "waiting": 1200,
    "delayed": 0,
    "running": 2,
    "open_tasks": 1202,
    "open_bytes": 9000,
    "paused": False,
    "configured": True,
    "held_by": "rate",
    "policy": {
        "weight": 4.0,
        "max_tasks": 2000,
        "max_bytes": None,
        "rate": 20.0,
        "burst": None,
        "max_running": 2,
        "max_running_per_key": None,
    },
    "set": {"rate": 20.0},
    "arrival_rate": 21.5,
    "service_rate": 19.75,
    "wait_p50": 0.5,
    "wait_p99": 70.0,
}
DONE = {"name": "mail", "paused": False, "set": {}}


def test_queues_for_people(cli):
    _, out, _ = cli("queues", prepare=answers(queues=[QUEUE]))
    heading, row = out.splitlines()
    assert heading.split()[:3] == ["QUEUE", "WAITING", "RUNNING"]
    assert "1,200" in row
    assert "max_tasks 1202/2000, max_running 2/2, rate* 20" in row
    assert row.endswith("waits for its rate")
    assert cli("queues", "list", prepare=answers(queues=[QUEUE]))[1] == out


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"paused": True, "held_by": "paused"}, "paused"),
        ({"held_by": "max_running"}, "as many run as may"),
        ({"held_by": ""}, "works"),
        ({"waiting": 0}, "works"),
        ({"configured": False}, "not configured: takes no tasks"),
    ],
)
def test_a_queue_says_what_holds_it(cli, changes, says):
    out = cli("queues", prepare=answers(queues=[QUEUE | changes]))[1]
    assert out.splitlines()[1].endswith(says)


def test_queues_for_a_program(cli):
    assert json.loads(cli("queues", "--json", prepare=answers(queues=[QUEUE]))[1]) == [QUEUE]


def test_status_has_the_queues_if_there_are_several(cli):
    several = answers(status=STATUS | {"queues": [QUEUE | {"name": "default"}, QUEUE]})
    assert "mail 1,200 waiting 2 running" in cli("status", prepare=several)[1]
    one = answers(status=STATUS | {"queues": [QUEUE | {"paused": True}]})
    assert "2 running (paused)" in cli("status", prepare=one)[1]


@pytest.mark.parametrize(
    ("words", "asked", "says"),
    [
        (["pause", "mail"], ("pause_queue", {"name": "mail"}), "queue mail is paused"),
        (["resume", "mail"], ("resume_queue", {"name": "mail"}), "queue mail goes on"),
    ],
)
def test_queues_are_told_what_to_do(cli, words, asked, says):
    code, out, _ = cli("queues", *words, prepare=answers(**{asked[0]: DONE}))
    assert (code, out) == (0, f"{says}\n")
    assert FakeClient.made[-1].asked == [asked]


def test_a_purge_says_how_many(cli):
    purged = answers(purge_queue={"name": "mail", "purged": 7})
    out = cli("queues", "purge", "mail", prepare=purged)[1]
    assert out == "queue mail: 7 tasks that waited are cancelled\n"


def test_a_queue_is_set(cli):
    words = ["--weight", "2", "--rate", "none", "--max-bytes", "1KiB", "--ageing", "5m"]
    changes = {"weight": 2.0, "rate": None, "max_bytes": 1024, "ageing_seconds": 300.0}
    prepare = answers(set_queue=DONE | {"set": changes})
    code, out, _ = cli("queues", "set", "mail", *words, prepare=prepare)
    assert code == 0
    assert out == "queue mail: weight 2.0, rate none, max_bytes 1024, ageing_seconds 300.0\n"
    ((_, asked),) = FakeClient.made[-1].asked
    assert asked == {"name": "mail", "changes": changes, "reset": False}
    prepare = answers(set_queue=DONE)
    assert cli("queues", "set", "mail", "--reset", prepare=prepare)[1].endswith("as configured\n")


def test_a_wrong_limit_is_refused_before_anybody_is_asked(cli):
    made = len(FakeClient.made)
    assert "--max-running is 'many'" in cli("queues", "set", "mail", "--max-running", "many")[2]
    assert "say what to set" in cli("queues", "set", "mail")[2]
    assert len(FakeClient.made) == made


def test_submit_names_the_queue_and_says_no_more_than_it_is_told(cli):
    cli("submit", "--queue", "mail", "--retries", "0", "builtins:abs", "1")
    assert FakeClient.made[-1].used == {"block": False, "queue": "mail", "retries": 0}


def test_submit_at_a_moment_that_everybody_understands(cli):
    cli("submit", "builtins:abs", "1", "--eta", "2030-01-31T09:00+01:00")
    assert FakeClient.made[-1].used["eta"].isoformat() == "2030-01-31T09:00:00+01:00"
    for wrong, says in (("2030-01-31T09:00", "which time zone"), ("tomorrow", "a date and a time")):
        code, _, err = cli("submit", "builtins:abs", "1", "--eta", wrong)
        assert code == 2
        assert says in err


def test_submit_with_a_key(cli):
    cli("submit", "builtins:abs", "1", "--idempotency-key", "a")
    assert FakeClient.made[-1].used == {"block": False, "idempotency_key": "a"}
    cli("submit", "builtins:abs", "1", "--unique", "a")
    assert FakeClient.made[-1].used == {"block": False, "unique": "a"}
