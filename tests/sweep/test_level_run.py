"""A level's windows become one measurement: what is merged, joined and reported."""

import math
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exporter.core.facts import DurationStat, GpuReading, GpuSource, ServerReading, ServerSnapshot
from exporter.core.outcome import Outcome, Reason
from exporter.core.probe import InputOptions, LoadLevel, MeasurementOptions, Mode, Search, SearchKind, StabilityRule
from exporter.core.result import GpuFigures, Measurement
from exporter.core.units import MS, NS
from exporter.server.statistics import SEVERAL_CALLED
from exporter.sweep.level_run import LevelRun
from tests.builders import concurrency, make_columns, make_facts, make_probe, make_snapshot, make_window


def run_of(*latency_lists: list[float], **probe_changes: object) -> LevelRun:
    run = LevelRun(make_probe(**probe_changes), make_facts(), concurrency(1))
    for index, latencies in enumerate(latency_lists):
        run.add(make_window(index, latencies), ended_unix_s=1000.0 + index)
    return run


def test_the_last_three_windows_are_merged() -> None:
    measurement = run_of([99.0], [1.0, 2.0], [1.0, 2.0], [1.0, 2.0]).measurement(Reason.NONE, "")
    assert measurement is not None
    assert (measurement.windows_run, measurement.windows_merged) == (4, 3)
    assert measurement.duration_ns == 3 * NS
    assert measurement.throughput == 2.0
    assert measurement.latency is not None
    assert (measurement.latency.count, measurement.latency.max_ns) == (6, 2 * MS)
    assert [summary.judged for summary in measurement.window_summaries] == [False, True, True, True]
    assert [summary.start_unix_s for summary in measurement.window_summaries] == [999.0, 1000.0, 1001.0, 1002.0]
    assert (measurement.stable, measurement.reason) == (True, Reason.NONE)


def test_an_unstable_level_is_a_measurement_with_a_reason() -> None:
    measurement = run_of([1.0], [1.0], [2.0]).measurement(Reason.NONE, "")
    assert measurement is not None
    assert (measurement.stable, measurement.reason, measurement.spread_ratio) == (False, Reason.UNSTABLE, 2.0)
    assert measurement.reason_text == (
        "level 1: the last 3 of 3 windows differ by 100 %, more than the 10 % allowed and chance explain"
    )


@pytest.mark.parametrize(
    ("last_ms", "allowed", "found"),
    [
        (1.104, 0.1, "10.4 %, more than the 10 %"),
        (1.1002, 0.1, "10.02 %, more than the 10 %"),
        (1.126, 0.125, "13 %, more than the 12.5 %"),
        (1.5, 0.1, "50 %, more than the 10 %"),
    ],
)
def test_a_spread_is_written_as_above_what_is_allowed(last_ms: float, allowed: float, found: str) -> None:
    options = MeasurementOptions(stability_ratio=allowed, stability_rule=StabilityRule.PERF_ANALYZER)
    measurement = run_of([1.0], [1.0], [last_ms], measurement=options).measurement(Reason.NONE, "")
    assert measurement is not None
    assert measurement.reason_text == f"level 1: the last 3 of 3 windows differ by {found} allowed"


def test_a_level_cut_short_keeps_what_it_has() -> None:
    measurement = run_of([1.0]).measurement(Reason.TIME_BUDGET, "300 s are over")
    assert measurement is not None
    assert (measurement.stable, measurement.reason, measurement.reason_text) == (
        False,
        Reason.TIME_BUDGET,
        "300 s are over",
    )
    assert measurement.latency is not None


def test_no_window_no_measurement() -> None:
    assert run_of().measurement(Reason.ERROR_RATIO, "all failed") is None


def test_batches_count_as_inferences() -> None:
    measurement = run_of([1.0], [1.0], [1.0], input=InputOptions(batch_size=8)).measurement(Reason.NONE, "")
    assert measurement is not None
    assert measurement.throughput == 8.0
    assert measurement.offered == 1.0


def test_a_window_without_an_ok_request() -> None:
    run = LevelRun(make_probe(), make_facts(), concurrency(1))
    run.add(make_window(columns=make_columns([5.0], outcomes=[Outcome.TIMEOUT])), 1000.0)
    measurement = run.measurement(Reason.NONE, "")
    assert measurement is not None
    assert measurement.latency is None
    assert measurement.breakdown_ns == {}
    assert measurement.error_ratio == 1.0
    assert measurement.reason_text == "level 1: a window without an ok request in the last 3"


