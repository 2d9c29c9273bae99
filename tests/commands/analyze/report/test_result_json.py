"""The result as JSON: units in names, nothing secret, nothing that JSON has not."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

from exporter.commands.analyze.report.result_json import document, json_text
from exporter.core.facts import DurationStat
from exporter.core.outcome import Outcome, SweepStatus
from exporter.core.probe import Unit
from exporter.core.target import Header
from exporter.core.units import MS
from tests.builders import make_probe, make_target
from tests.metrics.results import make_measurement, make_result, make_statistics, rate

UNITS = ("_seconds", "_bytes", "_ratio", "_per_second", "_watts", "_joules", "_celsius", "_hertz", "_hash")
"""What a number's name may end in."""
COUNTS = {
    *(
        "seconds",
        "schema_version",
        "pending_growth",
        "priority_levels",
        "value",
        "percentile",
        "count",
        "responses",
        "responses_per_request",
        "index",
        "sent",
        "unsent",
        "unchecked",
        "size",
        "executions",
    ),
    *("windows_run", "windows_merged", "foreign_requests", "inference_count", "execution_count", "in_flight", "port"),
    *("max_batch_size", "batch_size", "shape", "seed", "string_length", "max_in_flight", "max_requests", "workers"),
    *("error_min_requests", "stability_windows", "max_windows", "window_requests", "request_count", "repeats"),
    *("buckets_per_decade", "backlog_growth"),
    *(
        "warm_up_requests",
        "stability_percentile",
        "percentiles",
        "bytes_in",
        "bytes_out",
        "streams_per_connection",
        "bad",
        "of",
        "ratio",
        "clear",
        "max_noise",
        "noise_factor",
        "p99_min_requests",
        "readings",
        "failed",
    ),
    *("start", "step", "request_period"),
    *("tokens", "tokens_stddev", "output_tokens", "max_tokens"),
    *(outcome.label for outcome in Outcome),
}
"""Numbers that are counts, or plain numbers by nature."""


def numbers(value: Any, key: str = "") -> list[str]:
    """The keys of all numbers in it; those in a mapping of figures go by the mapping's name."""
    if isinstance(value, dict):
        return [name for each_key, each in value.items() for name in numbers(each, _own_or(key, each_key))]
    if isinstance(value, list):
        return [name for each in value for name in numbers(each, key)]
    return [key] if isinstance(value, (int, float)) and not isinstance(value, bool) else []


def _own_or(parent: str, key: str) -> str:
    return parent if parent.endswith("breakdown_seconds") else key


def test_every_number_has_its_unit_or_is_a_count() -> None:
    plain = document(make_result(make_probe(levels=(rate(50),))))
    named = {name for name in numbers(plain) if not name.endswith(UNITS)}
    assert named - COUNTS == set()


def test_figures() -> None:
    statistics = make_statistics(10, queue=DurationStat(10, 25 * MS))
    measurement = make_measurement(rate(50), server=statistics, throughput=333.25)
    plain = document(make_result(make_probe(levels=(rate(50),)), measurements=(measurement,)))
    assert (plain["schema"], plain["schema_version"]) == ("triton-canary-result", 1)
    assert (plain["status"], plain["duration_seconds"], plain["started_unix_seconds"]) == ("ok", 12.0, 1_700_000_000.0)
    [level] = plain["measurements"]
    assert level["level"] | {"mode": "request_rate", "value": 50.0, "label": "50"} == level["level"]
    assert (level["inferences_per_second"], level["sent_per_second"]) == (333.25, 334.0)
    assert level["outcomes"] == {"ok": 999, "timeout": 1, "cancelled": 2}
    assert level["latency"]["mean_seconds"] == 0.005
    assert level["latency"]["percentiles"][2] == {
        "percentile": 95.0,
        "value_seconds": 0.012,
        "low_seconds": None,
        "high_seconds": None,
    }
    assert level["breakdown_seconds"]["compute_infer"] == 0.002
    assert level["server"]["queue"] == {"count": 10, "seconds": 0.025}
    of_clock = {"clock_error_seconds": None}
    assert level["health"] == {"loop_lag_seconds": 0.0005, "cpu_ratio": 0.25, "throttled_seconds": 0.0} | of_clock
    assert plain["probe"]["measurement"]["window_seconds"] == 1.0


def test_throughput_in_a_unit_of_ones_own() -> None:
    measurements = (make_measurement(throughput=100.0), make_measurement(throughput=float("nan")))
    plain = document(make_result(make_probe(unit=Unit("seconds_of_audio", 0.3)), measurements=measurements))
    assert [each["throughput_in_unit"] for each in plain["measurements"]] == [
        {"unit": "seconds_of_audio", "units_per_second": 30.0},
        {"unit": "seconds_of_audio", "units_per_second": None},
    ]
    assert document(make_result())["measurements"][0]["throughput_in_unit"] is None


def test_secrets_stay_here() -> None:
    headers = (Header("authorization", "s3cret", prefix="Bearer "), Header("x-token", file="/run/token"))
    probe = make_probe(target=make_target(headers=headers))
    plain = document(make_result(probe))
    assert "s3cret" not in json.dumps(plain)
    assert [header["value"] for header in plain["probe"]["target"]["headers"]] == ["(hidden)", ""]


def test_what_json_has_not_is_null() -> None:
    """A failed sweep too is a whole document."""
    measurement = replace(make_measurement(), spread_ratio=float("inf"), throughput=float("nan"))
    text = json_text(make_result(status=SweepStatus.FAILED, measurements=(measurement,)))
    plain = json.loads(text, parse_constant=lambda constant: constant)
    assert (plain["facts"], plain["reason"], plain["reason_text"]) == (None, "unreachable", "connection refused")
    assert (plain["measurements"][0]["spread_ratio"], plain["measurements"][0]["inferences_per_second"]) == (None, None)
