"""Who may ask over HTTP: bearer tokens, whose tasks are, admins, quotas, TLS."""

import json
import os
import signal
import ssl
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import httpx
import pytest

from farm.identity import Role
from farm.keys import KeyStore
from farm_scheduler.aggregates.remote import RemoteCatalog
from tests.integration.gateway_rig import rig
from tests.processes import free_ports

pytestmark = pytest.mark.usefixtures("forked_services")

TASK = {"function": "sums.add", "args": [1, 2]}


class Callers:
    """The keys of a gateway, and its callers by name."""

    def __init__(self, folder):
        self.store = KeyStore(folder)
        self.store.create("tcp://localhost:7070")
        self.tokens = {}
        self.farm = None

    def new(self, name, role=Role.CLIENT, scope=""):
        self.tokens[name] = self.store.new(name, role, scope=scope, http=True)

    def ask(self, method, path, name="", **more):
        headers = {"authorization": f"Bearer {self.tokens[name]}"} if name else {}
        headers |= more.pop("headers", {})
        return self.farm.http.request(method, path, headers=headers, **more)

    def submit(self, name, function="sums.add", *args, **more):
        body = {"function": function, "args": args or (1, 2)}
        found = self.ask("POST", "/v1/tasks", name, json=body, **more)
        assert found.status_code == 202, found.text
        return found.json()["id"]


@pytest.fixture(scope="module")
def callers(tmp_path_factory):
    keys = tmp_path_factory.mktemp("keys") / "keys"
    made = Callers(keys)
    for name in ("ann", "bob"):
        made.new(name)
    made.new("reader", scope="all")
    made.new("root", Role.ADMIN)
    with rig(keys=str(keys), max_pending=3, core={"queues": {"mail": {}}}) as farm:
        made.farm = farm
        yield made


def problem(answer, status):
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    return answer.json()["detail"]


@pytest.mark.parametrize("path", ["/v1/functions", "/v1/status", "/metrics", "/openapi.json"])
def test_without_a_token_nothing_is_told(callers, path):
    answer = callers.ask("GET", path)
    assert "farm keys new NAME --role client --http" in problem(answer, 401)
    assert answer.headers["www-authenticate"] == 'Bearer realm="farm"'


@pytest.mark.parametrize(
    ("said", "detail"),
    [
        ("Basic YW5uOnNlY3JldA==", "has to be  Bearer TOKEN"),
        ("Bearer farmhttp-wrong", "is not good here"),
        ("Bearer", "has to be  Bearer TOKEN"),
    ],
)
def test_what_is_no_good_token_is_refused_before_the_body_is_read(callers, said, detail):
    answer = callers.ask("POST", "/v1/tasks", json=TASK, headers={"authorization": said})
    assert detail in problem(answer, 401)


def test_who_opens_an_aggregate_is_told_where_its_token_goes(callers, tmp_path):
    catalog = RemoteCatalog(callers.farm.local.http, tmp_path, token="")

    with pytest.raises(ConnectionError, match="open\\(\\) takes it from FARM_HTTP_TOKEN"):
        catalog.served("edits")


def test_health_is_open(callers):
    for path in ("/health/live", "/health/ready"):
        assert callers.ask("GET", path).status_code == 200


def test_a_task_belongs_to_whom_the_token_does(callers):
    task = callers.submit("ann")
    path = f"/v1/tasks/{task}"
    assert callers.ask("GET", path, "ann", params={"wait": 20}).json()["result"] == {"sum": 3}
    never = callers.ask("GET", f"/v1/tasks/{'0' * 32}-1", "bob")
    theirs = callers.ask("GET", path, "bob")
    assert problem(theirs, 404) == problem(never, 404).replace("0" * 32 + "-1", task)
    assert "the farm has no task" in problem(callers.ask("DELETE", path, "bob"), 404)
    for name in ("reader", "root"):
        assert callers.ask("GET", path, name).json()["state"] == "succeeded"


