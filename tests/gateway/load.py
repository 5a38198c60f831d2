"""More load than the farm can do, over real HTTP, with peers that send slowly or never read.

Many connections submit as fast as they are answered, to a queue with room for few. Who is refused
comes back when it was told to. Judged when all is over:

- every answer was 202 or 503, and every 503 said when to come back;
- every task that was answered 202 ran, once, and can be read; none that was refused ran;
- alone, whoever comes back after ``Retry-After`` finds room: it is never too soon;
- the peers that hold connections got nothing, and kept nobody out.
"""

import asyncio
import contextlib
import statistics
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import psutil

from tests.integration.gateway_rig import rig

__all__ = ["Load", "run"]

QUEUE = "load"
ROOM = 30
"""Tasks that the queue takes."""
TASK_SECONDS = 0.25
PATIENCE = 60.0
SLOW = b"POST /v1/tasks HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"


@dataclass
class Load:
    """What came of it; times in seconds."""

    statuses: Counter = field(default_factory=Counter)
    accepted: dict = field(default_factory=dict)
    refused: set = field(default_factory=set)
    unknown: set = field(default_factory=set)
    told: list = field(default_factory=list)
    too_soon: list = field(default_factory=list)
    waits: list = field(default_factory=list)
    memory: list = field(default_factory=list)
    problems: list = field(default_factory=list)
    seconds: float = 0.0

    def __str__(self):
        answers = ", ".join(f"{n} x {status}" for status, n in sorted(self.statuses.items()))
        grown = (self.memory[-1] - self.memory[0]) / (1 << 20)
        return (
            f"{answers}; {len(self.accepted) / self.seconds:.0f} accepted a second; told to come "
            f"back after {statistics.median(self.told or [0]):g} s (median of {len(self.told)}); "
            f"{len(self.waits) - len(self.too_soon)} of {len(self.waits)} who did so alone found "
            f"room (after {self.waits} s); the gateway's memory grew by {grown:.1f} MiB"
        )


def run(seconds, connections=200, holders=40, probes=5):
    """Put load on a gateway of a farm of its own for so long, and judge what came of it."""
    core = {"queues": {QUEUE: {"max_tasks": ROOM}}}
    with rig(core=core, max_pending=1_000_000, max_waits=holders) as gateway:
        return asyncio.run(_run(gateway, seconds, connections, holders, probes))


async def _run(gateway, seconds, connections, holders, probes):
    load, path = Load(), gateway.path("lines")
    process = psutil.Process(gateway.local._gateway.pid)
    limits = httpx.Limits(max_connections=connections + 1)
    async with httpx.AsyncClient(
        base_url=gateway.local.http, limits=limits, timeout=PATIENCE
    ) as http:
        peers = [asyncio.create_task(_hold(gateway.local.http, n)) for n in range(holders)]
        began = time.monotonic()
        until = began + seconds
        work = [_submit(http, load, path, f"c{n}", until) for n in range(connections)]
        weighing = asyncio.create_task(_weigh(process, load))
        await asyncio.gather(*work)
        load.seconds = time.monotonic() - began
        weighing.cancel()
        load.memory.append(process.memory_info().rss)
        await _drained(http)
        for probe in range(probes):
            await _probe(http, load, path, probe)
        await _read(http, load)
        for peer in peers:
            peer.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                load.problems += await peer
        if (await http.get("/health/ready")).status_code != 200:
            load.problems.append("the gateway is not ready any more")
    _judge(load, Path(path))
    return load


async def _submit(http, load, path, name, until):
    """One caller: submits, and comes back when it is told to."""
    number = 0
    while time.monotonic() < until:
        number += 1
        line = f"{name}-{number}"
        again = await _post(http, load, path, line)
        if again:
            await asyncio.sleep(min(again, max(0.0, until - time.monotonic())))


