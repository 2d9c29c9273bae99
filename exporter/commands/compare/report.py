"""A comparison for people: the verdict, one Markdown table that is aligned for a terminal, and notes. Pure: no IO."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from exporter.commands.compare.comparison import Comparison, LevelComparison, Ratio, Verdict, judge, needed_requests
from exporter.core.units import MS

_ALIGNMENT = ("---", "---", "---:", "---:", "---:", "---", "---")


def table(comparisons: Sequence[Comparison], tolerance: float) -> list[str]:
    """Rows of throughput and of each percentile, level by level; with several comparisons each row names its side."""
    several = len(comparisons) > 1
    first = comparisons[0].first
    head = ["load", "figure", first, "compared" if several else comparisons[0].second, "ratio", "95 % interval", ""]
    rows = [[*(["side"] if several else []), *head]]
    for comparison in comparisons:
        side = [comparison.second] if several else []
        rows += [[*side, *row] for level in comparison.levels for row in _level_rows(level, tolerance)]
    if len(rows) == 1:
        return []
    rows = [[_cell(cell) for cell in row] for row in rows]
    alignment = [*(["---"] if several else []), *_ALIGNMENT]
    widths = [max(3, *map(len, column)) for column in zip(*rows, strict=True)]
    lines = [_line(row, widths, alignment) for row in rows]
    rule = [
        "-" * (width - 1) + ":" if align.endswith(":") else "-" * width
        for width, align in zip(widths, alignment, strict=True)
    ]
    return [lines[0], f"| {' | '.join(rule)} |", *lines[1:]]


def _line(row: Sequence[str], widths: Sequence[int], alignment: Sequence[str]) -> str:
    cells = [
        cell.rjust(width) if align.endswith(":") else cell.ljust(width)
        for cell, width, align in zip(row, widths, alignment, strict=True)
    ]
    return f"| {' | '.join(cells)} |"


def _level_rows(level: LevelComparison, tolerance: float) -> Iterator[list[str]]:
    name = level_name(level) + ("" if level.stable else " (not stable)")
    if not all(level.responded):
        cells = ["yes" if responded else "no" for responded in level.responded]
        yield [name, "any ok request", *cells, "", "", " ".join(level.verdicts(tolerance))]
        return
    if level.throughput is not None:
        verdict = judge(level.throughput, tolerance, more_is_better=True)
        figures = [f"{level.throughput.first:.6g}", f"{level.throughput.second:.6g}"]
        yield [name, "inferences/s", *figures, *_ratio_cells(level.throughput), verdict]
    for percentile, ratio in level.latency.items():
        verdict = judge(ratio, tolerance, more_is_better=False)
        figures = [f"{ratio.first / MS:.4g} ms", f"{ratio.second / MS:.4g} ms"]
        yield [name, f"p{percentile:g} latency", *figures, *_ratio_cells(ratio), verdict]


def notes(comparison: Comparison) -> Iterator[str]:
    """What was left out of the table, and why."""
    for level in comparison.levels:
        if all(level.responded) and level.unsupported:
            parts = ", ".join(f"p{p:g} needs {needed_requests(p)}" for p in level.unsupported)
            yield f"{level_name(level)}: too few requests per sweep for: {parts}"
    if comparison.unmatched:
        yield f"Not compared: {', '.join(comparison.unmatched)}"


def level_name(level: LevelComparison) -> str:
    """The load in words."""
    load = f"{level.mode.replace('_', ' ')} {level.label}"
    return f"{level.subject}, {load}" if level.subject else load


def _ratio_cells(ratio: Ratio) -> list[str]:
    bounds = "too few windows" if ratio.low is None or ratio.high is None else f"{ratio.low:.3f} to {ratio.high:.3f}"
    return [f"{ratio.value:.3f}", bounds]


def verdict_line(comparison: Comparison, tolerance: float) -> str:
    """What came of it, in one sentence."""
    a, b, verdicts = comparison.first, comparison.second, comparison.verdicts(tolerance)
    percent, unclear = f"{tolerance * 100:g} %", verdicts.count(Verdict.UNCLEAR)
    if Verdict.WORSE in verdicts:
        return f"{b} is worse than {a}, beyond a tolerance of {percent}."
    if not verdicts:
        return f"No figure of {b} can be compared with one of {a}."
    if unclear:
        are = "is" if unclear == 1 else "are"
        counts = f"{unclear} of {len(verdicts)} {are} undecided: {_why_undecided(comparison)}"
        return f"No figure of {b} is shown to be worse than that of {a} beyond {percent}; {counts}."
    return f"{b} is not worse than {a}, within a tolerance of {percent}."


def _why_undecided(comparison: Comparison) -> str:
    """What it would take to decide."""
    ratios = [ratio for level in comparison.levels for ratio in (level.throughput, *level.latency.values()) if ratio]
    if any(ratio.few for ratio in ratios):
        return "a side has fewer sweeps than it takes (--min-sweeps)"
    return "they may be within the tolerance or beyond it, or differ by chance; more sweeps would decide"


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")
