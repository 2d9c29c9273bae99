"""Charts as SVG: sparklines, percentiles over a day, the load curve, the breakdown.

Pure: figures in, markup out; every text is escaped. Positions are percentages and lines do not scale, so that a chart
fits any width with letters of one size, without a script. Colours are the style sheet's, by class.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from exporter.state.day_ring import CONCLUSIONS, DAY_SECONDS, Conclusion, Day
from exporter.state.history import MAX_PROBES
from exporter.web import humanize as words
from exporter.web.report import LevelReport

_FAILED = Conclusion.ABORTED.severity
_SPARK_BUCKETS = 96
_BUCKET_SECONDS = DAY_SECONDS / _SPARK_BUCKETS
_SIZE = 1000
"""Of the coordinates inside a plot, which is stretched to its place."""
_LEAST_SPAN_SECONDS = 3600.0
"""A chart of a probe that runs since a moment ago: a day's width would be empty."""
_TIME_STEPS = (900, 1800, 3600, 10_800, 21_600)
_GAP = 2.5
"""A line ends where a sweep is missing: where the next one comes later than so many usual distances."""

PARTS: Mapping[str, tuple[str, ...]] = {
    "client": ("client_send", "client_receive"),
    "network": ("network",),
    "server overhead": ("server_overhead",),
    "queue": ("queue",),
    "compute": ("compute_input", "compute_infer", "compute_output", "composing"),
    "cache": ("cache_hit", "cache_miss"),
}
"""The parts of a breakdown, in the order of a request's way, and the components that each holds."""


class Sparklines:
    """Sparklines as last drawn: of 1000 probes few have a new sweep since the last refresh."""

    def __init__(self) -> None:
        self._drawn: dict[str, tuple[tuple[object, ...], Markup]] = {}

    def get(self, probe: str, day: Day, level: str, now_unix_s: float) -> Markup:
        """The sparkline of the probe's level, up to the end of this quarter of an hour."""
        until_s = math.ceil(now_unix_s / _BUCKET_SECONDS) * _BUCKET_SECONDS
        newest = float(day.started_unix_s[-1]) if len(day.started_unix_s) else 0.0
        worst = int(day.severity[-1]) if len(day.severity) else 0
        key = (level, len(day.severity), newest, worst, until_s)
        found = self._drawn.get(probe)
        if found is None or found[0] != key:
            if len(self._drawn) >= MAX_PROBES:
                self._drawn.clear()
            found = self._drawn[probe] = (key, sparkline(day, level, until_s))
        return found[1]


def sparkline(day: Day, level: str, now_unix_s: float) -> Markup:
    """The p99 of a level over 24 hours: the highest of each quarter of an hour, from zero; its baseline dashed; a tick
    at the bottom where a sweep failed."""
    if not len(day.started_unix_s):
        return Markup('<span class="soft">no sweeps yet</span>')
    figures = day.levels.get(level, {})
    values = figures.get("p99", np.full(len(day.started_unix_s), math.nan))
    baseline = _last(figures.get("baseline_p99"))
    bucket = np.clip(((day.started_unix_s - now_unix_s) / DAY_SECONDS + 1) * _SPARK_BUCKETS, 0, _SPARK_BUCKETS - 1)
    whole = bucket.astype(np.int64)
    highest = np.full(_SPARK_BUCKETS, math.nan)
    np.fmax.at(highest, whole, values)
    failed = np.unique(whole[day.severity >= _FAILED])
    top = 1.08 * max(_most(highest), baseline or 0.0) or 1.0
    # A probe that runs once an hour has gaps that are none.
    gap = max(2.0, _GAP * float(np.median(np.diff(whole))) if len(whole) > 1 else 2.0)
    xs = np.arange(_SPARK_BUCKETS)
    known = ~np.isnan(highest)
    line = _path(xs[known] + 0.5, 26 - 24 * highest[known] / top, gap)
    parts = []
    if baseline:
        y = 26 - 24 * baseline / top
        parts.append(f'<path class="base" d="M0 {y:.1f}H96"/>')
    parts.append(f'<path class="line" d="{line}"/>{_dots(line)}')
    if line.count("M") == 1:
        area = f"{line}V27H{xs[known][0] + 0.5:g}Z"
        parts.insert(0, f'<path class="area" d="{area}"/>')
    if len(failed):
        parts.append('<path class="fail" d="' + "".join(f"M{x + 0.5:g} 21v7" for x in failed) + '"/>')
    low, high = (float(np.nanmin(values)), float(np.nanmax(values))) if known.any() else (None, None)
    text = f"p99 over 24 h: {words.seconds(low)} to {words.seconds(high)}"
    if baseline:
        text += f", baseline {words.seconds(baseline)}"
    if lost := int((day.severity >= _FAILED).sum()):
        text += f"; {lost} of {len(day.severity)} sweeps failed"
    return (
        Markup(
            '<svg class="spark" viewBox="0 0 96 28" preserveAspectRatio="none" role="img" aria-label="{0}">'
            "<title>{0}</title>"
        ).format(text)
        + _drawn(parts)
        + Markup("</svg>")
    )


