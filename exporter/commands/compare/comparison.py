"""How one set of measurements compares with another, level by level: ratios with confidence intervals. Pure.

A ratio is of the levels' own figures (their means, where a level was measured by several sweeps). Its 95 % interval
comes from how those figures vary: by the delta method on the logarithm, log(B/A) has the variance
s_a^2/(n_a m_a^2) + s_b^2/(n_b m_b^2), and Student's t with the degrees of freedom of Welch and Satterthwaite takes the
place of the normal quantile, since there are few values (Casella and Berger, Statistical Inference, 5.5.4; Welch,
Biometrika 34, 1947).

Values are sweeps, in the order of time: windows of one sweep are more alike than two sweeps. Sweeps that follow each
other are alike, too: their variance is that of the means of up to 8 blocks, or, if that is more, that of a first-order
autoregression whose coefficient is raised by its known bias (Marriott and Pope, Biometrika 41, 1954) and by what so
few sweeps leave unknown of it. With fewer than
MIN_SWEEPS on a side the windows are the values, and nothing is called better or worse unless asked for. Of several
figures some differ by chance: Holm's procedure (Scandinavian Journal of Statistics 6, 1979) keeps the chance that any
is called better or worse falsely at 5 %.
"""

from __future__ import annotations

import enum
import itertools
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import fmean, variance

from exporter.analysis.student import t_quantile, t_two_sided

MIN_SWEEPS = 5
"""From so many sweeps on each side there are verdicts, from sweeps and not from windows."""
BLOCKS = 8
CORRELATION_SWEEPS = 5
"""From so many on something is known of how alike sweeps in a row are."""
_MAX_CORRELATION = 0.98
_LEAST_MARGIN, _MARGIN_SWEEPS = 0.6, 10.0
"""Chosen such that intervals hold the truth in 90 % of cases or more up to a correlation of 0.97, from 5 sweeps on."""
SIGNIFICANCE = 0.05
REQUESTS_BEYOND = 3.0
"""A percentile is known only where so many requests are expected above it: of p99.9 from 3000 requests on."""


@dataclass(frozen=True, slots=True)
class Figures:
    """What one window, or one level of a sweep, showed: inferences a second and latency by percentile. Of a sweep those
    percentiles that its requests support; `unsupported` are the others."""

    throughput: float
    percentiles_ns: Mapping[float, float]
    unsupported: tuple[float, ...] = ()


def reported(throughput: float, percentiles_ns: Mapping[float, float], requests: int) -> Figures:
    """The figures of a sweep's level with so many ok requests."""
    known = {p: value for p, value in percentiles_ns.items() if requests >= needed_requests(p)}
    return Figures(throughput, known, tuple(sorted(set(percentiles_ns) - set(known))))


def needed_requests(percentile: float) -> int:
    """How many requests a percentile needs."""
    return math.ceil(REQUESTS_BEYOND / (1.0 - percentile / 100.0) - 1e-6)


@dataclass(frozen=True, slots=True)
class LevelSample:
    """One level of one sweep. `subject` is what was measured, where that must be shown; `windows` are the judged
    ones."""

    subject: str
    mode: str
    label: str
    stable: bool
    figures: Figures
    windows: tuple[Figures, ...]


@dataclass(frozen=True, slots=True)
class Side:
    """One set of measurements under the name that it is called by."""

    name: str
    samples: tuple[LevelSample, ...]


class Verdict(enum.StrEnum):
    """What a ratio means. `unclear`: it may be beyond the tolerance or not, or it may be chance."""

    BETTER = "better"
    SAME = "same"
    WORSE = "worse"
    UNCLEAR = "unclear"


@dataclass(frozen=True, slots=True)
class Ratio:
    """The second side's figure over the first's. No bounds where a side has less than two values.
    `by_chance` is how likely so large a ratio is where there is no difference; `is_clear` whether that is ruled out,
    also with all the other figures, and there are sweeps enough to decide; `few` that there are not."""

    first: float
    second: float
    low: float | None
    high: float | None
    by_chance: float | None = None
    is_clear: bool = False
    few: bool = False

    @property
    def value(self) -> float:
        return self.second / self.first

    @property
    def excludes_one(self) -> bool:
        """Whether the difference is more than chance would make; taken to be so where nothing is known of that."""
        return self.low is None or self.high is None or not self.low <= 1.0 <= self.high