async def _post(http, load, path, line):
    """Submit one task; in how many seconds to come back, if it is refused."""
    body = {"function": "write", "args": [path, line, TASK_SECONDS]}
    try:
        answer = await http.post("/v1/tasks", params={"queue": QUEUE}, json=body)
    except httpx.TransportError as error:
        load.statuses[type(error).__name__] += 1
        load.unknown.add(line)
        return 1.0
    load.statuses[answer.status_code] += 1
    if answer.status_code == 202:
        load.accepted[line] = answer.json()["id"]
        return 0.0
    load.refused.add(line)
    said = answer.headers.get("retry-after", "")
    if not said.isdecimal() or answer.json().get("retry_after") != int(said):
        load.problems.append(f"{answer.status_code} without a time: {answer.text}")
        return 1.0
    load.told.append(int(said))
    return float(said)


async def _probe(http, load, path, number):
    """Fill the queue alone, and see if there is room when it is told to be."""
    burst = [_post(http, load, path, f"p{number}-{n}") for n in range(3 * ROOM)]
    again = max(await asyncio.gather(*burst))
    if not again:
        load.problems.append("the queue did not fill")
        return
    load.waits.append(again)
    await asyncio.sleep(again)
    if await _post(http, load, path, f"p{number}-back"):
        load.too_soon.append(again)
    await _drained(http)


async def _drained(http):
    """Wait until the queue has nothing left."""
    until = time.monotonic() + PATIENCE
    while time.monotonic() < until:
        rows = (await http.get("/v1/queues")).json()
        if not next(row["open_tasks"] for row in rows if row["name"] == QUEUE):
            return
        await asyncio.sleep(0.05)


async def _hold(url, number):
    """A peer that holds a connection: sends its head slowly, or its body, or never reads."""
    where = urlsplit(url)
    kind = number % 3
    try:
        reader, writer = await asyncio.open_connection(where.hostname, where.port, limit=1)
    except OSError as error:
        return [f"a connection was refused: {error}"]
    try:
        if kind == 0:
            writer.write(SLOW + b"slow: ")
        elif kind == 1:
            writer.write(SLOW + b"content-length: 1000000\r\n\r\n{")
        else:
            writer.write(b"GET /v1/functions HTTP/1.1\r\nhost: localhost\r\n\r\n" * 1000)
        with contextlib.suppress(OSError):
            while not writer.is_closing():
                await asyncio.sleep(0.5)
                if kind < 2 and not writer.is_closing():  # who never reads, does not write either
                    writer.write(b"x")
    finally:
        writer.close()
    del reader
    return []


async def _weigh(process, load):
    while True:
        load.memory.append(process.memory_info().rss)
        await asyncio.sleep(0.25)


async def _read(http, load):
    """Read what became of every task that was accepted."""
    slots = asyncio.Semaphore(20)

    async def one(line, task):
        async with slots:
            until = time.monotonic() + PATIENCE
            while time.monotonic() < until:
                view = (await http.get(f"/v1/tasks/{task}", params={"wait": 10})).json()
                if view.get("over"):
                    break
            if view.get("state") != "succeeded" or view.get("result") != line:
                load.problems.append(f"task {task} for {line}: {view}")

    await asyncio.gather(*(one(line, task) for line, task in load.accepted.items()))


def _judge(load, path):
    ran = Counter(path.read_text().split() if path.exists() else ())
    lost = set(load.accepted) - set(ran)
    ghosts = set(ran) & load.refused
    twice = [line for line, times in ran.items() if times > 1]
    for what, found in (("lost", lost), ("refused and run", ghosts), ("run twice", twice)):
        if found:
            load.problems.append(f"{len(found)} {what}, for instance {sorted(found)[:3]}")
    other = {status for status in load.statuses if status not in {202, 503}}
    if other:
        load.problems.append(f"answers of other kinds: {other}")
    if load.too_soon:
        load.problems.append(f"told to come back too soon: after {load.too_soon} s")
