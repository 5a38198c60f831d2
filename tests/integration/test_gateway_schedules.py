"""Schedules over HTTP: a real gateway beside a real scheduler, and beside none."""

import json
import os
import sys
import time

import pytest

from farm.supervisor import Service
from farm_scheduler.state import State
from farm_scheduler.turns import Turn
from tests.integration.gateway_rig import rig

pytestmark = pytest.mark.usefixtures("forked_services")

FILE = """
[schedules.night]
cron = "30 2 * * *"
tz = "America/New_York"
run = "math:factorial"
args = [5]
overlap = "allow"

[schedules.loud]
cron = "@yearly"
command = ["sh", "-c", "echo loud; exit 3"]

[schedules.bad]
cron = "61 * * * *"
command = ["true"]
"""
NOON = "2026-03-08T12:00:00Z"


@pytest.fixture(scope="module")
def gateway(tmp_path_factory):
    """A farm with a gateway that knows where schedules are kept; no scheduler has run."""
    folder = tmp_path_factory.mktemp("schedules")
    with rig(schedules=str(folder / "schedules.db")) as made:
        made.state = folder / "schedules.db"
        made.file = folder / "schedules.toml"
        yield made


@pytest.fixture(scope="module")
def scheduler(gateway):
    """The same, with a scheduler."""
    gateway.file.write_text(FILE)

    def launch(parent_fd, _ready_fd):
        return {
            "files": [str(gateway.file)],
            "address": gateway.local.address,
            "state": str(gateway.state),
            "sys_path": [one for one in sys.path if one],
            "parent_fd": parent_fd,
            "parent_pid": os.getpid(),
        }

    service = Service("scheduler", "farm_scheduler", gateway.file.parent, launch)
    service.start()
    gateway.until(lambda: get(gateway).status_code == 200 and len(get(gateway).json()) == 3)
    yield gateway
    service.end(at_once=False)
    service.join()


def get(gateway, path="", **params):
    return gateway.http.get(f"/v1/schedules{path}", params=params or None)


def post(gateway, path, body=None, **headers):
    content = b"" if body is None else json.dumps(body).encode()
    headers = {"content-type": "application/json", **headers}
    return gateway.http.post(f"/v1/schedules{path}", content=content, headers=headers)


# ---------------------------------------------------------------- without a scheduler


def test_where_no_scheduler_has_run_that_is_said(gateway):
    answer = get(gateway)
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "10")
    assert "no scheduler has run here; start one" in answer.json()["detail"]


# ---------------------------------------------------------------- reading


def test_schedules_are_listed_by_name_with_those_that_are_stopped(scheduler):
    bad, _, night = get(scheduler).json()
    assert (bad["name"], bad["state"]) == ("bad", "stopped")
    assert bad["problem"].startswith("schedule 'bad': minute: '61' is not one")
    assert (night["name"], night["state"], night["tz"]) == ("night", "works", "America/New_York")
    assert night["next"][10:19] in {"T02:30:00", "T03:00:00"}
    assert [one["name"] for one in get(scheduler, limit=1).json()] == ["bad"]
    assert [one["name"] for one in get(scheduler, after="bad", limit=1).json()] == ["loud"]
    assert get(scheduler, after="night").json() == []


def test_a_schedule_is_read_with_its_options_and_next_times(scheduler):
    night = get(scheduler, "/night").json()
    assert (night["options"]["overlap"], night["options"]["args"]) == ("allow", [5])
    assert len(night["next_times"]) == 5
    assert night["next_times"][0] == night["next"]
    assert get(scheduler, "/bad").json()["state"] == "stopped"