@dataclass(frozen=True, slots=True)
class LevelComparison:
    """One level on both sides. `throughput` and `latency` (by percentile) are absent where a side has no figure: with
    no ok request it has none, and `responded` is which side had any."""

    subject: str
    mode: str
    label: str
    throughput: Ratio | None
    latency: Mapping[float, Ratio]
    stable: bool
    responded: tuple[bool, bool] = (True, True)
    unsupported: tuple[float, ...] = ()

    def verdicts(self, tolerance: float) -> list[Verdict]:
        """Of all figures of the level; where one side alone responded, that is the only one, and it is clear."""
        if self.responded[0] != self.responded[1]:
            return [Verdict.WORSE if self.responded[0] else Verdict.BETTER]
        verdicts = [judge(ratio, tolerance, more_is_better=False) for ratio in self.latency.values()]
        if self.throughput is not None:
            verdicts.append(judge(self.throughput, tolerance, more_is_better=True))
        return verdicts


@dataclass(frozen=True, slots=True)
class Comparison:
    """The second side against the first. `unmatched` are the levels that only one of them has."""

    first: str
    second: str
    levels: tuple[LevelComparison, ...]
    unmatched: tuple[str, ...]

    def verdicts(self, tolerance: float) -> list[Verdict]:
        """Of all figures of all levels."""
        return [verdict for level in self.levels for verdict in level.verdicts(tolerance)]

    def is_worse(self, tolerance: float) -> bool:
        """Whether any figure of the second side is worse than the first's."""
        return Verdict.WORSE in self.verdicts(tolerance)


def judge(ratio: Ratio, tolerance: float, *, more_is_better: bool) -> Verdict:
    """Better or worse only if the ratio is beyond the tolerance (0.05: 5 %) and clear; the same only if the whole
    interval is within the tolerance."""
    if abs(ratio.value - 1.0) > tolerance and ratio.is_clear:
        return Verdict.BETTER if (ratio.value > 1.0) == more_is_better else Verdict.WORSE
    bounds = (ratio.value, ratio.low or ratio.value, ratio.high or ratio.value)
    return Verdict.SAME if all(abs(bound - 1.0) <= tolerance for bound in bounds) else Verdict.UNCLEAR


def compare(
    first: Side, second: Side, percentiles: Iterable[float] | None = None, min_sweeps: int = MIN_SWEEPS
) -> Comparison:
    """Compares the levels that both sides have, in the first side's order: at these percentiles, or at all that both
    sides have. With fewer than `min_sweeps` sweeps on a side nothing of a level is better or worse."""
    wanted = None if percentiles is None else list(percentiles)
    ours, theirs = _by_level(first.samples), _by_level(second.samples)
    levels = [_compare_level(key, ours[key], theirs[key], wanted, min_sweeps) for key in ours if key in theirs]
    unmatched = [f"{' '.join(filter(None, key))} (only {first.name})" for key in ours if key not in theirs]
    unmatched += [f"{' '.join(filter(None, key))} (only {second.name})" for key in theirs if key not in ours]
    return Comparison(first.name, second.name, tuple(_by_holm(levels)), tuple(unmatched))


def _by_holm(levels: Sequence[LevelComparison]) -> list[LevelComparison]:
    """The levels with those ratios marked that chance does not explain. A ratio of which nothing is known counts as
    clear, for who asked for verdicts from single values."""
    every = [ratio for level in levels for ratio in _ratios(level) if not ratio.few]
    known = sorted(ratio.by_chance for ratio in every if ratio.by_chance is not None)
    limit = -1.0
    for position, by_chance in enumerate(known):
        if by_chance > SIGNIFICANCE / (len(known) - position):
            break
        limit = by_chance

    def marked(ratio: Ratio) -> Ratio:
        return replace(ratio, is_clear=not ratio.few and (ratio.by_chance is None or ratio.by_chance <= limit))

    return [
        replace(
            level,
            throughput=marked(level.throughput) if level.throughput else None,
            latency={percentile: marked(ratio) for percentile, ratio in level.latency.items()},
        )
        for level in levels
    ]


def _ratios(level: LevelComparison) -> list[Ratio]:
    return [*level.latency.values(), *([level.throughput] if level.throughput else [])]


_Key = tuple[str, str, str]


def _by_level(samples: Iterable[LevelSample]) -> dict[_Key, list[LevelSample]]:
    levels: dict[_Key, list[LevelSample]] = {}
    for sample in samples:
        levels.setdefault((sample.subject, sample.mode, sample.label), []).append(sample)
    return levels


def _compare_level(
    key: _Key,
    first: Sequence[LevelSample],
    second: Sequence[LevelSample],
    percentiles: Iterable[float] | None,
    min_sweeps: int,
) -> LevelComparison:
    latency = {}
    few = min(len(first), len(second)) < min_sweeps
    unsupported = {p for sample in (*first, *second) for p in sample.figures.unsupported}
    for percentile in sorted(_percentiles(first) & _percentiles(second)) if percentiles is None else percentiles:
        found = ratio(first, second, lambda figures, p=percentile: figures.percentiles_ns.get(p))  # type: ignore[misc]
        if found is not None:
            latency[percentile] = replace(found, few=few)
    throughput = ratio(first, second, lambda figures: figures.throughput)
    subject, mode, label = key
    return LevelComparison(
        subject=subject,
        mode=mode,
        label=label,
        throughput=replace(throughput, few=few) if throughput else None,
        latency=latency,
        unsupported=tuple(sorted(unsupported - set(latency))),
        responded=(_responded(first), _responded(second)),
        stable=all(sample.stable for sample in (*first, *second)),
    )


