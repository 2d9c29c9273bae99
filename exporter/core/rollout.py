"""Options and results of a rollout gate.

The types are frozen. Names carry the unit: `_ns` is nanoseconds, `_unix_s` seconds of the wall clock. A ratio of 0.1 is
10 %.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from exporter.core.looks import least_max_pairs, looks, one_sided_error
from exporter.core.units import NS

THROUGHPUT = "throughput"
FIRST_RESPONSE = "ttft"
"""The median time to the first response of a stream."""
_PERCENTILE = re.compile(r"p(\d{1,2}(?:\.\d{1,3})?)")

MIN_PAIRS = 5
MAX_PAIRS = 1000
MAX_MARGINS = 10


class GateVerdict(enum.StrEnum):
    """The verdict of a gate, or of one of its figures. Closed: a label value."""

    BETTER = "better"
    EQUIVALENT = "equivalent"
    WORSE = "worse"
    UNDECIDED = "undecided"


@dataclass(frozen=True, slots=True)
class Margin:
    """How much worse a figure may be. `figure` is a latency percentile ("p99"), `throughput` or `ttft`."""

    figure: str
    ratio: float

    @property
    def more_is_better(self) -> bool:
        return self.figure == THROUGHPUT

    @property
    def percentile(self) -> float | None:
        """The percentile that the figure needs; None for throughput."""
        if self.figure == FIRST_RESPONSE:
            return 50.0
        found = _PERCENTILE.fullmatch(self.figure)
        return float(found[1]) if found else None

    @classmethod
    def parse(cls, text: str) -> Margin:
        """Parses "p99=10%". Raises ValueError."""
        figure, _, ratio = text.partition("=")
        figure = figure.strip()
        margin = cls(figure, parse_ratio(ratio))
        if figure != THROUGHPUT and not margin.percentile:
            known = f"a percentile of latency (p99), {THROUGHPUT} or {FIRST_RESPONSE}"
            raise ValueError(f"unknown figure {figure[:20]!r}: use {known}")
        if not 0 < margin.ratio < 1:
            raise ValueError(f"the margin of {figure} must be above 0% and below 100%, as {figure}=10%")
        return margin

    def __str__(self) -> str:
        return f"{self.figure}={self.ratio * 100:.6g}%"


def parse_ratio(text: str) -> float:
    """Parses "10%" or "0.1". Raises ValueError."""
    text = text.strip()
    number = text.removesuffix("%")
    try:
        value = float(number)
    except ValueError:
        raise ValueError(f"{text[:20]!r} is not a ratio: write 10% or 0.1") from None
    if not 0 <= value <= 1000:
        raise ValueError(f"{text[:20]!r} is not a ratio: write 10% or 0.1")
    return value / 100 if text != number else value


DEFAULT_MARGINS = (Margin("p99", 0.10), Margin(THROUGHPUT, 0.05))


@dataclass(frozen=True, slots=True)
class GateOptions:
    """How a gate decides. It measures `min_pairs` to `max_pairs` pairs of windows of `window_ns`, and starts no pair
    after `max_duration_ns`. `max_error_ratio` applies to the candidate's requests. A candidate output is wrong if it
    differs from the stable one by more than `output_tolerance` + `output_tolerance` x value; None: differences are only
    reported."""

    margins: tuple[Margin, ...] = DEFAULT_MARGINS
    max_error_ratio: float = 0.001
    min_pairs: int = 10
    max_pairs: int = 60
    max_duration_ns: int = 900 * NS
    window_ns: int = 2 * NS
    output_tolerance: float | None = None

    @property
    def looks(self) -> tuple[int, ...]:
        """After how many pairs the gate is judged."""
        return looks(self.min_pairs, self.max_pairs)

    @property
    def one_sided_error(self) -> float:
        """How often one bound may miss the truth at one look. The error ratio is one figure more."""
        return one_sided_error(len(self.looks), len(self.margins) + 1)

    def problems(self) -> list[str]:
        """All invalid options, each with its fix."""
        found = []
        figures = [margin.figure for margin in self.margins]
        if not figures:
            found.append("margins: give at least one, as p99=10%")
        if len(figures) > MAX_MARGINS:
            found.append(f"margins: give at most {MAX_MARGINS}")
        found += [f"margins: {name!r} is given twice" for name in sorted(set(figures)) if figures.count(name) > 1]
        if not 0 <= self.max_error_ratio < 1:
            found.append("max_error_ratio: must be from 0% to below 100%")
        found += self._pair_problems()
        if not NS // 10 <= self.window_ns <= 60 * NS:
            found.append("window: must be from 100ms to 60s")
        if not NS <= self.max_duration_ns <= 24 * 3600 * NS:
            found.append("max_duration: must be from 1s to 24h")
        if self.output_tolerance is not None and not 0 <= self.output_tolerance < 1e9:
            found.append("output_tolerance: must be a number not below 0, as 0.001")
        return found

    def _pair_problems(self) -> list[str]:
        found = []
        least = MIN_PAIRS
        if MIN_PAIRS <= self.min_pairs <= MAX_PAIRS:
            least = self.min_pairs
        else:
            found.append(f"min_pairs: must be from {MIN_PAIRS} to {MAX_PAIRS}")
        figures = {margin.figure for margin in self.margins}
        decides = least_max_pairs(least, len(figures) + 1)
        if not least <= self.max_pairs <= MAX_PAIRS:
            found.append(f"max_pairs: must be from {decides} (with these margins and minimum of pairs) to {MAX_PAIRS}")
        elif self.max_pairs < decides:
            found.append(
                f"max_pairs: {self.max_pairs} pairs are too few for an interval, whatever they show: with these "
                f"margins and this minimum of pairs it takes {decides}"
            )
        return found


@dataclass(frozen=True, slots=True)
class GateSide:
    """One side of the gate: its name (of the probe, or as given) and the server. `version` is as reported by the
    server."""

    name: str
    target: str
    url: str
    model: str
    version: str = ""


@dataclass(frozen=True, slots=True)
class FigureResult:
    """The result of one figure. `stable` and `candidate` are medians over the pairs (seconds, or inferences per
    second). `ratio` is candidate over stable, with the interval `low` to `high` (None: no bound yet). `text` explains
    the verdict."""

    margin: Margin
    verdict: GateVerdict
    pairs: int
    text: str
    stable: float | None = None
    candidate: float | None = None
    ratio: float | None = None
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True, slots=True)
class ErrorResult:
    """Failed requests of the candidate, and of the stable side for comparison. `low` is the lower confidence bound of
    the candidate's error ratio."""

    verdict: GateVerdict
    limit: float
    text: str
    candidate_errors: int = 0
    candidate_requests: int = 0
    stable_errors: int = 0
    stable_requests: int = 0
    low: float = 0.0

    @property
    def candidate_ratio(self) -> float | None:
        return self.candidate_errors / self.candidate_requests if self.candidate_requests else None

    @property
    def stable_ratio(self) -> float | None:
        return self.stable_errors / self.stable_requests if self.stable_requests else None


