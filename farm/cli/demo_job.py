"""What ``farm demo`` does: a real job on a real farm, one worker of which is killed on the way.

Every Python file of the standard library, or of a folder, is one task. The speed-up is measured
against the same work done by this process alone, on a sample, before the farm is started.
"""

import os
import random
import signal
import sysconfig
from collections.abc import Mapping, Sequence
from concurrent.futures import Executor, as_completed
from pathlib import Path
from time import perf_counter
from typing import Any, NamedTuple

import typer

import farm
from farm.cli.demo_aggregate import keep_up
from farm.cli.demo_report import show_packages
from farm.cli.demo_tasks import Findings, analyse
from farm.cli.exitcodes import TaskFailed
from farm.cli.output import Listener, Output
from farm.cli.run import Run
from farm.cli.words import bytes_text, count_text

__all__ = ["run_demo"]

SAMPLE_SECONDS = 3.0
"""How long the sample is measured; a small tree is measured whole."""
SAMPLE_FILES_MIN = 10
PROBLEMS_SHOWN = 5

ELSEWHERE = {"__pycache__", "dist-packages", "node_modules", "site-packages"}
TESTS = {"test", "tests", "idle_test"}
"""Not every installation of Python has the tests of its library."""


class Sample(NamedTuple):
    """What this process did alone, and in which time."""

    files: int
    size: int
    seconds: float


class Outcome(NamedTuple):
    """What the farm did."""

    findings: list[Findings]
    seconds: float
    killed: int
    """The process id of the worker that was killed, 0 if the work was over before that."""


NEXT = """
What to try next:
  farm demo --path DIR               the same for your own code
  farm up                            a farm that stays, with its tasks on disk
  farm submit math:factorial 20      in another terminal: one task from the shell
  farm --help                        all commands
In Python: client = farm.Client(); future = client.submit(function, argument)"""


def run_demo(run: Run, path: Path | None, workers: int | None) -> None:
    """Analyse the files of a folder, or of the standard library, and say what was found."""
    root, files = _find(path)
    size = sum(one for _, one in files)
    what = "the Python standard library" if path is None else str(path)
    run.output.note(f"{what}: {count_text(len(files))} files, {bytes_text(size)}, in {root}")
    sample = _measure_alone(files)
    alone = sample.seconds * size / max(sample.size, 1)
    run.output.note(
        f"One core: this process did {sample.files} of them in {sample.seconds:.1f} s, so all"
        f" would take it about {alone:.1f} s."
    )
    begun = perf_counter()
    with farm.local(workers=workers) as client:
        run.output.note(f"A farm on this machine, started in {perf_counter() - begun:.2f} s:")
        outcome = _run_on(client, [name for name, _ in files], run.output)
        status: Any = client.query("status")
        data = _report(run.output, root, outcome, alone=alone, slots=status["slots"])
        data["aggregate"] = keep_up(run.output, client.address, root, outcome.findings)
    _conclude(run.output, data)


def _conclude(output: Output, data: Mapping[str, Any]) -> None:
    """The answer for programs, and for people what to try next."""
    if output.listener is not Listener.PEOPLE:
        output.answer(data, f"{data['speed_up']:.2f}")
    output.note(NEXT)


def _find(path: Path | None) -> tuple[Path, list[tuple[str, int]]]:
    """The folder, and the name and size of each Python file in it that is to be analysed."""
    root = Path(sysconfig.get_path("stdlib") if path is None else path).expanduser().resolve()
    if not root.is_dir():
        raise typer.BadParameter(f"{root} is not a folder", param_hint="--path")
    left_out = ELSEWHERE | TESTS if path is None else ELSEWHERE
    found: list[tuple[str, int]] = []
    for folder, folders, names in os.walk(root):
        folders[:] = sorted(name for name in folders if name not in left_out and name[0] != ".")
        for name in sorted(names):
            full = os.path.join(folder, name)  # noqa: PTH118 - what tasks are given is text
            if name.endswith(".py") and os.path.isfile(full):  # noqa: PTH113
                found.append((full, os.path.getsize(full)))  # noqa: PTH202
    if not found:
        raise typer.BadParameter(f"{root} has no Python files", param_hint="--path")
    return root, found


def _measure_alone(files: Sequence[tuple[str, int]]) -> Sample:
    """Do some files here, picked at random but the same each time, and take the time."""
    order = list(files)
    random.Random(0).shuffle(order)  # noqa: S311 - a sample, not a secret
    size = done = 0
    begun = perf_counter()
    for name, bytes_count in order:
        if done >= SAMPLE_FILES_MIN and perf_counter() - begun > SAMPLE_SECONDS:
            break
        analyse(name)
        size += bytes_count
        done += 1
    return Sample(done, size, perf_counter() - begun)


def _run_on(client: Executor, names: Sequence[str], output: Output) -> Outcome:
    """Run every file as a task, and end one worker without warning when half is done."""
    begun = perf_counter()
    futures = [client.submit(analyse, name) for name in names]
    findings: list[Findings] = []
    killed = 0
    with output.progress("analysing", len(names)) as advance:
        for future in as_completed(futures):
            if error := future.exception():
                raise TaskFailed(f"a task of the demo failed: {error}") from error
            findings.append(future.result())
            if not killed and len(findings) * 2 >= len(names) and _kill(findings[-1].worker):
                killed = findings[-1].worker
                advance(note=f"worker {killed} killed with SIGKILL")
            else:
                advance()
    return Outcome(findings, perf_counter() - begun, killed)


def _kill(worker: int) -> bool:
    """End a worker the hard way, if it is one of this process's farm."""
    import psutil

    try:
        if os.getpid() not in {parent.pid for parent in psutil.Process(worker).parents()}:
            return False
        os.kill(worker, signal.SIGKILL)
    except (psutil.Error, ProcessLookupError):
        return False
    return True


def _report(
    output: Output, root: Path, outcome: Outcome, *, alone: float, slots: int
) -> dict[str, Any]:
    """Tell people what was found; returns the same for programs."""
    problems = [one for one in outcome.findings if one.problem]
    packages = show_packages(output, root, outcome.findings)
    speed_up = alone / outcome.seconds
    for one in problems[:PROBLEMS_SHOWN]:
        output.note(f"not parsed: {os.path.relpath(one.path, root)}: {one.problem}")
    if len(problems) > PROBLEMS_SHOWN:
        output.note(f"not parsed: {count_text(len(problems) - PROBLEMS_SHOWN)} more")
    output.note(
        f"\n{count_text(len(outcome.findings))} files in {outcome.seconds:.1f} s on {slots} slots,"
        f" about {alone:.1f} s on one core: {speed_up:.2f} times as fast."
    )
    if outcome.killed:
        output.note(
            f"Worker {outcome.killed} was killed half way. Its task ran again on another, and every"
            " result is here."
        )
    return {
        "folder": str(root),
        "files": len(outcome.findings),
        "seconds": outcome.seconds,
        "seconds_alone": alone,
        "speed_up": speed_up,
        "slots": slots,
        "killed_worker": outcome.killed or None,
        "packages": packages,
        "problems": {one.path: one.problem for one in problems},
    }
