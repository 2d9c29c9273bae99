from __future__ import annotations

import csv
import io
import json
import math
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.archive.columns import LEVELS, PERF_ANALYZER_COLUMNS, SCHEMA_VERSION, WINDOWS, Table
from exporter.archive.rows import iso_time, level_rows, window_rows
from exporter.core.facts import DurationStat, ModelStatistics
from exporter.core.outcome import Outcome, Reason, SweepStatus
from exporter.core.probe import LoadLevel, Mode
from exporter.core.result import LatencySummary, SweepResult
from exporter.core.window import ClientHealth
from tests.archive.archive_samples import (
    NOON,
    make_failed_sweep,
    make_measurement,
    make_summary,
    make_sweep,
    make_window_summary,
)
from tests.builders import make_facts, make_probe, make_target
from tests.metrics import scenario
from tests.metrics.results import make_streams, make_tokens

KEYS = "schema_version,time,sweep_id,target,probe,model,version,probe_config_hash,model_config_hash,mode,level"

CLOCK = ["client_clock_error_seconds", "client_clock_uncertain"]


def encoded(table: Table, sweep: SweepResult) -> list[dict[str, str]]:
    """The sweep's rows, as a reader of the file gets them."""
    rows = level_rows(sweep) if table is LEVELS else window_rows(sweep)
    text = (table.header + table.encode(rows)).decode()
    return list(csv.DictReader(io.StringIO(text, newline=""), strict=True))


def level_row(**changes: Any) -> dict[str, str]:
    """The row of a sweep of one level, of which the measurement is changed."""
    [row] = encoded(LEVELS, make_sweep(measurements=(make_measurement(**changes),)))
    return row


def test_key_columns_come_first_then_perf_analyzers_in_its_order() -> None:
    header = LEVELS.header.decode().strip().split(",")
    expected = [*KEYS.split(","), "stable", "reason", "status", *PERF_ANALYZER_COLUMNS]
    assert header[: len(expected)] == expected
    assert header[-6:-2] == ["tokens", "goodput_requests_per_second", "streams", "place"]
    assert header[-2:] == WINDOWS.header.decode().strip().split(",")[-2:] == CLOCK
    assert len(header) == len(set(header))
    assert ",".join(PERF_ANALYZER_COLUMNS) == (
        "Concurrency,Request Rate,Inferences/Second,Response Throughput,Client Send,Network+Server Send/Recv,"
        "Server Queue,Server Compute Input,Server Compute Infer,Server Compute Output,Server Cache Hit,"
        "Server Cache Miss,Client Recv,p50 latency,p90 latency,p95 latency,p99 latency,Avg latency,"
        "request/response,response wait"
    )


SERVER_SIDE = ("server_note", "composing", "server_metrics", "gpu", "energy_per_inference_joules")


def test_the_servers_side_of_a_level() -> None:
    changes = {**scenario.SERVER_SIDE, "server_note": "it was restarted"}
    (row,) = level_rows(make_sweep(measurements=(make_measurement(**changes),)))
    assert {name: row[name] for name in SERVER_SIDE} == {
        "server_note": "it was restarted",
        "composing": '{"resize:1":{"requests":1000,"failed":0,"executions":600,"request_ns":3000000000,'
        '"queue_ns":250000000,"compute_input_ns":50000000,"compute_infer_ns":400000000,"compute_output_ns":50000000}}',
        "server_metrics": '{"readings":4,"failed":0,"up":true,"pending_requests_max":3.0,"cpu_utilization_ratio":0.5,'
        '"cpu_memory_used_bytes":2147483648.0,"pinned_memory_used_bytes":1024.0}',
        "gpu": '{"triton:GPU-1":{"utilization_ratio":0.75,"power_watts":250.0,"memory_used_bytes":8589934592.0,'
        '"memory_total_bytes":17179869184.0,"energy_joules":900.0},'
        '"nvml:GPU-1":{"temperature_celsius":61.0,"clock_hertz":1410000000.0,"throttled":{"sw_power_cap":0.25}}}',
        "energy_per_inference_joules": 0.125,
    }


