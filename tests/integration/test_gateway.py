"""The gateway as callers without Python meet it: real processes, real HTTP."""

import contextlib
import json
import signal
import socket
import threading
from contextlib import closing
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from prometheus_client.parser import text_string_to_metric_families

import farm
from tests.integration.gateway_rig import rig

pytestmark = pytest.mark.usefixtures("forked_services")

UNKNOWN = "0" * 31 + "1-5"


@pytest.fixture(scope="module")
def gateway():
    with rig(core={"queues": {"small": {"max_tasks": 2}}}, max_body=100_000, max_items=50) as made:
        yield made


@pytest.fixture
def client(gateway):
    found = farm.Client(gateway.local.address)
    yield found
    found.shutdown(wait=False)


# ---------------------------------------------------------------- tasks


def test_a_function_is_run_by_name_and_its_result_is_read_at_the_location(gateway):
    task = gateway.submitted("sums.add", 2, b=3)
    view = gateway.ended(task)
    assert (view["state"], view["result"], view["function"]) == (
        "succeeded",
        {"sum": 5},
        "sums.add",
    )
    assert gateway.read(task).json()["result"] == {"sum": 5}


@pytest.mark.parametrize("value", [None, 0, "é\u2028", [1.5, {"a": [True, None]}], "x" * 90_000])
def test_values_come_back_as_they_were_sent(gateway, value):
    assert gateway.ended(gateway.submitted("echo", value))["result"] == value


def test_a_large_result_comes_whole(gateway):
    assert gateway.ended(gateway.submitted("large", 3_000_000))["result"] == "x" * 3_000_000


def test_the_state_of_a_task_can_be_seen_while_it_is_not_over(gateway):
    path = gateway.path("seen")
    task = gateway.submitted("progress", path)
    gateway.running(task)
    view = gateway.read(task, 0.2).json()
    assert (view["state"], view["host"], view["attempt"]) == ("running", "local", 1)
    assert "result" not in view
    gateway.release(path)
    assert gateway.ended(task)["result"] == path


FAILURES = [
    ("fail", ["so it is"], "failed", "ValueError", "so it is"),
    ("open", [], "failed", "farm.errors.PayloadError", "the result is object, which JSON cannot"),
]


@pytest.mark.parametrize(("function", "args", "state", "kind", "says"), FAILURES)
def test_a_task_that_fails_says_why(gateway, function, args, state, kind, says):
    view = gateway.ended(gateway.submitted(function, *args))
    assert (view["state"], view["error"]["type"]) == (state, kind)
    assert says in view["error"]["message"]
    assert "result" not in view


def test_options_count(gateway):
    task = gateway.submitted("sums.add", 1, options={"delay": "1h", "priority": 5})
    assert gateway.read(task).json()["state"] == "scheduled"
    assert gateway.http.delete(f"/v1/tasks/{task}").json() == {"cancelled": 1, "stopping": 0}
    view = gateway.ended(task)
    assert (view["state"], "error" in view) == ("cancelled", False)
    task = gateway.submitted("sums.add", 1, options={"eta": "2050-01-31T09:00:00+01:00"})
    assert gateway.read(task).json()["state"] == "scheduled"
    gateway.http.delete(f"/v1/tasks/{task}")


def test_a_task_that_runs_is_stopped_if_it_is_given_time_to_clean_up(gateway):
    task = gateway.submitted("held", gateway.path("never"))
    gateway.running(task)
    assert gateway.http.delete(f"/v1/tasks/{task}").json() == {"cancelled": 0, "stopping": 0}
    answer = gateway.http.delete(f"/v1/tasks/{task}", params={"grace": "5s"})
    assert answer.json() == {"cancelled": 0, "stopping": 1}
    assert gateway.ended(task)["state"] == "cancelled"


