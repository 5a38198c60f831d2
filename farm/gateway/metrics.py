"""``GET /metrics``: the farm's numbers and the gateway's own, for Prometheus."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from farm.model import Ending

__all__ = ["CONTENT_TYPE", "Metrics", "farm_metrics"]

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

QUEUE_GAUGES = {
    "waiting": "Tasks that wait for a host",
    "delayed": "Tasks whose time has not come",
    "running": "Tasks that hosts have",
    "open_tasks": "Tasks that are not over",
    "open_bytes": "Bytes of their arguments",
    "refused_clients": "Clients that wait for room",
    "arrival_rate": "Tasks a second that were accepted of late",
    "service_rate": "Tasks a second that ended of late",
}
QUEUE_COUNTERS = {
    "arrived": "Tasks accepted",
    "placed": "Tasks given to hosts",
    "ended": "Tasks over",
}
HOST_GAUGES = {
    "slots": "Tasks that it can run at a time",
    "running": "Tasks that it runs",
    "held": "Tasks that it has",
    "window": "Tasks that it may be given: its credit",
    "last_seen_seconds": "How long ago it said something",
}
LIMITS = {
    "open_tasks": "Tasks that are not over",
    "max_tasks": "Tasks that are accepted, at most",
    "open_bytes": "Bytes of their arguments",
    "max_bytes": "Bytes of arguments that are accepted, at most",
    "result_bytes": "Bytes of results that are kept",
    "unread_bytes": "Bytes of results that nobody has taken",
    "max_result_bytes": "Bytes of results that are kept, at most",
}


OUTCOMES = frozenset(ending.name.lower() for ending in Ending)


class Metrics:
    """What this gateway counts. Bounded: labels are routes and statuses, never what callers say."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry(auto_describe=False)
        self._requests = Counter(
            "farm_gateway_requests",
            "Requests answered",
            ["method", "route", "status"],
            registry=self._registry,
        )
        self._seconds = Histogram(
            "farm_gateway_request_seconds",
            "From a request's head to its answer, with the time that it was asked to wait",
            ["route"],
            registry=self._registry,
            buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30),
        )

        # Those of each label, for finding them costs more than counting; as few as labels are.
        self._known: dict[tuple[str, str, int], tuple[Counter, Histogram]] = {}

    def answered(self, method: str, route: str, status: int, seconds: float) -> None:
        """A request was answered."""
        known = self._known.get((method, route, status))
        if known is None:
            counter = self._requests.labels(method, route, str(status))
            known = counter, self._seconds.labels(route)
            self._known[method, route, status] = known
        known[0].inc()
        known[1].observe(seconds)

    def text(
        self,
        status: Mapping[str, Any] | None,
        hosts: list[Mapping[str, Any]],
        own: Mapping[str, float],
        aggregates: Sequence[Mapping[str, Any]] = (),
    ) -> bytes:
        """Everything, as it is scraped; ``status`` None: the farm cannot be reached."""
        registry = CollectorRegistry(auto_describe=False)
        given = [*farm_metrics(status, hosts), *_own(own), *_published(aggregates)]
        registry.register(_Given(given))
        return generate_latest(registry) + generate_latest(self._registry)


class _Given(Collector):
    """A collector of what is known already."""

    def __init__(self, metrics: list[Metric]) -> None:
        self._metrics = metrics

    def collect(self) -> Iterator[Metric]:
        return iter(self._metrics)


def _own(numbers: Mapping[str, float]) -> Iterator[Metric]:
    for name, value in numbers.items():
        yield GaugeMetricFamily(f"farm_gateway_{name}", "Of this gateway, now", value=value)


AGGREGATES = {
    "staleness": ("farm_aggregate_staleness_seconds", "How long ago its source was looked at"),
    "fresh": ("farm_aggregate_fresh", "Whether it is as young as was promised"),
    "complete": ("farm_aggregate_complete", "Whether every partition could be read"),
    "version": ("farm_aggregate_version", "The version that is served"),
}


def _published(aggregates: Sequence[Mapping[str, Any]]) -> Iterator[Metric]:
    """How fresh aggregates are; there are as many as are defined."""
    for key, (name, about) in AGGREGATES.items() if aggregates else ():
        gauge = GaugeMetricFamily(name, about, labels=["aggregate"])
        for one in aggregates:
            gauge.add_metric([one["name"]], float(one[key]))
        yield gauge


