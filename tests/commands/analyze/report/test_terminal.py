"""The terminal report against what perf_analyzer printed for the same figures."""

from __future__ import annotations

import io
from dataclasses import replace
from typing import Any

import pytest

from exporter.commands.analyze.report.lines import ReportOptions
from exporter.commands.analyze.report.numbers import number
from exporter.commands.analyze.report.terminal import Report
from exporter.config.levels import matrix
from exporter.core.facts import DurationStat, GpuSource, ModelFacts, ModelStatistics
from exporter.core.outcome import Outcome, Reason
from exporter.core.probe import (
    Distribution,
    InputOptions,
    LoadLevel,
    MeasurementOptions,
    Mode,
    Probe,
    Search,
    SearchKind,
    Unit,
    WindowMode,
)
from exporter.core.result import GpuFigures, LatencySummary, Measurement, PercentileValue, SweepResult, WindowSummary
from exporter.core.units import MS, US
from exporter.core.window import ClientHealth, ConnectionTimes
from tests.builders import concurrency, make_facts, make_probe, make_target
from tests.commands.analyze.report import perf_analyzer_output as theirs
from tests.metrics.results import make_measurement, make_result, make_streams, make_summary, rate


def latency(mean_us: int, stddev_us: int, count: int, **percentiles_us: int) -> LatencySummary:
    values = tuple(PercentileValue(float(name[1:]), us * US, None, None) for name, us in percentiles_us.items())
    return LatencySummary(count, mean_us * US + 0.5, stddev_us * US + 0.5, 5000 * US, 20000 * US, values)


def server(name: str, count: int, request: int, queue: int, infer: int, **us: int) -> ModelStatistics:
    """Each average in microseconds, over `count` requests unless the part has a count of its own."""

    def stat(part: str, each_us: int) -> DurationStat:
        own = us.get(f"{part}_count", count)
        return DurationStat(own, own * each_us * US)

    computed = us.get("computed", count)
    return ModelStatistics(
        name,
        "1",
        inference_count=computed,
        execution_count=computed,
        success=stat("success", request),
        queue=stat("queue", queue),
        compute_input=DurationStat(computed, computed * us.get("input", 0) * US),
        compute_infer=DurationStat(computed, computed * infer * US),
        compute_output=DurationStat(computed, computed * us.get("output", 0) * US),
        cache_hit=DurationStat(us.get("hits", 0), us.get("hits", 0) * us.get("hit", 0) * US),
        cache_miss=DurationStat(us.get("misses", 0), us.get("misses", 0) * us.get("miss", 0) * US),
    )


PLAIN = make_measurement(
    latency=latency(11774, 815, 123, p50=11516, p90=12752, p95=12987, p99=14717),
    throughput=85.25222,
    outcomes={Outcome.OK: 123},
    client_send_ns=182 * US,
    client_receive_ns=0,
    server=server("delay", 123, 11088, 112, 10647, input=34, output=289),
    foreign_requests=0,
)


def printed(
    probe: Probe, *measurements: Measurement, facts: ModelFacts | None = None, options: ReportOptions | None = None
) -> str:
    stream = io.StringIO()
    report = Report(stream, probe, options)
    report.print_settings(facts)
    for measurement in measurements:
        report.level_ended(measurement, facts)
    report.finish(make_result(probe, facts=facts, measurements=measurements))
    return stream.getvalue()


def level_block(measurement: Measurement, options: ReportOptions | None = None, **facts: Any) -> str:
    stream = io.StringIO()
    Report(stream, make_probe(), options).level_ended(measurement, make_facts(**facts))
    return stream.getvalue()


def test_plain_report_is_perf_analyzers() -> None:
    probe = make_probe(measurement=MeasurementOptions(window_ns=400 * MS))
    assert printed(probe, PLAIN, facts=make_facts()) == theirs.PLAIN