@dataclass(frozen=True, slots=True)
class GateResult:
    """The result of a gate. If a latency is worse, `component` is the part of the latency that grew most, with its mean
    growth; `components_ns` has all changes. `outputs` describes how far both sides' outputs differ, "" if they were not
    compared."""

    id: str
    verdict: GateVerdict
    text: str
    stable: GateSide
    candidate: GateSide
    options: GateOptions
    figures: tuple[FigureResult, ...]
    errors: ErrorResult
    pairs: int
    started_unix_s: float
    duration_ns: int
    level: str = ""
    component: str = ""
    components_ns: Mapping[str, float] = field(default_factory=dict)
    outputs: str = ""
    outputs_wrong: bool = False

    @property
    def passed(self) -> bool:
        """Whether the rollout may continue. Undecided does not pass."""
        return self.verdict in (GateVerdict.BETTER, GateVerdict.EQUIVALENT)


@dataclass(frozen=True, slots=True)
class LastGate:
    """The most recent gate, as the metrics show it. `ratios` has the ratio and its interval by figure, None where
    unknown."""

    stable: str
    candidate: str
    verdict: GateVerdict
    pairs: int
    seconds: float
    ended_unix_s: float
    ratios: Mapping[str, tuple[float | None, ...]]
    error_ratio: float | None = None
