"""The house rules, each a function from sources to a list of problems; nothing is imported.

What the rules say stands in the tables below. A new module of farm/ needs a row in MAY_IMPORT.
"""

import ast
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from graphlib import CycleError, TopologicalSorter
from itertools import zip_longest
from pathlib import Path

FILE_LINES_MAX = 400
FUNCTION_LINES_MAX = 60  # without the docstring

PACKAGES = {
    "farm": "farm",
    "farm_workers": "workers/farm_workers",
    "farm_scheduler": "scheduler/farm_scheduler",
}

PLAIN = (
    "farm._version",
    "farm.digest",
    "farm.errors",
    "farm.identity",
    "farm.imports",
    "farm.model",
    "farm.ranges",
    "farm.resources",
)
LEAVES = (
    *PLAIN,
    "farm.blobs",
    "farm.config",
    "farm.descriptors",
    "farm.json_payload",
    "farm.keys",
    "farm.logs",
    "farm.named",
    "farm.parent",
    "farm.payload",
    "farm.registry",
    "farm.settings_file",
    "farm.task",
    "farm.uploads",
)

# Which layer may import which. A name covers its submodules, except "farm", which is
# farm/__init__.py alone; a trailing * covers every module whose name begins so. The most specific
# row counts, and a layer may always import itself.
MAY_IMPORT: Mapping[str, tuple[str, ...]] = {
    "farm._version": (),
    "farm.digest": (),
    "farm.errors": (),
    "farm.ranges": (),
    "farm.identity": (),
    "farm.imports": (),
    "farm.keys": PLAIN,
    "farm.logs": (),
    "farm.parent": (),
    "farm.descriptors": (),
    "farm._start": (),  # runs services by name
    "farm.settings_file": ("farm.errors",),
    "farm.supervisor": ("farm.errors",),
    "farm.model": ("farm.errors", "farm.ranges"),
    "farm.resources": ("farm.errors", "farm.model"),
    "farm.config": ("farm.errors", "farm.model", "farm.resources", "farm._config_*"),
    "farm._config_queues": ("farm.errors", "farm.model", "farm.resources"),
    "farm._config_sections": ("farm.model",),
    "farm.blobs": (*PLAIN, "farm.protocol"),
    "farm.payload": ("farm.errors", "farm.model", "farm._payload_*"),
    "farm._payload_*": ("farm.digest", "farm.errors", "farm.imports", "farm.model"),
    "farm.json_payload": ("farm.errors", "farm.model"),
    "farm.uploads": ("farm.digest", "farm.errors", "farm._payload_*"),
    "farm.registry": ("farm.errors", "farm.imports", "farm._payload_*"),
    "farm.named": ("farm.errors", "farm.json_payload", "farm.registry"),
    "farm.task": ("farm.errors", "farm.model", "farm.client"),  # for a type
    "farm.protocol": PLAIN,
    "farm.core": (*PLAIN, "farm.protocol"),
    "farm.store": (*PLAIN, "farm.config", "farm.protocol", "farm.core"),
    "farm.transport": (
        *PLAIN,
        "farm.config",
        "farm.keys",
        "farm.logs",
        "farm.protocol",
        "farm.core",
    ),
    # Not farm.payload: the coordinator never unpickles.
    "farm.coordinator": (
        *PLAIN,
        "farm.blobs",
        "farm.config",
        "farm.descriptors",
        "farm.keys",
        "farm.logs",
        "farm.parent",
        "farm.settings_file",
        "farm.protocol",
        "farm.core",
        "farm.store",
        "farm.transport",
    ),
    "farm.client": (*LEAVES, "farm.protocol", "farm.transport"),
    "farm.client.session*": (
        "farm.errors",
        "farm.identity",
        "farm.model",
        "farm.ranges",
        "farm.protocol",
    ),
    # Not farm_workers: a local farm starts its hosts as processes.
    "farm.local": (
        *LEAVES,
        "farm.supervisor",
        "farm.protocol",
        "farm.store",
        "farm.transport",
        "farm.coordinator",
        "farm.client",
    ),
    "farm": (
        "farm._version",
        "farm.errors",
        "farm.model",
        "farm.registry",
        "farm.task",
        "farm.client",
        "farm.local",
    ),
    "farm.pytest_plugin": (*LEAVES, "farm", "farm.client", "farm.local"),
    "farm.gateway": (*LEAVES, "farm", "farm.protocol", "farm.client", "farm.local"),
    "farm_workers": (*LEAVES, "farm.protocol", "farm.transport"),
    "farm_workers.nested": (*LEAVES, "farm.protocol", "farm.client", "farm_workers"),
    "farm_workers.worker": (*LEAVES, "farm.protocol", "farm.client", "farm_workers"),  # for a type
    "farm_workers.host*": (*PLAIN, "farm.protocol"),
    "farm_scheduler": (*LEAVES, "farm", "farm.client", "farm.local"),
    "farm_scheduler.core": (*PLAIN, "farm_scheduler.cron"),
    "farm_scheduler.cron": PLAIN,
    "farm.cli": ("*",),
    "farm.__main__": ("farm.cli",),
}