def test_verbose_grpc_report_with_a_percentile() -> None:
    """perf_analyzer's lines, and ours beside them: percentiles with their intervals, minimum and maximum."""
    probe = make_probe(
        target=make_target(scheme="grpc"),
        levels=(concurrency(1), concurrency(2)),
        measurement=MeasurementOptions(window_ns=400 * MS, stability_percentile=95.0),
        input=InputOptions(batch_size=4),
    )
    windows = tuple(
        WindowSummary(index, 0.0, 1, 1, 0, {}, throughput, latency(0, 0, 1, p95=p95), judged=True)
        for index, (throughput, p95) in enumerate([(83.2307, 12436), (85.0013, 13067)])
    )
    found = latency(11781, 0, 121, p50=11627, p90=12592, p95=12902, p99=13617)
    bounds = [(11600 * US, 11700 * US), (12000 * US, None), (None, 12999 * US), (None, None)]
    measurement = make_measurement(
        latency=replace(
            found,
            percentiles=tuple(
                replace(each, low_ns=low, high_ns=high)
                for each, (low, high) in zip(found.percentiles, bounds, strict=True)
            ),
        ),
        throughput=83.81432,
        outcomes={Outcome.OK: 121},
        client_send_ns=10 * US,
        client_receive_ns=5 * US,
        health=ClientHealth(cpu_ratio=0.0019),
        server=server("delay", 122, 11398, 163, 10562, input=38, output=629),
        foreign_requests=0,
        window_summaries=windows,
    )
    text = printed(probe, measurement, facts=make_facts(), options=ReportOptions(verbose=True))
    expected = theirs.VERBOSE_P95
    for line, bound in [
        ("p50 latency: 11627 usec", "95% confidence: 11600 to 11700 usec"),
        ("p90 latency: 12592 usec", "95% confidence: at least 12000 usec"),
        ("p95 latency: 12902 usec", "95% confidence: at most 12999 usec"),
    ]:
        expected = expected.replace(f"    {line}\n", f"    {line} ({bound})\n")
    expected = expected.replace(
        "    p99 latency: 13617 usec\n",
        "    p99 latency: 13617 usec (too few requests for a confidence interval)\n"
        "    Min latency: 5000 usec, max 20000 usec\n",
    )
    assert text == expected


def test_response_cache() -> None:
    measurement = replace(
        PLAIN,
        server=server(
            *("cached_delay", 4675, 37, 2, 131640),
            input=42,
            output=145,
            computed=1,
            hits=4674,
            hit=5,
            misses=1,
            miss=58,
        ),
    )
    assert level_block(measurement, response_cache=True).endswith(theirs.CACHED_SERVER)


def test_ensemble_and_its_models() -> None:
    composing = (
        server("identity", 1579, 305, 37, 172, input=14, output=75),
        server("addsub", 1579, 300, 27, 213, input=18, output=40),
    )
    measurement = replace(PLAIN, server=server("pipeline", 1579, 605, 1, 385), composing=composing)
    assert level_block(measurement, ensemble=True).endswith(theirs.PIPELINE_SERVER)


def test_ensemble_with_a_cached_model_or_a_cache_of_its_own() -> None:
    cached = server("addsub", 4, 37, 2, 100, computed=1, hits=3, hit=5, misses=1, miss=58)
    measurement = replace(PLAIN, server=server("pipeline", 4, 605, 1, 385), composing=(cached,))
    lines = level_block(measurement, ensemble=True).splitlines()
    assert "    Avg request latency: 605 usec (overhead 560 usec + queue 2 usec + cache hit/miss 43 usec)" in lines
    assert "      Average Cache Miss Latency: 158 usec " in lines
    assert "          Average Cache Hit Latency: 5 usec" in lines
    assert "    Avg request latency: 605 usec" in level_block(measurement, response_cache=True).splitlines()


def test_gpus() -> None:
    gpu = GpuFigures("GPU-a", GpuSource.TRITON, 0.4567, 120.5, 8.0e9, 16.0e9)
    block = level_block(replace(PLAIN, gpu=(gpu,)), ReportOptions(metrics=True))
    reported = iter(["45.67%", "120.5 watts", "8000000000 bytes", "16000000000 bytes"])
    expected = "".join(
        f"{line}\n      GPU-a : {next(reported)}\n" if line.startswith("    ") else f"{line}\n"
        for line in theirs.METRICS.splitlines()
    )
    assert block.endswith(expected)
    assert level_block(PLAIN, ReportOptions(metrics=True)).endswith(theirs.METRICS)
    twice = (gpu, replace(gpu, source=GpuSource.NVML), GpuFigures("MIG-b", GpuSource.NVML, memory_used_bytes=1.0))
    assert level_block(replace(PLAIN, gpu=twice), ReportOptions(metrics=True)) == block
    nine = [replace(gpu, uuid=f"GPU-{i}", source=source) for i in range(9) for source in GpuSource]
    assert "Too many GPUs" not in level_block(replace(PLAIN, gpu=tuple(nine)), ReportOptions(metrics=True))
    crowd = tuple(replace(gpu, uuid=f"GPU-{i}") for i in range(17))
    assert "Too many GPUs" in level_block(replace(PLAIN, gpu=crowd), ReportOptions(metrics=True))


