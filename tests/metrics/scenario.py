"""One board with something of everything, for the golden page and what is compared with it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from exporter.core.facts import DurationStat, GpuSource
from exporter.core.outcome import Outcome, Reason, SkipReason, SweepStatus
from exporter.core.probe import InputOptions, LoadLevel, Mode, Probe, Schedule, SequenceOptions, Signal, Slo, Unit
from exporter.core.result import (
    GpuFigures,
    LevelChange,
    LevelVerdict,
    ServerMetrics,
    ServerPercentile,
    SignalVerdict,
    Withheld,
)
from exporter.core.units import MS, NS
from exporter.core.window import ClientHealth, ConnectionTimes, OutputError
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

HOSTILE = 'a "quoted" \\ back\\nslash\nline {brace},comma="x" é'
"""A label value that tries to be more than one."""


BATCHED = LoadLevel(Mode.CONCURRENCY, 8.0, "8@b4", batch_size=4)
STREAMS = LoadLevel(Mode.STREAMS, 64.0, "64", step_interval_ns=300 * MS)


def closed_loop() -> Probe:
    return make_probe(
        levels=(concurrency(1), concurrency(2)),
        slo=Slo("fast", 20 * MS, 99.0, ("1",)),
        unit=Unit("audio_seconds", 0.5),
        variant="blue",
        variant_group="addsub",
        labels=(("team", "speech"),),
        input=InputOptions(batch_size=4),
        config_hash="cafe",
    )


def open_loop() -> Probe:
    target = make_target(
        name="triton-grpc",
        scheme="grpcs",
        host="triton.example",
        port=8001,
        metrics_url="https://user:secret@triton.example:8002/metrics",
    )
    return make_probe(
        name="stream",
        target=target,
        model="tts",
        version="2",
        levels=(rate(100), rate(200)),
        slo=Slo("quick", 30 * MS, 99.0, ("100", "200")),
        histogram=False,
        schedule=Schedule(interval_ns=300 * NS),
    )


def language_model() -> Probe:
    """Of which everything is known that tokens report."""
    return make_probe(
        name="chat",
        target=make_target(
            name="vllm", kind="openai", host="vllm.example", metrics_url="http://vllm.example:8000/metrics"
        ),
        model="llama",
        streaming=True,
        levels=(concurrency(4),),
        slo=Slo("chat", 0, 90.0, ("4",), first_token_ns=500 * MS, per_output_token_ns=50 * MS),
        histogram=True,
    )


def callers() -> Probe:
    """Streams at the pace of real time; and a level of a matrix, which no one probe can have beside them. From a place
    on other machines."""
    return make_probe(
        name="callers",
        levels=(STREAMS, BATCHED),
        sequences=SequenceOptions(),
        histogram=False,
        pool="tls://dask:8786",
        place="zone-a",
    )


def hostile() -> Probe:
    return make_probe(name=HOSTILE, model=HOSTILE, histogram=False)


SERVER_SIDE: dict[str, Any] = {
    "composing": (
        make_statistics(
            1000,
            name="resize",
            queue=DurationStat(1000, 1000 * MS // 4),
            compute_input=DurationStat(500, 50 * MS),
            compute_infer=DurationStat(500, 400 * MS),
            compute_output=DurationStat(500, 50 * MS),
            execution_count=600,
        ),
    ),
    "server_metrics": ServerMetrics(
        readings=4,
        failed=0,
        up=True,
        pending_requests_max=3.0,
        cpu_utilization_ratio=0.5,
        cpu_memory_used_bytes=2.0**31,
        pinned_memory_used_bytes=1024.0,
    ),
    "gpu": (
        GpuFigures("GPU-1", GpuSource.TRITON, 0.75, 250.0, 2.0**33, 2.0**34, 900.0),
        GpuFigures(
            "GPU-1",
            GpuSource.NVML,
            temperature_celsius=61.0,
            clock_hertz=1.41e9,
            throttled={"sw_power_cap": 0.25},
        ),
    ),
    "energy_per_inference_joules": 0.125,
}
"""A level with all that a server can report."""


def regressed(level: LoadLevel) -> LevelVerdict:
    """Slower than its baseline, which is the accepted version's."""
    p50 = {"page": False, "warn": True, "slow": True}
    return LevelVerdict(
        level,
        (
            SignalVerdict(
                *(Signal.LATENCY_P50, 3.2 * MS, 1.25, p50),
                version_ratio=1.2,
                counts=dict.fromkeys(p50, (3, 4, 3)),
                modes=(3.2 * MS, 6.4 * MS),
            ),
            SignalVerdict(Signal.LATENCY_P99, 16.0 * MS, 1.0, {"warn": False}, version_ratio=1.05),
            SignalVerdict(Signal.THROUGHPUT, 410.0, 0.8125),
        ),
        components_ns={"queue": 0.75 * MS, "network": -0.125 * MS},
        pinned_unix_s=1_699_000_000.0,
        last_change=LevelChange(1_699_500_000.0, 3.0 * MS, 4.0 * MS, 1.25),
    )