def test_a_stranger_neither_cancels_nor_follows_a_job(callers):
    body = {"function": "sums.add", "arguments": [{"args": [1, 1]}], "name": "nightly"}
    job = callers.ask("POST", "/v1/jobs", "ann", json=body).json()["id"]
    for method, more in (("GET", ""), ("GET", "/tasks"), ("GET", "/events"), ("DELETE", "")):
        answer = callers.ask(method, f"/v1/jobs/{job}{more}", "bob")
        assert "the farm has no job" in problem(answer, 404)
    assert callers.ask("GET", f"/v1/jobs/{job}", "ann", params={"wait": 20}).json()["over"]


def test_an_idempotency_key_is_its_callers(callers):
    key = {"headers": {"idempotency-key": "once"}}
    first = callers.submit("ann", "sums.add", 1, 2, **key)
    assert callers.submit("bob", "sums.add", 30, 4, **key) != first
    again = callers.submit("ann", "sums.add", 1, 2, **key)
    found = callers.ask("GET", f"/v1/tasks/{again}", "ann", params={"wait": 20}).json()
    assert found["result"] == {"sum": 3}
    other = {"function": "sums.add", "args": [5, 5]}
    said = callers.ask("POST", "/v1/tasks", "ann", json=other, **key)
    assert said.status_code == 409


@pytest.mark.parametrize("what", ["pause", "resume", "purge"])
def test_only_an_admin_orders_queues(callers, what):
    path = f"/v1/queues/mail/{what}"
    for name in ("ann", "reader"):
        said = problem(callers.ask("POST", path, name), 403)
        assert "needs the token of an admin" in said
        assert "farm keys new NAME --role admin --http" in said
    assert callers.ask("POST", path, "root").status_code == 200
    callers.ask("POST", "/v1/queues/mail/resume", "root")


@pytest.mark.parametrize(
    "path",
    ["/v1//queues/mail/pause", "/v1/queues/mail//purge", "/v1/schedules//nightly/run//"],
)
def test_only_an_admin_gives_orders_however_the_slashes_are_written(callers, path):
    said = problem(callers.ask("POST", path, "ann"), 403)
    assert "needs the token of an admin" in said


def test_a_quota_is_a_names_and_not_an_addresss(callers):
    gate = callers.farm.path("quota")
    tasks = [callers.submit("ann", "held", gate) for _ in range(3)]
    try:
        body = {"function": "sums.add", "args": [1, 2]}
        full = callers.ask("POST", "/v1/tasks", "ann", json=body)
        assert "3 tasks of this caller are pending" in problem(full, 429)
        callers.submit("bob")  # from the same address
    finally:
        callers.farm.release(gate)
    for task in tasks:
        callers.ask("GET", f"/v1/tasks/{task}", "ann", params={"wait": 20})


def test_a_revoked_token_ends_also_what_waits(callers):
    callers.new("eve")
    gate = callers.farm.path("revoked")
    task = callers.submit("eve", "held", gate)
    answers = []

    def read():
        answers.append(callers.ask("GET", f"/v1/tasks/{task}", "eve", params={"wait": 50}))

    waiting = threading.Thread(target=read)
    waiting.start()
    callers.store.revoke("eve")
    waiting.join(30)
    assert not waiting.is_alive()
    problem(answers[0], 401)
    assert "was revoked" in problem(callers.ask("GET", "/v1/status", "eve"), 401)
    callers.farm.release(gate)


def test_the_document_says_how_to_ask(callers):
    document = callers.ask("GET", "/openapi.json", "ann").json()
    assert document["paths"]["/health/live"]["get"]["security"] == []  # nobody needs one for it
    assert "security" not in document["paths"]["/v1/functions"]["get"]
    assert document["components"]["securitySchemes"]["bearer"]["scheme"] == "bearer"
    assert document["security"] == [{"bearer": []}]
    assert {"401", "403"} <= set(document["paths"]["/v1/queues/{name}/pause"]["post"]["responses"])


