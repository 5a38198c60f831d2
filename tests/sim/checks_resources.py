"""The checkers of what tasks need: no host runs more than it has, and nobody is passed for ever."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from farm.resources import label_texts, thousandths
from tests.sim.truth import Violation

if TYPE_CHECKING:
    from farm.core import Core
    from farm.core.batch import Batch
    from farm.core.hosts import Host, Lease
    from farm.core.needs import Needs
    from tests.sim.checks import Checks
    from tests.sim.host import HostProcess
    from tests.sim.truth import Task

__all__ = ["ResourceChecks"]

PASSES_MAX = 16
"""So many leases may go before tasks that one host could run, once it should be kept for them."""


class ResourceChecks:
    """Watches what hosts run, whoever let them, and what one coordinator after the other places."""

    def __init__(self, checks: Checks) -> None:
        self._checks = checks
        # By what waits: since when none of it was placed, and how many have gone before it since.
        self._waits: dict[Needs, tuple[float, int]] = {}

    def restarted(self) -> None:
        """Another coordinator knows of no waiting."""
        self._waits.clear()

    # ------------------------------------------------------------ what runs

    def began(self, host: HostProcess, task: Task) -> None:
        """A worker begins a task: with all that the others run it fits into its host."""
        settings = host.machine._settings
        labels = set(task.template.labels)
        if not labels <= label_texts(settings.labels):
            raise Violation("resources", f"{task.name} needs {labels}, {host.name} has not")
        used: Counter[str] = Counter()
        devices: Counter[str] = Counter()
        for worker in host.workers.values():
            if worker.running is None or not worker.alive:
                continue
            part, counter, _ = worker.running
            other = self._checks.truth.tasks[part.session, counter]
            wanted = {"slots": 1.0, **dict(other.template.resources)}
            used.update({name: thousandths(amount) for name, amount in wanted.items()})
            devices.update(part.devices)
            if len(part.devices) != wanted.get("gpu", 0):
                raise Violation("devices", f"{other.name} has {part.devices}, and needs {wanted}")
        has = {"slots": settings.slots, **settings.resources}
        if self._checks.world.plan.nested:  # some are lent, by tasks that wait
            del used["slots"]
        for name, amount in used.items():
            if amount > thousandths(has.get(name, 0)):
                raise Violation("resources", f"{host.name} has {has}, and runs {dict(used)}")
        if any(count > 1 for count in devices.values()):
            raise Violation("devices", f"{host.name} gives one to several: {dict(devices)}")

    # ------------------------------------------------------------ what is placed

    def turn_over(self, machine: Core, placed: list[tuple[Host, Lease]], now: float) -> None:
        """The coordinator has placed what it could."""
        if not self._checks.world.plan.needs:
            return
        for host, lease in placed:
            self._is_allowed(host, lease)
        self._count_passes(machine, placed, now)

    def _is_allowed(self, host: Host, lease: Lease) -> None:
        """What was just placed fits, by the coordinator's own books."""
        needs = lease.batch.needs
        if needs is None:
            return
        # Not the slots: short tasks may have been given to it since, to wait there.
        if any(host.used[name] > host.total[name] for name, _ in needs.amounts):
            raise Violation("resources", f"{host.name} is given {needs}: {host.used}")

    def _count_passes(self, machine: Core, placed: list[tuple[Host, Lease]], now: float) -> None:
        settings = machine.ledger.settings
        waits: dict[Needs, tuple[float, int]] = {}
        served = {lease.batch.needs for _, lease in placed}
        hosts = [host for host in machine.ledger.hosts.all.values() if host.is_open]
        for queue in machine.ledger.queues.all.values():
            if not queue.open_tasks or not queue.plain:
                continue
            oldest: dict[Needs, Batch] = {}
            for batch, _, _ in queue.ready:
                needs = batch.needs
                if needs is not None and batch.at < oldest.setdefault(needs, batch).at:
                    oldest[needs] = batch
            for needs, batch in oldest.items():
                could = [host for host in hosts if host.could_run(needs)]
                if needs in served or len(could) != 1 or machine.ledger.short:
                    continue
                since, passes = self._waits.get(needs, (now, 0))
                if now > since + settings.reserve_seconds:
                    passes += sum(h is could[0] and _passes(lease, batch) for h, lease in placed)
                if passes > PASSES_MAX:
                    raise Violation("passed", f"{needs} waits since {now - since:.2f} s")
                waits[needs] = since, passes
        self._waits = waits


def _passes(lease: Lease, batch: Batch) -> bool:
    """Whether a lease takes what a batch waits for, and came later."""
    other, needs = lease.batch, batch.needs
    assert needs is not None
    if other.needs is None or other.queue is not batch.queue or other.at <= batch.at:
        return False
    shared = {name for name, _ in needs.amounts} & {name for name, _ in other.needs.amounts}
    return bool(shared) and other.template.priority <= batch.template.priority