# The state machines, and what they stand on: no IO, no clock, no chance, no threads. An import for
# types only is no import here: a machine may be handed a `random.Random`.
PURE = (
    "farm.digest",
    "farm.errors",
    "farm.identity",
    "farm.imports",
    "farm.model",
    "farm.ranges",
    "farm.resources",
    "farm.protocol",
    "farm.core",
    "farm.client.session*",
    "farm_workers.host*",
    "farm_scheduler.core",
    "farm_scheduler.cron",
)
IMPURE = frozenset(
    {
        "_thread",
        "asyncio",
        "cloudpickle",
        "multiprocessing",
        "os",
        "pickle",
        "random",
        "secrets",
        "select",
        "selectors",
        "signal",
        "socket",
        "sqlite3",
        "subprocess",
        "threading",
        "time",
        "zmq",
    }
)

PICKLE_MODULES = frozenset({"pickle", "_pickle", "cloudpickle"})
MAY_PICKLE = frozenset({"farm.payload"})  # the fork server preloads by name, which is no import

# Words that the design has another word for, as parts of names of classes and functions.
OTHER_WORDS = {
    "broker": "coordinator",
    "master": "coordinator",
    "slave": "host or worker",
    "scheduling": "placement, or schedule for cron",
}

MACHINE_PATH = re.compile(r"(?<![\w./~-])/(?:work|root)/")


@dataclass(frozen=True)
class Source:
    """One source file: the module it is, and its text."""

    module: str
    text: str
    is_package: bool = False

    @cached_property
    def tree(self) -> ast.Module:
        return ast.parse(self.text)

    @cached_property
    def imports(self) -> tuple["Import", ...]:
        return tuple(_imports(self, self.tree, at_start=True, for_types=False))


@dataclass(frozen=True)
class Import:
    """One imported name, absolute: `from a.b import c` imports "a.b.c"."""

    target: str
    line: int
    at_start: bool  # runs when the module is imported, not when a function is called
    for_types: bool  # under `if TYPE_CHECKING`


def read_sources(root: Path) -> dict[str, Source]:
    """Every module of the three packages below root, by name."""
    sources = {}
    for package, folder in PACKAGES.items():
        for path in sorted((root / folder).rglob("*.py")):
            parts = [package, *path.relative_to(root / folder).with_suffix("").parts]
            is_package = parts[-1] == "__init__"
            module = ".".join(parts[:-1] if is_package else parts)
            sources[module] = Source(module, path.read_text("utf-8"), is_package)
    return sources