LEVEL_ROW = {
    "schema_version": "1",
    "time": "2023-11-15T12:00:00.250Z",
    "sweep_id": "0123abcd",
    "target": "triton-http",
    "probe": "addsub",
    "model": "addsub",
    "version": "3",
    "probe_config_hash": "p0be",
    "model_config_hash": "c0de",
    "mode": "concurrency",
    "level": "4",
    "stable": "1",
    "reason": "",
    "status": "ok",
    "Concurrency": "4",
    "Request Rate": "",
    "Inferences/Second": "400.123456789",
    "Response Throughput": "400.0",
    "Client Send": "37",
    "Network+Server Send/Recv": "10123",
    "Server Queue": "1000",
    "Server Compute Input": "26",
    "Server Compute Infer": "30000",
    "Server Compute Output": "21",
    "Server Cache Hit": "7",
    "Server Cache Miss": "5",
    "Client Recv": "12",
    "p50 latency": "50000",
    "p90 latency": "90000",
    "p95 latency": "95000",
    "p99 latency": "99000",
    "Avg latency": "41234",
    "request/response": "49",
    "response wait": "41185",
    "request_count": "300",
    **{f"outcome_{outcome.label}": str(300 - int(outcome)) for outcome in Outcome},
    "mean_ns": "41234567.125",
    "stddev_ns": "1234567.5",
    "min_ns": "40000001",
    "max_ns": "99999999",
    "p50_ns": "50000000",
    "p50_low_ns": "49000000",
    "p50_high_ns": "51000000",
    "p99.9_ns": "99900000",
    "p99.9_low_ns": "98900000",
    "p99.9_high_ns": "100900000",
    "response_time_count": "600",
    "response_time_mean_ns": "82469134.25",
    "response_time_p99_ns": "198000000",
    "response_time_p99_low_ns": "196000000",
    "send_lag_max_ns": "299999997",
    "send_lag_p99_ns": "297000000",
    "offered_per_second": "100.5",
    "unsent_ratio": "0.01",
    "responses": "1200",
    "responses_per_second": "400.0",
    "responses_per_request": "3.25",
    "sequences": "60",
    "sequences_per_second": "20.0",
    "first_response_p99_ns": "198000000",
    "first_response_p99_low_ns": "196000000",
    "inter_response_max_ns": "299999997",
    "batch_size": "4",
    "duration_seconds": "3.0",
    "windows_run": "4",
    "windows_merged": "3",
    "spread_ratio": "1.05",
    "breakdown_queue_seconds": "0.001000999",
    "breakdown_composing_seconds": "5e-07",
    "negative_remainder_seconds": "2.5e-07",
    "foreign_requests": "7",
    "server_request_count": "300",
    "server_failed_count": "2",
    "server_inference_count": "1200",
    "server_execution_count": "150",
    "server_request_mean_ns": "40000000",
    "client_limited": "1",
    "client_loop_lag_seconds": "0.0025",
    "client_cpu_ratio": "0.5",
    "client_throttled_seconds": "0.001",
    "bytes_out": "64000",
    "bytes_in": "32000",
    "validated_requests": "290",
    "output_error_max": "0.5",
    "output_error_max_relative": "0.25",
    "output_signal_to_noise_db": "30.0",
    "output_difference": "tensor 'Y', index [0]: expected 1.0, got 1.5",
    "sweep_duration_seconds": "4.5",
    "connect_seconds": "0.001",
    "tls_handshake_seconds": "0.002",
    "cold_first_request_seconds": "0.05",
    "reason_text": "",
    "percentiles": "",
    "threshold_met": "1",
    "warm_up_requests": "5",
    "repeats": "1",
}
"""The row of a level with every figure set, but for what is empty in it."""


def test_every_figure_of_a_level_reads_back_as_it_was() -> None:
    row = level_row()
    assert {name: row[name] for name in LEVEL_ROW} == LEVEL_ROW
    assert float(row["error_ratio"]) == make_measurement().error_ratio
    empty = {name for name, cell in row.items() if not cell}
    of_tokens = {"tokens", "goodput_requests_per_second", "breakdown_prefill_seconds", "breakdown_decode_seconds"}
    rare = {"Request Rate", "seed", "reason", "reason_text", "percentiles", "streams", "place", *CLOCK}
    assert empty == {*rare, *of_tokens, *SERVER_SIDE}