def test_the_stability_percentile_is_what_must_agree() -> None:
    # The means agree; the 99th percentile does not.
    options = MeasurementOptions(window_ns=NS, stability_percentile=99.0, stability_rule=StabilityRule.PERF_ANALYZER)
    spread = [[1.0] * 99 + [tail] for tail in (1.0, 1.0, 1.3)]
    assert run_of(*spread).stability().stable
    assert not run_of(*[[*w, w[-1]] for w in spread], measurement=options).stability().stable


def test_a_percentile_that_a_window_cannot_know_is_no_finding() -> None:
    options = MeasurementOptions(window_ns=NS, stability_percentile=99.0)
    tails = (1.0, 1.0, 1.3)
    assert run_of(*[[1.0] * 99 + [tail] * 2 for tail in tails], measurement=options).stability().stable
    assert not run_of(*[[1.0] * 2000 + [tail] * 300 for tail in tails], measurement=options).stability().stable


def test_the_join_takes_the_outer_snapshots_of_the_judged_windows() -> None:
    run = LevelRun(make_probe(), make_facts(), concurrency(2))
    snapshots = [
        make_snapshot(requests=count, request_ms=4.0, queue_ms=1.0, infer_ms=2.0) for count in (500, 502, 504, 506)
    ]
    for index in range(3):
        columns = make_columns([10.0, 10.0], send_ms=1.0, receive_ms=2.0)
        window = make_window(index, columns=columns, before=snapshots[index], after=snapshots[index + 1], in_flight=2)
        run.add(window, 1000.0)
    measurement = run.measurement(Reason.NONE, "")
    assert measurement is not None
    assert measurement.server is not None
    assert measurement.server.success.count == 6
    assert measurement.foreign_requests == 0
    assert (measurement.client_send_ns, measurement.client_receive_ns) == (1 * MS, 2 * MS)
    assert measurement.breakdown_ns == {
        "client_send": 1 * MS,
        "client_receive": 2 * MS,
        "queue": 1 * MS,
        "compute_input": 0.0,
        "compute_infer": 2 * MS,
        "compute_output": 0.0,
        "server_overhead": 1 * MS,
        "network": 3 * MS,
    }


def test_foreign_traffic_takes_the_servers_part_out_of_the_breakdown() -> None:
    run = LevelRun(make_probe(), make_facts(), concurrency(1))
    before = make_snapshot(requests=0, request_ms=4.0, queue_ms=1.0, infer_ms=2.0)
    after = make_snapshot(requests=50, request_ms=4.0, queue_ms=1.0, infer_ms=2.0)
    run.add(make_window(latencies_ms=[10.0] * 20, before=before, after=after), 1000.0)
    measurement = run.measurement(Reason.NONE, "")
    assert measurement is not None
    assert measurement.foreign_requests == 30
    assert set(measurement.breakdown_ns) == {"client_send", "client_receive"}


def test_an_open_loop_reports_response_time_and_send_lag() -> None:
    level = LoadLevel(Mode.REQUEST_RATE, 100.0, "100")
    run = LevelRun(make_probe(levels=(level,)), make_facts(), level)
    run.add(make_window(columns=make_columns([10.0], lag_ms=3.0), unsent=1, backlog_growth=2), 1000.0)
    measurement = run.measurement(Reason.NONE, "")
    assert measurement is not None
    assert measurement.latency is not None
    assert measurement.response_time is not None
    assert measurement.send_lag is not None
    assert (measurement.latency.max_ns, measurement.response_time.min_ns) == (10 * MS, 13 * MS)
    assert measurement.response_time.max_ns == 10 * NS  # what was not sent, at the time-out
    assert measurement.send_lag.max_ns == 3 * MS
    assert measurement.unsent_ratio == pytest.approx(0.75)


def test_a_closed_loop_has_neither() -> None:
    measurement = run_of([1.0]).measurement(Reason.NONE, "")
    assert measurement is not None
    assert (measurement.response_time, measurement.send_lag) == (None, None)


