"""A run: lift what changed, merge what follows from it, publish.

Everything that was computed is in the catalog as soon as it is there, under its key: a run that is
ended at any point leaves the version that is served as it was, and the next run goes on with what
it finds. The work is done by an executor, a farm's client as a rule; this process only moves bytes.
"""

import time
import uuid
from collections import deque
from collections.abc import Iterator, Mapping
from functools import partial
from typing import NamedTuple

from farm.errors import FarmError
from farm.model import seconds
from farm_scheduler.aggregates.catalog import Catalog, Run
from farm_scheduler.aggregates.definition import Definition
from farm_scheduler.aggregates.flow import Flow, Todo
from farm_scheduler.aggregates.leaves import Leaves, Mapper
from farm_scheduler.aggregates.manifest import Late, LeafRecord, Manifest, NodeRef
from farm_scheduler.aggregates.measures import Columns
from farm_scheduler.aggregates.merging import Merge, Merged, Sent, merge
from farm_scheduler.aggregates.planning import (
    Plan,
    kinds_of,
    make_plan,
    missing,
    same_meaning,
    tree_of,
)
from farm_scheduler.aggregates.tree import LeafKeys, Node, shape_of

__all__ = ["Built", "NoPartition", "build"]

MERGED_AT_ONCE = 64
"""The most nodes whose children are in memory here at one time, or on the way."""
FEW = 8
"""With fewer nodes on the way, a worker may soon be out of work."""


class NoPartition(FarmError):
    """None of the partitions could be read, so there is nothing to publish."""


class Built(NamedTuple):
    """What a run did. ``version`` is the new one, or 0 if nothing had changed."""

    plan: Plan
    version: int
    lifted: int
    merged: int
    failures: dict[str, str]
    late: Late
    seconds: float

    @property
    def work(self) -> str:
        """What was done, in words."""
        failed = f", {len(self.failures)} failed" if self.failures else ""
        return f"{self.plan.change}, {self.lifted} read, {self.merged} nodes made{failed}"

    def __str__(self) -> str:
        version = f"version {self.version}" if self.version else "nothing had changed"
        return f"{self.work}: {version}"


def build(aggregate: Definition, catalog: Catalog, workers: Mapper, run: str = "") -> Built:
    """Bring an aggregate up to date and publish it; the caller holds ``catalog.writing()``.

    Raises ``NoPartition`` if nothing can be read, ``ConfigError`` if the source has no partition.
    """
    run, began = run or uuid.uuid4().hex[:12], time.time()

    def note(state: str, version: int | None, detail: str) -> None:
        ended = None if state == "running" else time.time()
        catalog.put_run(Run(run, aggregate.name, began, ended, state, version, detail[:2000]))

    note("running", None, "")
    try:
        plan = make_plan(aggregate, catalog)
        work = _Build(aggregate, catalog, workers, plan, run)
        version = 0 if plan.is_empty else work.follow()
        if not version and plan.head is not None:
            catalog.put_checked(plan.name, plan.head.version, plan.as_of)
    except BaseException as error:
        note("failed", None, f"{type(error).__name__}: {error}")
        raise
    leaves = work.leaves
    spent = time.time() - began
    built = Built(plan, version, leaves.lifted, work.merged, leaves.failures, leaves.late, spent)
    note("done", version or None, built.work)
    return built