def test_python_reads_what_http_has_submitted_and_the_other_way_round(gateway, client):
    task = gateway.submitted("sums.add", 1)
    assert client.future(task).result(30) == {"sum": 2}
    assert gateway.read(task, 5).json()["result"] == {"sum": 2}
    future = client.options(result_ttl="1h").submit(pow, 2, 3)
    assert future.result(30) == 8
    view = gateway.read(future.id, 5).json()
    assert view["state"] == "succeeded"
    assert "farm.Client().future(id).result()" in view["error"]["message"]


def test_a_result_that_went_to_its_python_client_is_gone(gateway, client):
    future = client.submit(pow, 2, 3)
    future.result(30)
    gateway.until(lambda: gateway.read(future.id).status_code == 410)


# ---------------------------------------------------------------- keys


def keyed(gateway, key, function, *args, path="/v1/tasks", **body):
    body = {"function": function, **({"args": args} if path == "/v1/tasks" else {}), **body}
    return gateway.http.post(path, json=body, headers={"idempotency-key": key})


def test_of_calls_with_one_key_one_runs(gateway):
    path = gateway.path("once")
    tasks = [keyed(gateway, "order-1", "write", path, "line").json()["id"] for _ in range(3)]
    assert {gateway.ended(task)["result"] for task in tasks} == {"line"}
    assert Path(path).read_text() == "line\n"
    refused = keyed(gateway, "order-1", "write", path, "other")
    assert (refused.status_code, refused.json()["field"]) == (409, "Idempotency-Key")
    same = keyed(gateway, "order-2", "echo", {"a": 1, "b": 2})
    again = keyed(gateway, "order-2", "echo", {"b": 2, "a": 1})
    assert (same.status_code, again.status_code) == (202, 202)


def test_a_job_has_a_key_too(gateway):
    path = gateway.path("ingest")
    calls = [{"args": [path, text]} for text in "ab"]
    jobs = [
        keyed(gateway, "ingest", "write", path="/v1/jobs", arguments=calls).json()["id"]
        for _ in range(2)
    ]
    for job in jobs:
        view = gateway.http.get(f"/v1/jobs/{job}", params={"wait": 20}).json()
        assert (view["over"], view["counts"]) == (True, {"succeeded": 2})
    assert sorted(Path(path).read_text().split()) == ["a", "b"]
    other = [calls[0], {"args": [path, "c"]}]
    refused = keyed(gateway, "ingest", "write", path="/v1/jobs", arguments=other)
    assert refused.status_code == 409


def test_one_at_a_time_is_enough(gateway):
    path = gateway.path("unique")
    options = {"unique": "rebuild"}
    tasks = [gateway.submitted("held", path, options=options) for _ in range(2)]
    gateway.release(path)
    assert [gateway.ended(task)["result"] for task in tasks] == [path, path]


def test_a_key_that_is_none_is_told(gateway):
    assert keyed(gateway, "x" * 151, "sums.add", 1).status_code == 422
    both = keyed(gateway, "one", "sums.add", 1, options={"unique": "two"})
    assert (both.status_code, both.json()["field"]) == (422, "options.unique")


# ---------------------------------------------------------------- what is wrong