def test_every_figure_of_a_window_reads_back_as_it_was() -> None:
    first, second = encoded(WINDOWS, make_sweep())
    assert list(first)[:11] == KEYS.split(",")
    expected = {
        "sweep_id": "0123abcd",
        "mode": "concurrency",
        "level": "4",
        "window": "0",
        "window_start": "2023-11-15T12:00:00.250Z",
        "duration_seconds": "1.0000005",
        "judged": "0",
        "sent": "101",
        "unsent": "3",
        "throughput_per_second": "400.125",
        "request_count": "300",
        "outcome_ok": "100",
        "outcome_timeout": "1",
        "outcome_cancelled": "0",
        "mean_ns": "41234567.125",
        "p99_high_ns": "100000000",
        "client_loop_lag_seconds": "0.0015",
        "client_cpu_ratio": "0.25",
        "client_throttled_seconds": "0.002",
    }
    assert {name: first[name] for name in expected} == expected
    assert (second["window"], second["window_start"], second["judged"]) == ("1", "2023-11-15T12:00:01.250Z", "1")
    assert {name for name, cell in first.items() if not cell} == {"percentiles", *CLOCK}


@pytest.mark.parametrize(
    ("level", "concurrency", "request_rate"),
    [
        (LoadLevel(Mode.CONCURRENCY, 4.0, "4"), "4", ""),
        (LoadLevel(Mode.REQUEST_RATE, 100.0, "100"), "", "100"),
        (LoadLevel(Mode.REQUEST_RATE, 0.5, "0.5"), "", "0.5"),
        (LoadLevel(Mode.INTERVALS, 0.0, "morning"), "", ""),
    ],
)
def test_one_of_the_two_load_columns_is_filled(level: LoadLevel, concurrency: str, request_rate: str) -> None:
    row = level_row(level=level)
    assert (row["Concurrency"], row["Request Rate"]) == (concurrency, request_rate)
    assert (row["mode"], row["level"]) == (level.mode.value, level.label)


def test_a_level_without_responses_has_counts_but_no_latency() -> None:
    row = level_row(latency=None, response_time=None, send_lag=None, breakdown_ns={}, server=None, spread_ratio=None)
    assert (row["request_count"], row["outcome_timeout"], row["Inferences/Second"]) == ("0", "299", "400.123456789")
    absent = ["Client Send", "Avg latency", "p99 latency", "mean_ns", "p50_low_ns", "response_time_count"]
    absent += ["Network+Server Send/Recv", "Server Queue", "server_request_count", "negative_remainder_seconds"]
    assert [row[name] for name in absent] == [""] * len(absent)


@pytest.mark.parametrize("figure", [math.nan, math.inf])
def test_a_figure_that_is_no_number_is_an_empty_cell(figure: float) -> None:
    assert level_row(spread_ratio=figure)["spread_ratio"] == ""


def test_cache_columns_are_empty_without_a_response_cache_and_responses_without_decoupling() -> None:
    [row] = encoded(LEVELS, make_sweep(facts=make_facts()))
    assert [row[name] for name in ("Server Cache Hit", "Server Cache Miss", "Response Throughput")] == [""] * 3
    assert row["Server Queue"] == "1000"


def _microseconds(count: int, us: int) -> DurationStat:
    return DurationStat(count, count * us * 1000)


@pytest.mark.parametrize(
    ("mean_us", "statistics", "network"),
    [
        # without a cache: mean less send less queue less the three compute parts
        (250, (26, 9, 62, 21, 0, 0), "95"),
        # an average over a cache's hits and misses is the plain sum of both
        (1000, (100, 0, 350, 0, 7, 5), "501"),
        # the server claims more than the client saw
        (100, (90, 30, 30, 30, 0, 0), "0"),
    ],
)
def test_network_is_what_the_client_and_the_server_leave(
    mean_us: int, statistics: tuple[int, ...], network: str
) -> None:
    queue, compute_input, compute_infer, compute_output, hit, miss = (_microseconds(10, us) for us in statistics)
    server = ModelStatistics(
        name="addsub",
        version="1",
        queue=queue,
        compute_input=compute_input,
        compute_infer=compute_infer,
        compute_output=compute_output,
        cache_hit=hit,
        cache_miss=miss,
    )
    latency = LatencySummary(10, mean_us * 1000.9, 0.0, 1, 1, ())
    row = level_row(latency=latency, server=server, client_send_ns=37_000.0, client_receive_ns=0.0)
    assert row["Network+Server Send/Recv"] == network
    assert (row["p50 latency"], row["p50_ns"]) == ("", "")


