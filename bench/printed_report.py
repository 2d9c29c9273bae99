"""The content of a report in perf_analyzer's layout: its levels' figures, and the form of its lines. Knows no tool."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field

_LEVEL = re.compile(r"Request concurrency: (\S+)|Request Rate: (\S+) inference requests per second")
_NUMBER = re.compile(r"\b\d+(?:\.\d+)?(?:e[+-]?\d+)?\b")
_FIGURES = (
    (re.compile(r"    Throughput: (\S+) infer/sec"), ("throughput",)),
    (re.compile(r"    Avg latency: (\d+) usec"), ("avg",)),
    (re.compile(r"    (p[\d.]+) latency: (\d+) usec"), ()),
    (
        re.compile(
            r"    Avg request latency: (\d+) usec \(overhead \d+ usec \+ queue (\d+) usec \+ "
            r"compute input (\d+) usec \+ compute infer (\d+) usec \+ compute output (\d+) usec\)"
        ),
        ("server request", "server queue", "server input", "server infer", "server output"),
    ),
)
"""What is read of a line, under these names; a percentile's line has its name in it."""


@dataclass(frozen=True, slots=True)
class LevelReport:
    """One level: its load as printed, and its figures by name; times in microseconds."""

    load: str
    figures: dict[str, float] = field(default_factory=dict)


def parse_levels(text: str) -> list[LevelReport]:
    """The levels that have figures. A level that a tool began and did not report has none."""
    levels: list[LevelReport] = []
    for line in text.splitlines():
        if found := _LEVEL.fullmatch(line):
            levels.append(LevelReport(found[1] or found[2]))
        elif levels:
            levels[-1].figures.update(_figures(line))
    return [level for level in levels if level.figures]


def _figures(line: str) -> Iterable[tuple[str, float]]:
    for pattern, names in _FIGURES:
        if found := pattern.match(line):
            if names:
                return zip(names, map(float, found.groups()), strict=True)
            return [(found[1], float(found[2]))]
    return []


def forms(text: str) -> list[str]:
    """The lines with every number taken out: two reports of one layout have the same."""
    return [_NUMBER.sub("#", line) for line in text.splitlines()]