ADD = {"function": "sums.add", "args": [1]}
WRONG = [
    ("/v1/tasks", b"{", 400, None, "the body is no JSON"),
    ("/v1/tasks", b'{"function":"sums.add","args":' + b"[" * 50_000, 400, None, "the body"),
    ("/v1/tasks", [], 422, "body", "expected `object`"),
    ("/v1/tasks", {}, 422, "function", "missing required field"),
    ("/v1/tasks", {"function": 1}, 422, "function", "expected `str`"),
    ("/v1/tasks", ADD | {"arg": 1}, 422, "arg", "unknown field"),
    ("/v1/tasks", {"function": "sums.ad"}, 422, "function", "did you mean 'sums.add'"),
    ("/v1/tasks", {"function": "sums.add"}, 422, "kwargs.a", "missing"),
    ("/v1/tasks", ADD | {"args": ["1"]}, 422, "args[0]", "expected `int`"),
    ("/v1/tasks", ADD | {"kwargs": {"c": 1}}, 422, "kwargs.c", "there is no such argument"),
    ("/v1/tasks", ADD | {"options": {"prio": 1}}, 422, "options.prio", "did you mean 'priority'"),
    ("/v1/tasks", ADD | {"options": {"delay": "soon"}}, 422, "options.delay", "write seconds"),
    ("/v1/tasks", ADD | {"options": {"eta": "soon"}}, 422, "options.eta", "with its zone"),
    ("/v1/tasks", ADD | {"options": {"eta": "2030-01-31T09:00:00"}}, 422, "options.eta", "no time"),
    ("/v1/tasks", ADD | {"options": {"delay": "99999999d"}}, 422, "options.delay", "s at most"),
    (
        "/v1/tasks",
        ADD | {"options": {"eta": "9999-12-31T23:59:59-05:00"}},
        422,
        "options.eta",
        "before the year 10000",
    ),
    ("/v1/tasks", ADD | {"options": {"priority": 1 << 70}}, 422, "options.priority", "at most"),
    ("/v1/tasks", ADD | {"options": {"queue": "smal"}}, 422, "options.queue", "mean 'small'"),
    ("/v1/tasks", ADD | {"options": {"block": True}}, 422, "options.block", "never waits"),
    ("/v1/tasks", ADD | {"options": {"name": "x"}}, 422, "options.name", "POST /v1/jobs"),
    (
        "/v1/tasks",
        ADD | {"options": {"soft_time_limit": 2, "time_limit": 1}},
        422,
        "options",
        "must come first",
    ),
    ("/v1/tasks?queue=small", ADD | {"options": {"queue": "default"}}, 422, "options.queue", "the"),
    ("/v1/jobs", {"function": "sums.add"}, 422, "items", "at least one"),
    ("/v1/jobs", {"function": "sums.add", "arguments": []}, 422, "arguments", "at least one"),
    ("/v1/jobs", {"function": "sums.add", "items": [1, "2"]}, 422, "items[1]", "expected `int`"),
    (
        "/v1/jobs",
        {"function": "sums.add", "arguments": [{"args": [1]}, {"kwargs": {"a": "1"}}]},
        422,
        "arguments[1].kwargs.a",
        "expected `int`",
    ),
    (
        "/v1/jobs",
        {"function": "sums.add", "items": [1], "arguments": [{}]},
        422,
        "arguments",
        "give one of them",
    ),
    ("/v1/jobs", {"function": "sums.add", "items": [1] * 51}, 413, "items", "several jobs"),
    ("/v1/tasks", {"function": "echo", "args": ["x" * 100_000]}, 413, None, "100,000 bytes"),
    ("/v1/queues/smal/pause", {}, 404, None, "did you mean 'small'"),
    ("/v1/schedules/a/run", {}, 404, None, "does not know of schedules"),
]


@pytest.mark.parametrize(("path", "body", "status", "field", "says"), WRONG)
def test_a_wrong_request_is_told_what_is_wrong(gateway, path, body, status, field, says):
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    headers = {"content-type": "application/json"}
    answer = gateway.http.post(path, content=content, headers=headers)
    problem = answer.json()
    assert answer.headers["content-type"] == "application/problem+json"
    assert (answer.status_code, problem["status"]) == (status, status)
    assert (problem.get("field"), says in problem["detail"]) == (field, True), problem