def test_the_first_token_closes_an_open_gateway_and_the_last_opens_none(tmp_path):
    made = Callers(tmp_path / "keys")
    with rig(keys=str(tmp_path / "keys")) as made.farm:
        assert made.ask("GET", "/v1/functions").status_code == 200
        made.new("ann")
        assert made.ask("GET", "/v1/functions").status_code == 401
        assert made.ask("GET", "/v1/functions", "ann").status_code == 200
        made.store.revoke("ann")
        assert made.ask("GET", "/v1/functions").status_code == 401


@pytest.fixture
def few(tmp_path):
    """A gateway with two sessions for its callers, of whom each may have two tasks pending."""
    made = Callers(tmp_path / "keys")
    for name in FEW:
        made.new(name)
    with rig(keys=str(tmp_path / "keys"), max_sessions=2, max_pending=2) as made.farm:
        yield made


FEW = [f"caller{n}" for n in range(5)]


def test_few_sessions_are_shared_by_callers_whose_tasks_run(few):
    gate = few.farm.path("gate")
    tasks = [(name, few.submit(name, "held", gate)) for name in FEW * 2]
    assert "farm_gateway_sessions 2.0" in few.ask("GET", "/metrics", FEW[0]).text
    for name in FEW:  # tasks of sessions that were closed count, too
        full = few.ask("POST", "/v1/tasks", name, json=TASK)
        assert "2 tasks of this caller are pending" in problem(full, 429)
    few.farm.release(gate)
    for name, task in tasks:
        found = few.ask("GET", f"/v1/tasks/{task}", name, params={"wait": 20}).json()
        assert (found["state"], found["result"]) == ("succeeded", gate)
    for name in FEW:  # and no more when they are over
        few.farm.until(lambda name=name: few.ask("POST", "/v1/tasks", name, json=TASK).is_success)


def test_sessions_of_callers_who_wait_are_not_closed(few):
    gate = few.farm.path("gate")
    answers = []

    def wait(name, task):
        answers.append(few.ask("GET", f"/v1/tasks/{task}", name, params={"wait": 50}).json())

    waiting = []
    for name in FEW[:2]:
        task = few.submit(name, "held", gate)
        waiting.append(threading.Thread(target=wait, args=(name, task)))
        waiting[-1].start()
    waits = "farm_gateway_waits 2.0"
    few.farm.until(lambda: waits in few.ask("GET", "/metrics", FEW[0]).text)
    busy = few.ask("POST", "/v1/tasks", FEW[2], json=TASK)
    assert "2 callers have sessions with the farm that are in use" in problem(busy, 503)
    assert busy.headers["retry-after"] == "1"
    few.farm.release(gate)
    for one in waiting:
        one.join(30)
    assert [answer["result"] for answer in answers] == [gate, gate]


def test_a_session_stays_until_it_is_known_what_became_of_a_withdrawn_task(few):
    coordinator, _ = few.farm.local.pids
    for name in FEW[:2]:
        few.submit(name)
    os.kill(coordinator, signal.SIGSTOP)
    try:
        with ThreadPoolExecutor(2) as threads:
            for answer in threads.map(partial(few.ask, "POST", "/v1/tasks", json=TASK), FEW[:2]):
                assert "did not accept it within" in problem(answer, 503)
        busy = few.ask("POST", "/v1/tasks", FEW[2], json=TASK)
        assert "2 callers have sessions with the farm that are in use" in problem(busy, 503)
    finally:
        os.kill(coordinator, signal.SIGCONT)
    few.farm.until(lambda: few.ask("POST", "/v1/tasks", FEW[2], json=TASK).is_success)