def day_chart(day: Day, level: str, label: str, now_unix_s: float) -> Markup:
    """Percentiles of a level over 24 hours, or since its first sweep; the baselines of p50 and p99, each with the band
    within which no tier calls a sweep bad; sweeps that failed as ticks below."""
    figures = day.levels.get(level)
    if figures is None or not len(day.started_unix_s):
        return Markup("")
    span_s = min(DAY_SECONDS, max(_LEAST_SPAN_SECONDS, 1.02 * (now_unix_s - float(day.started_unix_s[0]))))
    x = _SIZE * ((day.started_unix_s - now_unix_s) / span_s + 1)
    distance = float(np.median(np.diff(x))) if len(x) > 1 else 0.0
    gap = max(_GAP * distance, 4.0)
    lines = {name: figures[name].astype(float) for name in ("p50", "p95", "p99")}
    bands = {name: _band(figures, name) for name in ("p50", "p99")}
    scale = Scale.upto(max(_most(values) for values in (*lines.values(), *(high for _, high in bands.values()))))
    plot = []
    for name, (low, high) in bands.items():
        known = ~np.isnan(low)
        if known.any():
            over = _path(x[known], scale.y(high[known]), gap)
            under = _path(x[known][::-1], scale.y(low[known])[::-1], gap)
            if over.count("M") == 1:
                plot.append(f'<path class="band {name}" d="{over}L{under[1:]}Z"/>')
            plot.append(f'<path class="base {name}" d="{_path(x[known], scale.y(low[known]), gap)}"/>')
    for name, values in lines.items():
        known = ~np.isnan(values)
        line = _path(x[known], scale.y(values[known]), gap)
        plot.append(f'<path class="line {name}" d="{line}"/>{_dots(line, name)}')
    failed = x[day.severity >= _FAILED]
    if len(failed):
        plot.append('<path class="fail" d="' + "".join(f"M{at:.0f} 940V1000" for at in failed) + '"/>')
    plot.extend(_hints(day, lines, x))
    ends = []
    for name, values in lines.items():
        if (last := _last(values)) is not None:
            ends.append((float(scale.y(np.array([last]))[0]), f"{name} {words.seconds(last)}", name))
    text = f"{label}: " + (", ".join(end[1] for end in ends) or "no figures in 24 h")
    if len(failed):
        text += f"; {len(failed)} of {len(x)} sweeps failed"
    return _chart(text, plot, [*scale.grid(), *_hours(now_unix_s, span_s), *_end_labels(ends)])


