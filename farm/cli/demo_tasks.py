"""What the tasks of ``farm demo`` do: read one Python file and find out what can be found.

It imports nothing of the farm and little else: a task's module is imported by every worker.
"""

import ast
import lzma
import os
import tokenize
import warnings
import zlib
from collections import Counter
from io import BytesIO
from time import perf_counter
from typing import NamedTuple

__all__ = ["Findings", "analyse"]

BRANCHES = (
    ast.If,
    ast.For,
    ast.AsyncFor,
    ast.While,
    ast.IfExp,
    ast.ExceptHandler,
    ast.Assert,
    ast.comprehension,
    ast.match_case,
)
"""What adds one path through a function, as McCabe counts them; ``and``/``or`` add one each."""


class Findings(NamedTuple):
    """What one file has. ``problem`` is empty, or says why only its size is known."""

    path: str
    size: int = 0
    lines: int = 0
    tokens: int = 0
    names: int = 0
    functions: int = 0
    classes: int = 0
    hardest: str = ""
    """The function with the most paths through it."""
    paths: int = 0
    zlib_bytes: int = 0
    lzma_bytes: int = 0
    seconds: float = 0.0
    worker: int = 0
    """The process that did it."""
    problem: str = ""


def analyse(path: str) -> Findings:
    """Parse, tokenize and compress one file. A file that is no Python of today is a finding too."""
    begun = perf_counter()
    found = Findings(path, worker=os.getpid())
    try:
        with open(path, "rb") as file:  # noqa: PTH123 - no pathlib in every worker
            source = file.read()
    except OSError as error:
        return found._replace(problem=f"cannot be read: {error.strerror}")
    found = found._replace(
        size=len(source),
        lines=source.count(b"\n"),
        zlib_bytes=len(zlib.compress(source, 9)),
        lzma_bytes=len(lzma.compress(source)),
    )
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # old escapes and the like are no findings
            tree = ast.parse(source)
        kinds = Counter(one.type for one in tokenize.tokenize(BytesIO(source).readline))
    except (SyntaxError, ValueError, RecursionError, MemoryError, tokenize.TokenError) as error:
        found = found._replace(problem=f"{type(error).__name__}: {error}")
    else:
        found = _with_structure(found, tree)._replace(
            tokens=kinds.total(), names=kinds[tokenize.NAME]
        )
    return found._replace(seconds=perf_counter() - begun)


def _with_structure(found: Findings, tree: ast.Module) -> Findings:
    """Count functions and classes, and the paths through each function, nested ones apart."""
    paths: list[int] = [1]
    names = [""]
    classes = 0
    stack: list[tuple[ast.AST, int]] = [(tree, 0)]
    while stack:
        node, owner = stack.pop()
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            owner = len(paths)
            paths.append(1)
            names.append(node.name)
        elif isinstance(node, BRANCHES):
            paths[owner] += 1
        elif isinstance(node, ast.BoolOp):
            paths[owner] += len(node.values) - 1
        elif isinstance(node, ast.ClassDef):
            classes += 1
        stack.extend((child, owner) for child in ast.iter_child_nodes(node))
    most, hardest = max(zip(paths[1:], names[1:], strict=True), default=(0, ""))
    return found._replace(functions=len(paths) - 1, classes=classes, hardest=hardest, paths=most)
