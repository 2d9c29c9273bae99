"""The daemon's own metrics: few, and made fresh at each scrape.

It owns `triton_canary_exporter_*` and brings in the client library's `process_*` and `python_*`. What it tells comes
from the callables of `ExporterFacts`. One of them that fails costs its own metrics alone, and is counted.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from prometheus_client import CollectorRegistry, GCCollector, Metric, PlatformCollector, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

from exporter.core.limits import Load
from exporter.core.probe import Probe
from exporter.metrics.families import EXPORTER_PREFIX

_log = logging.getLogger(__name__)

COLLECTORS = (
    "archive",
    "baselines",
    "budgets",
    "config",
    "discovery",
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
    return at once. `next_run` gives None where nothing is planned; times are Unix seconds, 0 = never. `pause` says
    why a probe is paused ("": it is not), `pauses` how many pauses by hand there are, by what they stop; `load` what a
    probe's sweeps of the last hour caused, `budgets_used` what part of each budget of each group that is; `discovery`
    tells by source whether its last reading worked, and how many it has found."""

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
        family = _counter("collector_errors", "What failed while the page or the state file was made.", ["collector"])
        for collector, count in counts.items():
            family.add_metric([collector], count)
        return family

    def guard(self, collector: str, collect: Callable[[], Iterable[Metric]]) -> list[Metric]:
        """What `collect` gives; nothing, and one more failure, where it raises."""
        try:
            return list(collect())
        except Exception:
            _log.exception("collector %s failed", collector)
            self.count(collector)
            return []


def facts_metrics(facts: ExporterFacts, probes: int, errors: CollectorErrors) -> list[Metric]:
    """What the daemon says of itself now."""
    collectors: dict[str, Callable[[], Iterable[Metric]]] = {
        "config": lambda: _config(facts, probes),
        "scheduler": lambda: _scheduler(facts),
        "workers": lambda: _workers(facts),
        "archive": lambda: _archive(facts),
        "budgets": lambda: _budgets(facts),
        "discovery": lambda: _discovery(facts),
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
    """What the page says of itself."""
    return [
        _gauge("series", "Series of probes and targets on this page.", series),
        _gauge("series_dropped", "Series left out of this page to keep limits.max_series.", series_dropped),
    ]


def _config(facts: ExporterFacts, probes: int) -> Iterable[Metric]:
    build = _gauge("build_info", "Always 1; the version as label.", labels=["version"])
    build.add_metric([facts.version], 1)
    config = _gauge("config_info", "Always 1; the hash of the loaded configuration as label.", labels=["hash"])
    config.add_metric([facts.config_hash()], 1)
    return [
        build,
        config,
        _gauge(
            "config_last_reload_successful",
            "1 if the last loading of the configuration worked, else 0.",
            facts.config_reload_successful(),
        ),
        _gauge(
            "config_last_reload_success_timestamp_seconds",
            "Unix time of the last successful loading of the configuration.",
            facts.config_reload_success_unix_s(),
        ),
        _gauge("probes", "Probes configured.", probes),
    ]


def _scheduler(facts: ExporterFacts) -> Iterable[Metric]:
    pauses = _gauge(
        "pauses", "Pauses by hand in force, by scope: all (everything), target, probe. 0 without.", labels=["scope"]
    )
    for scope, count in facts.pauses().items():
        pauses.add_metric([scope], count)
    return [
        pauses,
        _gauge(
            "scheduler_last_tick_timestamp_seconds", "Unix time of the scheduler's last tick.", facts.last_tick_unix_s()
        ),
        _counter("clock_jumps", "Jumps of the wall clock noticed.", value=facts.clock_jumps()),
    ]


def _workers(facts: ExporterFacts) -> Iterable[Metric]:
    restarts = _counter("worker_restarts", "Workers replaced, by reason. Absent before the first.", ["reason"])
    for reason, count in facts.worker_restarts().items():
        restarts.add_metric([reason], count)
    return [_gauge("workers", "Worker processes alive.", facts.workers()), restarts]


def _budgets(facts: ExporterFacts) -> Iterable[Metric]:
    used = _gauge(
        "group_budget_used_ratio",
        "Part of the group's budget that its sweeps of the last hour took. Absent without sweeps in that time.",
        labels=["group", "budget"],
    )
    for group, budgets in facts.budgets_used().items():
        for budget, part in budgets.items():
            used.add_metric([group, budget], part)
    return [used]


def _discovery(facts: ExporterFacts) -> Iterable[Metric]:
    up = _gauge(
        "discovery_up", "1 if the last reading of the source worked; else its last list is kept.", labels=["source"]
    )
    found = _gauge("discovery_found", "Addresses or models that the source's last list has.", labels=["source"])
    for source, (works, count) in facts.discovery().items():
        up.add_metric([source], works)
        found.add_metric([source], count)
    dropped = "Discovered probes left out to keep limits.max_discovered."
    return [up, found, _gauge("discovery_dropped", dropped, facts.discovery_dropped())]


def _archive(facts: ExporterFacts) -> Iterable[Metric]:
    return [
        _counter("archive_rows", "Rows written to the archive.", value=facts.archive_rows()),
        _counter("archive_write_errors", "Writes to the archive that failed.", value=facts.archive_write_errors()),
        _gauge("archive_bytes", "Bytes that the archive holds.", facts.archive_bytes()),
    ]


def _gauge(name: str, text: str, value: float | None = None, labels: list[str] | None = None) -> GaugeMetricFamily:
    return GaugeMetricFamily(EXPORTER_PREFIX + name, text, value=value, labels=labels)


def _counter(name: str, text: str, labels: list[str] | None = None, value: float | None = None) -> CounterMetricFamily:
    return CounterMetricFamily(EXPORTER_PREFIX + name, text, value=value, labels=labels)