def test_server_figures_without_any_event_are_0_as_perf_analyzer_has_them() -> None:
    row = level_row(server=ModelStatistics(name="addsub", version="1"))
    assert (row["Server Queue"], row["server_request_count"], row["server_request_mean_ns"]) == ("0", "0", "")


def test_what_a_server_does_not_report_is_an_empty_cell() -> None:
    server = ModelStatistics("m", "1", None, None, success=DurationStat(5, 50), fail=None)
    row = level_row(server=server)
    cells = ("request", "failed", "inference", "execution")
    assert [row[f"server_{name}_count"] for name in cells] == ["5", "", "", ""]


def test_other_percentiles_share_one_json_column() -> None:
    summary = make_summary(percentiles=(50.0, 97.5, 99.99))
    row = level_row(latency=summary, response_time=None, send_lag=None)
    assert json.loads(row["percentiles"]) == {
        "latency": {
            "97.5": {"value_ns": 97_500_000, "low_ns": 96_500_000, "high_ns": 98_500_000},
            "99.99": {"value_ns": 99_990_000, "low_ns": 98_990_000, "high_ns": 100_990_000},
        }
    }
    sweep = make_sweep(measurements=(make_measurement(window_summaries=(make_window_summary(latency=summary),)),))
    [window] = encoded(WINDOWS, sweep)
    assert window["percentiles"] == row["percentiles"]


def test_a_failed_sweep_is_one_row_without_figures() -> None:
    sweep = make_failed_sweep()
    [row] = encoded(LEVELS, sweep)
    filled = {name: cell for name, cell in row.items() if cell}
    assert filled == {
        "schema_version": "1",
        "time": "2023-11-15T12:00:00.250Z",
        "sweep_id": "0123abcd",
        "target": "triton-http",
        "probe": "addsub",
        "model": "addsub",
        "probe_config_hash": "p0be",
        "reason": "unreachable",
        "status": "failed",
        "sweep_duration_seconds": "4.5",
        "reason_text": "connection refused",
    }
    assert encoded(WINDOWS, sweep) == []


def test_an_aborted_sweep_closes_with_a_row_of_its_own() -> None:
    sweep = make_sweep(status=SweepStatus.ABORTED, reason=Reason.ERROR_RATIO, reason_text="half of them failed")
    measured, closing = encoded(LEVELS, sweep)
    assert (measured["level"], measured["status"], measured["reason"]) == ("4", "aborted", "")
    assert (closing["level"], closing["status"], closing["reason"]) == ("", "aborted", "error_ratio")
    assert (closing["request_count"], closing["reason_text"]) == ("", "half of them failed")


def test_an_unstable_level_is_marked() -> None:
    measurement = make_measurement(stable=False, reason=Reason.UNSTABLE, reason_text="differ by 30 %")
    sweep = make_sweep(status=SweepStatus.UNSTABLE, reason=Reason.UNSTABLE, measurements=(measurement,))
    [row] = encoded(LEVELS, sweep)
    assert (row["stable"], row["reason"], row["status"]) == ("0", "unstable", "unstable")
    assert (row["reason_text"], row["request_count"]) == ("differ by 30 %", "300")


def test_without_a_served_version_the_configured_one_is_written() -> None:
    [row] = encoded(LEVELS, make_failed_sweep(probe=make_probe(version="7")))
    assert row["version"] == "7"


@pytest.mark.parametrize(
    ("text", "cell"),
    [
        ("two\nlines\r\n", r"two\nlines\r\n"),
        ("C:\\new", r"C:\\new"),
        ("\x1b[31mred\x00", r"\u001b[31mred\u0000"),
        ("=1+1", r"\u003d1+1"),
        ("a=1", "a=1"),
        ("\udc80", r"\udc80"),
        ('"quoted", and more', '"quoted", and more'),
        ("модель", "модель"),
    ],
)
def test_text_is_escaped_where_it_would_break_its_line_or_its_reader(text: str, cell: str) -> None:
    [row] = encoded(LEVELS, make_failed_sweep(reason_text=text))
    assert row["reason_text"] == cell


def test_a_row_with_an_unknown_column_is_refused() -> None:
    with pytest.raises(ValueError, match="p98"):
        WINDOWS.encode([{"p98": 1}])


@given(started=st.floats(min_value=0, max_value=4e9))
def test_times_are_utc_with_milliseconds(started: float) -> None:
    text = iso_time(started)
    assert len(text) == len("2023-11-15T12:00:00.250Z")
    assert text.endswith("Z")


