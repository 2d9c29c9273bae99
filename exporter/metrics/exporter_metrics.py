"""The daemon's own metrics: few, and made fresh at each scrape.

It owns `triton_canary_exporter_*` and brings in the client library's `process_*` and `python_*`. Its figures come
from the callables of `ExporterFacts`. One of them that fails costs its own metrics alone, and is counted.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from prometheus_client import CollectorRegistry, GCCollector, Metric, PlatformCollector, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

from exporter.core.lease_state import LeaseState
from exporter.core.limits import Load
from exporter.core.probe import Probe
from exporter.core.rollout import GateVerdict, LastGate
from exporter.metrics import exporter_families as f
from exporter.metrics.family import Family

_log = logging.getLogger(__name__)

COLLECTORS = (
    "archive",
    "baselines",
    "budgets",
    "config",
    "discovery",
    "gates",
    "lease",
    "probes",
    "process",
    "python",
    "scheduler",
    "state_file",
    "workers",
)
"""The label values of `collector_errors_total`."""


@dataclass(frozen=True, slots=True)
class ExporterFacts:
    """What the rest of the daemon knows, as callables: asked in the event loop's thread, at each scrape, so they must
    return at once. `next_run` gives None where nothing is planned; times are Unix seconds, 0 = never. `pause` is
    why a probe is paused ("": it is not), `pauses` how many pauses by hand there are, by what they stop; `load` what a
    probe's sweeps of the last hour caused, `budgets_used` what part of each budget of each group that is; `discovery`
    has by source whether its last reading worked, and how many it has found."""

    version: str
    next_run: Callable[[Probe], float | None]
    last_tick_unix_s: Callable[[], float]
    clock_jumps: Callable[[], int]
    workers: Callable[[], int]
    worker_restarts: Callable[[], Mapping[str, int]]
    archive_rows: Callable[[], int]
    archive_write_errors: Callable[[], int]
    archive_bytes: Callable[[], int]
    archive_error: Callable[[], str]
    config_hash: Callable[[], str]
    config_reload_successful: Callable[[], bool]
    config_reload_success_unix_s: Callable[[], float]
    baseline_write_errors: Callable[[], int] = lambda: 0
    data_error: Callable[[], str] = str
    config_notices: Callable[[], Sequence[str]] = tuple
    pause: Callable[[Probe], str] = lambda _probe: ""
    pauses: Callable[[], Mapping[str, int]] = dict
    load: Callable[[Probe], Load] = lambda _probe: Load()
    discovery: Callable[[], Mapping[str, tuple[bool, int]]] = dict
    discovery_dropped: Callable[[], int] = lambda: 0
    budgets_used: Callable[[], Mapping[str, Mapping[str, float]]] = dict
    gates_running: Callable[[], int] = lambda: 0
    last_gate: Callable[[], LastGate | None] = lambda: None
    lease: Callable[[], LeaseState | None] = lambda: None


class CollectorErrors:
    """Counts what failed while a page was made, by collector. For any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counts = dict.fromkeys(COLLECTORS, 0)

    def count(self, collector: str) -> None:
        """One more failure."""
        with self._lock:
            self._counts[collector] += 1

    def metric(self, state_file_errors: int, baseline_errors: int) -> Metric:
        """The counter; the state file and the baselines count their own."""
        with self._lock:
            counts = self._counts | {"state_file": state_file_errors, "baselines": baseline_errors}
        return _labelled(f.COLLECTOR_ERRORS, {(collector,): count for collector, count in counts.items()})

    def guard(self, collector: str, collect: Callable[[], Iterable[Metric]]) -> list[Metric]:
        """What `collect` gives; nothing, and one more failure, where it raises."""
        try:
            return list(collect())
        except Exception:
            _log.exception("collector %s failed", collector)
            self.count(collector)
            return []


def facts_metrics(facts: ExporterFacts, probes: int, errors: CollectorErrors) -> list[Metric]:
    """The daemon's own figures now."""
    collectors: dict[str, Callable[[], Iterable[Metric]]] = {
        "config": lambda: _config(facts, probes),
        "scheduler": lambda: _scheduler(facts),
        "workers": lambda: _workers(facts),
        "archive": lambda: _archive(facts),
        "budgets": lambda: _budgets(facts),
        "discovery": lambda: _discovery(facts),
        "lease": lambda: _lease(facts),
        "gates": lambda: _gates(facts),
    }
    return [metric for name, collect in collectors.items() for metric in errors.guard(name, collect)]


class RuntimeCollectors:
    """The client library's collectors of process and interpreter."""

    def __init__(self, errors: CollectorErrors) -> None:
        self._errors = errors
        registry = CollectorRegistry()
        self._process = ProcessCollector(registry=registry)
        self._python = (PlatformCollector(registry=registry), GCCollector(registry=registry))

    def metrics(self) -> list[Metric]:
        """`process_*` and `python_*` now."""
        found = self._errors.guard("process", self._process.collect)
        for collector in self._python:
            found += self._errors.guard("python", collector.collect)
        return found


