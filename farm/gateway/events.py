"""The events of a job: its tasks as they end, in their order, and how far all of it is.

The id of an event is how many tasks of the job have been told. So whoever comes back with the last
id that arrived goes on there, also at another gateway, and nothing is remembered for it.
"""

from collections.abc import AsyncIterator

import msgspec

from farm.gateway.reading import FINAL, Reading
from farm.gateway.schemas import JobView

__all__ = ["job_events"]

LOOK_SECONDS = (0.1, 1.0)
"""How often a job is looked at: while it moves, and while it does not."""
LIVE_SECONDS = 15.0
"""After so long without an event a comment is sent, to see if anybody is there."""
TASKS_MAX = 500
"""Tasks that are told at a time."""


async def job_events(reading: Reading, view: JobView, told: int) -> AsyncIterator[bytes]:
    """What has ended from the task with index ``told`` on, until the job is over."""
    said, silent = "", 0.0
    pause, longest = LOOK_SECONDS
    while True:
        moved = False
        tasks = await reading.job_tasks(view.id, told, TASKS_MAX)
        for task in tasks:
            if task.state not in FINAL:
                break
            told, moved = told + 1, True
            yield _event("task", told, task)
        progress = msgspec.json.encode(view).decode()
        if view.counts and (counts := str((view.counts, view.state))) != said:
            said, moved = counts, True
            yield _text("progress", told, progress)
        if view.over and told >= view.total:
            yield _text("end", told, progress)
            return
        if not (moved and told < view.total and len(tasks) == TASKS_MAX):
            pause = LOOK_SECONDS[0] if moved else min(2 * pause, longest)
            silent = 0.0 if moved else silent + pause
            if silent >= LIVE_SECONDS:
                silent = 0.0
                yield b": here\n\n"
            if await reading.pause(pause):
                return
        view = await reading.job(view.id)


def _event(kind: str, told: int, data: msgspec.Struct) -> bytes:
    return _text(kind, told, msgspec.json.encode(data).decode())


def _text(kind: str, told: int, data: str) -> bytes:
    return f"event: {kind}\nid: {told}\ndata: {data}\n\n".encode()