def _imports(source: Source, node: ast.AST, *, at_start: bool, for_types: bool) -> Iterator[Import]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Import):
            for alias in child.names:
                yield Import(alias.name, child.lineno, at_start, for_types)
        elif isinstance(child, ast.ImportFrom):
            base = _absolute(source, child)
            for alias in child.names:
                yield Import(f"{base}.{alias.name}", child.lineno, at_start, for_types)
        elif isinstance(child, ast.If) and ast.unparse(child.test).endswith("TYPE_CHECKING"):
            then = ast.Module(child.body, [])
            yield from _imports(source, then, at_start=at_start, for_types=True)
            other = ast.Module(child.orelse, [])
            yield from _imports(source, other, at_start=at_start, for_types=for_types)
        else:
            inside = isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef)
            yield from _imports(
                source, child, at_start=at_start and not inside, for_types=for_types
            )


def _absolute(source: Source, node: ast.ImportFrom) -> str:
    if not node.level:
        return node.module or ""
    up = node.level - source.is_package
    base = source.module.split(".")
    return ".".join([*base[: len(base) - up], *([node.module] if node.module else [])])


def _covers(pattern: str, module: str) -> bool:
    if pattern.endswith("*"):
        return module.startswith(pattern[:-1])
    return module == pattern or (pattern != "farm" and module.startswith(pattern + "."))


def _layer(module: str) -> str | None:
    return max((row for row in MAY_IMPORT if _covers(row, module)), key=len, default=None)


def _module(target: str, sources: Mapping[str, Source]) -> str | None:
    """The module of ours that a target is, or is a name in."""
    while target and target not in sources:
        target = target.rpartition(".")[0]
    return target or None


def import_direction(sources: Mapping[str, Source]) -> list[str]:
    """Layers import only what MAY_IMPORT says: anywhere in a file, for types too."""
    problems = []
    for source in sources.values():
        layer = _layer(source.module)
        if layer is None:
            problems.append(f"{source.module}: no row of MAY_IMPORT covers it")
            continue
        allowed = (layer, *MAY_IMPORT[layer])
        for found in source.imports:
            if found.target.partition(".")[0] not in PACKAGES:
                continue
            target = _layer(found.target) or "farm"
            if not any(_covers(name, target) for name in allowed):
                problems.append(f"{source.module}:{found.line}: {layer} may not import {target}")
    return problems


def no_cycles(sources: Mapping[str, Source]) -> list[str]:
    """No module imports itself through others while it is being imported."""
    graph = {
        source.module: {
            target
            for found in source.imports
            if found.at_start and not found.for_types
            if (target := _module(found.target, sources)) not in {None, source.module}
        }
        for source in sources.values()
    }
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        return ["import cycle: " + " <- ".join(error.args[1])]
    return []


def pure_modules(sources: Mapping[str, Source]) -> list[str]:
    """What PURE covers imports nothing of IMPURE."""
    return [
        f"{source.module}:{found.line}: a pure module may not import {found.target}"
        for source in sources.values()
        if any(_covers(pattern, source.module) for pattern in PURE)
        for found in source.imports
        if not found.for_types and found.target.partition(".")[0] in IMPURE
    ]


def pickle_in_one_place(sources: Mapping[str, Source]) -> list[str]:
    """Only the modules of MAY_PICKLE import pickle or cloudpickle."""
    return [
        f"{source.module}:{found.line}: only farm.payload pickles, not {found.target}"
        for source in sources.values()
        if source.module not in MAY_PICKLE
        for found in source.imports
        if found.target.partition(".")[0] in PICKLE_MODULES
    ]


def no_zmq_asyncio(sources: Mapping[str, Source]) -> list[str]:
    """Nothing imports zmq.asyncio: it is slow, and the loops are our own."""
    return [
        f"{source.module}:{found.line}: zmq.asyncio is not used here"
        for source in sources.values()
        for found in source.imports
        if _covers("zmq.asyncio", found.target)
    ]


