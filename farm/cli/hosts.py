"""Commands about hosts: list them, drain one."""

from time import sleep
from typing import Annotated, Any

import typer

from farm.cli.output import Column
from farm.cli.run import AddressOption, Run, command, command_group
from farm.cli.words import ago_text, count_text, dash, rate_text, share_text
from farm.resources import amount_text, label_texts

__all__: list[str] = []

PANEL = "Look"
ANSWER_SECONDS = 30.0
LOOK_SECONDS = 0.2
"""How often is looked whether a host that is waited for has gone."""


GROUP = command_group("hosts", PANEL, "List the hosts, or drain one.")


@command(
    "",
    panel=PANEL,
    examples=["farm hosts", "farm hosts --json", "farm hosts drain north"],
    group=GROUP,
)
def hosts(run: Run, address: AddressOption = None) -> None:
    """List the hosts, what they run, and why one gets no work."""
    with run.client(address) as client:
        rows: Any = client.query("hosts")
        url = client.address
    columns = [
        Column("name", "HOST"),
        Column("slots", "SLOTS", count_text, right=True),
        Column("running", "RUNNING", count_text, right=True),
        Column("held", "HELD", count_text, right=True),
        Column("lent", "LENT", count_text, right=True),
        Column("service_rate", "OUT/S", rate_text, right=True),
        Column("utilisation", "USED", share_text, right=True),
        Column("resources", "RESOURCES", _resources),
        Column("labels", "LABELS", _labels),
        Column("last_seen_seconds", "SEEN", ago_text, right=True),
        Column("pid", "PID", dash, right=True),
        Column("python", "PYTHON", dash),
        Column("address", "ADDRESS", dash),
        Column("state", "STATE"),
    ]
    shown = [row | {"state": _host_state(row)} for row in rows]
    run.output.table(shown, columns, empty=f"No hosts. Start one: farm worker {url}")


def _resources(resources: dict[str, dict[str, float]] | None) -> str:
    """What of a host's resources tasks use, of how much: ``gpu 1/2, memory 4GB/32GB``."""
    found = []
    for name, amounts in (resources or {}).items():
        used, total = (
            amount_text(name, amounts[key]).partition("=")[2] for key in ("used", "total")
        )
        if amounts["total"]:
            found.append(f"{name} {used}/{total}")
    return dash(", ".join(found))


def _labels(labels: dict[str, str] | None) -> str:
    return dash(", ".join(sorted(label_texts(labels or {}))))


def _host_state(row: dict[str, Any]) -> str:
    if row["unusable"] or not row["connected"]:
        return str(row["unusable"]) or "gone"
    if row["draining"]:
        return "drains"
    return f"takes nothing: {row['trouble']}" if row["trouble"] else "works"


@command(
    "drain",
    panel=PANEL,
    examples=["farm hosts drain north", "farm hosts drain --wait north"],
    group=GROUP,
)
def drain(
    run: Run,
    name: Annotated[str, typer.Argument(metavar="HOST", help="What the host is called.")],
    *,
    wait: Annotated[bool, typer.Option("--wait", "-w", help="Wait until it has left.")] = False,
    address: AddressOption = None,
) -> None:
    """Have a host finish what it runs, give back the rest, and leave; nobody's retries are spent.

    The same as SIGTERM to it. A host that `farm up` keeps is started again.
    """
    with run.client(address) as client:
        rows: Any = client.query("hosts")
        instance = {row["name"]: row["instance"] for row in rows}.get(name)
        data: Any = client.connection.drain_host(name, ANSWER_SECONDS)
        while wait and any(row["instance"] == instance for row in rows):
            sleep(LOOK_SECONDS)
            rows = client.query("hosts")
    text = "it has left" if wait else f"it drains; it holds {data['held']} tasks"
    run.output.answer(data | {"left": wait}, f"host {name}: {text}")