class _Build:
    """One run, from its plan on."""

    def __init__(
        self, aggregate: Definition, catalog: Catalog, workers: Mapper, plan: Plan, run: str
    ) -> None:
        self.leaves = Leaves(aggregate, catalog, workers, plan, run)
        self.merged = 0
        self._aggregate = aggregate
        self._catalog = catalog
        self._workers = workers
        self._plan = plan
        self._run = run

    def follow(self) -> int:
        """Do it; returns the version that was published, 0 if all came out as it was."""
        records = self.leaves.bring()
        if not any(record.leaf for record in records.values()):
            why = next(iter(self.leaves.failures.values()), "there is none")
            raise NoPartition(
                f"{self._plan.name}: none of {len(records)} partitions could be read: {why}"
            )
        kinds = kinds_of(records)
        nodes = tree_of(self._aggregate, records, kinds)
        if self._lacks_leaves(nodes, records):
            kinds = kinds_of(records)
            nodes = tree_of(self._aggregate, records, kinds)
        self._make(Flow(nodes, missing(self._catalog, nodes)), kinds)
        return self._publish(records, nodes)

    # ------------------------------------------------------------ nodes

    def _lacks_leaves(self, nodes: list[Node], records: dict[str, LeafRecord]) -> bool:
        """Lift again what merging needs of leaves and is not there, as for a measure that is new.

        Whether the tree is another one after that.
        """
        needed: set[str] = set()
        lacking = missing(self._catalog, nodes)
        for at, names in lacking.items():
            for child in nodes[at].children:
                if (isinstance(child, LeafKeys) and not nodes[at].is_same) or not nodes[at].part:
                    needed |= {child.keys, *(child.states[name] for name in names)}
        absent = needed - self._catalog.present(needed)
        return self.leaves.lift_again(absent, records) if absent else False

    def _make(self, flow: Flow, kinds: Columns) -> None:
        """Make nodes as soon as what they are made of is there."""
        own = self._aggregate
        do = partial(merge, own.levels, own.measures, kinds)
        maps: deque[Iterator[tuple[Todo, Merged]]] = deque()
        under_way = 0
        while flow.ready or maps:
            while some := flow.take(_wanted(flow.ready, under_way)):
                results = self._workers.map(do, [self._work(one) for one in some])
                maps.append(zip(some, results, strict=True))
                under_way += len(some)
            if (found := next(maps[0], None)) is None:
                maps.popleft()
                continue
            self._keep(*found)
            flow.made(found[0])
            under_way -= 1

    def _keep(self, todo: Todo, made: Merged) -> None:
        """Put what was made into the catalog."""
        node = todo.node
        nodes = {node.states[name]: made.node.states[name] for name in todo.names}
        if todo.names:
            nodes[node.keys] = made.node.keys
        if node.values:
            nodes[node.values] = made.values
        self._catalog.put(nodes)
        self.merged += 1

    def _work(self, todo: Todo) -> Merge:
        """What a worker needs to make a node."""
        _, node, names = todo
        children = [] if not names else [self._sent(child, names) for child in node.children]
        there = set(node.states) - names
        merged = None
        if node.values and (there or not names):
            merged = self._sent(node, there)
        return Merge(
            node.level, node.chunk, children, tuple(sorted(names)), merged, bool(node.values)
        )

    def _sent(self, node: Node | LeafKeys, names: set[str]) -> Sent:
        keys = {name: node.states[name] for name in names}
        found = self._catalog.nodes([node.keys, *keys.values()])
        return Sent(found[node.keys], {name: found[key] for name, key in keys.items()})

    # ------------------------------------------------------------ publishing

    def _publish(self, records: dict[str, LeafRecord], nodes: list[Node]) -> int:
        own, plan = self._aggregate, self._plan
        levels: dict[str, dict[str, NodeRef]] = {str(level): {} for level in own.levels.all}
        parts: list[str] = []
        for node in nodes:
            if node.part:
                parts += [node.keys, *node.states.values()]
            else:
                levels[str(node.level)][node.chunk] = NodeRef(node.keys, node.states, node.values)
        failures = {name: one.failed for name, one in records.items() if one.failed}
        manifest = Manifest(
            own.name, 0, plan.as_of, 0.0, self._watermark(records), own.described(), records,
            levels, parts, dict(shape_of(own.levels, own.measures, {}).identities), failures,
            self._late(), self._run,
        )  # fmt: skip
        if plan.head is not None and _same(plan.head, manifest):
            return 0
        self._catalog.touch(manifest.node_keys() | manifest.inner_keys())
        return self._catalog.publish(manifest, self._catalog.head(own.name) if plan.head else 0)

    def _watermark(self, records: Mapping[str, LeafRecord]) -> int | None:
        """The latest time of all less the lateness; it never goes back.

        A row from the future closes nothing that has not come yet.
        """
        last = max((one.last for one in records.values() if one.last is not None), default=None)
        before = None if self._plan.head is None else self._plan.head.watermark
        if last is None:
            return before
        found = min(last, int(self._plan.as_of * 1e6)) - int(
            seconds(self._aggregate.lateness) * 1e6
        )
        return found if before is None else max(found, before)

    def _late(self) -> Late:
        """Late rows since the beginning."""
        before = Late() if self._plan.head is None else self._plan.head.late
        now = self.leaves.late
        return Late(
            before.folded + now.folded,
            before.quarantined + now.quarantined,
            before.removed + now.removed,
        )


def _same(head: Manifest, new: Manifest) -> bool:
    """Whether nothing that anybody could read is different."""
    contents = [
        {name: (one.fingerprint, one.leaf) for name, one in manifest.partitions.items()}
        for manifest in (head, new)
    ]
    return (
        contents[0] == contents[1]
        and head.levels == new.levels
        and head.failures == new.failures
        and same_meaning(head.definition, new.definition)
    )


def _wanted(ready: int, under_way: int) -> int:
    """How many nodes to give out at once: of many several, which workers get packed into tasks."""
    if ready < FEW <= under_way:
        return 0
    return min(max(1, ready // FEW), MERGED_AT_ONCE - under_way)