@pytest.mark.parametrize(
    ("path", "status", "says"),
    [
        (f"/v1/tasks/{UNKNOWN}", 404, "the farm"),
        ("/v1/tasks/nonsense", 404, "is not a task id"),
        (f"/v1/tasks/{UNKNOWN}?wait=soon", 422, "expected `float`"),
        (f"/v1/tasks/{UNKNOWN}?wait=-1", 422, "expected `float` >= 0"),
        ("/v1/jobs/nonsense", 404, "is no job's id"),
        (f"/v1/jobs/{UNKNOWN[:32]}-j7", 404, "the farm has no job"),
        (f"/v1/jobs/{UNKNOWN[:32]}-j7/events", 404, "the farm has no job"),
        ("/nothing", 404, "Not Found"),
        ("/v1/schedules", 404, "does not know of schedules"),
        ("/v1/schedules/a/history", 404, "does not know of schedules"),
    ],
)
def test_what_is_not_there_is_told(gateway, path, status, says):
    answer = gateway.http.get(path)
    assert (answer.status_code, says in answer.json()["detail"]) == (status, True), answer.text
    assert answer.headers["content-type"] == "application/problem+json"


HEADERS = [
    ({"content-type": "text/plain"}, 415),
    ({"content-type": "application/x-www-form-urlencoded"}, 415),
    ({"content-type": "application/json", "content-encoding": "gzip"}, 415),
    ({"content-type": "application/json", "host": "evil.example"}, 421),
    ({"content-type": "application/json", "origin": "https://evil.example"}, 403),
    ({"content-type": "application/json", "origin": "https://[evil"}, 403),
    ({"content-type": "application/json; charset=utf-8", "host": "localhost:80"}, 202),
]


@pytest.mark.parametrize(("headers", "status"), HEADERS)
def test_pages_of_others_cannot_use_the_farm(gateway, headers, status):
    content = json.dumps(ADD).encode()
    answer = gateway.http.post("/v1/tasks", content=content, headers=headers)
    assert answer.status_code == status, answer.text


def test_a_chunked_body_is_read_to_its_bound_and_no_further(gateway):
    def endless():
        for _ in range(1000):
            yield b" " * 10_000

    headers = {"content-type": "application/json"}
    answer = gateway.http.post("/v1/tasks", content=endless(), headers=headers)
    assert answer.status_code == 413


def test_a_body_that_is_too_large_is_refused_before_it_is_sent(gateway):
    url = urlsplit(gateway.local.http)
    with closing(socket.create_connection((url.hostname, url.port), timeout=20)) as peer:
        peer.sendall(
            b"POST /v1/tasks HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"
            b"content-length: 5000000\r\nexpect: 100-continue\r\n\r\n"
        )
        said = b""
        while part := peer.recv(4096):  # it ends the connection, too
            said += part
    assert said.startswith(b"HTTP/1.1 413 ")
    assert b"100 Continue" not in said


@pytest.mark.parametrize(
    "nonsense", [b"\x00\xff\r\n\r\n", b"GET / HTTP/1.1\r\n" + b"x: y\r\n" * 9000]
)
def test_what_is_no_http_is_answered_and_the_connection_ends(gateway, nonsense):
    url = urlsplit(gateway.local.http)
    with closing(socket.create_connection((url.hostname, url.port), timeout=20)) as peer:
        peer.sendall(nonsense)
        said = b""
        with contextlib.suppress(ConnectionError):
            while part := peer.recv(4096):
                said += part
    assert said == b"" or said.startswith(b"HTTP/1.1 4")
    assert gateway.http.get("/health/live").status_code == 200


# ---------------------------------------------------------------- jobs


def events(lines):
    """Server-sent events: (kind, id, data)."""
    found, event = [], {}
    for line in lines:
        if line:
            key, _, value = line.partition(": ")
            event[key] = value
        elif event.get("event"):
            found.append((event["event"], event["id"], json.loads(event["data"])))
            event = {}
    return found


