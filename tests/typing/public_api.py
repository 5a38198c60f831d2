"""What a type checker knows of the public API; checked by mypy, never run.

An expected error is an ignore with its code: mypy reports ignores that ignore nothing.
"""

from collections.abc import Iterator
from concurrent.futures import Executor
from concurrent.futures import Future as StandardFuture
from datetime import timedelta
from typing import Any, assert_type

import farm
from farm import Client, Future, Job
from farm.client.logs import AttemptLogs


def area(width: int, height: float = 1.0, *, name: str = "") -> float:
    return width * height


def text(number: int) -> str:
    return str(number)


def submit(client: Client) -> None:
    assert_type(client.submit(area, 1, 2.0), Future[float])
    assert_type(client.submit(area, 1, name="a").result(), float)
    assert_type(client.submit(text, 1).result(timeout=1), str)
    assert_type(client.submit(text, 1).logs(), list[AttemptLogs])
    standard: StandardFuture[str] = client.submit(text, 1)
    assert_type(standard.result(), str)
    client.submit(area, "wide")  # type: ignore[arg-type]
    client.submit(area, 1, nam="a")  # type: ignore[call-arg]
    client.submit(area)  # type: ignore[call-arg]


async def awaited(client: Client) -> None:
    assert_type(await client.submit(text, 1), str)


def many(client: Client) -> None:
    assert_type(client.map(text, [1, 2]), Iterator[str])
    assert_type(client.map(area, [1], [2.0], timeout=1, chunksize=2, buffersize=3), Iterator[float])
    assert_type(client.map(text, [1], ordered=False), Iterator[str])
    job = client.submit_many(text, range(3))
    assert_type(job, Job[str])
    assert_type(len(job), int)
    assert_type(next(iter(job)).result(), str)
    assert_type(job.progress.done, int)
    assert_type(job.stop(grace=timedelta(seconds=1)), int)
    assert_type(client.submit(text, 1).stop("30s"), bool)
    client.submit(text, 1).stop(grace=None)  # type: ignore[arg-type]


def options(client: Client) -> None:
    view = client.options(priority=1, time_limit=timedelta(seconds=1), expires="30s", name=None)
    client.options(retry_on=(OSError, "a.B"), never_on=ValueError, memory_limit="1GB")
    client.options(soft_time_limit=1, memory_limit=1.5)  # type: ignore[arg-type]
    assert_type(view.submit(text, 1), Future[str])
    assert_type(view.options(retries=1).map(text, [1]), Iterator[str])
    assert_type(view.submit_many(text, [1]), Job[str])
    client.options(prioritty=1)  # type: ignore[call-arg]
    client.options(priority="high")  # type: ignore[arg-type]
    plain: farm.Options = {"priority": 1, "block": False}
    client.options(**plain)


def elsewhere(client: Client) -> None:
    assert_type(client.future("id"), Future[Any])
    assert_type(client.job("name"), Job[Any])


def as_executor(executor: Executor) -> StandardFuture[str]:
    return executor.submit(text, 1)


def clients() -> None:
    with farm.local(workers=2) as client:
        assert_type(client, Client)
        as_executor(client)
    assert_type(Client("tcp://farm-host:7070", connect_timeout="5s"), Client)
    assert_type(farm.current_task().id, str)
    assert_type(farm.__version__, str)
