"""Aggregates over HTTP, and read from elsewhere through it."""

import contextlib
import socket
import threading
import time
import urllib.request
from dataclasses import replace

import pytest

import farm_scheduler
from farm_scheduler import Aggregate, Count, Distinct, Files, Sum
from farm_scheduler.aggregates import (
    Catalog,
    Here,
    UnknownAggregate,
    VersionGone,
    View,
    build,
    remote,
)
from farm_scheduler.aggregates.remote import RemoteCatalog
from tests.integration.gateway_rig import rig
from tests.unit.aggregates_helpers import write_lines

pytestmark = pytest.mark.usefixtures("forked_services")


@pytest.fixture(scope="module")
def gateway(tmp_path_factory):
    """A farm with a gateway, and an aggregate of which two versions are published."""
    folder = tmp_path_factory.mktemp("aggregates")
    write(folder, 10)
    aggregate = Aggregate(
        "edits",
        Files(str(folder / "edits/*.json"), time="time"),
        by=["channel", "robot"],
        every="1h",
        rollup=["1d"],
        measures={"n": Count(), "added": Sum("added"), "users": Distinct("user")},
        schedule="0 * * * *",
    )
    catalog = Catalog(folder / "aggregates.db")
    with catalog.writing():
        build(aggregate, catalog, Here())
        build(replace(aggregate, name="other", schedule=""), catalog, Here())
        write(folder, 20)
        build(aggregate, catalog, Here())
    with rig(schedules=str(folder / "schedules.db")) as made:
        made.catalog = catalog
        yield made
    catalog.close()


def write(folder, count):
    rows = [
        {
            "time": "2015-09-12T03:30:00Z",
            "channel": "#en",
            "robot": 0,
            "added": at,
            "user": f"user{at}",
        }
        for at in range(count)
    ]
    write_lines(folder / "edits/03.json", rows)


HOUR = {"channel": "#en", "robot": "0", "hour": "2015-09-12T03"}


def get(gateway, path="", headers=None, **params):
    return gateway.http.get(f"/v1/aggregates{path}", params=params or None, headers=headers)


def test_a_group_is_read_with_its_version_as_etag(gateway):
    found = get(gateway, "/edits", **HOUR)
    assert found.status_code == 200, found.text
    assert found.json()["value"] == {"n": 20, "added": 190, "users": 20}
    assert found.json()["version"] == 2
    assert found.headers["etag"] == '"2"'
    assert 0 <= int(found.headers["cache-control"].split("max-age=")[1].split(",")[0]) <= 3600
    again = get(gateway, "/edits", headers={"if-none-match": found.headers["etag"]}, **HOUR)
    assert (again.status_code, again.content) == (304, b"")


def test_an_older_version_is_read_by_its_number(gateway):
    found = get(gateway, "/edits", version="1", **HOUR)
    assert found.json()["value"]["n"] == 10
    gone = get(gateway, "/edits", version="9", **HOUR)
    assert gone.status_code == 410
    assert "there are: 2, 1" in gone.json()["detail"]


def test_what_is_published_is_listed_and_described(gateway):
    listed = {one["name"]: one for one in get(gateway).json()}
    assert set(listed) == {"edits", "other"}
    assert listed["edits"]["version"] == 2
    described = get(gateway, "/edits").json()
    assert described["by"] == ["channel", "robot"]
    assert [one["version"] for one in described["versions"]] == [2, 1]


def test_what_is_not_there_is_named(gateway):
    assert "did you mean 'edits'" in get(gateway, "/edts").json()["detail"]
    assert get(gateway, "/edts").status_code == 404
    wrong = get(gateway, "/edits", chanel="#en", hour="2015-09-12T03")
    assert wrong.status_code == 422
    assert "not kept by 'chanel'" in wrong.json()["detail"]
    nothing = get(gateway, "/edits", **{**HOUR, "channel": "#xx"})
    assert (nothing.status_code, nothing.json()["value"]) == (200, None)


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"self": "x"}, "not kept by 'self'"),
        ({"hour": "0001-01-01T00:00:00+05:00"}, "is in no calendar"),
        ({"hour": "9999-12-31T23:00:00-05:00"}, "is in no calendar"),
    ],
)
def test_an_odd_question_is_refused_in_words(gateway, asked, said):
    for _ in range(2):  # the first loads the version
        answer = get(gateway, "/edits", **{**HOUR, **asked})
        assert answer.status_code == 422, answer.text
        assert said in answer.json()["detail"]


