"""How one set of measurements compares with another, level by level: ratios with confidence intervals. Pure.

A ratio is of the levels' own figures (their means, where a level was measured by several sweeps). Its 95 % interval
comes from how those figures vary: by the delta method on the logarithm, log(B/A) has the variance
s_a^2/(n_a m_a^2) + s_b^2/(n_b m_b^2), and Student's t with the degrees of freedom of Welch and Satterthwaite takes the
place of the normal quantile, since there are few values (Casella and Berger, Statistical Inference, 5.5.4; Welch,
Biometrika 34, 1947). Values are the judged windows. Where a side has five sweeps or more, they are its sweeps: windows
of one sweep are more alike than those of two.
"""

from __future__ import annotations

import enum
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, variance

from exporter.analysis.student import t_quantile

MIN_SWEEPS = 5
"""From so many sweeps on, the sweeps are the values that the interval comes from, not the windows."""


@dataclass(frozen=True, slots=True)
class Figures:
    """What one window, or one level of a sweep, showed: inferences a second and latency by percentile."""

    throughput: float
    percentiles_ns: Mapping[float, float]


@dataclass(frozen=True, slots=True)
class LevelSample:
    """One level of one sweep. `subject` says of what, where that must be told apart; `windows` are the judged ones."""

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
    """What a ratio says. `unclear`: it may be beyond the tolerance or not, or it may be chance."""

    BETTER = "better"
    SAME = "same"
    WORSE = "worse"
    UNCLEAR = "unclear"


@dataclass(frozen=True, slots=True)
class Ratio:
    """The second side's figure over the first's. No bounds where a side has less than two values to tell from."""

    first: float
    second: float
    low: float | None
    high: float | None

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
    no ok request it has none, and `answered` says which side had any."""

    subject: str
    mode: str
    label: str
    throughput: Ratio | None
    latency: Mapping[float, Ratio]
    stable: bool
    answered: tuple[bool, bool] = (True, True)

    def verdicts(self, tolerance: float) -> list[Verdict]:
        """Of all figures of the level; where one side alone answered, that is the only one, and it is clear."""
        if self.answered[0] != self.answered[1]:
            return [Verdict.WORSE if self.answered[0] else Verdict.BETTER]
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
    """Better or worse only if the ratio is beyond the tolerance (0.05: 5 %) and its interval excludes 1; the same only
    if the whole interval is within the tolerance."""
    if abs(ratio.value - 1.0) > tolerance and ratio.excludes_one:
        return Verdict.BETTER if (ratio.value > 1.0) == more_is_better else Verdict.WORSE
    bounds = (ratio.value, ratio.low or ratio.value, ratio.high or ratio.value)
    return Verdict.SAME if all(abs(bound - 1.0) <= tolerance for bound in bounds) else Verdict.UNCLEAR


def compare(first: Side, second: Side, percentiles: Iterable[float] | None = None) -> Comparison:
    """Compares the levels that both sides have, in the first side's order: at these percentiles, or at all that both
    sides have."""
    wanted = None if percentiles is None else list(percentiles)
    ours, theirs = _by_level(first.samples), _by_level(second.samples)
    levels = tuple(_compare_level(key, ours[key], theirs[key], wanted) for key in ours if key in theirs)
    unmatched = [f"{' '.join(filter(None, key))} (only {first.name})" for key in ours if key not in theirs]
    unmatched += [f"{' '.join(filter(None, key))} (only {second.name})" for key in theirs if key not in ours]
    return Comparison(first.name, second.name, levels, tuple(unmatched))


_Key = tuple[str, str, str]


def _by_level(samples: Iterable[LevelSample]) -> dict[_Key, list[LevelSample]]:
    levels: dict[_Key, list[LevelSample]] = {}
    for sample in samples:
        levels.setdefault((sample.subject, sample.mode, sample.label), []).append(sample)
    return levels


def _compare_level(
    key: _Key, first: Sequence[LevelSample], second: Sequence[LevelSample], percentiles: Iterable[float] | None
) -> LevelComparison:
    latency = {}
    for percentile in sorted(_percentiles(first) & _percentiles(second)) if percentiles is None else percentiles:
        found = ratio(first, second, lambda figures, p=percentile: figures.percentiles_ns.get(p))  # type: ignore[misc]
        if found is not None:
            latency[percentile] = found
    subject, mode, label = key
    return LevelComparison(
        subject=subject,
        mode=mode,
        label=label,
        throughput=ratio(first, second, lambda figures: figures.throughput),
        latency=latency,
        answered=(_answered(first), _answered(second)),
        stable=all(sample.stable for sample in (*first, *second)),
    )


def _percentiles(samples: Iterable[LevelSample]) -> set[float]:
    return {percentile for sample in samples for percentile in sample.figures.percentiles_ns}


def _answered(samples: Iterable[LevelSample]) -> bool:
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
    reach = _reach(errors[0], errors[1])
    middle = means[1] / means[0]
    return Ratio(means[0], means[1], middle * math.exp(-reach), middle * math.exp(reach))


@dataclass(frozen=True, slots=True)
class _Error:
    """The squared standard error of a mean, relative to it, and its degrees of freedom."""

    squared: float
    degrees: int


def _reach(first: _Error, second: _Error) -> float:
    """Half of the interval of the ratio's logarithm."""
    total = first.squared + second.squared
    if total == 0.0:
        return 0.0
    degrees = total**2 / (first.squared**2 / first.degrees + second.squared**2 / second.degrees)
    return t_quantile(0.975, degrees) * math.sqrt(total)


def _mean(samples: Iterable[LevelSample], figure: Callable[[Figures], float | None]) -> float | None:
    values = _values((sample.figures for sample in samples), figure)
    return fmean(values) if values else None


def _relative_error(samples: Sequence[LevelSample], figure: Callable[[Figures], float | None]) -> _Error | None:
    values = _values((sample.figures for sample in samples), figure)
    if len(values) < MIN_SWEEPS:
        values = _values((window for sample in samples for window in sample.windows), figure)
    if len(values) < 2:
        return None
    return _Error(variance(values) / len(values) / fmean(values) ** 2, len(values) - 1)


def _values(parts: Iterable[Figures], figure: Callable[[Figures], float | None]) -> list[float]:
    return [value for part in parts if (value := figure(part)) is not None and value > 0.0]
