"""Whether a level kept its threshold: on which times, with how many errors, and only if it got what was asked."""

from __future__ import annotations

from typing import Any

import pytest

from exporter.analysis.threshold import Threshold, keeps_threshold, threshold_of
from exporter.core.outcome import Outcome
from exporter.core.probe import Distribution, LoadLevel, MeasurementOptions, Mode, Slo
from exporter.core.result import LatencySummary, WindowSummary
from exporter.core.units import MS, NS
from tests.builders import concurrency, make_probe
from tests.metrics.results import make_measurement, make_summary, rate

OK, ERROR, CANCELLED = Outcome.OK, Outcome.SERVER_ERROR, Outcome.CANCELLED
SLO = Slo("interactive", 9 * MS, 90.0, ("1",))
WITHIN, ABOVE = make_summary(4.0), make_summary(4.1)
"""Their means are 5 and 5.125 ms, their 95th percentiles 12 and 12.3 ms."""


def options(**changes: Any) -> MeasurementOptions:
    return MeasurementOptions(**({"latency_threshold_ns": 5 * MS} | changes))


def kept(level: LoadLevel, measurement: MeasurementOptions | None = None, **changes: Any) -> bool | None:
    probe = make_probe(levels=(level,), measurement=measurement or options())
    return keeps_threshold(probe, make_measurement(level, **({"outcomes": {OK: 300}} | changes)))


@pytest.mark.parametrize(
    ("measurement", "slo", "expected"),
    [
        (MeasurementOptions(), None, None),
        (options(), None, Threshold(5 * MS, None)),
        (options(stability_percentile=95.0), None, Threshold(5 * MS, 95.0)),
        (options(), SLO, Threshold(5 * MS, None)),
    ],
)
def test_the_threshold(measurement: MeasurementOptions, slo: Slo | None, expected: Threshold | None) -> None:
    assert threshold_of(make_probe(measurement=measurement, slo=slo)) == expected


def test_the_slo_is_one_where_no_other_is_given() -> None:
    threshold = threshold_of(make_probe(slo=SLO))
    assert threshold is not None
    assert (threshold.limit_ns, threshold.percentile) == (9 * MS, 90.0)
    assert threshold.error_margin == pytest.approx(0.1)


def test_without_a_threshold_there_is_no_verdict() -> None:
    assert kept(concurrency(1), MeasurementOptions()) is None


@pytest.mark.parametrize(
    ("level", "changes", "expected"),
    [
        pytest.param(concurrency(4), {"latency": WITHIN}, True, id="at the threshold"),
        pytest.param(concurrency(4), {"latency": ABOVE}, False, id="above it"),
        pytest.param(concurrency(4), {"latency": None, "outcomes": {ERROR: 9}}, False, id="no times"),
        pytest.param(rate(100), {"latency": WITHIN, "response_time": ABOVE}, False, id="a queue before the server"),
        pytest.param(rate(100), {"latency": ABOVE, "response_time": WITHIN}, True, id="only response time counts"),
    ],
)
def test_the_mean_of_which_times(level: LoadLevel, changes: dict[str, Any], expected: bool) -> None:
    assert kept(level, **changes) is expected


@pytest.mark.parametrize(("limit_ms", "expected"), [(12, True), (11.99, False)])
def test_a_percentile_instead_of_the_mean(limit_ms: float, expected: bool) -> None:
    measurement = options(stability_percentile=95.0, latency_threshold_ns=round(limit_ms * MS))
    assert kept(concurrency(1), measurement, latency=WITHIN) is expected


@pytest.mark.parametrize(
    ("level", "changes", "expected"),
    [
        # 100 a second for 3 s: 297 of 300, or one less, since edges and due times do not meet.
        pytest.param(rate(100), {"outcomes": {OK: 296}}, True, id="reached"),
        pytest.param(rate(100), {"outcomes": {OK: 295}}, False, id="not reached"),
        pytest.param(rate(100), {"outcomes": {OK: 290, ERROR: 10}}, False, id="an error is no response"),
        pytest.param(rate(4096), {"outcomes": {OK: 3 * 2745}, "duration_ns": 3 * NS}, False, id="4096 asked, 2745 got"),
        pytest.param(concurrency(4), {"outcomes": {OK: 99, ERROR: 1}}, True, id="closed loop, one error in 100"),
        pytest.param(concurrency(4), {"outcomes": {OK: 98, ERROR: 2}}, False, id="closed loop, two"),
        pytest.param(concurrency(4), {"outcomes": {OK: 99, CANCELLED: 50}}, True, id="the cancelled were our wish"),
    ],
)
def test_what_was_asked_must_be_reached(level: LoadLevel, changes: dict[str, Any], expected: bool) -> None:
    times = {"latency": WITHIN, "response_time": None if level.mode is Mode.CONCURRENCY else WITHIN}
    assert kept(level, **(times | changes)) is expected


@pytest.mark.parametrize(
    ("sent", "unsent", "ok", "expected"),
    [(240, 0, 238, True), (240, 0, 236, False), (240, 10, 240, False), (0, 10, 0, False)],
)
def test_at_random_times_all_that_was_due_was_asked_for(sent: int, unsent: int, ok: int, expected: bool) -> None:
    level = LoadLevel(Mode.REQUEST_RATE, 100.0, "100", Distribution.POISSON)
    changes: dict[str, Any] = {
        "offered": sent / 3,
        "unsent_ratio": unsent / (sent + unsent),
        "outcomes": {OK: ok} if ok else {},
    }
    assert kept(level, response_time=WITHIN, **changes) is expected


def test_the_part_to_be_reached_is_settable() -> None:
    assert kept(rate(100), options(min_reached_ratio=0.9), response_time=WITHIN, outcomes={OK: 269})
    assert not kept(rate(100), options(min_reached_ratio=1.0), response_time=WITHIN, outcomes={OK: 298})


def test_what_is_in_flight_by_chance_is_not_lost() -> None:
    """300 were due, and 8 more were in flight at the end than at the start: no more than a queue with 4 on average has
    by chance. One that is short has not got them."""
    level = LoadLevel(Mode.REQUEST_RATE, 100.0, "100", Distribution.POISSON)
    ok: dict[str, Any] = {"offered": 100.0, "outcomes": {OK: 288}, "response_time": WITHIN}
    for mean_ms, expected in ((40.0, True), (0.1, False)):
        latency = LatencySummary(96, mean_ms * MS, mean_ms * MS, 0, round(100 * MS), ())
        window = WindowSummary(0, 0.0, NS, 100, 0, {OK: 96}, 96.0, latency, judged=True)
        assert kept(level, window_summaries=(window,) * 3, **ok) is expected
