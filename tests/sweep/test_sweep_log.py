"""What the one line of a sweep states."""

import logging
from dataclasses import replace

import pytest

from exporter.core.outcome import Reason, SkipReason, SweepStatus
from exporter.core.result import Measurement, SweepResult
from exporter.core.units import NS
from exporter.core.window import OutputError
from exporter.sweep.level_run import LevelRun
from exporter.sweep.sweep_log import SweepLog
from tests.builders import concurrency, make_facts, make_probe, make_window


def measured() -> Measurement:
    run = LevelRun(make_probe(), make_facts(), concurrency(1))
    for index in range(3):
        run.add(make_window(index, [2.0, 2.0]), 1000.0)
    measurement = run.measurement(Reason.NONE, "")
    assert measurement is not None
    return measurement


GOOD = SweepResult(
    id="s1",
    probe=make_probe(),
    status=SweepStatus.OK,
    reason=Reason.NONE,
    reason_text="",
    started_unix_s=1000.0,
    duration_ns=3 * NS,
    facts=make_facts(),
    measurements=(measured(),),
)


def test_a_good_sweep(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        SweepLog().sweep_ended(GOOD)
    (record,) = caplog.records
    assert (record.levelname, record.getMessage()) == ("INFO", "sweep ended")
    assert record.fields == {  # type: ignore[attr-defined]
        "sweep": "s1",
        "target": "triton-http",
        "probe": "addsub",
        "model": "addsub",
        "version": "1",
        "status": "ok",
        "reason": "",
        "detail": "",
        "duration_seconds": 3.0,
        "requests": 0,
        "levels": 1,
        "best_level": "1",
        "inferences_per_second": 2.0,
        "p50_seconds": 0.002,
        "p99_seconds": 0.002,
    }


def test_which_replica_it_was(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        SweepLog().sweep_ended(replace(GOOD, facts=make_facts(address="10.0.0.3")))
    assert caplog.records[0].fields["address"] == "10.0.0.3"  # type: ignore[attr-defined]


def test_a_failed_sweep_is_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    failed = replace(
        GOOD, status=SweepStatus.FAILED, reason=Reason.UNREACHABLE, reason_text="refused", measurements=(), facts=None
    )
    SweepLog().sweep_ended(failed)
    (record,) = caplog.records
    assert record.levelname == "WARNING"
    values = record.fields  # type: ignore[attr-defined]
    assert (values["reason"], values["detail"], values["version"]) == ("unreachable", "refused", "")
    assert "best_level" not in values


def test_a_skip(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        SweepLog().sweep_skipped(make_probe(), SkipReason.OVERLAP)
    assert caplog.records[0].fields["reason"] == "overlap"  # type: ignore[attr-defined]


@pytest.mark.parametrize(("kept", "reported"), [(True, "1"), (False, "none")])
def test_a_threshold_and_who_kept_it(caplog: pytest.LogCaptureFixture, kept: bool, reported: str) -> None:
    (measurement,) = GOOD.measurements
    with caplog.at_level(logging.INFO):
        SweepLog().sweep_ended(replace(GOOD, measurements=(replace(measurement, threshold_met=kept),)))
    assert caplog.records[0].fields["max_level_within_threshold"] == reported  # type: ignore[attr-defined]


def test_what_is_odd_about_the_servers_side_is_reported(caplog: pytest.LogCaptureFixture) -> None:
    odd = replace(measured(), server_note="it was restarted", negative_remainder_ns=250_000.0)
    with caplog.at_level(logging.INFO):
        SweepLog().sweep_ended(replace(GOOD, measurements=(odd, odd)))
    values = caplog.records[0].fields  # type: ignore[attr-defined]
    assert (values["server_note"], values["negative_remainder_seconds"]) == ("it was restarted", 0.00025)


def test_checked_responses(caplog: pytest.LogCaptureFixture) -> None:
    checked = replace(measured(), validated=7, output_error=OutputError(0.5, 0.25, 1000.0, 1.0), output_difference="x")
    plain = replace(measured(), validated=3, output_error=OutputError(0.25, 0.5, 10.0, 0.0))
    with caplog.at_level(logging.INFO):
        SweepLog().sweep_ended(replace(GOOD, measurements=(plain, checked)))
    fields = caplog.records[0].fields  # type: ignore[attr-defined]
    assert {name: fields[name] for name in list(fields)[-5:]} == {
        "validated_requests": 10,
        "output_error_max": 0.5,
        "output_error_max_relative": 0.5,
        "output_signal_to_noise_db": 30.0,
        "wrong_output": "x",
    }
