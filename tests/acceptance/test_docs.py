"""The documentation is true: its Python runs and prints what it says, its drawing is the table."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from farm.core.states import diagram, ways_out

ROOT = Path(__file__).resolve().parents[2]
BLOCK = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)
PROMISE = re.compile(r"print\(.*\) +# (.+)$", re.MULTILINE)


def blocks() -> list[tuple[str, str]]:
    """Every runnable block: its place and its code."""
    return [
        (f"{page}:{number}", code)
        for page in ("README.md", "docs/guide.md")
        for number, code in enumerate(BLOCK.findall((ROOT / page).read_text()), 1)
    ]


@pytest.mark.parametrize(("place", "code"), blocks(), ids=[place for place, _ in blocks()])
def test_code_runs_and_prints_what_it_says(place: str, code: str, tmp_path: Path) -> None:
    script = tmp_path / "block.py"
    script.write_text(code)
    done = subprocess.run(
        [sys.executable, str(script)],
        check=False,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    for promise in PROMISE.findall(code):
        assert promise in done.stdout, f"{place} promises {promise!r}"


def test_there_is_code_to_run() -> None:
    assert len(blocks()) >= 5


def test_the_lifecycle_is_drawn_from_the_table() -> None:
    page = (ROOT / "docs" / "architecture.md").read_text()
    drawn = re.search(r"```mermaid\n(.*?)```", page, re.DOTALL)
    assert drawn is not None
    assert drawn[1] == diagram()


def test_the_ways_out_are_those_of_the_table() -> None:
    page = (ROOT / "docs" / "architecture.md").read_text()
    assert f"states.ways_out() -->\n{ways_out()}<!--" in page


def test_links_lead_somewhere() -> None:
    for page in [ROOT / "README.md", *ROOT.glob("docs/**/*.md")]:
        for target in re.findall(r"\]\(([^)#:]+)\)", page.read_text()):
            assert (page.parent / target).exists(), f"{page.name} links to {target}"
