"""Another commit of the project to measure beside this checkout."""

import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.benchmarks.measurement import ROOT
from tests.benchmarks.rounds import Tree

__all__ = ["base_tree", "commit_of"]


def commit_of(ref: str) -> str:
    """The short id of a commit; with ``+`` behind it for HEAD if files have changed since.

    A copy of the sources that is no repository has none.
    """
    if ref == "HEAD" and not (ROOT / ".git").exists():
        return "no commit"
    commit = _git("rev-parse", "--short", f"{ref}^{{commit}}")
    changed = ref == "HEAD" and _git("status", "--porcelain", "--untracked-files=no")
    return f"{commit}+" if changed else commit


@contextmanager
def base_tree(ref: str) -> Iterator[Tree]:
    """A worktree of the commit, with this checkout's ``tests`` so that both run the same code."""
    home = Path(tempfile.mkdtemp(prefix="farm-base-"))
    folder = home / "tree"
    _git("worktree", "add", "--quiet", "--detach", str(folder), ref)
    try:
        shutil.rmtree(folder / "tests", ignore_errors=True)
        (folder / "tests").symlink_to(ROOT / "tests")
        yield Tree("base", folder)
    finally:
        _git("worktree", "remove", "--force", str(folder))
        shutil.rmtree(home, ignore_errors=True)


def _git(*arguments: str) -> str:
    done = subprocess.run(
        ["git", *arguments], cwd=ROOT, check=False, capture_output=True, text=True
    )
    if done.returncode:
        raise SystemExit(f"git {arguments[0]}: {done.stderr.strip()}")
    return done.stdout.strip()