def test_a_job_is_many_calls_and_tells_how_far_it_is(gateway):
    path = gateway.path("job")
    calls = [{"args": [path]}, {"kwargs": {"path": path}}]
    body = {"function": "held", "arguments": calls, "name": "two"}
    answer = gateway.http.post("/v1/jobs", json=body)
    job = answer.json()["id"]
    assert (answer.status_code, answer.json()["tasks"]) == (202, 2)
    assert answer.headers["location"] == f"/v1/jobs/{job}"
    view = gateway.http.get(f"/v1/jobs/{job}").json()
    assert (view["name"], view["total"], view["open"], view["over"]) == ("two", 2, 2, False)
    gateway.release(path)
    view = gateway.http.get(f"/v1/jobs/{job}", params={"wait": 20}).json()
    assert (view["over"], view["counts"]) == (True, {"succeeded": 2})
    tasks = gateway.http.get(f"/v1/jobs/{job}/tasks").json()
    assert [task["index"] for task in tasks] == [0, 1]
    assert gateway.ended(tasks[1]["id"])["result"] == path


def test_the_events_of_a_job_end_and_can_be_taken_up_again(gateway):
    body = {"function": "sums.add", "items": [1, 2, 3]}
    job = gateway.http.post("/v1/jobs", json=body).json()["id"]
    url = f"/v1/jobs/{job}/events"
    with gateway.http.stream("GET", url) as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        found = events(answer.iter_lines())
    tasks = [(identity, data["index"]) for kind, identity, data in found if kind == "task"]
    assert tasks == [("1", 0), ("2", 1), ("3", 2)]
    kind, identity, data = found[-1]
    assert (kind, identity, data["counts"]) == ("end", "3", {"succeeded": 3})
    again = events(gateway.http.get(url, headers={"last-event-id": "2"}).iter_lines())
    assert [identity for kind, identity, _ in again if kind == "task"] == ["3"]
    assert gateway.http.get(url, headers={"last-event-id": "3"}).status_code == 204
    assert gateway.http.get(url, headers={"last-event-id": "x"}).status_code == 422


def test_a_job_tells_how_its_tasks_ended_long_after(gateway):
    body = {"function": "fail", "items": ["a", "b"]}
    job = gateway.http.post("/v1/jobs", json=body).json()["id"]
    gateway.http.get(f"/v1/jobs/{job}", params={"wait": 20})
    tasks = gateway.http.get(f"/v1/jobs/{job}/tasks").json()
    for task in tasks:
        assert gateway.ended(task["id"])["error"]["type"] == "ValueError"
    gateway.until(lambda: gateway.http.get("/v1/status").json()["tasks"].get("delivered"))
    view = gateway.http.get(f"/v1/jobs/{job}").json()
    assert (view["over"], view["counts"]) == (True, {"failed": 2})
    again = gateway.http.get(f"/v1/jobs/{job}/tasks").json()
    assert [task["state"] for task in again] == ["failed", "failed"]


def test_a_job_is_cancelled(gateway):
    body = {"function": "sums.add", "items": [1, 2, 3], "options": {"delay": "1h"}}
    job = gateway.http.post("/v1/jobs", json=body).json()["id"]
    assert gateway.http.delete(f"/v1/jobs/{job}").json() == {"cancelled": 3, "stopping": 0}
    view = gateway.http.get(f"/v1/jobs/{job}", params={"wait": 20}).json()
    assert (view["over"], view["counts"]) == (True, {"cancelled": 3})


# ---------------------------------------------------------------- no room


def test_a_full_queue_is_503_with_a_time_to_come_back_and_others_go_on(gateway):
    path = gateway.path("full")
    tasks = [gateway.submitted("held", path, queue="small") for _ in range(2)]
    refused = gateway.submit("held", path, queue="small")
    assert refused.status_code == 503
    assert 1 <= int(refused.headers["retry-after"]) <= 120
    assert refused.json()["retry_after"] == int(refused.headers["retry-after"])
    tasks.append(gateway.submitted("sums.add", 1, options={"queue": "default"}))
    gateway.release(path)
    assert {gateway.ended(task)["state"] for task in tasks} == {"succeeded"}
    gateway.until(lambda: gateway.submit("sums.add", 1, queue="small").status_code == 202)


