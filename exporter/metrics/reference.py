"""The reference of all metrics as Markdown, made from the families; docs/metrics.md holds it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from prometheus_client import Metric

from exporter.metrics.exporter_metrics import CollectorErrors, ExporterFacts, facts_metrics, page_metrics
from exporter.metrics.families import LEVEL_VALUE, PAGE_ORDER, REQUESTS, Family, L, P

_HEAD = "| metric | type | labels | meaning |\n|---|---|---|---|"
_SETS = {L: "**L**", P: "**P**"}


def reference() -> str:
    """A table for each part of the page, in its order."""
    results, cumulative = PAGE_ORDER.index(LEVEL_VALUE), PAGE_ORDER.index(REQUESTS)
    parts = {
        "State of a probe": _families(PAGE_ORDER[:results]),
        "Results of the last sweep": _families(PAGE_ORDER[results:cumulative]),
        "Cumulative": _families(PAGE_ORDER[cumulative:]),
        "The daemon itself": _own_metrics(),
    }
    return "\n".join("\n".join([f"### {title}\n", _HEAD, *rows, ""]) for title, rows in parts.items())


def _families(families: Sequence[Family]) -> Iterator[str]:
    for family in families:
        name = f"{family.name}_total" if family.kind == "counter" else family.name
        yield _row(name, family.kind, _labels(family.labels), family.help)


def _labels(labels: tuple[str, ...]) -> str:
    """The sets that most have by their letters."""
    for common, letter in _SETS.items():
        if labels[: len(common)] == common:
            return ", ".join([letter, *(f"`{name}`" for name in labels[len(common) :])])
    return ", ".join(f"`{name}`" for name in labels)


def _own_metrics() -> Iterator[str]:
    for metric in _told():
        labels = dict.fromkeys(name for sample in metric.samples for name in sample.labels)
        name = f"{metric.name}_total" if metric.type == "counter" else metric.name
        yield _row(name, metric.type, ", ".join(f"`{label}`" for label in labels), metric.documentation)


def _told() -> list[Metric]:
    """What the daemon says of itself, of a daemon that has something of everything."""
    errors = CollectorErrors()
    facts = ExporterFacts(
        version="",
        next_run=lambda _probe: None,
        last_tick_unix_s=lambda: 0.0,
        clock_jumps=lambda: 0,
        workers=lambda: 0,
        worker_restarts=lambda: {"crash": 0},
        pauses=lambda: {"": 0},
        budgets_used=lambda: {"": {"": 0.0}},
        discovery=lambda: {"": (True, 0)},
        archive_rows=lambda: 0,
        archive_write_errors=lambda: 0,
        archive_bytes=lambda: 0,
        archive_error=lambda: "",
        config_hash=lambda: "",
        config_reload_successful=lambda: True,
        config_reload_success_unix_s=lambda: 0.0,
    )
    return [*facts_metrics(facts, 0, errors), *page_metrics(0, 0), errors.metric(0, 0)]


def _row(name: str, kind: str, labels: str, text: str) -> str:
    return f"| `{name}` | {kind} | {labels} | {text} |"