def judged_by_tokens(level: LoadLevel) -> LevelVerdict:
    """A first token that comes later, at the old pace."""
    tiers = {"page": False, "warn": True, "slow": True}
    return LevelVerdict(
        level,
        (
            SignalVerdict(Signal.FIRST_TOKEN_P50, 32.0 * MS, 1.25, tiers),
            SignalVerdict(Signal.FIRST_TOKEN_P99, 128.0 * MS, 1.25),
            SignalVerdict(Signal.PER_OUTPUT_TOKEN_P50, 8.0 * MS, 1.0, dict.fromkeys(tiers, False)),
            SignalVerdict(Signal.OUTPUT_TOKENS, 21_312.0, 1.0),
        ),
        pinned_unix_s=1_699_000_000.0,
    )


def withheld(level: LoadLevel) -> LevelVerdict:
    """Has no baseline yet."""
    why, reason = "there is no baseline yet", Withheld.NO_BASELINE
    return LevelVerdict(
        level, tuple(SignalVerdict(signal, withheld=why, reason=reason) for signal in Signal if not signal.is_of_tokens)
    )


def make_scenario(monotonic: Clock | None = None) -> Board:
    """A closed loop that went well and failed after, an open loop under TLS, a hostile name that never ran, a language
    model, and streams."""
    board = Board(None, Clock(), monotonic=monotonic or Clock(0.0))
    first, second, third, fourth, fifth = closed_loop(), open_loop(), hostile(), language_model(), callers()
    board.configure((first, second, third, fourth, fifth))
    far = ClientHealth(MS // 2, 0.25, clock_error_ns=MS // 4)
    streamed = make_measurement(STREAMS, streams=make_streams(), health=far), make_measurement(BATCHED, health=far)
    board.sweep_ended(make_result(fifth, measurements=streamed))
    board.window_ended(fourth, make_counts(concurrency(4), tokens=make_token_counts()))
    queue = ServerPercentile(50.0, 0.002, 0.001, 0.005), ServerPercentile(99.0, None, 10.0, None)
    page = ServerMetrics(
        *(3, 0, True), running_requests_max=4.0, kv_cache_usage_ratio_max=0.25, percentiles={"queue": queue}
    )
    chat = make_measurement(
        concurrency(4), server=None, foreign_requests=None, tokens=make_tokens(), slo_good=960, server_metrics=page
    )
    board.sweep_ended(
        make_result(
            fourth,
            facts=make_facts(name="llama", takes_prompts=True),
            measurements=(chat,),
            verdicts=(judged_by_tokens(concurrency(4)),),
        )
    )
    board.window_ended(first, make_counts(concurrency(1), slo_requests=10, slo_bad=2))
    board.window_ended(first, make_counts(concurrency(2), bucket_counts=(1, 0, 0, 5, *[0] * 40, 2)))
    cached = make_statistics(cache_hit=DurationStat(300, 3 * MS), cache_miss=DurationStat(900, 9 * MS))
    checked = make_measurement(
        concurrency(2),
        validated=998,
        output_error=OutputError(0.125, 0.5, 64.0, 0.25),
        modes_ns=(4.0 * MS, 8.0 * MS),
        **SERVER_SIDE,
    )
    board.sweep_ended(
        make_result(
            first,
            facts=make_facts(platform="onnxruntime_onnx", config_hash="beef"),
            measurements=(
                make_measurement(concurrency(1), server=cached, slo_good=990),
                replace(checked, modes_ns=(4.0 * MS, 8.0 * MS)),
            ),
            verdicts=(regressed(concurrency(1)), withheld(concurrency(2))),
        )
    )
    board.sweep_started(second, 1_700_000_000.0)
    board.sweep_ended(
        make_result(
            second,
            SweepStatus.UNSTABLE,
            reason=Reason.UNSTABLE,
            facts=make_facts(name="tts", version="2", decoupled=True),
            measurements=(
                make_measurement(
                    rate(100),
                    offered=99.5,
                    response_time=make_summary(5.0),
                    sequences=120,
                    first_response=make_summary(2.0),
                    inter_response=make_summary(0.5),
                ),
                make_measurement(
                    rate(200),
                    offered=150.0,
                    unsent_ratio=0.25,
                    stable=False,
                    client_limited=True,
                    outcomes={Outcome.OK: 600, Outcome.OVERLOAD: 200},
                    server=None,
                    foreign_requests=None,
                    spread_ratio=None,
                ),
            ),
            connection=ConnectionTimes(MS // 2, 3 * MS, 40 * MS, 1_800_000_000.0),
        )
    )
    board.sweep_started(first, 1_700_000_060.0)
    board.sweep_ended(make_result(first, SweepStatus.FAILED, started_unix_s=1_700_000_060.0, duration_ns=NS // 4))
    board.sweep_skipped(second, SkipReason.OVERLAP)
    board.sweep_started(second, 1_700_000_300.0)
    return board
