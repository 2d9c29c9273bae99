"""Verdicts on a language model's tokens: what is judged, what is kept, and for whom."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from exporter.baseline.file_format import decode, encode
from exporter.baseline.judge import judge
from exporter.baseline.state import LoadState, ProbeBaselines
from exporter.config import build_probes, load
from exporter.core.errors import ConfigError
from exporter.core.probe import BaselineOptions, Probe, Signal, signals_of
from exporter.core.result import LevelVerdict, SweepResult, Withheld
from exporter.core.units import MS, NS
from tests.builders import concurrency, make_probe, make_target
from tests.metrics.results import make_measurement, make_result, make_summary, make_tokens

START = 1_700_000_000.0
STEP_S = 300
PIN_SWEEPS = 40
GOOD_SWEEPS = 3 * PIN_SWEEPS
TOKENS = (Signal.FIRST_TOKEN_P50, Signal.PER_OUTPUT_TOKEN_P50)


def probe_of(kind: str = "openai") -> Probe:
    options = BaselineOptions(pin_ns=PIN_SWEEPS * STEP_S * NS, provisional_ns=PIN_SWEEPS * STEP_S * NS)
    tiers = tuple(replace(tier, signals=(*tier.signals, *TOKENS)) for tier in options.tiers)
    return make_probe(
        target=make_target(kind=kind),
        streaming=True,
        schedule=replace(make_probe().schedule, interval_ns=STEP_S * NS),
        baseline=replace(options, tiers=tiers),
    )


def sweep_of(probe: Probe, number: int, first_ms: float = 40.0, pace_ms: float = 8.0, **tokens: Any) -> SweepResult:
    wobble = 1 + 0.002 * (number % 5)
    figures = make_tokens(
        first_token=make_summary(first_ms * wobble), per_output_token=make_summary(pace_ms * wobble), **tokens
    )
    measurement = make_measurement(concurrency(1), tokens=figures if probe.target.takes_prompts else None)
    return make_result(probe, measurements=(measurement,), started_unix_s=START + number * STEP_S, duration_ns=NS)


def run(probe: Probe, state: LoadState, sweeps: int, first: int = 0, **changes: Any) -> LevelVerdict:
    for number in range(first, first + sweeps):
        (verdict,) = judge(state, sweep_of(probe, number, **changes))
    return verdict


def by_signal(verdict: LevelVerdict) -> dict[Signal, dict[str, bool]]:
    return {each.signal: dict(each.tiers) for each in verdict.signals}


def test_a_later_first_token_is_a_regression_of_that_alone() -> None:
    probe, state = probe_of(), LoadState()
    run(probe, state, GOOD_SWEEPS)
    before = by_signal(run(probe, state, 5, GOOD_SWEEPS))
    assert before[Signal.FIRST_TOKEN_P50] == {"page": False, "warn": False, "slow": False}
    verdict = run(probe, state, 45, GOOD_SWEEPS + 5, first_ms=100.0)
    after = by_signal(verdict)
    assert after[Signal.FIRST_TOKEN_P50]["warn"]
    assert not any(after[Signal.PER_OUTPUT_TOKEN_P50].values())
    assert not any(after[Signal.LATENCY_P50].values())
    (first,) = (each for each in verdict.signals if each.signal is Signal.FIRST_TOKEN_P50)
    assert first.baseline == pytest.approx(40 * MS, rel=0.02)
    assert first.ratio == pytest.approx(2.5, rel=0.02)


def test_a_slower_pace_and_fewer_tokens_a_second_are_seen() -> None:
    probe, state = probe_of(), LoadState()
    run(probe, state, GOOD_SWEEPS)
    verdict = run(probe, state, 45, GOOD_SWEEPS, pace_ms=20.0, output_tokens_per_second=10_656.0)
    assert by_signal(verdict)[Signal.PER_OUTPUT_TOKEN_P50]["warn"]
    (rate,) = (each for each in verdict.signals if each.signal is Signal.OUTPUT_TOKENS)
    assert rate.ratio == pytest.approx(0.5)


def test_tokens_that_not_counted_have_no_verdict() -> None:
    probe, state = probe_of(), LoadState()
    for number in range(PIN_SWEEPS + 5):
        result = sweep_of(probe, number)
        tokens = replace(result.measurements[0].tokens, per_output_token=None, output_tokens_per_second=None)  # type: ignore[type-var]
        measurement = replace(result.measurements[0], tokens=tokens)
        (verdict,) = judge(state, replace(result, measurements=(measurement,)))
    reasons = {each.signal: each.reason for each in verdict.signals}
    assert reasons[Signal.PER_OUTPUT_TOKEN_P50] is Withheld.NO_FIGURE
    assert reasons[Signal.FIRST_TOKEN_P50] is None


def test_other_targets_are_judged_as_before() -> None:
    probe, state = probe_of("triton"), LoadState()
    verdict = run(probe, state, 3)
    assert [each.signal for each in verdict.signals] == list(signals_of(probe.target))
    assert [signal.value for signal in signals_of(probe.target)] == ["latency_p50", "latency_p99", "throughput"]
    text = encode("addsub", ProbeBaselines({"x": state}))
    assert "token" not in text.replace("first_token_tail", "")


def test_what_is_remembered_is_kept_in_the_file() -> None:
    probe, state = probe_of(), LoadState()
    run(probe, state, GOOD_SWEEPS)
    kept = decode(encode("addsub", ProbeBaselines({"x": state})), "addsub").loads["x"]
    one, other = (by_signal(run(probe, each, 45, GOOD_SWEEPS, first_ms=100.0)) for each in (state, kept))
    assert one == other
    assert one[Signal.FIRST_TOKEN_P50]["warn"]


CONFIG = """
targets: [{{name: t, kind: {kind}, url: "http://localhost:8000"}}]
probes:
  - name: p
    target: t
    model: m
    streaming: {streaming}
    schedule: {{every: 5m}}
    load: {{concurrency: 1}}
    baseline: {baseline}
"""


def tiers_of(tmp_path: Path, kind: str, streaming: str = "true", baseline: str = "{}") -> list[tuple[Signal, ...]]:
    path = tmp_path / "canary.yaml"
    path.write_text(CONFIG.format(kind=kind, streaming=streaming, baseline=baseline))
    (probe,) = build_probes(load(path, {}))
    return [tier.signals for tier in probe.baseline.tiers]


def test_tiers_judge_tokens_by_default_if_there_are_any(tmp_path: Path) -> None:
    assert tiers_of(tmp_path, "openai")[0] == (Signal.LATENCY_P50, *TOKENS)
    assert tiers_of(tmp_path, "openai", "false")[0] == (Signal.LATENCY_P50,)
    assert tiers_of(tmp_path, "triton", "false")[0] == (Signal.LATENCY_P50,)
    chosen = tiers_of(tmp_path, "openai", baseline="{page: {signals: [output_tokens_per_second]}}")
    assert chosen[0] == (Signal.OUTPUT_TOKENS,)
    with pytest.raises(ConfigError, match="targets of kind triton do not respond in tokens"):
        tiers_of(tmp_path, "triton", "false", "{page: {signals: [time_to_first_token_p50]}}")
