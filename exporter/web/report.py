"""What `/api/v1` reports, and what the pages show: one set of types for both, so that no figure is on one alone.

The types are frozen; OpenAPI is made from them and their descriptions. Times are Unix seconds, durations and latencies
seconds, throughput inferences a second. They know neither HTML nor how a figure comes about.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any

from pydantic import Field

Seconds = Annotated[float, Field(description="seconds")]
UnixSeconds = Annotated[float, Field(description="Unix time in seconds")]
Ratio = Annotated[float, Field(description="a part of one: 0.01 is 1 %")]


@dataclass(frozen=True, slots=True)
class TierReport:
    """One tier of a regression: whether it holds, the ratio above which a sweep is bad, and how many of the last
    sweeps are bad, of so many, and how many it takes."""

    holds: bool
    limit_ratio: float | None = None
    bad: int | None = None
    of: int | None = None
    needed: int | None = None


@dataclass(frozen=True, slots=True)
class VerdictReport:
    """One signal compared with its baseline. `withheld` is why there is no verdict, as a code and in words."""

    signal: str
    baseline: Annotated[float | None, Field(description="seconds; for throughput inferences a second")]
    ratio: Annotated[float | None, Field(description="now, divided by the baseline")]
    tiers: Mapping[str, TierReport]
    began_unix_s: UnixSeconds | None
    withheld: str | None
    withheld_text: str
    version_ratio: Annotated[float | None, Field(description="the served version, divided by the accepted one")]
    modes: Sequence[float] | None
    pinned_unix_s: UnixSeconds | None
    provisional: bool

    @property
    def now(self) -> float | None:
        """What was compared, in the baseline's unit."""
        return None if self.baseline is None or self.ratio is None else self.baseline * self.ratio

    @property
    def holding(self) -> str:
        """The most severe tier that holds, "" for none."""
        return next((name for name, tier in self.tiers.items() if tier.holds), "")


@dataclass(frozen=True, slots=True)
class LevelReport:
    """One load level in its last sweep that gave figures."""

    mode: str
    level: str
    throughput: Annotated[float, Field(description="inferences a second")]
    percentiles: Annotated[Mapping[str, float], Field(description="latency in seconds, by percentile")]
    error_ratio: Ratio | None
    unsent_ratio: Ratio
    stable: bool
    client_limited: bool
    breakdown: Annotated[Mapping[str, float], Field(description="mean latency in seconds, by component")]
    bimodal: Annotated[Sequence[float] | None, Field(description="both medians of a level with two modes, seconds")]
    regression: Annotated[str, Field(description="what holds, in words; empty: nothing does")]
    slowest_part: Annotated[str, Field(description="the component that carries most of a regression; empty: none")]
    no_verdict: Annotated[str, Field(description="why there is no verdict, in words; empty: there is one")]
    verdicts: Sequence[VerdictReport]
    server_note: Annotated[str, Field(description="why a figure of the server's is missing; empty: none is")] = ""

    @property
    def key(self) -> str:
        return f"{self.mode} {self.level}"

    @property
    def label(self) -> str:
        """For people."""
        return f"{self.mode.replace('_', ' ')} {self.level}"

    def verdict(self, signal: str) -> VerdictReport | None:
        return next((verdict for verdict in self.verdicts if verdict.signal == signal), None)


@dataclass(frozen=True, slots=True)
class SloReport:
    """The probe's objective: the percentile within the latency, at these levels. `met`: by the last sweep. The burn
    rates are of the requests of the last hour and of 24 hours; 1 uses the budget up exactly."""

    name: str
    latency_seconds: Seconds
    percentile: float
    objective_ratio: Ratio
    levels: Sequence[str]
    met: bool | None
    burn_rate_1h: float | None
    burn_rate_24h: float | None


@dataclass(frozen=True, slots=True)
class LoadReport:
    """What the probe's sweeps caused in the last hour."""

    requests: int
    seconds: Seconds


@dataclass(frozen=True, slots=True)
class LinksReport:
    """Relative to the daemon's root; empty: there is none."""

    page: str
    history: str
    runbook: str
    board: str


@dataclass(frozen=True, slots=True)
class ProbeReport:
    """One probe now. `main_level` is the one that the overview shows: the one that regressed, else that of the
    objective, else the highest."""

    name: str
    target: str
    model: str
    place: Annotated[str, Field(description="where it is measured from; empty: no place is configured")]
    version: str
    state: str
    reason: str
    reason_text: str
    running: bool
    pause: Annotated[str, Field(description="why it is paused; empty: it is not")]
    last_run_unix_s: UnixSeconds | None
    results_unix_s: Annotated[float | None, Field(description="when the sweep of these levels ended, Unix seconds")]
    next_run_unix_s: UnixSeconds | None
    interval_seconds: Seconds
    skipped: Annotated[Mapping[str, int], Field(description="skipped sweeps since the start, by reason")]
    last_skip: str | None
    load_last_hour: LoadReport
    slo: SloReport | None
    main_level: Annotated[str | None, Field(description="mode and level, as `concurrency 4`")]
    levels: Sequence[LevelReport]
    links: LinksReport

    @property
    def main(self) -> LevelReport | None:
        return next((level for level in self.levels if level.key == self.main_level), None)

    @property
    def failing(self) -> bool:
        """Whether the last sweep gave no usable data."""
        return self.state in ("failed", "aborted")


@dataclass(frozen=True, slots=True)
class SweepReport:
    """One finished sweep."""

    started_unix_s: UnixSeconds
    duration_seconds: Seconds
    state: str
    reason: str
    reason_text: str


@dataclass(frozen=True, slots=True)
class ProbeDetail:
    """One probe with what only its own page has."""

    probe: ProbeReport
    recent_sweeps: Annotated[Sequence[SweepReport], Field(description="newest first, 20 at most")]
    configuration: Annotated[
        Mapping[str, Any], Field(description="the effective configuration, defaults included, without secrets")
    ]


@dataclass(frozen=True, slots=True)
class LevelHistory:
    """One entry per sweep; null: the sweep has no such figure. A limit is the ratio to the baseline above which a sweep
    is bad for the most sensitive tier."""

    p50: Sequence[float | None]
    p95: Sequence[float | None]
    p99: Sequence[float | None]
    throughput: Sequence[float | None]
    error_ratio: Sequence[float | None]
    baseline_p50: Sequence[float | None]
    baseline_p99: Sequence[float | None]
    limit_p50: Sequence[float | None]
    limit_p99: Sequence[float | None]


@dataclass(frozen=True, slots=True)
class HistoryReport:
    """The last 24 hours, oldest sweep first; of every five minutes the first sweep, or a worse one."""

    probe: str
    started_unix_s: Sequence[float]
    state: Sequence[str]
    slo_requests: Sequence[int]
    slo_bad: Sequence[int]
    levels: Annotated[Mapping[str, LevelHistory], Field(description="by mode and level, as `concurrency 4`")]


@dataclass(frozen=True, slots=True)
class OverviewReport:
    """All probes that the query selects. `counts` are by state and of all probes."""

    version: str
    ready: bool
    now_unix_s: UnixSeconds
    notices: Sequence[str]
    counts: Mapping[str, int]
    probes: Sequence[ProbeReport] = field(default_factory=tuple)


@dataclass(frozen=True, slots=True)
class ErrorReport:
    """Why there is no other body."""

    error: str
