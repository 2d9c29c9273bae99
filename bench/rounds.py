"""Interleaved rounds: every tool measures every case in every round, so that what the machine does meanwhile hits all
alike, and a ratio is always of two figures of one round.

Knows nothing of what the tools are or what their figures mean.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Generic, TypeVar

from bench.machine import WATCH
from bench.programs import BenchError, progress

Figure = TypeVar("Figure")
Tool = Callable[[], Awaitable[Figure]]

OURS = "ours"
PERF_ANALYZER = "perf_analyzer"


@dataclass(frozen=True, slots=True)
class Case(Generic[Figure]):
    """What is measured, and by whom. `cells` are its first cells in a table."""

    cells: tuple[str, ...]
    tools: Mapping[str, Tool[Figure]]
    figures: dict[tuple[str, int], Figure] = field(default_factory=dict)
    """By tool and round; a tool that failed in a round has none there."""

    def of(self, tool: str) -> list[Figure]:
        """All figures of a tool."""
        return [figure for (name, _), figure in self.figures.items() if name == tool]

    def pairs(self, tool: str, other: str) -> list[tuple[Figure, Figure]]:
        """The figures of two tools from the rounds in which both have one."""
        rounds = sorted({number for _, number in self.figures})
        both = [(self.figures.get((tool, number)), self.figures.get((other, number))) for number in rounds]
        return [(one, two) for one, two in both if one is not None and two is not None]


async def measure(what: str, rounds: int, cases: Sequence[Case[Figure]]) -> None:
    """Fills in the cases' figures. Who begins changes from round to round."""
    for number in range(rounds):
        for case in cases:
            progress(f"{what}, round {number + 1} of {rounds}: {', '.join(case.cells)}")
            await WATCH.before(f"round {number + 1} of {', '.join(case.cells)}")
            names = list(case.tools)
            first = number % len(names)
            for name in names[first:] + names[:first]:
                try:
                    case.figures[name, number] = await case.tools[name]()
                except BenchError as error:
                    progress(f"{name} is lost in this round: {error}")


@dataclass(frozen=True, slots=True)
class Aim:
    """What a figure should be: at least, or at most, the limit."""

    limit: float
    at_least: bool = True

    def __str__(self) -> str:
        return f"{'≥' if self.at_least else '≤'} {self.limit:g}"

    def verdict(self, value: float) -> str:
        """Whether the value meets the aim, for a table."""
        return "yes" if (value >= self.limit if self.at_least else value <= self.limit) else "**no**"


def spread(values: Sequence[float], digits: int = 2) -> str:
    """Median and range."""
    if not values:
        return "no figures"
    return f"{median(values):.{digits}f} ({min(values):.{digits}f} to {max(values):.{digits}f})"


def ratio_cells(pairs: Iterable[tuple[float, float]], aim: Aim | None) -> list[str]:
    """Cells of a row: the ratio of the first to the second, its aim, and whether its median meets that."""
    ratios = [ours / theirs for ours, theirs in pairs]
    if aim is None:
        return [spread(ratios), "", ""]
    return [spread(ratios), str(aim), aim.verdict(median(ratios)) if ratios else ""]


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)
