"""Logs: one event a line, in either format, and not more often than once a second where it says."""

import io
import json
import logging

import pytest

from farm.logs import Seldom, setup


@pytest.fixture
def stream():
    logger = logging.getLogger("farm")
    before = (list(logger.handlers), logger.level, logger.propagate)
    yield io.StringIO()
    logger.handlers[:], logger.propagate = before[0], before[2]
    logger.setLevel(before[1])


def test_a_line_of_text_has_time_level_logger_message_and_fields(stream):
    setup("text", "info", stream)
    logging.getLogger("farm.core").info("one\ntwo %d", 3, extra={"host": "h1", "epoch": 7})
    time, rest = stream.getvalue().split(" ", 1)
    assert time.endswith("Z")
    assert rest == "info farm.core one two 3 host=h1 epoch=7\n"


def test_a_line_of_json_is_one_object(stream):
    setup("json", "info", stream)
    logger = logging.getLogger("farm.core")
    logger.warning("one\ntwo", extra={"task": "t-1", "odd": object})
    error = ValueError("why")
    logger.error("failed", exc_info=error)
    first, second = map(json.loads, stream.getvalue().splitlines())
    assert (first["level"], first["logger"], first["message"]) == (
        "warning",
        "farm.core",
        "one\ntwo",
    )
    assert first["task"] == "t-1"
    assert "ValueError: why" in second["traceback"]


def test_only_the_level_and_above_is_written_and_once(stream):
    setup("text", "info", stream)
    setup("text", "warning", stream)
    logging.getLogger("farm.core").info("no")
    logging.getLogger("farm.core").warning("yes")
    assert stream.getvalue().count("\n") == 1


def test_what_happens_often_is_logged_once_a_second(stream, monkeypatch):
    setup("text", "info", stream)
    now = [100.0]
    monkeypatch.setattr("farm.logs.time.monotonic", lambda: now[0])
    seldom = Seldom(logging.getLogger("farm.core"))
    for _ in range(10):
        seldom.warning("noise", host="h1")
    now[0] += 1.0
    seldom.warning("noise")
    lines = [line.split(" ", 3)[3] for line in stream.getvalue().splitlines()]
    assert lines == ["noise host=h1", "noise (9 more like it since)"]
