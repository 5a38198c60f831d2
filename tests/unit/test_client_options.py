"""Options as they are checked and made what travels."""

import math
import os
from concurrent.futures import TimeoutError as FuturesTimeoutError
from datetime import UTC, datetime, timedelta, timezone

import pytest

import farm
from farm.client.endings import error_of
from farm.client.future import Future, Origin
from farm.client.job import Job, OwnTasks
from farm.client.options import KeyOption, Settings, merge
from farm.errors import ConfigError
from farm.model import Ending, is_final
from farm.protocol.encoding import to_msgpack
from farm.protocol.messages import Failure, Template

ODD = 60 * os.fsdecode(b"\xff")  # each is six characters in a message


class Own(Exception):
    """Of this module."""


def template(**options):
    return merge(Settings(), options).template


def test_exceptions_travel_by_name():
    found = template(retry_on=(Own, OSError, "x.y.Z"), never_on="builtins.ValueError")
    assert found.retry_on == (f"{__name__}.Own", "OSError", "x.y.Z")
    assert found.never_on == ("ValueError",)
    assert template(retry_on=Own).retry_on == (f"{__name__}.Own",)
    assert template(retry_on="IOError").retry_on == ("OSError",)
    assert template(retry_on=FuturesTimeoutError).retry_on == ("TimeoutError",)


@pytest.mark.parametrize("wrong", ["Own", "not a name.x", "print", int, 3, [None]])
def test_what_is_no_exception_is_refused(wrong):
    with pytest.raises(ConfigError, match="never_on has"):
        template(never_on=wrong)


def test_memory_is_bytes_or_text():
    assert template(memory_limit=5).memory_limit == 5
    assert template(memory_limit="512MB").memory_limit == 512_000_000
    assert template(memory_limit="1.5 GiB").memory_limit == 3 << 29
    none = merge(Settings(Template(memory_limit=5)), {"memory_limit": None}).template
    assert none == Template(explicit=("memory_limit",))


def test_what_is_said_is_told_from_what_is_not():
    said = merge(Settings(), {"retries": 0, "priority": 2, "time_limit": None})
    assert said.template.explicit == ("retries", "time_limit")
    assert merge(said, {"retries": 3}).template.explicit == ("time_limit",)
    assert merge(Settings(), {"block": False, "durable": True}).template is None


def test_a_queue_is_named_and_the_default_one_costs_nothing():
    assert template(queue="mail", concurrency_key="a").queue == "mail"
    assert template(queue="default") is None
    assert template(queue=None, concurrency_key=None) is None
    assert merge(Settings(Template(queue="mail")), {"queue": None}).template is None
    with pytest.raises(ConfigError, match="queue is ''"):
        template(queue="")
    with pytest.raises(ConfigError, match="201 characters"):
        template(concurrency_key="x" * 201)


@pytest.mark.parametrize("wrong", [0, -1, "much", "5 parsecs", True, 1.5])
def test_memory_that_makes_no_sense_is_refused(wrong):
    with pytest.raises(ConfigError, match="memory_limit is"):
        template(memory_limit=wrong)


def test_the_soft_limit_comes_before_the_hard_one():
    found = template(soft_time_limit="1s", time_limit=2)
    assert (found.soft_time_limit, found.time_limit) == (1.0, 2.0)
    with pytest.raises(ConfigError, match="the soft one must come first"):
        template(soft_time_limit=2, time_limit=2)
    with pytest.raises(ConfigError, match="the soft one must come first"):
        merge(Settings(found), {"time_limit": 0.5})


def test_an_unknown_option_is_named_with_what_it_may_have_been():
    with pytest.raises(TypeError, match="did you mean 'memory_limit'"):
        template(memory_limits=1)


@pytest.mark.parametrize(
    ("retry_on", "never_on", "final"),
    [
        ((), (), False),
        (("A",), (), False),
        (("Base",), (), False),
        (("B",), (), True),
        ((), ("B",), False),
        ((), ("Base",), True),
        (("A",), ("Base",), True),
    ],
)
def test_never_on_wins_and_retry_on_excludes_the_rest(retry_on, never_on, final):
    assert is_final(("A", "Base"), retry_on, never_on) is final


def test_an_error_says_where_when_and_what_to_do():
    evidence = Failure("memory_limit", "it used 9 MiB", "north", attempt=2, seconds=1.5)
    evidence.peak_bytes = 9 << 20
    error = error_of(Ending.MEMORY_LIMIT, evidence, "t")
    assert isinstance(error, farm.MemoryLimitExceeded)
    assert str(error) == (
        "task t: it used 9 MiB (attempt 2, on host north, after 1.5 s, with 9 MiB of memory); "
        "raise memory_limit, or make its work smaller"
    )


def test_a_lost_host_is_told_apart_from_a_lost_worker():
    error = error_of(Ending.LOST, Failure("host_lost", "host n was lost: silent"), "t")
    assert "see what became of the host" in str(error)
    assert issubclass(farm.SoftTimeLimitExceeded, farm.TimeLimitExceeded)


def test_a_task_has_one_key_and_the_last_said_counts():
    once = merge(Settings(), {"idempotency_key": "order 7"})
    assert once.key == KeyOption("idempotency_key", "order 7")
    assert once.template is None
    assert merge(once, {"retries": 2}).key == once.key
    assert merge(once, {"unique": "u"}).key == KeyOption("unique", "u")
    assert merge(once, {"unique": None}).key == once.key
    assert merge(once, {"idempotency_key": None}).key is None
    with pytest.raises(ConfigError, match="choose one"):
        merge(Settings(), {"unique": "a", "idempotency_key": "b"})


