"""A comparison for people: in words, and as a Markdown table for a pull request. Pure: no IO."""

from __future__ import annotations

from collections.abc import Iterator

from exporter.commands.compare.comparison import Comparison, LevelComparison, Ratio, Verdict, judge, needed_requests
from exporter.core.units import MS

_CLOSED_LOOPS = ("concurrency", "periodic")
"""Loads in which throughput is the server's doing; in the others it is what was asked for."""


def words(comparison: Comparison, tolerance: float) -> Iterator[str]:
    """Two lines a level: on throughput, and on each percentile. Of one that a side did not answer one line."""
    a, b = comparison.first, comparison.second
    for level in comparison.levels:
        if not all(level.answered):
            yield f"{level_name(level)}: {_silence(a, b, level)}"
            continue
        flag = "" if level.stable else " (not stable on both sides)"
        if level.throughput is not None:
            yield f"{level_name(level)}: {_throughput_words(a, b, level, level.throughput)}{flag}"
        latencies = [f"p{p:g} {_ratio_text(ratio)}" for p, ratio in level.latency.items()]
        if latencies:
            yield f"  latency of {b}, in times that of {a}: {'; '.join(latencies)}"
        yield from _untold_line(level)
    if comparison.unmatched:
        yield f"Not compared: {', '.join(comparison.unmatched)}"
    yield _conclusion(comparison, tolerance)


def table(comparison: Comparison, tolerance: float) -> Iterator[str]:
    """Rows of throughput and of each percentile, level by level."""
    yield f"| load | figure | {_cell(comparison.first)} | {_cell(comparison.second)} | ratio | 95 % interval | |"
    yield "|---|---|---:|---:|---:|---|---|"
    for level in comparison.levels:
        name = _cell(level_name(level) + ("" if level.stable else " (not stable)"))
        if not all(level.answered):
            cells = " | ".join("yes" if answered else "no" for answered in level.answered)
            yield f"| {name} | any ok request | {cells} | | | {' '.join(level.verdicts(tolerance))} |"
            continue
        if level.throughput is not None:
            verdict = judge(level.throughput, tolerance, more_is_better=True)
            figures = f"{level.throughput.first:.6g} | {level.throughput.second:.6g}"
            yield f"| {name} | inferences/s | {figures} | {_ratio_cells(level.throughput)} | {verdict} |"
        for percentile, ratio in level.latency.items():
            verdict = judge(ratio, tolerance, more_is_better=False)
            figures = f"{ratio.first / MS:.4g} ms | {ratio.second / MS:.4g} ms"
            yield f"| {name} | p{percentile:g} latency | {figures} | {_ratio_cells(ratio)} | {verdict} |"


def level_name(level: LevelComparison) -> str:
    """The load in words."""
    load = f"{level.mode.replace('_', ' ')} {level.label}"
    return f"{level.subject}, {load}" if level.subject else load


def _throughput_words(a: str, b: str, level: LevelComparison, ratio: Ratio) -> str:
    if level.mode not in _CLOSED_LOOPS:
        return f"{b} has {_ratio_text(ratio)} the throughput of {a}"
    if ratio.low is not None and not ratio.excludes_one:
        return f"{b} is as fast as {a}, as far as can be told: {_ratio_text(ratio)}"
    return f"{b} is {_times(ratio)} as fast as {a}{_bounds(ratio)}"


def _silence(a: str, b: str, level: LevelComparison) -> str:
    """Which side had no ok request."""
    if not any(level.answered):
        return f"neither {a} nor {b} has an ok request"
    silent, other = (b, a) if level.answered[0] else (a, b)
    return f"{silent} has no ok request, and {other} has"


def _times(ratio: Ratio) -> str:
    return f"{ratio.value:.2f} times"


def _bounds(ratio: Ratio) -> str:
    if ratio.low is None or ratio.high is None:
        return " (too few windows for an interval)"
    return f", {ratio.low:.2f} to {ratio.high:.2f}"


def _ratio_text(ratio: Ratio) -> str:
    if ratio.low is None or ratio.high is None:
        return f"{_times(ratio)} (too few windows for an interval)"
    return f"{_times(ratio)} ({ratio.low:.2f} to {ratio.high:.2f})"


def _ratio_cells(ratio: Ratio) -> str:
    bounds = "unknown" if ratio.low is None or ratio.high is None else f"{ratio.low:.3f} to {ratio.high:.3f}"
    return f"{ratio.value:.3f} | {bounds}"


def _conclusion(comparison: Comparison, tolerance: float) -> str:
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


def _untold_line(level: LevelComparison) -> Iterator[str]:
    """Percentiles that were left out."""
    if level.untold:
        parts = ", ".join(f"p{p:g} needs {needed_requests(p)}" for p in level.untold)
        yield f"  too few requests a sweep for: {parts}"


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")