@given(value=st.floats(allow_nan=False, allow_infinity=False), count=st.integers())
def test_numbers_read_back_exactly(value: float, count: int) -> None:
    row = level_row(throughput=value, bytes_out=count)
    assert float(row["Inferences/Second"]) == value
    assert int(row["bytes_out"]) == count


def test_names_of_target_and_probe_are_as_configured() -> None:
    target = make_target(name="eu/triton 1")
    [row] = encoded(LEVELS, make_failed_sweep(probe=make_probe(name="a,b", target=target), started_unix_s=NOON))
    assert (row["target"], row["probe"]) == ("eu/triton 1", "a,b")


@pytest.mark.parametrize("table", [LEVELS, WINDOWS])
def test_every_column_is_explained(table: Table) -> None:
    text = (Path(__file__).parents[2] / "docs" / "archive.md").read_text(encoding="utf-8")
    named = [re.escape(name) for name in re.findall(r"`([^`\n]+)`", text)]
    pattern = re.compile("|".join(re.sub(r"<\w+>", r"[\\w.]+", name) for name in named))
    assert [column for column in table.columns if not pattern.fullmatch(column)] == []


def test_no_column_is_explained_that_there_is_not() -> None:
    text = (Path(__file__).parents[2] / "docs" / "archive.md").read_text(encoding="utf-8")
    assert f"| `schema_version` | {SCHEMA_VERSION}. " in text
    sections = re.split(r"^## ", text, flags=re.MULTILINE)
    for table in (LEVELS, WINDOWS):
        (section,) = (each for each in sections if each.startswith(f"Rows of `{table.name}.csv`"))
        cells = re.findall(r"^\| (`[^|]+) \|", section, flags=re.MULTILINE)
        named = [name for cell in cells for name in re.findall(r"`([^`]+)`", cell)]
        assert len(named) > 10
        for name in named:
            pattern = re.sub(r"<\w+>", r"[\\w.]+", re.escape(name)).replace("…", ".+")
            assert any(re.fullmatch(pattern, column) for column in table.columns), name


def test_without_streams_and_sequences() -> None:
    row = level_row(sequences=None, first_response=None, inter_response=None)
    assert (row["sequences"], row["sequences_per_second"], row["first_response_p99_ns"]) == ("", "", "")


def test_figures_in_tokens_are_one_cell() -> None:
    row = level_row(tokens=make_tokens(first_token=None), slo_good=999)
    tokens = json.loads(row["tokens"])
    assert (tokens["source"], tokens["prompt_tokens"], tokens["output_tokens_per_second"]) == (
        "counted",
        128_000,
        21_312.0,
    )
    assert (tokens["per_output_token"]["p50_ns"], tokens["per_output_token"]["p99.9_ns"]) == (8_000_000, 64_000_000)
    assert "first_token" not in tokens
    assert float(row["goodput_requests_per_second"]) == 333.0


def test_figures_of_streams_are_one_cell() -> None:
    row = level_row(streams=make_streams())
    streams = json.loads(row["streams"])
    assert streams["final_latency"]["p50_ns"] == 62_000_000
    del streams["final_latency"]
    assert streams == {
        "step_interval_ns": 300_000_000,
        "real_time_factor": 0.125,
        "steps": 3200,
        "late": 32,
        "streams": 40,
        "on_time": 30,
    }


def test_a_row_names_the_place_that_it_is_from() -> None:
    [row] = encoded(LEVELS, make_sweep(probe=make_probe(name="asr/zone-a", place="zone-a")))[:1]
    assert (row["probe"], row["place"]) == ("asr/zone-a", "zone-a")


def test_the_clock_of_other_machines() -> None:
    health = ClientHealth(clock_error_ns=30_000_000)
    sweep = make_sweep(
        measurements=(
            make_measurement(
                health=health,
                clock_uncertain=True,
                window_summaries=(make_window_summary(health=health, duration_ns=3 * 10**9),),
            ),
        )
    )
    [level], [window] = encoded(LEVELS, sweep), encoded(WINDOWS, sweep)
    assert [level[name] for name in CLOCK] == ["0.03", "1"]
    assert [window[name] for name in CLOCK] == ["0.03", "0"], "of a window exactly 1 % is not more"
