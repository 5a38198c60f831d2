"""A chaos run on a network: every part on a machine of its own, and faults between them as well."""

import random

from tests.chaos.run import CORE, Crew, Report, finish, suffer
from tests.hosts.faults import NetFaults
from tests.hosts.place import NetPlace

__all__ = ["run"]


def run(seed, seconds, *, keep=None):
    """Run and judge; the folder of the run is copied to ``keep`` if that is given."""
    with NetPlace("hosts") as place:
        crew = Crew(place, place.coordinator(CORE), seed)
        faults = NetFaults(random.Random(seed), place, crew)
        problems = suffer(faults, [*crew.services, place.relay], seconds)
        faults.stop()
        problems += faults.problems
        report = finish(crew, Report(seed, seconds, faults.counts), problems)
        if keep is not None:
            place.copy(keep)
    return report