def load_curve(levels: Sequence[LevelReport]) -> Markup:
    """Latency over throughput, a point per level, joined in the order of the load: p99 and p50, and the baselines as
    rings. Empty for a single level."""
    points = [level for level in levels if level.percentiles and level.throughput > 0]
    if len(points) < 2:
        return Markup("")
    most = max(level.throughput for level in points) * 1.08
    shown = [name for name in ("50", "99") if all(name in level.percentiles for level in points)]
    baselines = [verdict.baseline for level in points for verdict in level.verdicts if verdict.signal != "throughput"]
    scale = Scale.upto(
        max([*(level.percentiles[name] for level in points for name in shown), *(b for b in baselines if b)], default=1)
    )
    x = np.array([_SIZE * level.throughput / most for level in points])
    plot, texts = [], []
    for name in shown:
        y = scale.y(np.array([level.percentiles[name] for level in points]))
        plot.append(f'<path class="line p{name}" d="{_path(x, y, math.inf)}"/>')
        for level, at_x, at_y in zip(points, x, y, strict=True):
            hint = Markup("{}: {}/s, p{} {}").format(
                level.label, words.per_second(level.throughput), name, words.seconds(level.percentiles[name])
            )
            texts.append(
                Markup('<circle class="dot p{}" cx="{}%" cy="{}%" r="4"><title>{}</title></circle>').format(
                    name, f"{at_x / 10:.1f}", f"{at_y / 10:.1f}", hint
                )
            )
            verdict = level.verdict(f"latency_p{name}")
            if verdict and verdict.baseline:
                base_y = float(scale.y(np.array([verdict.baseline]))[0])
                texts.append(
                    Markup('<circle class="ring p{}" cx="{}%" cy="{}%" r="6"><title>{}</title></circle>').format(
                        name, f"{at_x / 10:.1f}", f"{base_y / 10:.1f}", f"baseline {words.seconds(verdict.baseline)}"
                    )
                )
    top = scale.y(np.array([max(level.percentiles[name] for name in shown) for level in points])) if shown else x
    named: list[tuple[float, float]] = []
    for level, at_x, at_y in zip(points, x, top, strict=True):
        if all(abs(at_x - x1) >= 40 or abs(at_y - y1) >= 90 for x1, y1 in named):  # others would lie over each other
            texts.append(_text(at_x / 10, at_y / 10, level.level, "point", dy=-10))
            named.append((at_x, at_y))
    ticks = Scale.upto(most)
    texts += [
        _text(100 * value / most, 100, f"{words.per_second(value)}/s", "tick", dy=18) for value in ticks.values if value
    ]
    text = "Load curve: " + "; ".join(
        f"{level.label}: {words.per_second(level.throughput)}/s, "
        + ", ".join(f"p{name} {words.seconds(level.percentiles[name])}" for name in shown)
        for level in points
    )
    return _chart(text, plot, [*scale.grid(), *texts])


@dataclass(frozen=True, slots=True)
class Part:
    """One part of a breakdown: seconds, and its place in the bar in percent."""

    name: str
    seconds: float
    at: float
    width: float

    @property
    def css(self) -> str:
        return self.name.rpartition(" ")[2]


def parts(breakdown: Mapping[str, float]) -> list[Part]:
    """The parts of the mean latency that are not zero."""
    found = {part: sum(breakdown.get(name, 0.0) for name in names) for part, names in PARTS.items()}
    total = sum(value for value in found.values() if value > 0)
    made, at = [], 0.0
    for part, value in found.items():
        if value > 0:
            made.append(Part(part, value, round(at, 2), round(100 * value / total, 2)))
            at += 100 * value / total
    return made