def test_another_host_reads_it_without_its_definition(gateway, tmp_path, monkeypatch):
    monkeypatch.setenv("FARM_CATALOG", str(tmp_path / "none.db"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    view = farm_scheduler.open("edits", gateway=gateway.local.http)
    read = {"channel": "#en", "robot": 0, "hour": "2015-09-12T03"}
    assert view.read(**read).value == {"n": 20, "added": 190, "users": 20}
    assert view.read(version=1, **read).value["n"] == 10
    assert view.table("day").column("n").to_pylist() == [20]
    with pytest.raises(VersionGone):
        view.read(version=9, **read)
    with pytest.raises(UnknownAggregate, match="edits"):
        farm_scheduler.open("edts", gateway=gateway.local.http)


def _away(path, seconds):
    raise ConnectionError(f"{path}: it does not answer")


def test_what_was_fetched_is_read_while_the_gateway_is_away(gateway, tmp_path, monkeypatch):
    catalog = RemoteCatalog(gateway.local.http, tmp_path / "cache")
    view = View("edits", catalog)
    read = {"channel": "#en", "robot": 0, "hour": "2015-09-12T03"}
    before = view.read(**read)
    catalog._url = "http://127.0.0.1:9"
    catalog._heads = {name: (0.0, *rest) for name, (_, *rest) in catalog._heads.items()}
    assert view.read(**read).value == before.value
    later = RemoteCatalog(gateway.local.http, tmp_path / "cache")  # as another process has it
    monkeypatch.setattr(later, "_get", _away)
    again = View("edits", later).read(**read)
    assert (again.value, again.version) == (before.value, before.version)
    assert again.staleness > before.staleness
    assert View("edits", later).read(as_of=time.time(), **read).value == before.value
    with pytest.raises(ConnectionError, match="does not answer"):
        RemoteCatalog("http://127.0.0.1:9", tmp_path / "empty").served("edits")


def test_a_gateway_that_says_nothing_is_not_waited_for_if_there_is_something_to_read(
    gateway, tmp_path, monkeypatch
):
    monkeypatch.setattr(remote, "KNOWN_SECONDS", 0.1)
    read = {"channel": "#en", "robot": 0, "hour": "2015-09-12T03"}
    catalog = RemoteCatalog(gateway.local.http, tmp_path / "cache")
    before = View("edits", catalog).read(**read)
    with socket.create_server(("127.0.0.1", 0)) as silent:  # it lets everybody in
        asked = []
        ask = catalog._get
        monkeypatch.setattr(catalog, "_get", lambda *more: (asked.append(more), ask(*more))[1])
        catalog._url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        catalog._heads = {name: (0.0, *rest) for name, (_, *rest) in catalog._heads.items()}
        for _ in range(3):
            assert View("edits", catalog).read(**read).value == before.value
            assert View("edits", catalog).read(as_of=time.time(), **read).value == before.value
        assert len(asked) == 1  # nor asked again so soon
        with pytest.raises(ConnectionError, match="does not answer"):
            catalog._get("/v1/aggregates", 0.1)


@contextlib.contextmanager
def behind_a_firewall():
    """An address that takes no connection and refuses none."""
    with contextlib.ExitStack() as held:
        server = held.enter_context(socket.create_server(("127.0.0.1", 0), backlog=0))
        for _ in range(4):  # more than wait to be accepted
            waiting = held.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(server.getsockname())
        yield f"http://127.0.0.1:{server.getsockname()[1]}"


def test_a_gateway_whose_packets_are_dropped_is_left_alone_for_a_while(
    gateway, tmp_path, monkeypatch
):
    read = {"channel": "#en", "robot": 0, "hour": "2015-09-12T03"}
    before = View("edits", RemoteCatalog(gateway.local.http, tmp_path)).read(**read)
    monkeypatch.setattr(remote, "KNOWN_SECONDS", 0.1)
    waited = []
    urlopen = urllib.request.urlopen

    def noting(request, timeout):
        waited.append(timeout)
        return urlopen(request, timeout=timeout)

    monkeypatch.setattr(urllib.request, "urlopen", noting)
    later = RemoteCatalog(gateway.local.http, tmp_path)  # in another process
    with behind_a_firewall() as later._url:
        view = View("edits", later)
        after = view.read(**read)
        with pytest.raises(ConnectionError, match="does not answer"):
            view.read(version=1, **read)  # of which nothing is here
    assert (after.value, after.version) == (before.value, before.version)
    assert after.staleness > before.staleness
    assert waited == [0.1, 0.1]


def test_a_gateway_that_ends_in_the_middle_of_an_answer_is_away(gateway, tmp_path):
    read = {"channel": "#en", "robot": 0, "hour": "2015-09-12T03"}
    before = View("edits", RemoteCatalog(gateway.local.http, tmp_path)).read(**read)
    later = RemoteCatalog(gateway.local.http, tmp_path)
    with socket.create_server(("127.0.0.1", 0)) as server:

        def half():
            connection, _ = server.accept()
            with connection:
                connection.recv(1 << 16)
                connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{")

        half_answers = threading.Thread(target=half)
        half_answers.start()
        later._url = f"http://127.0.0.1:{server.getsockname()[1]}"
        assert View("edits", later).read(**read).value == before.value
        half_answers.join()


def test_a_version_of_one_farm_is_not_that_of_another(gateway, tmp_path, monkeypatch):
    read = {"channel": "#en", "robot": 0, "hour": "2015-09-12T03"}
    cache = tmp_path / "cache"
    View("edits", RemoteCatalog(gateway.local.http, cache)).read(version=1, **read)

    other = RemoteCatalog("http://127.0.0.1:9", cache)
    with pytest.raises(ConnectionError, match="does not answer"):
        other.manifest("edits", 1)

    anew = RemoteCatalog(gateway.local.http, cache)  # of which the first version is another one
    told = anew._asked("edits")
    for one in told["versions"]:
        one["published"] = "2001-01-01T00:00:00.000+00:00"
    monkeypatch.setattr(anew, "_asked", lambda name, seconds: told)
    fetched = []
    ask = anew._get
    monkeypatch.setattr(
        anew, "_get", lambda path, *more: (fetched.append(path), ask(path, *more))[1]
    )
    anew.manifest("edits", 1)
    assert any("manifest?version=1" in path for path in fetched)


def test_nobody_to_ask_is_said(monkeypatch, tmp_path):
    monkeypatch.setenv("FARM_CATALOG", str(tmp_path / "none.db"))
    monkeypatch.delenv("FARM_GATEWAY", raising=False)
    with pytest.raises(UnknownAggregate, match="FARM_GATEWAY"):
        farm_scheduler.open("edits")


def test_how_fresh_they_are_is_scraped(gateway):
    text = gateway.http.get("/metrics").text
    assert 'farm_aggregate_version{aggregate="edits"} 2.0' in text
    assert 'farm_aggregate_fresh{aggregate="edits"} 1.0' in text
    assert 'farm_aggregate_staleness_seconds{aggregate="other"}' in text


def test_an_answer_that_is_remembered_is_the_same_until_there_is_a_newer_version(gateway, tmp_path):
    write(tmp_path, 1)
    source = Files(str(tmp_path / "edits/*.json"), time="time")
    changing = Aggregate("changing", source, by=["channel"], measures={"n": Count()})
    with gateway.catalog.writing():
        build(changing, gateway.catalog, Here())
    where = {"channel": "#en", "hour": "2015-09-12T03"}

    def asked(**headers):
        return get(gateway, "/changing", headers=headers, **where)

    answers = [asked() for _ in range(4)]  # the first loads it, the next are remembered
    same = [{**one.json(), "staleness": 0} for one in answers]
    assert same == [same[0]] * 4
    assert same[0]["value"] == {"n": 1}
    ages = [one.json()["staleness"] for one in answers]
    assert ages == sorted(set(ages)), "an answer grows old"
    heads = [{k: v for k, v in one.headers.items() if k != "date"} for one in answers]
    assert [{**one, "content-length": ""} for one in heads] == [
        {**heads[0], "content-length": ""}
    ] * 4
    known = asked(**{"if-none-match": answers[0].headers["etag"]})
    assert (known.status_code, known.content) == (304, b"")
    write(tmp_path, 2)
    with gateway.catalog.writing():
        build(changing, gateway.catalog, Here())
    assert asked().json()["value"] == {"n": 2}
    newer = asked(**{"if-none-match": answers[0].headers["etag"]})
    assert (newer.status_code, newer.json()["value"], newer.headers["etag"]) == (
        200,
        {"n": 2},
        '"2"',
    )
