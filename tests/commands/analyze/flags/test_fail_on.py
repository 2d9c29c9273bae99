"""Conditions: what they read as, and when they are met."""

from __future__ import annotations

from dataclasses import replace

import pytest

from exporter.commands.analyze.flags.fail_on import parse_condition
from exporter.core.outcome import Outcome
from exporter.core.units import MS
from tests.metrics.results import make_measurement, make_summary, rate


@pytest.mark.parametrize(
    ("text", "metric", "percentile", "sign", "limit"),
    [
        ("p95>50ms", "latency", 95.0, ">", 50 * MS),
        (" p99.9 >= 1.5s ", "latency", 99.9, ">=", 1500 * MS),
        ("mean<200us", "mean", None, "<", 200_000),
        ("max<=1m30s", "max", None, "<=", 90_000 * MS),
        ("throughput<100/s", "throughput", None, "<", 100.0),
        ("throughput<0.5 /s", "throughput", None, "<", 0.5),
        ("error_ratio>1%", "error_ratio", None, ">", 0.01),
        ("error_ratio>=0.02", "error_ratio", None, ">=", 0.02),
    ],
)
def test_what_a_condition_reads_as(text: str, metric: str, percentile: float | None, sign: str, limit: float) -> None:
    condition = parse_condition(text)
    assert (condition.metric, condition.percentile, condition.sign) == (metric, percentile, sign)
    assert condition.limit == pytest.approx(limit)


FORM = "must be a figure, a comparison and a value, as "


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", FORM),
        ("p95", FORM),
        ("p95=50ms", FORM),
        ("p100>50ms", FORM),
        ("median>50ms", FORM),
        ("p>50ms", FORM),
        ("p0>50ms", "p0 is not a percentile; it must be between 0 and 100"),
        ("p0.99>50ms", "did you mean 99?"),
        ("p95>50", "must be a duration with its unit, as '500ms', '5s', '2m', '1h30m' or '90d'"),
        ("throughput<100", "a throughput is inferences a second, as 100/s"),
        ("throughput<100ms", "a throughput is inferences a second, as 100/s"),
        ("error_ratio>x", "must be a number"),
        ("error_ratio>5", "a bare number is a ratio from 0 to 1; write '5%'"),
    ],
)
def test_what_is_no_condition(text: str, problem: str) -> None:
    with pytest.raises(ValueError, match="found ") as caught:
        parse_condition(text)
    assert problem in str(caught.value)


LATENCY = make_summary(p50_ms=4.0)
MEASURED = make_measurement(throughput=80.0, latency=LATENCY, outcomes={Outcome.OK: 98, Outcome.TIMEOUT: 2})
NOTHING = make_measurement(throughput=0.0, latency=None, outcomes={Outcome.TIMEOUT: 2})


@pytest.mark.parametrize(
    ("text", "finding"),
    [
        ("p50>3ms", "p50>3ms: level 1 has 4ms"),
        ("p50>=4ms", "p50>=4ms: level 1 has 4ms"),
        ("p50>4ms", None),
        ("p50<4ms", None),
        ("throughput<100/s", "throughput<100/s: level 1 has 80/s"),
        ("throughput<80/s", None),
        ("throughput<=80/s", "throughput<=80/s: level 1 has 80/s"),
        ("error_ratio>1%", "error_ratio>1%: level 1 has 2%"),
        ("error_ratio>2%", None),
        (f"mean>{LATENCY.mean_ns / MS - 0.001:f}ms", "level 1 has"),
        (f"max>{LATENCY.max_ns / MS:f}ms", None),
    ],
)
def test_when_a_condition_is_met(text: str, finding: str | None) -> None:
    found = parse_condition(text).finding(MEASURED)
    assert (found is None) == (finding is None)
    assert (finding or "") in (found or "")


@pytest.mark.parametrize(
    ("text", "finding"),
    [
        ("p50>4ms", "p50>4ms: level 50 has 12ms (response time)"),
        ("p99.9>=96ms", "p99.9>=96ms: level 50 has 96ms (response time)"),
        ("p50>12ms", None),
        ("mean>5ms", "mean>5ms: level 50 has 15ms (response time)"),
        ("max>40ms", "max>40ms: level 50 has 120ms (response time)"),
        ("throughput<100/s", "throughput<100/s: level 50 has 80/s"),
        ("error_ratio>1%", "error_ratio>1%: level 50 has 2%"),
    ],
)
def test_at_a_rate_response_time_is_judged(text: str, finding: str | None) -> None:
    """Fast once they were sent, and late all the same."""
    measured = replace(MEASURED, level=rate(50), response_time=make_summary(p50_ms=12.0))
    assert parse_condition(text).finding(measured) == finding


def test_no_figure_is_no_comfort() -> None:
    text = "level 1 has no such figure, since no request was ok"
    assert parse_condition("p50>1h").finding(NOTHING) == f"p50>1h: {text}"
    assert parse_condition("max>1h").finding(NOTHING) == f"max>1h: {text}"
    assert parse_condition("error_ratio<1%").finding(NOTHING) is None
    assert parse_condition("throughput<1/s").finding(NOTHING) == "throughput<1/s: level 1 has 0/s"