def test_a_schedule_is_measured_whole_and_ends_by_itself() -> None:
    run = LevelRun(make_probe(), make_facts(), LoadLevel(Mode.SCHEDULE, 22.0, "night"))
    for index in range(11):
        verdict = run.add(make_window(index, [1.0, 2.0 * index + 1]), ended_unix_s=1000.0 + index)
        assert not run.is_decided(verdict)
    measurement = run.measurement(Reason.NONE, "")
    assert measurement is not None
    assert (measurement.windows_run, measurement.windows_merged, measurement.duration_ns) == (11, 11, 11 * NS)
    assert (measurement.stable, measurement.reason, measurement.spread_ratio) == (True, Reason.NONE, None)
    assert measurement.latency is not None
    assert measurement.latency.count == 22
    assert measurement.response_time is not None


@pytest.mark.parametrize(
    ("latencies", "decided"), [([[1.0]] * 3, True), ([[1.0], [2.0], [3.0]], False), ([[1.0], [2.0]] * 5, True)]
)
def test_when_a_level_is_decided(latencies: list[list[float]], decided: bool) -> None:
    run = run_of(*latencies)
    assert run.is_decided(run.stability()) is decided


def test_a_request_count_ends_by_itself_and_is_stable() -> None:
    options = MeasurementOptions(window_ns=NS, request_count=3, max_windows=1)
    run = run_of([1.0, 2.0, 3.0], measurement=options)
    assert not run.is_decided(run.stability())
    measurement = run.measurement(Reason.NONE, "")
    assert measurement is not None
    assert (measurement.stable, measurement.windows_merged, measurement.spread_ratio) == (True, 1, None)


SEARCH = Search(SearchKind.BINARY, Mode.CONCURRENCY, 1, 8, 1)


@pytest.mark.parametrize(
    ("latencies", "search", "decided"),
    [
        ([20.0, 30.0, 40.0], SEARCH, True),
        ([20.0, 30.0], SEARCH, False),  # too few windows to report it
        ([20.0, 9.0, 40.0], SEARCH, False),  # one was within it: the level may yet settle there
        ([9.0, 20.0, 30.0, 40.0], SEARCH, True),
        ([20.0, 30.0, 40.0], None, False),  # without a search every level gets its verdict
    ],
)
def test_a_search_need_not_know_more_of_a_level_above_its_threshold(
    latencies: list[float], search: Search | None, decided: bool
) -> None:
    options = MeasurementOptions(window_ns=NS, latency_threshold_ns=10 * MS)
    run = run_of(*([latency] for latency in latencies), measurement=options, search=search)
    assert run.is_decided(run.stability()) is decided


def test_the_level_states_whether_it_kept_its_threshold() -> None:
    options = MeasurementOptions(window_ns=NS, latency_threshold_ns=10 * MS)
    for latency, kept in ((10.0, True), (10.1, False)):
        measurement = run_of(*[[latency]] * 3, measurement=options).measurement(Reason.NONE, "")
        assert measurement is not None
        assert measurement.threshold_met is kept
    plain = run_of(*[[10.0]] * 3).measurement(Reason.NONE, "")
    assert plain is not None
    assert plain.threshold_met is None


def test_what_warmed_up_is_counted_apart() -> None:
    run = LevelRun(make_probe(), make_facts(), concurrency(1))
    run.add_warm_up(make_window(0, [50.0] * 4, warm_up=True))
    run.add_warm_up(make_window(1, [50.0] * 3, warm_up=True))
    for index in range(2, 5):
        run.add(make_window(index, [1.0, 1.0]), 1000.0)
    run.add_warm_up(make_window(5, [50.0], warm_up=True))  # too late for the last window, and no warm-up
    measurement = run.measurement(Reason.NONE, "")
    assert measurement is not None
    assert measurement.latency is not None
    assert (measurement.warm_up_requests, measurement.latency.count) == (7, 6)


# --- merging and repeats ---------------------------------------------------------------------------------------------

PERCENTILES = (50.0, 90.0, 99.0, 99.95)
LATENCIES_MS = st.lists(st.integers(1, 5000), min_size=1, max_size=30)
RUNS = st.lists(st.lists(LATENCIES_MS, min_size=3, max_size=5), min_size=1, max_size=4)
OPTIONS = MeasurementOptions(window_ns=NS, percentiles=PERCENTILES, repeats=2)


def measured(runs: list[list[list[int]]]) -> Measurement:
    """The level after these runs, each of these windows."""
    level_run = LevelRun(make_probe(measurement=OPTIONS), make_facts(), concurrency(1))
    for number, windows in enumerate(runs):
        if number:
            level_run.repeat()
        level_run.add_warm_up(make_window(0, [9000.0], warm_up=True))
        for index, latencies in enumerate(windows, start=1):
            level_run.add(make_window(index, [float(latency) for latency in latencies]), 1000.0)
    measurement = level_run.measurement(Reason.NONE, "")
    assert measurement is not None
    return measurement