def _percentiles(samples: Iterable[LevelSample]) -> set[float]:
    return {percentile for sample in samples for percentile in sample.figures.percentiles_ns}


def _responded(samples: Iterable[LevelSample]) -> bool:
    return any(sample.figures.throughput > 0.0 for sample in samples)


def ratio(
    first: Sequence[LevelSample], second: Sequence[LevelSample], figure: Callable[[Figures], float | None]
) -> Ratio | None:
    """The ratio of a figure, which must be above 0; None if a side has none."""
    means = [_mean(samples, figure) for samples in (first, second)]
    if means[0] is None or means[1] is None:
        return None
    errors = [_relative_error(samples, figure) for samples in (first, second)]
    if errors[0] is None or errors[1] is None:
        return Ratio(means[0], means[1], None, None)
    middle = means[1] / means[0]
    total, degrees = _joined(errors[0], errors[1])
    if total == 0.0:
        return Ratio(means[0], means[1], middle, middle, 1.0 if middle == 1.0 else 0.0)
    reach = t_quantile(0.975, degrees) * math.sqrt(total)
    by_chance = t_two_sided(math.log(middle) / math.sqrt(total), degrees)
    return Ratio(means[0], means[1], middle * math.exp(-reach), middle * math.exp(reach), by_chance)


@dataclass(frozen=True, slots=True)
class _Error:
    """The squared standard error of a mean, relative to it, and its degrees of freedom."""

    squared: float
    degrees: float


def _joined(first: _Error, second: _Error) -> tuple[float, float]:
    """The variance of the ratio's logarithm, and its degrees of freedom."""
    total = first.squared + second.squared
    if total == 0.0:
        return 0.0, 1.0
    return total, total**2 / (first.squared**2 / first.degrees + second.squared**2 / second.degrees)


def _mean(samples: Iterable[LevelSample], figure: Callable[[Figures], float | None]) -> float | None:
    values = _values((sample.figures for sample in samples), figure)
    return fmean(values) if values else None


def _relative_error(samples: Sequence[LevelSample], figure: Callable[[Figures], float | None]) -> _Error | None:
    values = _values((sample.figures for sample in samples), figure)
    if len(values) < MIN_SWEEPS:
        values = _values((window for sample in samples for window in sample.windows), figure)
    if len(values) < 2:
        return None
    squared, degrees = _variance_of_mean(values)
    return _Error(squared / fmean(values) ** 2, degrees)


def _variance_of_mean(values: Sequence[float]) -> tuple[float, float]:
    """The variance of the mean of values in the order of time, and its degrees of freedom."""
    count = len(values)
    blocks = min(BLOCKS, count)
    edges = [count * block // blocks for block in range(blocks + 1)]
    means = [fmean(values[low:high]) for low, high in itertools.pairwise(edges)]
    by_blocks, degrees = variance(means) / blocks, blocks - 1.0
    if count < CORRELATION_SWEEPS or by_blocks == 0.0:
        return by_blocks, degrees
    correlation = _correlation_at_most(values)
    # The variance of the mean of so many values, over that of one; values that are alike also scatter less.
    of_mean = (1 + 2 * sum((1 - lag / count) * correlation**lag for lag in range(1, count))) / count
    by_autoregression = variance(values) * (count - 1) / count * of_mean / (1 - of_mean)
    if by_autoregression <= by_blocks:
        return by_blocks, degrees
    return by_autoregression, min(degrees, max(2.0, count * (1 - correlation) / (1 + correlation) - 1))


def _correlation_at_most(values: Sequence[float]) -> float:
    """How alike two sweeps in a row may be: the estimate without its known bias, and a margin of its standard errors:
    0.6 of them, and more where few sweeps state little of it."""
    count, middle = len(values), fmean(values)
    around = [value - middle for value in values]
    found = sum(a * b for a, b in itertools.pairwise(around)) / sum(a * a for a in around)
    found += (1 + 4 * found) / count
    margin = max(_LEAST_MARGIN, _MARGIN_SWEEPS / count) * math.sqrt(max(0.0, 1 - found**2) / count)
    return min(_MAX_CORRELATION, max(0.0, found + margin))


def _values(parts: Iterable[Figures], figure: Callable[[Figures], float | None]) -> list[float]:
    return [value for part in parts if (value := figure(part)) is not None and value > 0.0]
