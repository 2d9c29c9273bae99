"""A probe's view in words: its state, its ages, its levels."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from exporter.core.outcome import Outcome, Reason, SkipReason, SweepStatus
from exporter.core.probe import Signal, Slo
from exporter.core.result import LevelVerdict, SignalVerdict, SweepResult
from exporter.core.units import MS
from exporter.state.probe_state import ProbeView
from exporter.web.status import ProbeStatus, is_failing, probe_status
from tests.builders import concurrency, make_facts, make_probe
from tests.metrics.results import make_measurement, make_result, make_summary
from tests.metrics.scenario import regressed, withheld

NOW = 1_700_000_042.0


def status(view: ProbeView, **changes: Any) -> ProbeStatus:
    values: dict[str, Any] = {"next_run_unix_s": NOW + 30}
    return probe_status(view, NOW, **(values | changes))


def after(result: SweepResult, **changes: Any) -> ProbeView:
    ended_unix_s = result.started_unix_s + 12
    view = ProbeView(result.probe, result=result, fresh=result, facts=result.facts, last_run_unix_s=ended_unix_s)
    return replace(view, **({"measured": result if result.measurements else None} | changes))


@pytest.mark.parametrize(
    ("view", "state", "failing"),
    [
        (ProbeView(make_probe()), "never", False),
        (ProbeView(make_probe(), running_since_unix_s=1.0), "running", False),
        (ProbeView(make_probe(), last_run_unix_s=1.0), "waiting", False),
        (after(make_result()), "ok", False),
        (after(make_result(status=SweepStatus.UNSTABLE)), "unstable", False),
        (after(make_result(status=SweepStatus.FAILED)), "failed", True),
        (after(make_result(status=SweepStatus.ABORTED), running_since_unix_s=NOW), "aborted", True),
    ],
)
def test_state(view: ProbeView, state: str, failing: bool) -> None:
    reported = status(view)
    assert (reported.state, is_failing(reported)) == (state, failing)


def test_the_json_of_a_probe() -> None:
    probe = make_probe(levels=(concurrency(1), concurrency(2)))
    measurements = (
        make_measurement(concurrency(1), outcomes={Outcome.OK: 3, Outcome.TIMEOUT: 1}),
        make_measurement(concurrency(2), latency=None, outcomes={}, stable=False, throughput=float("nan")),
    )
    result = make_result(probe, facts=make_facts(version="7"), measurements=measurements)
    skipped = dict.fromkeys(SkipReason, 0) | {SkipReason.OVERLAP: 2}
    reported = status(after(result, skipped=skipped, last_skip=(SkipReason.OVERLAP, 1.0)))
    assert json.loads(json.dumps(reported.to_json(), allow_nan=False)) == {
        "name": "addsub",
        "target": "triton-http",
        "model": "addsub",
        "version": "7",
        "state": "ok",
        "reason": "",
        "reason_text": "",
        "running": False,
        "paused": False,
        "pause": "",
        "load_last_hour": {"requests": 0, "seconds": 0.0},
        "age_seconds": 30.0,
        "results_age_seconds": 30.0,
        "next_run_unix_s": NOW + 30,
        "skipped": {"overlap": 2},
        "levels": [
            {
                "mode": "concurrency",
                "level": "1",
                "throughput": 333.25,
                "percentiles": {"50": 0.004, "90": 0.008, "95": 0.012, "99": 0.016, "99.9": 0.032},
                "stable": True,
                "error_ratio": 0.25,
                "regression": "",
                "no_verdict": "",
                "verdicts": [],
                "bimodal": None,
                "server_note": "",
                "last_change": None,
            },
            {
                "mode": "concurrency",
                "level": "2",
                "throughput": 0.0,
                "percentiles": {},
                "stable": False,
                "error_ratio": None,
                "regression": "",
                "no_verdict": "",
                "verdicts": [],
                "bimodal": None,
                "server_note": "",
                "last_change": None,
            },
        ],
    }


def test_a_failed_sweep_shows_the_older_figures_with_their_age() -> None:
    good = make_result(started_unix_s=1_700_000_000.0)
    bad = make_result(status=SweepStatus.FAILED, reason=Reason.UNREACHABLE, started_unix_s=1_700_000_025.0)
    reported = status(after(bad, measured=good, facts=good.facts))
    assert (reported.reason, reported.reason_text) == ("unreachable", "connection refused")
    assert (reported.age_seconds, reported.results_age_seconds) == (5.0, 30.0)
    assert len(reported.levels) == 1


def test_a_wall_clock_that_went_back_gives_no_negative_age() -> None:
    assert status(after(make_result(started_unix_s=NOW + 1000))).age_seconds == 0.0


def test_what_holds_and_why_nothing_can_be_reported() -> None:
    probe = make_probe(levels=(concurrency(1), concurrency(2), concurrency(4)))
    quiet = SignalVerdict(Signal.LATENCY_P50, 4e6, 1.0, {"page": False})
    result = make_result(
        probe,
        verdicts=(
            regressed(concurrency(1)),
            withheld(concurrency(2)),
            LevelVerdict(concurrency(4), (quiet, SignalVerdict(Signal.THROUGHPUT, withheld="of no interest"))),
        ),
    )
    levels = status(after(result)).levels
    assert [level.regression for level in levels] == [
        "warn: latency p50 regressed, now 1.25 of its baseline; new version: 1.20 of the accepted one; mostly queue",
        "",
        "",
    ]
    assert [level.no_verdict for level in levels] == ["", "there is no baseline yet", ""]
    assert [level.slowest_part for level in levels] == ["queue", "", ""]


def judged(tiers: dict[str, bool], **changes: Any) -> ProbeStatus:
    """A sweep that went well, with this verdict on p50."""
    probe = make_probe(slo=Slo("s", 20 * MS, 99.0, ("1",)))
    counts, limits = {"page": (14, 18, 14)}, {"page": 1.25}
    p50 = SignalVerdict(Signal.LATENCY_P50, 3.2 * MS, 1.5, tiers, limits=limits, counts=counts, began_unix_s=NOW - 600)
    verdict = LevelVerdict(concurrency(1), (p50,), pinned_unix_s=NOW - 86_400)
    values: dict[str, Any] = {"outcomes": {Outcome.OK: 1000}} | changes
    return status(after(make_result(probe, measurements=(make_measurement(**values),), verdicts=(verdict,))))


@pytest.mark.parametrize(
    ("tiers", "changes", "state"),
    [
        ({"page": True, "warn": True}, {}, "regressed"),
        ({"page": False, "warn": True}, {}, "regressed"),
        ({"page": False, "warn": False, "slow": True}, {}, "ok"),
        ({"page": False}, {"latency": make_summary(10.0)}, "objective_missed"),
        ({"page": True}, {"latency": make_summary(10.0)}, "regressed"),
        ({}, {}, "ok"),
    ],
)
def test_a_probe_that_pages_is_not_ok(tiers: dict[str, bool], changes: dict[str, Any], state: str) -> None:
    assert judged(tiers, **changes).state == state


def test_a_verdict_as_plain_data() -> None:
    document: Any = judged({"page": True}).to_json()
    ((verdict,),) = [level["verdicts"] for level in document["levels"]]
    assert verdict == {
        "signal": "latency_p50",
        "baseline": 0.0032,
        "ratio": 1.5,
        "tiers": {"page": {"holds": True, "limit_ratio": 1.25, "bad": 14, "of": 18, "needed": 14}},
        "began_unix_s": NOW - 600,
        "withheld": None,
        "withheld_text": "",
        "version_ratio": None,
        "modes": None,
        "pinned_unix_s": NOW - 86_400,
        "provisional": False,
    }