@settings(max_examples=40)
@given(RUNS)
def test_merging_pools_the_judged_windows_of_all_runs(runs: list[list[list[int]]]) -> None:
    judged = [latencies for windows in runs for latencies in windows[-3:]]
    pooled = sorted(latency * MS for latencies in judged for latency in latencies)
    measurement = measured(runs)
    assert measurement.latency is not None
    assert measurement.latency.count == len(pooled) == measurement.outcomes[Outcome.OK]
    assert measurement.latency.mean_ns == pytest.approx(sum(pooled) / len(pooled))
    assert (measurement.latency.min_ns, measurement.latency.max_ns) == (pooled[0], pooled[-1])
    for percentile in PERCENTILES:
        rank = math.floor(percentile / 100 * (len(pooled) - 1) + 0.5)
        assert measurement.latency.at(percentile) == pooled[rank]
    assert measurement.throughput == pytest.approx(len(pooled) / (3 * len(runs)))
    assert measurement.windows_merged == 3 * len(runs)
    assert measurement.windows_run == sum(map(len, runs))
    assert measurement.warm_up_requests == len(runs)


@settings(max_examples=40)
@given(RUNS)
def test_each_run_is_judged_for_itself(runs: list[list[list[int]]]) -> None:
    together, alone = measured(runs), [measured([windows]) for windows in runs]
    assert together.stable == all(one.stable for one in alone)
    spreads = [one.spread_ratio for one in alone if one.spread_ratio is not None]
    assert together.spread_ratio == max(spreads)
    if len(runs) == 1:
        assert together.repeats == ()
    else:
        assert [r.stable for r in together.repeats] == [one.stable for one in alone]
        assert [r.throughput for r in together.repeats] == pytest.approx([one.throughput for one in alone])
        assert [r.latency for r in together.repeats] == [one.latency for one in alone]
    # The windows of all runs are numbered on, and the last three of each are marked.
    assert [w.index for w in together.window_summaries] == sorted({w.index for w in together.window_summaries})
    marks = [[False] * (len(windows) - 3) + [True] * 3 for windows in runs]
    assert [w.judged for w in together.window_summaries] == [mark for run in marks for mark in run]


def test_the_servers_figures_of_repeats_leave_out_what_lay_between() -> None:
    run = LevelRun(make_probe(), make_facts(), concurrency(1))
    counts = [(100, 103), (500, 503)]
    for repeat, (before, after) in enumerate(counts):
        if repeat:
            run.repeat()
        for index, start in enumerate(range(before, after)):
            snapshots = [
                make_snapshot(requests=count, request_ms=4.0, queue_ms=1.0, infer_ms=2.0)
                for count in (start, start + 1)
            ]
            run.add(make_window(index, [10.0], before=snapshots[0], after=snapshots[1]), 1000.0)
    measurement = run.measurement(Reason.NONE, "")
    assert measurement is not None
    assert measurement.server is not None
    assert (measurement.server.success.count, measurement.server.queue.ns) == (6, 6 * MS)
    assert (measurement.foreign_requests, measurement.breakdown_ns["compute_infer"]) == (0, 2 * MS)


def test_a_repeat_cut_short_keeps_the_runs_before() -> None:
    run = run_of([1.0], [1.0], [1.0])
    run.repeat()
    measurement = run.measurement(Reason.REQUEST_BUDGET, "all spent")
    assert measurement is not None
    assert (measurement.reason, measurement.windows_merged, measurement.repeats) == (Reason.REQUEST_BUDGET, 3, ())


def test_a_server_that_counted_too_few_gives_a_note_and_no_figure() -> None:
    run = LevelRun(make_probe(), make_facts(), concurrency(1))
    before = make_snapshot(10 * NS, requests=5, request_ms=4.0, queue_ms=1.0, infer_ms=2.0)
    after = make_snapshot(11 * NS, requests=15, request_ms=4.0, queue_ms=1.0, infer_ms=2.0)
    run.add(make_window(latencies_ms=[10.0] * 20, before=before, after=after), 1000.0)
    measurement = run.measurement(Reason.NONE, "")
    assert measurement is not None
    assert (measurement.server, measurement.foreign_requests) == (None, None)
    assert measurement.server_note.startswith("the server counted 10 requests but responded to 20: ")
    assert set(measurement.breakdown_ns) == {"client_send", "client_receive"}


