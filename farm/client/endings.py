"""The exceptions that a task's ending stands for, where the task itself raised none."""

from concurrent.futures import BrokenExecutor, CancelledError

from farm.errors import (
    Delivered,
    Expired,
    FarmError,
    MemoryLimitExceeded,
    TaskError,
    TimeLimitExceeded,
    UnknownTask,
    WorkerLost,
)
from farm.model import Ending, TaskId
from farm.payload import load_exception
from farm.protocol.parts import Failure, Result

__all__ = ["error_at", "error_of"]

_ADVICE = {
    Ending.LOST: "it is not run again: look for a crash in native code, os._exit, or too little"
    " memory; max_losses says how many crashes to forgive; `farm dead show` has its output",
    Ending.TIME_LIMIT: "raise time_limit, or make its work smaller; soft_time_limit would let it"
    " clean up",
    Ending.MEMORY_LIMIT: "raise memory_limit, or make its work smaller",
    Ending.EXPIRED: "no worker was free in time: raise expires, or add workers",
    Ending.UNKNOWN: "it was never submitted, its result was kept no longer, or the farm's state"
    " was restored from an older copy: submit it again",
    Ending.DELIVERED: "it went to the client that submitted the task; name the job, or set"
    " result_ttl, to keep results for other readers",
    Ending.BROKEN: "look into the initializer and the host's log; later tasks are tried again",
}
_HOST_LOST = "it is not run again: see what became of the host; max_losses says how many to forgive"
_WHY_GONE = {
    "dropped": "take results sooner, or raise the farm's max_result_bytes",
    "outlived": "take results sooner, or raise the farm's unclaimed_ttl",
}
_EVENTS: dict[Ending, tuple[type[FarmError], str]] = {
    Ending.LOST: (WorkerLost, "the worker process died while running it"),
    Ending.TIME_LIMIT: (TimeLimitExceeded, "it ran longer than its time limit and was ended"),
    Ending.MEMORY_LIMIT: (MemoryLimitExceeded, "it used more memory than its limit and was ended"),
    Ending.EXPIRED: (Expired, "it had not started when it expired"),
    Ending.UNKNOWN: (UnknownTask, "the farm knows no such task"),
    Ending.DELIVERED: (Delivered, "its result was delivered and is no longer kept"),
    Ending.BROKEN: (WorkerLost, "no worker could be started for it"),
}


def error_of(ending: Ending, failure: Failure | None, task: str) -> BaseException:
    """The exception for a task that ended so: what happened, to which task, what to do."""
    failure = failure or Failure()
    if ending is Ending.CANCELLED:
        return CancelledError(f"task {task}: {failure.message or 'it was cancelled'}")
    if ending is Ending.EXCEPTION:
        said = f"{failure.type_name or 'an exception'}: {failure.message}".removesuffix(": ")
        return TaskError(f"task {task} raised {said}", failure.type_name)
    cls, event = _EVENTS.get(ending, (FarmError, f"it ended as {ending!r}"))
    event = failure.message or event
    if failure.losses > 1:
        event += f", {failure.losses} times"
    known = _HOST_LOST if failure.cause == "host_lost" else _ADVICE.get(ending)
    advice = _WHY_GONE.get(failure.cause) or known
    return cls(f"task {task}: {event}{_essentials(failure)}" + (f"; {advice}" if advice else ""))


def error_at(entry: Result, counter: int) -> BaseException:
    """What a task whose result is not a value raises."""
    if entry.ending is Ending.EXCEPTION and entry.payloads:
        return load_exception(entry.payloads[counter - entry.first])
    return error_of(entry.ending, entry.failure, str(TaskId(entry.session, counter)))


def _essentials(failure: Failure) -> str:
    """Which attempt it was, where, for how long, with how much memory."""
    if not failure.attempt:
        return ""
    facts = [f"attempt {failure.attempt}"]
    if failure.host and failure.host not in failure.message:
        facts.append(f"on host {failure.host}")
    facts.append(f"after {failure.seconds:.3g} s")
    if failure.peak_bytes:
        facts.append(f"with {failure.peak_bytes / (1 << 20):,.0f} MiB of memory")
    return f" ({', '.join(facts)})"


assert issubclass(WorkerLost, BrokenExecutor)  # noqa: S101 -- what the standard library raises