def farm_metrics(
    status: Mapping[str, Any] | None, hosts: list[Mapping[str, Any]]
) -> Iterator[Metric]:
    """The farm's numbers, from what it answers to ``status`` and ``hosts``."""
    yield GaugeMetricFamily("farm_up", "Whether the farm answers", value=float(status is not None))
    if status is None:
        return
    yield GaugeMetricFamily("farm_epoch", "Of the coordinator", value=status["epoch"])
    yield GaugeMetricFamily("farm_uptime_seconds", "Of it", value=status["uptime_seconds"])
    yield GaugeMetricFamily("farm_sessions", "Clients connected", value=status["sessions"])
    yield GaugeMetricFamily("farm_slots", "Of all hosts connected", value=status["slots"])
    yield GaugeMetricFamily(
        "farm_stuck_tasks", "That nothing would end", value=sum(status["stuck"].values())
    )
    tasks = GaugeMetricFamily("farm_tasks", "Tasks the farm knows, by state", labels=["state"])
    for state, count in status["tasks"].items():
        tasks.add_metric([state], count)
    yield tasks
    for name, text in LIMITS.items():
        if name in status["limits"]:
            yield GaugeMetricFamily(f"farm_{name}", text, value=status["limits"][name])
    journal = status["journal"]
    yield CounterMetricFamily(
        "farm_journal_records", "Records committed", value=journal["committed"]
    )
    yield GaugeMetricFamily(
        "farm_journal_behind", "Records not committed yet", value=journal["behind"]
    )
    yield from _counted(status["counters"], status["process"])
    for name in ("cpu_seconds", "resident_bytes", "connections"):
        if name in status["process"]:
            yield GaugeMetricFamily(
                f"farm_coordinator_{name}", "Of its process", value=status["process"][name]
            )
    yield from _rows("queue", status["queues"], QUEUE_GAUGES, GaugeMetricFamily)
    yield from _rows("queue", status["queues"], QUEUE_COUNTERS, CounterMetricFamily)
    yield from _waits(status["queues"])
    yield from _rows("host", hosts, HOST_GAUGES, GaugeMetricFamily)
    connected = GaugeMetricFamily("farm_host_up", "Whether it is connected", labels=["host"])
    for host in hosts:
        connected.add_metric([host["name"]], float(host["connected"]))
    yield connected


def _counted(counters: Mapping[str, int], process: Mapping[str, Any]) -> Iterator[Metric]:
    """What has happened since the coordinator started."""
    outcomes = CounterMetricFamily("farm_outcomes", "How tasks ended", labels=["outcome"])
    events = CounterMetricFamily("farm_events", "What the coordinator counts", labels=["event"])
    for name, count in {**counters, **_whole(process)}.items():
        (outcomes if name in OUTCOMES else events).add_metric([name], count)
    yield outcomes
    yield events


def _whole(process: Mapping[str, Any]) -> dict[str, int]:
    """What a process counts, beside its sizes and times."""
    apart = {"resident_bytes", "connections"}
    return {k: v for k, v in process.items() if isinstance(v, int) and k not in apart}


def _rows(
    kind: str, rows: list[Mapping[str, Any]], names: Mapping[str, str], family: Any
) -> Iterator[Metric]:
    """One metric for each name, with a sample for each row that has it."""
    for name, text in names.items():
        metric = family(f"farm_{kind}_{name}", text, labels=[kind])
        for row in rows:
            if row.get(name) is not None:
                metric.add_metric([str(row["name"])], float(row[name]))
        yield metric


def _waits(queues: list[Mapping[str, Any]]) -> Iterator[Metric]:
    """How long tasks waited of late, and whether anything runs at all."""
    waits = GaugeMetricFamily(
        "farm_queue_wait_seconds", "How long tasks waited of late", labels=["queue", "quantile"]
    )
    paused = GaugeMetricFamily("farm_queue_paused", "Whether it is paused", labels=["queue"])
    for row in queues:
        paused.add_metric([row["name"]], float(row["paused"]))
        for key, quantile in (("wait_p50", "0.5"), ("wait_p99", "0.99")):
            if row.get(key) is not None:
                waits.add_metric([row["name"], quantile], row[key])
    yield waits
    yield paused