@dataclass(frozen=True, slots=True)
class Scale:
    """A vertical axis of seconds from zero to `top`, with round values to write at it."""

    top: float
    values: Sequence[float]

    @classmethod
    def upto(cls, most: float) -> Scale:
        if not math.isfinite(most) or most <= 0:
            most = 1.0
        rough = most / 4
        magnitude = 10.0 ** math.floor(math.log10(rough))
        step = next(factor * magnitude for factor in (1, 2, 2.5, 5, 10) if factor * magnitude >= rough * (1 - 1e-9))
        return cls(1.06 * most, [step * number for number in range(int(1.06 * most / step) + 1)])

    def y(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.asarray(_SIZE * (1 - values / self.top))

    def grid(self) -> list[Markup]:
        """Lines, and their values beside the plot."""
        made = []
        for value in self.values:
            y = f"{100 * (1 - value / self.top):.1f}"
            made.append(Markup('<line class="grid" x1="0" x2="100%" y1="{}%" y2="{}%"/>').format(y, y))
            label = words.seconds(value) if value else "0"
            made.append(Markup('<text class="axis" x="-8" y="{}%" dy="4">{}</text>').format(y, label))
        return made


def _chart(text: str, plot: Iterable[str], around: Iterable[Markup]) -> Markup:
    return (
        Markup('<div class="chart"><svg role="img" aria-label="{}">').format(text)
        + Markup("").join(around)
        + Markup('<svg class="plot" viewBox="0 0 1000 1000" preserveAspectRatio="none" width="100%" height="100%">')
        + _drawn(plot)
        + Markup("</svg></svg></div>")
    )


def _drawn(shapes: Iterable[str]) -> Markup:
    """Shapes of this module: numbers, and words of its own."""
    return Markup("".join(shapes))  # noqa: S704


def _text(x: float, y: float, text: str, css: str, *, dy: int = 0) -> Markup:
    return Markup('<text class="{}" x="{}%" y="{}%" dy="{}">{}</text>').format(css, f"{x:.1f}", f"{y:.1f}", dy, text)


def _hours(now_unix_s: float, span_s: float) -> list[Markup]:
    """Round times of UTC below the plot, six at most."""
    step = next(step for step in _TIME_STEPS if span_s / step <= 6)
    first = math.ceil((now_unix_s - span_s) / step) * step
    made = []
    for at_s in range(first, int(now_unix_s) + 1, step):
        x = 100 * ((at_s - now_unix_s) / span_s + 1)
        made.append(Markup('<line class="grid" x1="{0}%" x2="{0}%" y1="0" y2="100%"/>').format(f"{x:.1f}"))
        if 4 < x < 96:
            made.append(_text(x, 100, datetime.fromtimestamp(at_s, UTC).strftime("%H:%M"), "tick", dy=18))
    return made


def _end_labels(ends: Sequence[tuple[float, str, str]]) -> list[Markup]:
    """Names and last values at the lines' right ends, moved apart where they would meet."""
    made, below = [], math.inf
    for y, text, name in sorted(ends, reverse=True):
        at = min(y, below - 75)
        made.append(
            Markup('<text class="end {}" x="100%" y="{}%" dx="8" dy="4">{}</text>').format(name, f"{at / 10:.1f}", text)
        )
        below = at
    return made


def _hints(day: Day, lines: Mapping[str, NDArray[np.float64]], x: NDArray[np.float64]) -> list[str]:
    """What a pointer over a sweep shows."""
    width = float(np.clip(np.median(np.diff(x)), 2, 20)) if len(x) > 1 else 20.0
    made = []
    for index, at in enumerate(x):
        moment = datetime.fromtimestamp(float(day.started_unix_s[index]), UTC).strftime("%H:%M:%S UTC")
        state = CONCLUSIONS[int(day.severity[index])].replace("_", " ")
        figures = ", ".join(
            f"{name} {words.seconds(float(values[index]))}"
            for name, values in lines.items()
            if not math.isnan(values[index])
        )
        made.append(
            f'<rect class="hit" x="{at - width / 2:.0f}" width="{width:.0f}" height="1000">'
            f"<title>{moment}: {state}{', ' if figures else ''}{figures}</title></rect>"
        )
    return made


def _band(figures: Mapping[str, NDArray[np.float32]], name: str) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The baseline, and up to where a sweep is not bad."""
    low = figures[f"baseline_{name}"].astype(float)
    limit = figures[f"limit_{name}"].astype(float)
    return low, low * np.where(np.isnan(limit), 1.0, limit)


def _path(xs: NDArray[np.float64], ys: NDArray[np.float64], gap: float) -> str:
    """Through the points; a new piece where two are further apart than `gap`. A lone point is a short dash."""
    pieces: list[str] = []
    last_x: float | None = None
    for x, y in zip(xs.tolist(), ys.tolist(), strict=True):
        apart = last_x is None or abs(x - last_x) > gap
        pieces.append(f"M{x:.4g} {y:.4g}h.01" if apart else f"L{x:.4g} {y:.4g}")
        last_x = x
    return "".join(pieces)


def _dots(path: str, css: str = "") -> str:
    """The path's points without a neighbour, which as a line could not be seen: for example the first sweeps."""
    alone = "".join(re.findall(r"M[^ML]+(?=M|$)", path))
    return f'<path class="lone {css}" d="{alone}"/>' if alone else ""


def _most(values: NDArray[np.float64]) -> float:
    known = values[np.isfinite(values)]
    return float(known.max()) if len(known) else 0.0


def _last(values: NDArray[np.floating] | None) -> float | None:
    if values is None:
        return None
    known = values[~np.isnan(values)]
    return float(known[-1]) if len(known) else None
