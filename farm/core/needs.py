"""What a task needs of the host that runs it, and what keeps hosts from having it."""

from typing import TYPE_CHECKING, NamedTuple

from farm.protocol.parts import Template
from farm.resources import KINDS, SLOTS, amount_text, nearest_name, thousandths

if TYPE_CHECKING:
    from collections.abc import Iterable

    from farm.core.hosts import Host
    from farm.core.ledger import Ledger

__all__ = ["Needs", "needs_of", "why_misspelt", "why_never"]


class Needs(NamedTuple):
    """What each task of a group needs: tasks with equal needs can stand in for each other.

    ``amounts`` are in thousandths, ordered by name, without the slots.
    """

    slots: int
    amounts: tuple[tuple[str, int], ...]
    labels: tuple[str, ...]

    def __str__(self) -> str:
        found = [f"{SLOTS}={self.slots}"] if self.slots > 1 else []
        found += [amount_text(name, amount / 1000) for name, amount in self.amounts]
        found += [f"label {label}" for label in self.labels]
        return ", ".join(found)


def needs_of(template: Template) -> Needs | None:
    """The needs of tasks with these options; None if a slot is all, as nearly always."""
    if not (template.resources or template.labels):
        return None
    wanted = dict(template.resources)
    slots = max(1, round(wanted.pop(SLOTS, 1.0)))
    amounts = tuple(
        (name, thousandths(amount)) for name, amount in sorted(wanted.items()) if amount
    )
    labels = tuple(sorted(template.labels))
    return Needs(slots, amounts, labels) if slots > 1 or amounts or labels else None


def why_never(needs: Needs, hosts: "Iterable[Host]") -> str:
    """Why no host that is here could ever run such a task; empty if one could.

    A host that is full, or takes nothing at the moment, could.
    """
    here = [host for host in hosts if host.peer is not None and not host.unusable]
    if not here:
        return f"needs {needs}, and no host is connected"
    if any(host.could_run(needs) for host in here):
        return ""
    for label in needs.labels:
        if not any(label in host.labels for host in here):
            return f"needs label {label}, which no host has"
    most = max(host.slots for host in here)
    if most < needs.slots:
        return f"needs {SLOTS}={needs.slots}, the largest host has {most}"
    for name, amount in needs.amounts:
        most = max(host.total.get(name, 0) for host in here)
        if most < amount:
            has = amount_text(name, most / 1000).partition("=")[2] if most else "none"
            text = f"needs {amount_text(name, amount / 1000)}"
            return f"{text}, the largest host has {has}" if most else f"{text}, no host has any"
    return f"needs {needs}, and no one host has all of it"


def why_misspelt(template: Template, ledger: "Ledger") -> str:
    """Which resource no host has or had, and which may be meant; empty if all are known.

    Before there was any host nobody knows.
    """
    if not template.resources:
        return ""
    known = ledger.resource_names()
    if not known and not ledger.hosts.all:
        return ""
    unknown = (name for name, _ in template.resources if name not in known and name not in KINDS)
    return next((nearest_name(name, known) for name in unknown), "")
