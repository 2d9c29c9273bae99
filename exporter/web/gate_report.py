"""The bodies of `/api/v1/gates`, as OpenAPI describes them. A test holds every real document to them.

They are described here and made in `rollout/report.py`, which the command writes, too.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import Field

from exporter.web.report import Ratio, Seconds, UnixSeconds

Verdict = Literal["better", "equivalent", "worse", "undecided"]


@dataclass(frozen=True, slots=True)
class GateSideReport:
    """One side: its probe and what served it."""

    name: str
    target: str
    url: str
    model: str
    version: str


@dataclass(frozen=True, slots=True)
class GateFigureReport:
    """One figure. `stable` and `candidate` are medians over the pairs: seconds, or inferences a second. `ratio` is
    candidate over stable, between `low` and `high`."""

    figure: str
    margin: Ratio
    verdict: Verdict
    pairs: int
    stable: float | None
    candidate: float | None
    ratio: float | None
    low: float | None
    high: float | None
    text: str


@dataclass(frozen=True, slots=True)
class GateErrorsReport:
    """Failed requests of both sides; `ratio` and its lower bound `low` are the candidate's."""

    verdict: Verdict
    limit: Ratio
    ratio: Ratio | None
    low: Ratio
    errors: int
    requests: int
    stable_errors: int
    stable_requests: int
    text: str


@dataclass(frozen=True, slots=True)
class GateOptionsReport:
    """How the gate decides."""

    margins: Sequence[str]
    max_error_ratio: Ratio
    min_pairs: int
    max_pairs: int
    max_duration: str
    window: str
    output_tolerance: float | None


@dataclass(frozen=True, slots=True)
class GateReport:
    """A rollout gate. `state` is `running` or the verdict; `passed` is true for better and equivalent alone, and never
    while it runs."""

    schema: Literal["triton-canary-gate"]
    version: Literal[1]
    id: str
    running: bool
    state: Literal["running", "better", "equivalent", "worse", "undecided"]
    verdict: Verdict
    passed: bool
    text: Annotated[str, Field(description="the verdict and its reason in one line")]
    stable: GateSideReport
    candidate: GateSideReport
    level: str
    pairs: int
    started_unix_s: UnixSeconds
    duration_seconds: Seconds
    figures: Sequence[GateFigureReport]
    errors: GateErrorsReport
    outputs: Annotated[str, Field(description="how far the outputs of both sides differ; empty where not compared")]
    component: Annotated[str, Field(description="the part of the mean latency that grew most, where one is worse")]
    components_seconds: Mapping[str, float]
    options: GateOptionsReport


@dataclass(frozen=True, slots=True)
class GateListReport:
    """The last 100 gates, the newest first."""

    gates: Sequence[GateReport]


@dataclass(frozen=True, slots=True)
class GateRequestBody:
    """A request for a gate. `stable` and `candidate` are PROBE or TARGET/PROBE of the configuration."""

    id: str
    stable: str
    candidate: str
    level: str = ""
    margins: Sequence[str] = ("p99=10%", "throughput=5%")
    max_error_ratio: str | float = "0.1%"
    min_pairs: int = 10
    max_pairs: int = 60
    max_duration: str = "15m"
    window: str = "2s"
    output_tolerance: float | None = None


@dataclass(frozen=True, slots=True)
class GateErrorReport:
    """Why no gate was started."""

    error: str
    problems: Sequence[str]