def test_a_caller_has_a_quota():
    with rig(slots=1, max_pending=3) as gateway:
        path = gateway.path("quota")
        tasks = [gateway.submitted("held", path) for _ in range(2)]
        body = {"function": "held", "items": [path] * 2}
        refused = gateway.http.post("/v1/jobs", json=body)
        assert (refused.status_code, "2 tasks of this caller" in refused.text) == (429, True)
        assert int(refused.headers["retry-after"]) >= 1
        assert gateway.http.post("/v1/jobs", json=body | {"items": [path] * 4}).status_code == 413
        tasks.append(gateway.submitted("held", path))
        assert gateway.submit("held", path).status_code == 429
        gateway.release(path)
        assert {gateway.ended(task)["state"] for task in tasks} == {"succeeded"}
        assert gateway.until(lambda: gateway.submit("held", path).status_code == 202)


# ---------------------------------------------------------------- the farm


def test_the_farm_is_seen_and_its_queues_are_told(gateway):
    functions = {one["name"]: one for one in gateway.http.get("/v1/functions").json()}
    assert functions["sums.add"]["summary"] == "Add two numbers."
    assert functions["sums.add"]["parameters"][1] == {
        "name": "b",
        "required": False,
        "schema": {"type": "integer"},
    }
    assert gateway.http.get("/v1/hosts").json()[0]["name"] == "local"
    assert gateway.http.get("/v1/status").json()["slots"] == 2
    assert {row["name"] for row in gateway.http.get("/v1/queues").json()} == {"default", "small"}
    headers = {"content-type": "application/json"}
    paused = gateway.http.post("/v1/queues/small/pause", headers=headers)
    assert (paused.status_code, paused.json()["paused"]) == (200, True)
    task = gateway.submitted("sums.add", 1, queue="small")
    purged = gateway.http.post("/v1/queues/small/purge", headers=headers)
    assert purged.json()["purged"] == 1
    assert gateway.ended(task)["state"] == "cancelled"
    resumed = gateway.http.post("/v1/queues/small/resume", headers=headers)
    assert resumed.json()["paused"] is False


def test_prometheus_reads_the_metrics(gateway):
    gateway.ended(gateway.submitted("sums.add", 1))
    answer = gateway.http.get("/metrics")
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    found = {
        (sample.name, *sorted(sample.labels.values())): sample.value
        for family in text_string_to_metric_families(answer.text)
        for sample in family.samples
    }
    assert found["farm_up",] == 1
    assert found["farm_host_slots", "local"] == 2
    assert found["farm_outcomes_total", "ok"] >= 1
    assert found["farm_queue_ended_total", "default"] >= 1
    assert found["farm_journal_records_total",] >= 1
    assert found["farm_gateway_requests_total", "/v1/tasks", "202", "POST"] >= 1
    assert ("farm_queue_wait_seconds", "0.99", "default") in found


def test_it_describes_itself_and_shows_no_page(gateway):
    document = gateway.http.get("/openapi.json").json()
    assert document["openapi"].startswith("3.1")
    assert "503" in document["paths"]["/v1/tasks"]["post"]["responses"]
    assert gateway.http.get("/docs").status_code == 404
    assert gateway.http.options("/v1/tasks/x").headers["allow"] == "DELETE, GET"
    assert gateway.http.options("/v1/tasks").headers["allow"] == "POST"
    assert gateway.http.put("/v1/tasks/x", json={}).status_code == 405
    assert gateway.http.get("/health/live").json() == {"status": "ok"}


# ---------------------------------------------------------------- peers that leave, and ends


def test_a_caller_that_leaves_while_it_waits_leaves_nothing_behind(gateway):
    path = gateway.path("left")
    task = gateway.submitted("held", path)
    url = urlsplit(gateway.local.http)

    def waits():
        return "farm_gateway_waits 1.0" in gateway.http.get("/metrics").text

    with closing(socket.create_connection((url.hostname, url.port))) as peer:
        request = f"GET /v1/tasks/{task}?wait=60 HTTP/1.1\r\nhost: localhost\r\n\r\n"
        peer.sendall(request.encode())
        gateway.until(waits)
    gateway.until(lambda: not waits())
    gateway.release(path)
    assert gateway.ended(task)["state"] == "succeeded"


