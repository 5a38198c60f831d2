"""Runs seeds, and tells what a failing one did."""

from __future__ import annotations

import traceback
from dataclasses import dataclass, field, replace
from time import perf_counter
from typing import Any

from tests.sim.plan import Plan
from tests.sim.truth import Violation
from tests.sim.world import World

__all__ = ["Failure", "Report", "run_seed", "run_seeds"]

LINES = 60


@dataclass
class Failure:
    """A seed that broke a promise, and which."""

    seed: int
    check: str
    detail: str
    lines: list[str]

    def __str__(self) -> str:
        told = "\n".join(self.lines[-LINES:])
        return (
            f"seed {self.seed}: {self.check}: {self.detail}\n"
            f"{told}\n"
            f"reproduce: python -m tests.sim --seed {self.seed} -v"
        )


@dataclass
class Report:
    """What a run of seeds came to."""

    seeds: int = 0
    steps: int = 0
    most_steps: int = 0  # of any seed
    most_steps_of_work: int = 0  # before it rests: of faults and new tasks
    seconds: float = 0.0
    stats: dict[str, int] = field(default_factory=dict)
    failures: list[Failure] = field(default_factory=list)

    @property
    def steps_per_second(self) -> float:
        return self.steps / max(self.seconds, 1e-9)


def run_seed(
    seed: int, report: Report | None = None, *, verbose: bool = False, **changes: Any
) -> Failure | None:
    """One seed, with ``changes`` to its plan; None if every promise was kept."""
    plan = Plan.of(seed)
    core = {**plan.core, **changes.pop("core", {})}
    if changes.get("queues"):  # what waits in a queue with limits may keep its children from it
        changes.setdefault("nested", 0.0)
    world = World(replace(plan, **changes, core=core), verbose=verbose)
    failure = None
    try:
        world.run()
    except Violation as error:
        failure = Failure(seed, error.check, str(error), world.trace.lines())
    except Exception as error:  # noqa: BLE001  # a machine must never raise
        where = traceback.format_exc().splitlines()[-12:]
        failure = Failure(seed, "crashed", repr(error), [*world.trace.lines(), *where])
    if report is not None:
        report.seeds += 1
        world.stats["seeds"] += 1
        report.steps += world.steps
        report.most_steps = max(report.most_steps, world.steps)
        report.most_steps_of_work = max(report.most_steps_of_work, world.steps_of_work)
        for name, count in world.stats.items():
            report.stats[name] = report.stats.get(name, 0) + count
        if failure:
            report.failures.append(failure)
    return failure


def run_seeds(start: int, count: int, *, stop_at_first: bool = False) -> Report:
    """Many seeds, one after the other."""
    report = Report()
    began = perf_counter()
    for seed in range(start, start + count):
        if run_seed(seed, report) and stop_at_first:
            break
    report.seconds = perf_counter() - began
    return report
