"""Commands about farm itself: config, version."""

import sys

from farm.cli.output import Column
from farm.cli.run import Run, command

__all__: list[str] = []

PANEL = "About"


@command("config", panel=PANEL, examples=["farm config", "FARM_ADDRESS=tcp://h:7070 farm config"])
def config(run: Run) -> None:
    """List all settings: their values, where each comes from, and its variable."""
    from farm.config import settings

    found = run.config()
    rows = [
        {
            "setting": one.path,
            "value": getattr(getattr(found, one.section), one.key),
            "from": found.origins.get(one.path, "default"),
            "variable": one.variable,
            "description": one.description,
        }
        for one in settings()
    ]
    columns = [
        Column("setting", "SETTING"),
        Column("value", "VALUE", lambda value: str(value) if value != "" else "''"),
        Column("from", "FROM"),
        Column("variable", "VARIABLE"),
    ]
    run.output.table(rows, columns, empty="")


@command("version", panel=PANEL, examples=["farm version", "farm version --json"])
def version(run: Run) -> None:
    """Print the versions of farm, its protocol and this Python."""
    from farm._version import __version__
    from farm.protocol.parts import PROTOCOL_VERSION

    python = sys.version.partition(" ")[0]
    data = {"farm": __version__, "protocol": PROTOCOL_VERSION, "python": python}
    run.output.facts(data, {name: str(value) for name, value in data.items()})