def page_metrics(series: int, series_dropped: int) -> list[Metric]:
    """The page's own figures."""
    return [_metric(f.SERIES, series), _metric(f.SERIES_DROPPED, series_dropped)]


def _config(facts: ExporterFacts, probes: int) -> Iterable[Metric]:
    return [
        _labelled(f.BUILD_INFO, {(facts.version,): 1}),
        _labelled(f.CONFIG_INFO, {(facts.config_hash(),): 1}),
        _metric(f.RELOAD_SUCCESSFUL, facts.config_reload_successful()),
        _metric(f.RELOAD_SUCCESS, facts.config_reload_success_unix_s()),
        _metric(f.PROBES, probes),
    ]


def _scheduler(facts: ExporterFacts) -> Iterable[Metric]:
    pauses = _labelled(f.PAUSES, {(scope,): count for scope, count in facts.pauses().items()})
    return [pauses, _metric(f.LAST_TICK, facts.last_tick_unix_s()), _metric(f.CLOCK_JUMPS, facts.clock_jumps())]


def _workers(facts: ExporterFacts) -> Iterable[Metric]:
    restarts: dict[tuple[str, ...], float] = {(reason,): count for reason, count in facts.worker_restarts().items()}
    return [_metric(f.WORKERS, facts.workers()), _labelled(f.WORKER_RESTARTS, restarts)]


def _archive(facts: ExporterFacts) -> Iterable[Metric]:
    return [
        _metric(f.ARCHIVE_ROWS, facts.archive_rows()),
        _metric(f.ARCHIVE_WRITE_ERRORS, facts.archive_write_errors()),
        _metric(f.ARCHIVE_BYTES, facts.archive_bytes()),
    ]


def _budgets(facts: ExporterFacts) -> Iterable[Metric]:
    groups = facts.budgets_used().items()
    used: dict[tuple[str, ...], float] = {
        (group, budget): part for group, budgets in groups for budget, part in budgets.items()
    }
    return [_labelled(f.BUDGET_USED, used)]


def _discovery(facts: ExporterFacts) -> Iterable[Metric]:
    states = facts.discovery()
    return [
        _labelled(f.DISCOVERY_UP, {(source,): works for source, (works, _) in states.items()}),
        _labelled(f.DISCOVERY_FOUND, {(source,): count for source, (_, count) in states.items()}),
        _metric(f.DISCOVERY_DROPPED, facts.discovery_dropped()),
    ]


def _lease(facts: ExporterFacts) -> Iterable[Metric]:
    lease = facts.lease()
    if lease is None:
        return []
    pair = lease.name, lease.shard
    return [
        _labelled(f.LEASE_HELD, {pair: lease.is_held}),
        _labelled(f.LEASE_LEFT, {pair: lease.seconds_left}),
        _labelled(f.LEASE_ERRORS, {pair: lease.errors}),
    ]


_RATIOS = (f.GATE_RATIO, f.GATE_RATIO_LOW, f.GATE_RATIO_HIGH)
"""In the order of `LastGate.ratios`."""


def _gates(facts: ExporterFacts) -> Iterable[Metric]:
    running, gate = _metric(f.GATES_RUNNING, facts.gates_running()), facts.last_gate()
    if gate is None:
        return [running]
    sides = gate.stable, gate.candidate
    ratios: dict[Family, dict[tuple[str, ...], float]] = {family: {} for family in _RATIOS}
    for figure, values in gate.ratios.items():
        for family, value in zip(_RATIOS, values, strict=True):
            if value is not None:
                ratios[family][(*sides, figure)] = value
    errors: dict[tuple[str, ...], float] = {} if gate.error_ratio is None else {sides: gate.error_ratio}
    return [
        running,
        _labelled(f.GATE_VERDICT, {(*sides, verdict.value): verdict is gate.verdict for verdict in GateVerdict}),
        _labelled(f.GATE_END, {sides: gate.ended_unix_s}),
        *(_labelled(family, values) for family, values in ratios.items()),
        _labelled(f.GATE_ERROR_RATIO, errors),
        _labelled(f.GATE_PAIRS, {sides: gate.pairs}),
        _labelled(f.GATE_DURATION, {sides: gate.seconds}),
    ]


def _metric(family: Family, value: float) -> Metric:
    return _labelled(family, {(): value})


def _labelled(family: Family, values: Mapping[tuple[str, ...], float]) -> Metric:
    """The family with one sample for each tuple of label values."""
    make = CounterMetricFamily if family.kind == "counter" else GaugeMetricFamily
    metric = make(family.name, family.help, labels=family.labels)
    for label_values, value in values.items():
        metric.add_metric(label_values, value)
    return metric