@pytest.mark.parametrize(
    ("path", "status", "said"),
    [
        ("/nigth", 404, "there is no schedule 'nigth'; did you mean 'night'?"),
        ("/nigth/history", 404, "did you mean 'night'?"),
        ("?limit=0", 422, ""),
        ("/night/history?from=soon", 422, "write 2026-03-08T02:30:00-05:00, or Z"),
        ("/night/history?to=soon", 422, "write 2026-03-08T02:30:00-05:00, or Z"),
    ],
)
def test_what_is_wrong_with_a_question_is_named(scheduler, path, status, said):
    answer = get(scheduler, path)
    assert answer.status_code == status
    assert said in answer.json()["detail"]
    if status == 422:
        assert answer.json()["field"] in path


# ---------------------------------------------------------------- orders


def test_a_schedule_is_run_and_its_history_has_it(scheduler):
    answer = post(scheduler, "/night/run")
    assert (answer.status_code, answer.json()["state"]) == (200, "running")
    fire = answer.json()["fire_id"]

    def row():
        rows = {one["fire_id"]: one for one in get(scheduler, "/night/history").json()}
        return rows[fire] if rows[fire]["state"] == "ran" else None

    ran = scheduler.until(row)
    assert (ran["outcome"], ran["kind"]) == ("succeeded", "manual")
    assert scheduler.read(ran["task"]).json()["over"]
    assert get(scheduler, "/night").json()["last"]["fire_id"]
    assert get(scheduler, "/night/history", to="2020-01-01T00:00:00Z").json() == []
    since = {"from": "2020-01-01T00:00:00Z"}
    assert fire in {one["fire_id"] for one in get(scheduler, "/night/history", **since).json()}


def test_a_run_with_a_key_is_one_run(scheduler):
    answers = [post(scheduler, "/night/run", **{"Idempotency-Key": "k1"}) for _ in range(3)]
    assert len({one.json()["fire_id"] for one in answers}) == 1
    other = post(scheduler, "/loud/run", **{"Idempotency-Key": "k1"})
    assert (other.status_code, "another order" in other.json()["detail"]) == (409, True)


def test_the_output_of_a_command_is_in_its_row(scheduler):
    post(scheduler, "/loud/run")
    row = scheduler.until(
        lambda: next((one for one in get(scheduler, "/loud/history").json() if "ended" in one), 0)
    )
    assert (row["outcome"], row["output"]) == ("failed", "loud\n")
    assert row["detail"] == "'sh' ended with exit code 3"


def test_pause_and_resume(scheduler):
    answer = post(scheduler, "/night/pause", {"why": "testing", "until": "2099-01-02T03:04:05Z"})
    assert answer.json() == {"name": "night", "done": True, "until": "2099-01-02T03:04:05+00:00"}
    again = post(scheduler, "/night/pause", {"why": "testing", "until": "2099-01-02T03:04:05Z"})
    assert again.status_code == 200
    night = get(scheduler, "/night").json()
    (pause,) = night["pauses"]
    assert (night["state"], pause["why"], pause["who"]) == (
        "paused",
        "testing",
        "127.0.0.1 over HTTP",
    )
    assert post(scheduler, "/night/resume").json()["was_paused"] is True
    assert get(scheduler, "/night").json()["state"] == "works"
    assert post(scheduler, "/night/pause").status_code == 200
    assert post(scheduler, "/night/resume").json()["was_paused"] is True


def test_a_time_after_the_calendar_is_for_ever_and_ends_no_scheduler(scheduler):
    last = "9999-12-31T23:59:59-05:00"
    assert post(scheduler, "/night/pause", {"until": last}).json() == {
        "name": "night",
        "done": True,
    }
    assert [one["until"] for one in get(scheduler, "/night").json()["pauses"]] == [None]
    assert post(scheduler, "/night/resume").json()["was_paused"]
    span = {"from": "9999-12-31T23:00:00-05:00", "to": last}
    for dry_run in (True, False):
        found = post(scheduler, "/night/backfill", {**span, "dry_run": dry_run})
        assert (found.status_code, found.json()["fires"]) == (200, 0)