@pytest.mark.parametrize("decoupled", [False, True])
def test_a_server_that_counted_too_few_of_a_decoupled_model_too(decoupled: bool) -> None:
    run = LevelRun(make_probe(), make_facts(decoupled=decoupled), concurrency(1))
    before, after = moved(v1=0), moved(v1=10)
    run.add(make_window(latencies_ms=[10.0] * 20, before=before, after=after), 1000.0)
    measurement = run.measurement(Reason.NONE, "")
    assert measurement is not None
    assert measurement.server is None
    assert measurement.server_note.startswith("the server counted 10 requests but responded to 20: ")


def moved(**counts: int) -> ServerSnapshot:
    """Of versions 1 and 2, after this many requests."""
    at_ns = (10 if not any(counts.values()) else 11) * NS
    found = make_snapshot(at_ns, requests=0, request_ms=4.0, queue_ms=1.0, infer_ms=2.0)
    (model,) = found.models
    models = tuple(
        replace(model, version=name[1:], success=DurationStat(5 + count, 4 * count * MS))
        for name, count in counts.items()
    )
    return replace(found, models=models)


@pytest.mark.parametrize(
    ("v1", "v2", "served", "foreign", "note"),
    [
        (500, 20, "2", 0, ""),  # v1 is other clients', and busier
        (20, 0, "1", 0, ""),
        (0, 60, "2", 40, ""),
        (20, 5, "", None, SEVERAL_CALLED),  # ours went to v1, whoever sent them there
    ],
)
def test_the_version_that_responded(
    v1: int, v2: int, served: str, foreign: int | None, note: str, caplog: pytest.LogCaptureFixture
) -> None:
    run = LevelRun(make_probe(), make_facts(), concurrency(1))
    window = make_window(latencies_ms=[10.0] * 20, before=moved(v1=0, v2=0), after=moved(v1=v1, v2=v2))
    run.add(window, 1000.0)
    measurement = run.measurement(Reason.NONE, "")
    assert measurement is not None
    assert (measurement.server.version if measurement.server else "") == served
    assert (measurement.foreign_requests, measurement.server_note) == (foreign, note)
    assert [record.getMessage() for record in caplog.records] == (
        ["several versions of the model were called: figures are of the highest"] if v1 and v2 and served else []
    )


def test_readings_of_the_judged_windows_alone() -> None:
    run = LevelRun(make_probe(), make_facts(), concurrency(1))
    edges = [
        ServerReading(at, True, gauges={"pending_requests": pending})
        for at, pending in enumerate([99.0, 90.0, 3.0, 1.0, 2.0])
    ]
    gpu = ServerReading(3, False, gpus=(GpuReading("GPU-1", GpuSource.NVML, power_watts=100.0),))
    for index in range(4):
        readings = (edges[index], gpu, edges[index + 1]) if index == 3 else (edges[index], edges[index + 1])
        run.add(make_window(index, [2.0, 2.0], readings=readings), 1000.0)
    measurement = run.measurement(Reason.NONE, "")
    assert measurement is not None
    page = measurement.server_metrics
    assert page is not None
    assert (page.readings, page.pending_requests_max) == (4, 90.0)
    assert measurement.gpu == (GpuFigures("GPU-1", GpuSource.NVML, power_watts=100.0),)
    assert measurement.energy_per_inference_joules is None


@pytest.mark.parametrize(
    ("errors", "note"),
    [
        (("", ""), ""),
        (("responded 404", "responded 404"), "the metrics page http://h:8002/metrics cannot be read: responded 404"),
        (("", "is cut off"), "1 of 2 readings of the metrics page http://h:8002/metrics failed: is cut off"),
    ],
)
def test_a_metrics_page_that_cannot_be_read_is_reported(errors: tuple[str, str], note: str) -> None:
    probe = make_probe()
    probe = replace(probe, target=replace(probe.target, metrics_url="http://h:8002/metrics"))
    run = LevelRun(probe, make_facts(), concurrency(1))
    readings = tuple(ServerReading(1 + at, True, error=error) for at, error in enumerate(errors))
    run.add(replace(make_window(0, [1.0]), readings=readings), ended_unix_s=1000.0)
    measurement = run.measurement(Reason.NONE, "")
    assert measurement is not None
    assert measurement.server_note == note
