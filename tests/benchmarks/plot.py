"""Draws the memory under overload, from the last run of that case.

``python -m tests.benchmarks.plot docs/overload.png`` draws it for the documentation.
"""

import json
import sys
from pathlib import Path

from tests.benchmarks.measurement import ROOT

__all__ = ["draw"]

MIB = 1 << 20
WHOSE = {"farm": "the farm's coordinator", "ProcessPoolExecutor": "ProcessPoolExecutor"}


def draw(folder: Path, path: Path | None = None) -> Path:
    """The curves that ``case_overload`` has left in a folder, as a PNG; where it is."""
    from matplotlib.figure import Figure

    path = path or folder / "overload.png"
    figure = Figure(figsize=(7.2, 3.6), dpi=100, layout="constrained")
    memory = figure.subplots()
    for name, label in WHOSE.items():
        source = folder / f"overload-{name}.json"
        if source.exists():
            curve = json.loads(source.read_text("utf-8"))
            memory.plot(curve["seconds"], [size / MIB for size in curve["bytes"]], label=label)
    memory.set(
        title="Three times the work that two workers can do",
        xlabel="seconds",
        ylabel="resident memory, MiB",
        xlim=(0, None),
        ylim=(0, None),
    )
    memory.grid(alpha=0.3)
    memory.legend()
    figure.savefig(path)
    return path


if __name__ == "__main__":
    print(draw(ROOT / "build", Path(sys.argv[1]) if len(sys.argv) > 1 else None))