def test_metrics_may_be_open_and_health_closed(tmp_path):
    made = Callers(tmp_path / "keys")
    made.new("ann")
    with rig(
        keys=str(tmp_path / "keys"),
        metrics_open=True,
        health_open=False,
        http={"headers": {"authorization": f"Bearer {made.tokens['ann']}"}},
    ) as made.farm:
        url = made.farm.local.http
        assert "farm_up 1.0" in httpx.get(f"{url}/metrics").text
        assert httpx.get(f"{url}/health/live").status_code == 401
        assert made.ask("GET", "/health/live", "ann").status_code == 200


# ---------------------------------------------------------------- TLS


@pytest.fixture
def certificate(tmp_path):
    """A certificate of 127.0.0.1 that rests on itself, and its key."""
    names = tmp_path / "gateway.crt", tmp_path / "gateway.key"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1",
         "-nodes", "-days", "2", "-subj", "/CN=farm", "-addext", "subjectAltName=IP:127.0.0.1",
         "-out", names[0], "-keyout", names[1]],
        check=True, capture_output=True,
    )  # fmt: skip
    return names


def test_it_speaks_tls_with_a_certificate(tmp_path, certificate):
    cert, key = map(str, certificate)
    with rig(
        tls_cert=cert, tls_key=key, http={"verify": ssl.create_default_context(cafile=cert)}
    ) as farm:
        assert farm.local.http.startswith("https://")
        task = farm.submitted("sums.add", 1, 2)
        assert farm.ended(task)["result"] == {"sum": 3}
        with pytest.raises(httpx.TransportError):
            httpx.get(farm.local.http.replace("https", "http") + "/health/live")
        with pytest.raises(httpx.ConnectError, match="CERTIFICATE_VERIFY_FAILED"):
            httpx.get(farm.local.http + "/health/live")


def gateways(*settings):
    """Gateway processes that must not serve: the exit code of each and what it says."""
    told = [{"address": "tcp://127.0.0.1:1", **one} for one in settings]
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, json.dumps(told)],
        capture_output=True, text=True, timeout=60, check=True,
    )  # fmt: skip
    return json.loads(done.stdout)


PROGRAM = """
import json, os, sys, tempfile
from farm.gateway.service import serve
from farm.gateway.settings import GatewaySettings
ended = []
for settings in json.loads(sys.argv[1]):
    said = tempfile.TemporaryFile()
    if not (pid := os.fork()):  # a process for each, but one start
        os.dup2(said.fileno(), 2)
        sys.exit(serve(GatewaySettings(**settings)))
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    said.seek(0)
    ended.append((code, said.read().decode()))
json.dump(ended, sys.stdout)
"""


def test_other_machines_are_let_in_with_tokens_only(tmp_path):
    open_to_all = {"listen": f"0.0.0.0:{free_ports()}", "keys": str(tmp_path / "none")}
    (code, said), (never, _) = gateways(open_to_all, open_to_all | {"tokens": "never"})
    assert (code, never) == (11, 11)
    assert "farm keys init" in said
    assert "farm keys new NAME --role client --http" in said


def test_bad_files_of_tls_are_refused(tmp_path, certificate):
    cert, key = map(str, certificate)
    wrong = (
        {"tls_cert": cert},
        {"tls_cert": key, "tls_key": key},
        {"tls_cert": "/no", "tls_key": key},
    )
    listen = f"127.0.0.1:{free_ports()}"
    for code, said in gateways(*({"listen": listen, **one} for one in wrong)):
        assert (code, "--tls" in said or "in PEM" in said) == (3, True), said


def test_keys_that_others_can_read_are_not_used(tmp_path):
    made = Callers(tmp_path / "keys")
    made.new("ann")
    (tmp_path / "keys" / "peers.json").chmod(0o644)
    ((code, said),) = gateways(
        {"listen": f"127.0.0.1:{free_ports()}", "keys": str(tmp_path / "keys")}
    )
    assert code == 3
    assert "chmod 600" in said
