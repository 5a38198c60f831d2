"""What ``farm demo`` found, by package."""

import os
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from farm.cli.demo_tasks import Findings
from farm.cli.output import Column, Listener, Output
from farm.cli.words import count_text

__all__ = ["show_packages"]

PACKAGES_SHOWN = 14
SINGLE = "(single files)"

Row = dict[str, Any]

SUMS = (
    "files",
    "size",
    "lines",
    "tokens",
    "functions",
    "classes",
    "not_parsed",
    "zlib_bytes",
    "lzma_bytes",
)


def show_packages(output: Output, root: Path, findings: Iterable[Findings]) -> list[Row]:
    """Show the findings by the folders right below ``root``, the largest first; returns all."""
    groups: defaultdict[str, list[Row]] = defaultdict(list)
    for one in findings:
        folder, separator, _ = os.path.relpath(one.path, root).partition(os.sep)
        groups[folder if separator else SINGLE].append(_row(one))
    rows = [_sum(name, members) for name, members in groups.items()]
    rows.sort(key=lambda row: (-row["lines"], row["package"]))
    if output.listener is Listener.PEOPLE:
        shown = rows[:PACKAGES_SHOWN]
        if rest := rows[PACKAGES_SHOWN:]:
            shown.append(_sum(f"({len(rest)} others)", rest))
        output.table([*shown, _sum("all", rows)], COLUMNS, empty="")
    return rows


def _row(one: Findings) -> Row:
    return one._asdict() | {"files": 1, "not_parsed": int(bool(one.problem))}


def _sum(name: str, rows: Sequence[Row]) -> Row:
    hardest = max(rows, key=lambda row: row["paths"])
    total: Row = {"package": name}
    total |= {key: sum(row[key] for row in rows) for key in SUMS}
    total |= {key: hardest[key] for key in ("hardest", "paths")}
    total["function"] = f"{hardest['hardest']} ({hardest['paths']})" if hardest["paths"] else "-"
    total["ratio"] = total["size"] / total["lzma_bytes"] if total["lzma_bytes"] else 0.0
    return total


COLUMNS = (
    Column("package", "PACKAGE"),
    Column("files", "FILES", count_text, right=True),
    Column("lines", "LINES", count_text, right=True),
    Column("functions", "FUNCTIONS", count_text, right=True),
    Column("function", "MOST COMPLEX (PATHS)"),
    Column("ratio", "COMPRESSES", lambda ratio: f"{ratio:.1f}x", right=True),
    Column("not_parsed", "NOT PARSED", lambda count: str(count or "-"), right=True),
)
