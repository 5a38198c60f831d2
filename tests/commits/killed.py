"""A real coordinator under load that dies by SIGKILL after one commit or another, many times."""

import time

from tests.chaos.run import CORE, Crew, Report, finish
from tests.processes import Place

__all__ = ["kill_after_commits"]

DEATH_SECONDS = 60.0
LOOK_SECONDS = 0.005


def kill_after_commits(deaths: int, seed: int = 1) -> Report:
    """Let it die so many times; what came of it, as a chaos run says it."""
    with Place("commits") as place:
        coordinator = place.coordinator(CORE)
        coordinator.command[2] = "tests.commits.mortal"
        for name, value in (("seed", seed), ("life", "{life}"), ("deaths", deaths)):
            coordinator.command += [f"--{name}", str(value)]
        began = time.monotonic()
        crew = Crew(place, coordinator, seed)
        problems = []
        for number in range(1, deaths + 1):
            until = time.monotonic() + DEATH_SECONDS
            while coordinator.alive and time.monotonic() < until:
                time.sleep(LOOK_SECONDS)
            if coordinator.alive:
                problems.append(f"the load brought no death {number} in {DEATH_SECONDS:.0f} s")
                break
            if coordinator.process.returncode != -9:
                problems.append(f"it ended with {coordinator.process.returncode}")
            coordinator.start()
        report = Report(seed, time.monotonic() - began)
        report.faults["kill coordinator"] = coordinator.lives - 1
        return finish(crew, report, problems)
