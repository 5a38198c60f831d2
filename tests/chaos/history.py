"""What a chaos run did, read back from the files of its clients and workers, and judged.

Acknowledged: a client was told so. Executed: a worker began. Published: an outcome was on the wire
to some client, whatever became of that client.
"""

from collections import Counter, defaultdict
from dataclasses import dataclass, field
from itertools import pairwise
from typing import NamedTuple

__all__ = ["Execution", "History", "Outcome", "judge", "read"]

VOID = {"UNKNOWN", "DELIVERED"}
"""Endings that answer a question, and publish nothing."""
TOLD = 12
"""Of each kind of violation so many are told."""


class Execution(NamedTuple):
    kind: str
    token: tuple[int, int]
    nonce: str
    at: float


class Outcome(NamedTuple):
    """How a task ended, and by which execution."""

    ending: str
    task: str
    token: tuple[int, int]
    nonce: str


@dataclass
class History:
    """Everything by task id."""

    acknowledged: set[str] = field(default_factory=set)
    began: dict[str, list[Execution]] = field(default_factory=lambda: defaultdict(list))
    ended: set[str] = field(default_factory=set)  # nonces
    outcomes: dict[str, Counter[Outcome]] = field(default_factory=lambda: defaultdict(Counter))
    reads: dict[str, set[Outcome]] = field(default_factory=lambda: defaultdict(set))
    void: dict[str, set[str]] = field(default_factory=lambda: defaultdict(set))
    times: list[float] = field(default_factory=list)  # first publications
    voids_at: dict[str, float] = field(default_factory=dict)
    # By idempotency key: the tasks that were accepted with it, and how each ended, by which nonce.
    keyed: dict[str, set[str]] = field(default_factory=lambda: defaultdict(set))
    kept: dict[str, dict[str, tuple[str, str]]] = field(default_factory=lambda: defaultdict(dict))

    @property
    def published(self):
        return {task: found for task, found in self.outcomes.items() if found}

    @property
    def executions(self):
        """How many tasks ran how often."""
        return Counter(len(runs) for runs in self.began.values())

    @property
    def overtaken(self):
        """Executions that began after one with a later token had: what fencing is for."""
        count = 0
        for runs in self.began.values():
            latest = (0, 0)
            for run in sorted(runs, key=lambda run: run.at):
                count += run.token < latest
                latest = max(latest, run.token)
        return count

    @property
    def longest_stall(self):
        """The longest time in seconds without the publication of anything new."""
        times = sorted(self.times)
        return max((b - a for a, b in pairwise(times)), default=0.0)


def read(folder):
    """The history of the run that was in a folder."""
    history = History()
    for path in sorted((folder / "executions").iterdir()):
        for line in _lines(path):
            what, kind, task, epoch, attempt, nonce, at = line
            if what == "begin":
                token = int(epoch), int(attempt)
                history.began[task].append(Execution(kind, token, nonce, float(at)))
            else:
                history.ended.add(nonce)
    first = {}
    for path in sorted((folder / "clients").iterdir()):
        for line in _lines(path):
            _note(history, first, line)
    history.times = list(first.values())
    return history


def _lines(path):
    """The words of every whole line; the last one may have been cut off by a kill."""
    for line in path.read_text("utf-8").splitlines(keepends=True):
        if line.endswith("\n"):
            yield line.split()


def _note(history, first, line):
    match line:
        case ["ack", session, start, count, _]:
            numbers = range(int(start), int(start) + int(count))
            history.acknowledged.update(f"{session}-{number}" for number in numbers)
        case ["out", task, ending, *_, at] if ending in VOID:
            history.void[task].add(ending)
            history.voids_at[task] = min(float(at), history.voids_at.get(task, float(at)))
        case ["out", task, ending, who, epoch, attempt, nonce, at]:
            outcome = Outcome(ending, who, (int(epoch), int(attempt)), nonce)
            history.outcomes[task][outcome] += 1
            first[task] = min(float(at), first.get(task, float(at)))
        case ["keyed", key, task]:
            history.keyed[key].add(task)
        case ["kept", key, task, ending, nonce]:
            history.kept[key][task] = ending, nonce
        case ["read", task, ending, who, epoch, attempt, nonce]:
            history.reads[task].add(Outcome(ending, who, (int(epoch), int(attempt)), nonce))


def judge(history):
    """What the history shows to have been broken: sentences, by the promise."""
    found = defaultdict(list)
    for task in sorted(history.acknowledged):
        published = history.outcomes.get(task)
        if not published:
            void = sorted(history.void.get(task, ()))
            found["lost"].append(f"{task} was acknowledged and has no outcome {void}")
        elif "UNKNOWN" in history.void.get(task, ()):
            found["forgotten"].append(f"{task} has an outcome, and was unknown to a reader")
    for task, published in history.published.items():
        if len(published) > 1:
            found["published twice"].append(f"{task}: {sorted(published)}")
        for outcome in published:
            _judge_outcome(history, task, outcome, found)
        for outcome in history.reads.get(task, ()):
            if outcome.nonce != "-" and outcome not in published:
                found["read otherwise"].append(f"{task}: {outcome}, not {sorted(published)}")
    for task, runs in history.began.items():
        _judge_runs(task, runs, found)
    _judge_keys(history, found)
    return {what: sentences for what, sentences in found.items() if sentences}


def _judge_outcome(history, task, outcome, found):
    if outcome.nonce == "-":
        return
    runs = history.began.get(task, [])
    if outcome.task != task:
        found["another's"].append(f"{task} was published with the value of {outcome.task}")
    elif not any((run.token, run.nonce) == (outcome.token, outcome.nonce) for run in runs):
        found["never ran"].append(f"{task} was published, and {outcome.token} never began")
    elif outcome.nonce not in history.ended:
        found["never ran"].append(f"{task} was published, and {outcome.token} never ended")
    elif any(run.token > outcome.token for run in runs):
        later = max(run.token for run in runs)
        found["stale"].append(f"{task}: {outcome.token} was published, and {later} has run")


def _judge_keys(history, found):
    for key, accepted in history.keyed.items():
        kept = history.kept.get(key, {})
        if lost := sorted(accepted - set(kept)):
            found["lost"].append(f"{lost} were accepted with key {key}, and have no outcome")
        if len(set(kept.values())) > 1 or "UNKNOWN" in {ending for ending, _ in kept.values()}:
            found["key"].append(f"key {key} has several outcomes: {kept}")


def _judge_runs(task, runs, found):
    tokens = Counter(run.token for run in runs)
    for token, count in tokens.items():
        if count > 1:
            found["token twice"].append(f"{task}: {token} ran {count} times")
    if runs[0].kind == "once" and len(runs) > 1:
        found["ran twice"].append(f"{task} must run once, and did as {sorted(tokens)}")