def test_a_backfill_is_tried_out_and_run(scheduler):
    span = {"from": "2026-03-06T00:00:00-05:00", "to": "2026-03-09T00:00:00Z"}
    tried = post(scheduler, "/night/backfill", {**span, "dry_run": True})
    times = ["2026-03-08T03:00:00-04:00", "2026-03-07T02:30:00-05:00", "2026-03-06T02:30:00-05:00"]
    assert (tried.status_code, tried.json()) == (
        200,
        {"name": "night", "done": False, "fires": 3, "left_out": 0, "times": times},
    )
    key = {"Idempotency-Key": "backfill"}
    for _ in range(2):
        answer = post(scheduler, "/night/backfill", {**span, "at_once": 2}, **key)
        assert (answer.status_code, answer.json()["fires"]) == (200, 3)

    def over():
        rows = get(scheduler, "/night/history", to="2026-03-09T00:00:00Z").json()
        return rows if [one["state"] for one in rows] == ["ran"] * 3 else None

    assert {one["kind"] for one in scheduler.until(over)} == {"backfill"}
    assert post(scheduler, "/night/backfill", span).json()["left_out"] == 3


@pytest.mark.parametrize(
    ("path", "body", "status", "said"),
    [
        ("/night/backfill", {"from": "2026-03-06", "to": "2026-03-09T00:00:00Z"}, 422, ""),
        ("/night/backfill", {"from": NOON, "to": NOON}, 422, "which is not before to"),
        ("/night/backfill", {"from": NOON, "to": NOON, "at_once": 0}, 422, ""),
        ("/loud/backfill", {"from": NOON}, 422, ""),
        ("/nigth/backfill", {"from": NOON, "to": "2027-01-01T00:00:00Z"}, 404, "mean 'night'?"),
        ("/nigth/run", None, 404, "did you mean 'night'?"),
        ("/night/pause", {"until": "2020-01-01T00:00:00Z"}, 422, "is over"),
        ("/night/pause", {"until": "soon"}, 422, "write 2026-03-08T02:30:00-05:00"),
        ("/night/pause", {"whi": "x"}, 422, ""),
        ("/bad/run", None, 404, "'bad' is stopped: minute: '61'"),
    ],
)
def test_what_is_wrong_with_an_order_is_named(scheduler, path, body, status, said):
    answer = post(scheduler, path, body)
    assert answer.status_code == status, answer.text
    assert said in answer.json()["detail"]


def test_the_document_has_the_schedules(scheduler):
    paths = scheduler.http.get("/openapi.json").json()["paths"]
    assert set(paths["/v1/schedules"]) == {"get"}
    for what in ("pause", "resume", "run", "backfill"):
        assert {"200", "202", "404", "503"} <= set(
            paths[f"/v1/schedules/{{name}}/{what}"]["post"]["responses"]
        )
    scheduler.http.get("/v1/schedules/night/history")
    metrics = scheduler.http.get("/metrics").text
    assert 'route="/v1/schedules/{name}/history"' in metrics


def test_an_order_without_a_scheduler_is_accepted_and_done_later(tmp_path):
    path = tmp_path / "schedules.db"
    with rig(slots=1, schedules=str(path), max_wait=0.3) as made:
        made.state, made.file = path, tmp_path / "schedules.toml"
        from farm_scheduler.core import Entry, Schedule

        schedule = Schedule("a", cron="@yearly", run="math:sqrt", args=[4])
        state = State(path)
        state.commit([], [(Entry(schedule, 0, int(time.time()), None), "f")], {})
        answer = post(made, "/a/pause", {"who": "ada"})
        assert (answer.status_code, answer.json()) == (202, {"name": "a", "done": False})
        (order,) = state.waiting_orders()
        assert (order[2], order[3]["who"]) == ("pause", "ada")
        state.close()
        turn = Turn(path)
        assert turn.take()  # a scheduler that does not answer
        assert post(made, "/a/resume").json() == {"name": "a", "done": False}