def sizes(sources: Mapping[str, Source]) -> list[str]:
    """Files and functions stay small enough to be read in one go."""
    problems = []
    for source in sources.values():
        lines = len(source.text.splitlines())
        if lines > FILE_LINES_MAX:
            problems.append(f"{source.module}: {lines} lines, at most {FILE_LINES_MAX}")
        for node in ast.walk(source.tree):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                lines = _span(node)
                if ast.get_docstring(node) is not None:
                    lines -= _span(node.body[0])
                if lines > FUNCTION_LINES_MAX:
                    problems.append(
                        f"{source.module}:{node.lineno}: {node.name} has {lines} lines,"
                        f" at most {FUNCTION_LINES_MAX}"
                    )
    return problems


def _span(node: ast.stmt) -> int:
    return (node.end_lineno or node.lineno) - node.lineno + 1


def exports_documented(sources: Mapping[str, Source]) -> list[str]:
    """Every name in the `__all__` of a package exists and has a docstring."""
    return [
        f"{source.module}.{name}: exported without a docstring"
        for source in sources.values()
        if source.is_package
        for name in exports(source)
        if not name.startswith("__") and not _documented(sources, source.module, name, ())
    ]


def exports(source: Source) -> list[str]:
    """The names in a module's literal `__all__`."""
    for node in source.tree.body:
        targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
        if any(isinstance(target, ast.Name) and target.id == "__all__" for target in targets):
            return [str(name) for name in ast.literal_eval(node.value)]  # type: ignore[attr-defined]
    return []


def _documented(
    sources: Mapping[str, Source], module: str, name: str, seen: tuple[str, ...]
) -> bool:
    """Whether a name is defined with a docstring, in the module or where it is imported from."""
    path = f"{module}.{name}"
    if path in seen:
        return False
    if module not in sources:
        # Of another project, whose matter it is; what of ours cannot be found is not documented.
        return module.partition(".")[0] not in PACKAGES
    if path in sources and ast.get_docstring(sources[path].tree):
        return True
    pairs = [
        pair for block in _blocks(sources[module].tree) for pair in zip_longest(block, block[1:])
    ]
    return any(_defines_documented(node, after, name) for node, after in pairs) or any(
        _documented(sources, _absolute(sources[module], node), alias.name, (*seen, path))
        for node, _ in pairs
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
        if name == (alias.asname or alias.name)
    )


def _blocks(tree: ast.Module) -> Iterator[list[ast.stmt]]:
    """The statements of a module, and those under its `if`s (TYPE_CHECKING, versions)."""
    yield tree.body
    for node in tree.body:
        if isinstance(node, ast.If):
            yield node.body
            yield node.orelse


def _defines_documented(node: ast.stmt, after: ast.stmt | None, name: str) -> bool:
    if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
        return node.name == name and ast.get_docstring(node) is not None
    if isinstance(node, ast.Assign | ast.AnnAssign):
        targets = node.targets if isinstance(node, ast.Assign) else [node.target]
        return (
            any(isinstance(target, ast.Name) and target.id == name for target in targets)
            and isinstance(after, ast.Expr)
            and isinstance(after.value, ast.Constant)
            and isinstance(after.value.value, str)
        )
    return False


def words(sources: Mapping[str, Source]) -> list[str]:
    """Classes and functions are named in the words of the design."""
    return [
        f"{source.module}:{node.lineno}: {node.name}: say {ours}, not {other}"
        for source in sources.values()
        for node in ast.walk(source.tree)
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
        for other, ours in OTHER_WORDS.items()
        if other in node.name.lower()
    ]


def machine_paths(texts: Mapping[str, str]) -> list[str]:
    """No file, by path, names a folder of the machine it was written on."""
    return [
        f"{path}:{number}: a path of one machine: {line.strip()}"
        for path, text in texts.items()
        for number, line in enumerate(text.splitlines(), 1)
        if MACHINE_PATH.search(line)
    ]