@pytest.mark.parametrize("asked", ["jobs/{job}/events/", "tasks/{task}?%77ait=60"])
def test_a_caller_that_leaves_is_seen_to_have_left_however_it_asked(gateway, asked):
    path = gateway.path("gone")
    job = gateway.http.post("/v1/jobs", json={"function": "held", "items": [path]}).json()["id"]
    [task] = [one["id"] for one in gateway.http.get(f"/v1/jobs/{job}/tasks").json()]
    url = urlsplit(gateway.local.http)

    def waits():
        return "farm_gateway_waits 1.0" in gateway.http.get("/metrics").text

    with closing(socket.create_connection((url.hostname, url.port))) as peer:
        request = f"GET /v1/{asked} HTTP/1.1\r\nhost: localhost\r\n\r\n"
        peer.sendall(request.format(task=task, job=job).encode())
        gateway.until(waits)
    gateway.until(lambda: not waits())
    gateway.release(path)
    assert gateway.ended(task)["state"] == "succeeded"
    Path(path).unlink()


def test_what_was_accepted_outlives_the_gateway_and_is_read_at_the_next():
    with rig() as gateway:
        path = gateway.path("held")
        waiting = [gateway.submitted("held", path) for _ in range(3)]
        done = gateway.submitted("sums.add", 1, options={"priority": 5})
        job = gateway.http.post("/v1/jobs", json={"function": "held", "items": [path] * 2}).json()
        gateway.kill_gateway()
        gateway.release(path)
        assert [gateway.ended(task)["result"] for task in waiting] == [path] * 3
        assert gateway.ended(done)["result"] == {"sum": 2}
        events_of = gateway.http.get(f"/v1/jobs/{job['id']}/events")
        assert events(events_of.iter_lines())[-1][0] == "end"
        gateway.local.coordinator.tell(signal.SIGKILL)
        gateway.until(lambda: gateway.local.coordinator.starts == 2)
        assert gateway.ended(gateway.until(lambda: gateway.submit("sums.add", 2).json()["id"]))
        assert gateway.ended(done)["result"] == {"sum": 2}


def test_a_gateway_that_is_stopped_answers_those_who_wait():
    with rig(slots=1) as gateway:
        path = gateway.path("stopped")
        task = gateway.submitted("held", path)
        answers = []
        waiter = threading.Thread(target=lambda: answers.append(gateway.read(task, 60)))
        waiter.start()
        gateway.until(lambda: "farm_gateway_waits 1.0" in gateway.http.get("/metrics").text)
        gateway.local._gateway.tell(signal.SIGTERM)
        waiter.join(30)
        assert answers[0].json()["state"] == "running"
        gateway.release(path)


def test_no_more_wait_than_may_and_all_who_leave_make_room():
    with rig(slots=1, max_waits=1, docs=True) as gateway:
        path = gateway.path("few")
        job = gateway.http.post("/v1/jobs", json={"function": "held", "items": [path]}).json()
        [task] = gateway.http.get(f"/v1/jobs/{job['id']}/tasks").json()
        events_of = f"/v1/jobs/{job['id']}/events"
        with gateway.http.stream("GET", events_of) as following:
            assert following.status_code == 200
            gateway.until(lambda: "farm_gateway_waits 1.0" in gateway.http.get("/metrics").text)
            assert gateway.http.get(events_of).status_code == 503
            assert gateway.read(task["id"], 60).json()["over"] is False  # at once
        gateway.until(lambda: "farm_gateway_waits 0.0" in gateway.http.get("/metrics").text)
        gateway.release(path)
        assert gateway.ended(task["id"])["result"] == path
        assert "html" in gateway.http.get("/docs").text
        large = "x" * 300_000  # it travels in a file
        assert gateway.ended(gateway.submitted("echo", large))["result"] == large