@pytest.mark.parametrize("wrong", ["", " ", 7, "x" * 256])
def test_a_key_is_a_text(wrong):
    with pytest.raises(ConfigError, match="unique"):
        merge(Settings(), {"unique": wrong})
    made = merge(Settings(), {"unique": lambda _: wrong}).key
    with pytest.raises(ConfigError, match="what unique makes of the arguments"):
        made.text((1,), {})


@pytest.mark.parametrize(
    "option", [{"unique": ODD}, {"idempotency_key": lambda: ODD}, {"concurrency_key": ODD}]
)
def test_a_text_is_as_long_as_it_travels(option):
    with pytest.raises(ConfigError, match="has 360 characters"):
        merge(Settings(), option).key.text((), {})


def test_a_key_may_be_made_of_the_arguments():
    made = merge(Settings(), {"idempotency_key": lambda item, n=1: f"{item}/{n}"}).key
    assert made.text((3,), {"n": 4}) == "3/4"
    assert not made.unique


@pytest.mark.parametrize("first", ["unique", "durable"])
def test_a_key_needs_a_durable_task(first):
    options = {"unique": "u", "durable": False}
    with pytest.raises(ConfigError, match="outlives a restart"):
        merge(Settings(), options)
    said = merge(Settings(), {first: options.pop(first)})
    with pytest.raises(ConfigError, match="outlives a restart"):
        merge(said, options)


def test_a_moment_has_a_time_zone():
    when = datetime(2030, 1, 31, 9, tzinfo=timezone(timedelta(hours=1)))
    assert template(eta=when).eta == 1_896_076_800.0
    assert template(eta=datetime(1960, 1, 1, tzinfo=UTC)).eta == 0.0
    for wrong, says in (
        (datetime(2030, 1, 31, 9), "no time zone"),  # noqa: DTZ001 - that is the point
        ("2030-01-31", "must be a datetime"),
        (1.9e9, "must be a datetime"),
    ):
        with pytest.raises(ConfigError, match=says):
            template(eta=wrong)


def test_of_delay_and_eta_the_last_said_counts():
    when = datetime(2030, 1, 31, 9, tzinfo=UTC)
    with pytest.raises(ConfigError, match="choose one"):
        template(eta=when, delay=5)
    delayed = merge(Settings(), {"delay": 5})
    assert merge(delayed, {"eta": when}).template == Template(eta=when.timestamp())
    assert merge(merge(delayed, {"eta": when}), {"delay": 7}).template == Template(delay=7.0)
    assert merge(delayed, {"eta": None, "retries": 1}).template.delay == 5.0


@pytest.mark.parametrize(
    ("option", "wrong"),
    [("priority", 1 << 31), ("priority", -(1 << 70)), ("retries", 10**30), ("max_losses", 1 << 31)],
)
def test_a_number_that_cannot_travel_is_refused_here(option, wrong):
    with pytest.raises(ConfigError, match=f"{option} is .*; it may be 2,147,483,647 at most"):
        template(**{option: wrong})


@pytest.mark.parametrize("option", ["delay", "expires", "result_ttl", "backoff", "time_limit"])
def test_a_time_that_cannot_travel_is_refused_here(option):
    assert getattr(template(**{option: 1e12}), option) == 1e12
    for wrong in (1.1e12, 1e300, "99999999999d", math.inf, math.nan):
        with pytest.raises(ConfigError, match=rf"{option} is .*, and of 1e\+12 s at most"):
            template(**{option: wrong})


def test_a_moment_that_cannot_travel_is_refused_here():
    last = datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC)
    assert template(eta=last).eta == last.timestamp()
    with pytest.raises(ConfigError, match=r"eta is .* before the year 10000 in UTC"):
        template(eta=last.replace(tzinfo=timezone(-timedelta(hours=5))))


def test_more_memory_than_there_can_be_is_as_much_as_can_be_said():
    assert template(memory_limit="9999999999999999 TB").memory_limit == (1 << 62) - 1


class Text(str):
    """As NumPy has them: a text, and no ``str`` to who writes messages."""

    __slots__ = ()


class Number(int):
    pass


@pytest.mark.parametrize(
    "options",
    [
        {"name": Text("a")},
        {"queue": Text("a")},
        {"concurrency_key": Text("a")},
        {"unique": Text("a")},
        {"idempotency_key": lambda: Text("a")},
        {"labels": [Text("a")]},
        {"resources": {Text("a"): Number(1)}},
        {"priority": Number(1)},
        {"memory_limit": Number(1)},
    ],
)
def test_texts_and_numbers_of_other_types_travel(options):
    settings = merge(Settings(), options)
    key = settings.key and settings.key.text((), {})
    to_msgpack((settings.template, settings.name, key))


def test_a_task_has_no_time_to_clean_up_that_cannot_travel():
    def never(*_):
        raise AssertionError("nobody is asked to stop")

    future = Future(Origin(b"s" * 16, never, None, None), 1)
    for one in (future, Job("j", "", OwnTasks([]), never)):
        with pytest.raises(ConfigError, match=r"grace is .*, and of 1e\+12 s at most"):
            one.stop(grace=timedelta.max)
