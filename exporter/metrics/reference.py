"""The reference of all metrics as Markdown, made from the families; docs/metrics.md holds it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from exporter.metrics.exporter_families import EXPORTER_ORDER
from exporter.metrics.families import LEVEL_VALUE, PAGE_ORDER, REQUESTS
from exporter.metrics.family import Family, L, P
from exporter.metrics.stream_families import TABLE as STREAMS
from exporter.metrics.token_families import TABLE as TOKENS

_HEAD = "| metric | type | labels | meaning |\n|---|---|---|---|"
_SETS = {L: "**L**", P: "**P**"}


def reference() -> str:
    """A table for each part of the page, in its order."""
    streams = len(PAGE_ORDER) - len(STREAMS.families)
    tokens = streams - len(TOKENS.families)
    results, cumulative = PAGE_ORDER.index(LEVEL_VALUE), PAGE_ORDER.index(REQUESTS)
    parts = {
        "State of a probe": _families(PAGE_ORDER[:results]),
        "Results of the last sweep": _families(PAGE_ORDER[results:cumulative]),
        "Cumulative": _families(PAGE_ORDER[cumulative:tokens]),
        "Language models": _families(PAGE_ORDER[tokens:streams]),
        "Streams in real time": _families(PAGE_ORDER[streams:]),
        "The daemon itself": _families(EXPORTER_ORDER),
    }
    return "\n".join("\n".join([f"### {title}\n", _HEAD, *rows, ""]) for title, rows in parts.items())


def _families(families: Sequence[Family]) -> Iterator[str]:
    for family in families:
        name = f"{family.name}_total" if family.kind == "counter" else family.name
        yield f"| `{name}` | {family.kind} | {_labels(family.labels)} | {family.help} |"


def _labels(labels: tuple[str, ...]) -> str:
    """The sets that most have by their letters."""
    for common, letter in _SETS.items():
        if labels[: len(common)] == common:
            return ", ".join([letter, *(f"`{name}`" for name in labels[len(common) :])])
    return ", ".join(f"`{name}`" for name in labels)
