"""The bounds of a page's series, beside pages that were rendered."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from exporter.analysis.join import COMPONENTS, TOKEN_COMPONENTS
from exporter.config import build_probes, load
from exporter.config.levels import matrix
from exporter.core.outcome import Reason, SkipReason, SweepStatus
from exporter.core.probe import (
    BaselineOptions,
    LoadLevel,
    Mode,
    Probe,
    SequenceOptions,
    Slo,
    Unit,
    Validation,
    signals_of,
)
from exporter.core.result import (
    LevelChange,
    LevelVerdict,
    Measurement,
    PercentileValue,
    ServerMetrics,
    ServerPercentile,
    SignalVerdict,
    Withheld,
)
from exporter.core.units import MS
from exporter.core.window import ClientHealth, ConnectionTimes, OutputError
from exporter.metrics.collector import ProbeRow, ProbeSamples
from exporter.metrics.series import most_probe_series, most_target_series
from exporter.server.histograms import PERCENTILES, TOKEN_PARTS
from exporter.state.probe_state import Board
from tests.builders import concurrency, make_facts, make_probe, make_target
from tests.metrics.results import (
    Clock,
    make_counts,
    make_measurement,
    make_result,
    make_statistics,
    make_streams,
    make_summary,
    make_token_counts,
    make_tokens,
    rate,
)

GOOD = sorted((Path(__file__).parents[1] / "config" / "good").glob("*.yaml"))
MOST_OVER = 2.2
"""The bound is at most so many times what a page has after one sweep that went well. What is beyond the page are the
reasons of sweeps that fail, and the components and regressions that this sweep did not have."""

PAGE = (
    "running_requests_max",
    "kv_cache_usage_ratio_max",
    "pending_requests_max",
    "cpu_utilization_ratio",
    "cpu_memory_used_bytes",
    "pinned_memory_used_bytes",
)

FULL: dict[str, Any] = {
    "target": make_target(scheme="grpcs", metrics_url="http://triton.example:8002/metrics"),
    "slo": Slo("fast", 20 * MS, 99.0, ("1",)),
    "unit": Unit("audio_seconds", 0.5),
    "composing_models": ("resize",),
    "validation": Validation("reference"),
    "sequences": SequenceOptions(),
    "streaming": True,
}
PROBES = [
    make_probe(),
    make_probe(levels=(concurrency(1), concurrency(2)), **FULL),
    make_probe(levels=(rate(1), rate(2)), **FULL),
    make_probe(levels=(rate(1),), histogram=False, baseline=BaselineOptions(enabled=False)),
    make_probe(levels=(LoadLevel(Mode.SCHEDULE, 30.0, "plan"),), slo=Slo("fast", 20 * MS, 99.0, ("plan",))),
    make_probe(
        target=make_target(kind="openai", metrics_url="http://vllm.example:8000/metrics"),
        streaming=True,
        slo=Slo("chat", 0, 99.0, ("1",), 0.0, 20 * MS, 20 * MS, 20 * MS),
    ),
    make_probe(levels=(LoadLevel(Mode.PERIODIC, 4.0, "1:4:1"),), streaming=True),
    make_probe(levels=(LoadLevel(Mode.STREAMS, 4.0, "4", step_interval_ns=MS),), slo=Slo("kept", MS, 99.0, ("4",))),
    make_probe(levels=matrix([concurrency(1), concurrency(8)], [1, 4], [])),
    make_probe(name="asr/zone-a", pool="tls://dask:8786", place="zone-a"),
]


def components_of(probe: Probe) -> list[str]:
    return [name for name in COMPONENTS if probe.target.takes_prompts or name not in TOKEN_COMPONENTS]


def full_measurement(probe: Probe, level: LoadLevel) -> Measurement:
    """With all that the probe's configuration allows."""
    values = tuple(PercentileValue(each, 4 * MS, None, None) for each in probe.measurement.percentiles)
    summary, of_tokens = make_summary(percentiles=values), probe.target.takes_prompts
    streamed = probe.streaming and not of_tokens
    changes: dict[str, Any] = {
        "latency": summary,
        "breakdown_ns": dict.fromkeys(components_of(probe), 1.0 * MS),
        "server": make_statistics(cache_hit=make_statistics().success, cache_miss=make_statistics().success),
        "first_response": summary if streamed else None,
        "inter_response": summary if streamed else None,
        "sequences": 9,
        "modes_ns": (4.0 * MS, 8.0 * MS),
        "slo_good": 9 if probe.slo and level.label in probe.slo.levels else None,
        "tokens": make_tokens(stream_open=summary, first_token=summary, per_output_token=summary, inter_token=summary)
        if of_tokens
        else None,
    }
    if probe.pool:
        changes["health"] = ClientHealth(clock_error_ns=MS)
    if level.mode is Mode.STREAMS:
        changes["streams"] = make_streams(final_latency=summary)
    if level.mode not in (Mode.CONCURRENCY, Mode.PERIODIC):
        changes |= {"response_time": summary, "send_lag": summary}
    if probe.validation:
        changes |= {"validated": 9, "output_error": OutputError(0.5, 0.5, 1.0, 1.0)}
    if probe.target.metrics_url:
        parts_known = TOKEN_PARTS if of_tokens else ("first_response",)
        own = dict.fromkeys(parts_known, tuple(ServerPercentile(each, 1.0, 0.5, 2.0) for each in PERCENTILES))
        page = ServerMetrics(1, 0, up=True, **dict.fromkeys(PAGE, 1.0))  # type: ignore[arg-type]
        changes["server_metrics"] = replace(page, percentiles=own)
    some = make_statistics().success
    parts: dict[str, Any] = {"queue": some, "compute_input": some, "compute_infer": some, "compute_output": some}
    changes["composing"] = tuple(make_statistics(name=name, **parts) for name in probe.composing_models)
    return make_measurement(level, **changes)