def test_settings_of_a_rate_search_over_count_windows() -> None:
    level = rate(20)
    probe = make_probe(
        levels=(level, rate(40)),
        search=Search(SearchKind.BINARY, Mode.REQUEST_RATE, 20, 40, 5),
        measurement=MeasurementOptions(window_mode=WindowMode.COUNT, window_requests=20, latency_threshold_ns=15 * MS),
    )
    stream = io.StringIO()
    Report(stream, probe).print_settings()
    assert stream.getvalue() == theirs.RATE_SETTINGS


def test_settings_of_a_request_count_and_of_an_open_range() -> None:
    probe = make_probe(measurement=MeasurementOptions(warm_up_requests=5, request_count=1))
    stream = io.StringIO()
    Report(stream, probe, ReportOptions(asynchronous=True)).print_settings()
    assert stream.getvalue() == theirs.COUNT_SETTINGS

    search = Search(SearchKind.LINEAR, Mode.CONCURRENCY, 1, 0, 1)
    probe = make_probe(search=search, measurement=MeasurementOptions(latency_threshold_ns=MS // 2))
    stream = io.StringIO()
    Report(stream, probe).print_settings(make_facts(decoupled=True))
    assert "  Latency limit: 0.5 msec\n  Using synchronous" in stream.getvalue()
    assert "  Detected decoupled model, using the last response" in stream.getvalue()


def test_what_is_not_as_it_should_be_is_reported() -> None:
    measurement = make_measurement(
        rate(50),
        stable=False,
        reason=Reason.UNSTABLE,
        reason_text="level 50: the last 3 of 10 windows differ by 30 %, more than the 10 % allowed",
        unsent_ratio=0.0234,
        client_limited=True,
        server_note="the metrics page did not respond",
    )
    lines = level_block(measurement).splitlines()
    assert lines[0] == "Request Rate: 50 inference requests per second"
    assert "    Failed request count: 3 (1 timeout, 2 cancelled)" in lines
    assert "    Avg send request rate: 334.00 infer/sec" in lines
    assert any("2.34% of the requests that were due were not sent" in line for line in lines)
    assert "    [WARNING] 110 requests that the server counted were not ours" in lines
    assert "[WARNING] Server: the metrics page did not respond" in lines
    assert lines[-3].startswith("[WARNING] Requests left later than they were meant to: from the moment meant")
    assert lines[-2].endswith("(loop lag 500 usec, cpu 25%)")
    assert lines[-1] == f"[WARNING] Not stable: {measurement.reason_text}"


def test_two_groups_of_windows_are_reported() -> None:
    lines = level_block(make_measurement(modes_ns=(21e6, 41e6))).splitlines()
    assert lines[-1].startswith("[WARNING] Bimodal: windows have a median of 21 ms or of 41 ms")


def test_a_level_without_an_ok_request() -> None:
    measurement = make_measurement(latency=None, throughput=0.0, outcomes={Outcome.TIMEOUT: 5}, server=None)
    text = printed(make_probe(), replace(measurement, stable=False), facts=make_facts())
    assert "    Request count: 0\n    Failed request count: 5 (5 timeout)\n    Throughput: 0 infer/sec\n" in text
    assert "  Server: \n    No statistics of these windows\n" in text
    assert text.endswith("Concurrency: 1, throughput: 0 infer/sec, latency unknown: no request was ok (not stable)\n")


def test_server_block_is_left_out_where_the_server_has_no_statistics() -> None:
    assert "Server" not in level_block(PLAIN, has_statistics=False)


def test_decoupled_model() -> None:
    lines = level_block(replace(PLAIN, responses=30, duration_ns=2_000_000_000), decoupled=True).splitlines()
    assert "    Response Throughput: 15 infer/sec" in lines
    assert lines[lines.index("  Server: ") - 1] == "    "


def test_throughput_in_a_unit_of_ones_own() -> None:
    lines = printed(make_probe(unit=Unit("seconds_of_audio", 0.3)), PLAIN).splitlines()
    at = lines.index("    Throughput: 85.2522 infer/sec")
    assert lines[at + 1] == "    Throughput: 25.5757 seconds_of_audio/sec"
    assert "seconds_of_audio" not in printed(make_probe(), PLAIN)


def test_responses_per_request() -> None:
    streamed = replace(PLAIN, responses_per_request=3.25)
    line = "    Responses per request: 3.25"
    for streaming, verbose in ((True, True), (True, False), (False, True)):
        stream = io.StringIO()
        report = Report(stream, make_probe(streaming=streaming), ReportOptions(verbose=verbose))
        report.level_ended(streamed, make_facts())
        assert (line in stream.getvalue().splitlines()) == (streaming and verbose)


def test_sequences_and_streams() -> None:
    measurement = replace(
        PLAIN,
        sequences=30,
        duration_ns=2_000_000_000,
        first_response=make_summary(2.0),
        inter_response=make_summary(1.0),
    )
    block = level_block(measurement)
    lines = block.splitlines()
    assert lines.index("    Sequence count: 30 (15 seq/sec)") == lines.index("    Request count: 123") + 1
    assert "response, from" not in block
    verbose = level_block(measurement, ReportOptions(verbose=True)).splitlines()
    assert [line.split(", p90")[0] for line in verbose if line.startswith(("    First resp", "    From one"))] == [
        "    First response, from the moment sent: avg 2500 usec, p50 2000 usec",
        "    From one response to the next: avg 1250 usec, p50 1000 usec",
    ]


STREAMS = LoadLevel(Mode.STREAMS, 64.0, "64", step_interval_ns=300 * MS)


def test_streams_in_real_time() -> None:
    figures = make_streams()
    probe = make_probe(levels=(STREAMS, replace(STREAMS, value=128.0)), unit=Unit("audio_seconds", 0.3))
    measurement = make_measurement(
        STREAMS, throughput=200.0, streams=figures, response_time=make_summary(5.0), send_lag=make_summary(0.25)
    )
    lines = printed(probe, measurement).splitlines()
    assert "  Streams limit: 128 streams" in lines
    assert "Streams: 64, a step every 300 msec" in lines
    assert "    Throughput: 60 audio_seconds/sec" in lines
    start = next(index for index, line in enumerate(lines) if line.startswith("    Step response time"))
    assert [line.split(", p50")[0] for line in lines[start : start + 5]] == [
        "    Step response time, from its deadline: avg 6250 usec",
        "    Final latency, from the last deadline: avg 77500 usec",
        "    Real-time factor: 0.125",
        "    Late steps: 32 of 3200 (1%)",
        "    Streams that kept real time: 30 of 40 (75%)",
    ]
    verbose = printed(probe, measurement, options=ReportOptions(verbose=True))
    assert "    Sent after the deadline: avg 312 usec" in verbose


def test_a_matrix_has_what_its_levels_differ_by() -> None:
    levels = matrix([concurrency(8)], [1, 4], [{"a": [1, 320]}])
    text = printed(make_probe(levels=levels), make_measurement(levels[1]))
    assert "  Batch size: 1,4\n" in text
    assert "\nRequest concurrency: 8, batch size: 4, shapes: a 1x320\n" in text
    assert "\nConcurrency: 8, batch size: 4, shapes: a 1x320, throughput: " in text


@pytest.mark.parametrize(
    ("level", "text"),
    [
        (STREAMS, "Streams: 64, throughput"),
        (LoadLevel(Mode.INTERVALS, 85.714, "iv"), "Request Rate: 85, throughput"),
        (LoadLevel(Mode.SCHEDULE, 30.0, "plan", duration_ns=2_000_000_000), "Request Rate: 15, throughput"),
        (LoadLevel(Mode.PERIODIC, 4.0, "4:8:2"), "Periodic concurrency: 4:8:2, throughput"),
    ],
)
def test_summary_of_other_loads(level: LoadLevel, text: str) -> None:
    measurement = make_measurement(level)
    assert f"\n{text}" in printed(make_probe(levels=(level,)), measurement)


def test_summary_names_the_best_level_and_the_first_connection() -> None:
    search = Search(SearchKind.LINEAR, Mode.CONCURRENCY, 1, 0, 1)
    probe = make_probe(search=search, measurement=MeasurementOptions(latency_threshold_ns=8 * MS))
    measurements = (replace(PLAIN, threshold_met=True), make_measurement(concurrency(2), threshold_met=False))
    result: SweepResult = make_result(
        probe, measurements=measurements, connection=ConnectionTimes(250_000, None, 9_000_000)
    )
    stream = io.StringIO()
    Report(stream, probe, ReportOptions(verbose=True)).finish(result)
    lines = stream.getvalue().splitlines()
    assert lines[0] == "First connection: connect 250 usec, first request 9000 usec"
    assert lines[-1] == "Best within 8 msec: Concurrency: 1"


def test_summary_states_that_no_level_kept_the_limit() -> None:
    probe = make_probe(measurement=MeasurementOptions(latency_threshold_ns=MS))
    text = printed(probe, make_measurement(threshold_met=False))
    assert text.endswith(", latency 5000 usec\nBest within 1 msec: no level\n")
    assert "Best within" not in printed(make_probe(), make_measurement())


@pytest.mark.parametrize(
    ("level", "percentile", "changes", "expected"),
    [
        (concurrency(4), None, {}, ["[WARNING] Above the latency limit: latency mean 5000 usec"]),
        (concurrency(4), 95.0, {}, ["[WARNING] Above the latency limit: latency p95 12000 usec"]),
        (
            concurrency(4),
            None,
            {"latency": make_summary(0.5), "outcomes": {Outcome.OK: 950, Outcome.TIMEOUT: 50}},
            ["[WARNING] Asked load not reached: 5% of the requests failed"],
        ),
        (
            rate(4096),
            95.0,
            {"outcomes": {Outcome.OK: 8235}, "response_time": make_summary(0.125)},
            ["[WARNING] Asked rate not reached: 2745 of 4096/s"],
        ),
        (
            rate(100),
            95.0,
            {"outcomes": {Outcome.OK: 150}, "latency": make_summary(0.25)},
            [
                "[WARNING] Above the latency limit: response time p95 15000 usec",
                "[WARNING] Asked rate not reached: 50 of 100/s",
            ],
        ),
        (
            replace(rate(100), distribution=Distribution.POISSON),
            None,
            {"outcomes": {Outcome.OK: 300}, "offered": 150.0, "unsent_ratio": 0.25, "response_time": make_summary(0.5)},
            ["[WARNING] Asked rate not reached: 100 of 200/s"],
        ),
        (rate(100), None, {"threshold_met": True}, []),
        (rate(100), None, {"threshold_met": None}, []),
    ],
)
def test_why_a_level_did_not_keep_the_limit(
    level: LoadLevel, percentile: float | None, changes: dict[str, Any], expected: list[str]
) -> None:
    """The limit is 2 ms; the level lasts 3 s."""
    options = MeasurementOptions(latency_threshold_ns=2 * MS, stability_percentile=percentile)
    measurement = make_measurement(level, **({"threshold_met": False, "outcomes": {Outcome.OK: 300}} | changes))
    lines = printed(make_probe(levels=(level,), measurement=options), measurement).splitlines()
    assert [line for line in lines if line.startswith(("[WARNING] Above", "[WARNING] Asked"))] == expected


@pytest.mark.parametrize(
    ("level", "ok", "expected"),
    [
        (rate(100), 150, ["[WARNING] Asked rate not reached: 50 of 100/s"]),
        (rate(100), 300, []),
        (concurrency(4), 1, []),
    ],
)
def test_a_rate_that_was_not_reached_is_reported_without_a_limit(
    level: LoadLevel, ok: int, expected: list[str]
) -> None:
    measurement = make_measurement(level, outcomes={Outcome.OK: ok, Outcome.TIMEOUT: 5}, threshold_met=None)
    lines = printed(make_probe(levels=(level,)), measurement).splitlines()
    assert [line for line in lines if "Asked" in line] == expected


def test_an_interrupted_level_is_not_called_unstable() -> None:
    text = "interrupted after 2 of 3 windows"
    measurement = make_measurement(concurrency(2), stable=False, reason=Reason.SHUTDOWN, reason_text=text)
    lines = printed(make_probe(levels=(concurrency(2),)), measurement).splitlines()
    assert [line for line in lines if line.startswith("[WARNING]")] == ["[WARNING] Interrupted after 2 of 3 windows"]


def test_verbose_response_time_of_an_open_loop() -> None:
    lines = level_block(make_measurement(rate(50), response_time=make_summary(4.0)), ReportOptions(verbose=True))
    assert (
        "    Response time, from the moment meant: avg 5000 usec, p50 4000 usec, p90 8000 usec, p95 12000 usec, "
        "p99 16000 usec, p99.9 32000 usec\n" in lines
    )


def test_nothing_measured_has_no_summary() -> None:
    stream = io.StringIO()
    Report(stream, make_probe()).finish(make_result(measurements=()))
    assert stream.getvalue() == ""


@pytest.mark.parametrize(
    ("value", "text"), [(85.25222, "85.2522"), (100.0, "100"), (1234567.0, "1.23457e+06"), (0.5, "0.5"), (0.0, "0")]
)
def test_numbers_are_those_of_a_cpp_stream(value: float, text: str) -> None:
    assert number(value) == text
