"""Sample lines of the exposition formats: label text, values, headers.

Escaping, number format and headers are prometheus_client's own; what is made here is only the order of work, so that
a level's label text is made once and not once a sample. Sample lines are the same in the text format and in
OpenMetrics (no timestamps, no exemplars, legacy names only), headers are not.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from enum import Enum
from functools import lru_cache
from typing import Final

from prometheus_client import Metric, exposition
from prometheus_client.openmetrics import exposition as openmetrics
from prometheus_client.utils import floatToGoString

from exporter.core.result import LatencySummary
from exporter.core.units import NS
from exporter.metrics.family import Family

Block = str
"""The sample lines of one family and one probe."""


class Format(Enum):
    """The exposition formats on offer."""

    TEXT = "text"
    OPENMETRICS = "openmetrics"

    @property
    def content_type(self) -> str:
        """What a page of this format is sent as."""
        if self is Format.TEXT:
            return exposition.CONTENT_TYPE_PLAIN_0_0_4
        return openmetrics.CONTENT_TYPE_LATEST

    def encode(self, metrics: Sequence[Metric]) -> str:
        """These families, by prometheus_client; OpenMetrics without its end mark."""
        if self is Format.TEXT:
            return exposition.generate_latest(_Given(metrics)).decode()
        return _generate_openmetrics(_Given(metrics)).decode().removesuffix("# EOF\n")


class _Given:
    """What prometheus_client takes for a registry: families that are there already."""

    def __init__(self, metrics: Sequence[Metric]) -> None:
        self._metrics = metrics

    def collect(self) -> Iterator[Metric]:
        yield from self._metrics


# The library's functions without types of their own.
_generate_openmetrics: Final[Callable[[_Given], bytes]] = openmetrics.generate_latest
number: Final[Callable[[float], str]] = floatToGoString
"""A float as the formats write it."""


@lru_cache(maxsize=65536)
def label(name: str, value: str) -> str:
    """`name="value"`, escaped."""
    metric = Metric("x", "", "gauge")
    metric.add_sample("x", {name: value}, 0)
    line = exposition.generate_latest(_Given([metric])).decode().split("\n", 2)[2]
    return line.removeprefix("x{").removesuffix("} 0.0\n")


def labels(**pairs: str) -> str:
    """Label text without its braces."""
    return ",".join(label(name, value) for name, value in pairs.items())


@lru_cache(maxsize=1024)
def header(family: Family, page_format: Format) -> str:
    """The HELP and TYPE lines of a family."""
    return page_format.encode([Metric(family.name, family.help, family.kind)])


class Lines:
    """Collects the sample lines of one probe by family. A value that is not finite is left out: missing is absent."""

    def __init__(self) -> None:
        self._lines: dict[Family, list[str]] = {}

    def add(self, family: Family, label_text: str, value: float, suffix: str = "") -> None:
        """One sample. `label_text` is what `labels` made."""
        if not math.isfinite(value):
            return
        line = f"{family.name}{suffix}{{{label_text}}} {number(value)}\n"
        self._lines.setdefault(family, []).append(line)

    def blocks(self) -> dict[Family, Block]:
        """The lines by family, joined."""
        return {family: "".join(lines) for family, lines in self._lines.items()}


def percentile_text(percentile: float) -> str:
    """A percentile as label text: "50", "99.9"."""
    return f"{percentile:.10g}"


def add_percentiles(lines: Lines, family: Family, level_labels: str, summary: LatencySummary | None) -> None:
    for entry in summary.percentiles if summary is not None else ():
        text = label("percentile", percentile_text(entry.percentile))
        lines.add(family, f"{level_labels},{text}", entry.value_ns / NS)