def full_verdict(probe: Probe, level: LoadLevel) -> LevelVerdict:
    signals = (
        SignalVerdict(
            signal,
            4.0 * MS,
            1.25,
            {tier.name: True for tier in probe.baseline.tiers if signal in tier.signals},
            version_ratio=1.1,
            counts={tier.name: (3, 4, 3) for tier in probe.baseline.tiers},
            reason=Withheld.NO_REQUESTS,
            modes=(4.0 * MS, 8.0 * MS),
        )
        for signal in signals_of(probe.target)
    )
    change = LevelChange(1_700_000_000.0, 4.0 * MS, 5.0 * MS, 1.25)
    return LevelVerdict(
        level, tuple(signals), dict.fromkeys(components_of(probe), 1.0), 1_700_000_000.0, last_change=change
    )


def rendered(probes: list[Probe], *, everything: bool) -> int:
    """The series of a page after one good sweep of each probe; or after all that can happen to them."""
    board = Board(None, Clock())
    board.configure(probes)
    for probe in probes:
        for level in probe.levels if probe.histogram else ():
            tokens = make_token_counts() if probe.target.takes_prompts else None
            board.window_ended(probe, make_counts(level, tokens=tokens))
        for reason in Reason if everything else ():
            if reason is not Reason.NONE:
                board.sweep_ended(make_result(probe, SweepStatus.FAILED, reason=reason))
        board.sweep_skipped(probe, SkipReason.OVERLAP)
        verdicts = [full_verdict(probe, level) for level in probe.levels] if probe.baseline.enabled else []
        full = [full_measurement(probe, level) for level in probe.levels]
        tls = ConnectionTimes(MS, MS if probe.target.is_tls else None, MS, 1.8e9 if probe.target.is_tls else None)
        plain = [make_measurement(level) for level in probe.levels]
        board.sweep_ended(
            make_result(
                probe,
                facts=make_facts(decoupled=probe.streaming and not probe.target.takes_prompts),
                measurements=tuple(full if everything else plain),
                verdicts=tuple(verdicts if everything else ()),
                connection=tls,
            )
        )

    def fail() -> None:
        raise AssertionError("samples could not be made")

    samples = ProbeSamples(1_000_000, fail)
    samples.update([ProbeRow(view, 1.0, paused=False) for view in board.probes()], 0)
    return samples.series


def bound(probes: list[Probe]) -> int:
    targets = {probe.target.name: probe.target for probe in probes}
    return sum(map(most_probe_series, probes)) + sum(map(most_target_series, targets.values()))


@pytest.mark.parametrize("file", GOOD, ids=lambda path: path.stem)
def test_the_bound_of_a_configuration_is_above_its_page_and_not_far(file: Path) -> None:
    probes = list(build_probes(load(file, {})))
    assert rendered(probes, everything=True) <= bound(probes)
    assert bound(probes) <= MOST_OVER * rendered(probes, everything=False)


@pytest.mark.parametrize("probe", PROBES, ids=lambda probe: f"{probe.levels[0].mode}-{len(probe.levels)}")
def test_the_bound_is_what_the_page_has_once_everything_has_happened(probe: Probe) -> None:
    assert bound([probe]) == rendered([probe], everything=True)
