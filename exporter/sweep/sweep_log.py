"""One log line per sweep and per skip."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from exporter.core.outcome import Reason, SkipReason
from exporter.core.probe import Probe
from exporter.core.result import Measurement, SweepResult, WindowCounts
from exporter.core.units import NS
from exporter.logs import fields

log = logging.getLogger("exporter.sweeps")


class SweepLog:
    """A `Sink` that writes to the log."""

    def sweep_started(self, probe: Probe, started_unix_s: float) -> None:
        """Logged at debug level: the final line has all details."""
        log.debug("sweep started", extra=fields(target=probe.target.name, probe=probe.name, model=probe.model))

    def window_ended(self, probe: Probe, counts: WindowCounts) -> None:
        """Not logged."""

    def sweep_ended(self, result: SweepResult) -> None:
        """Logged as a warning if the sweep gave no usable data, except at our own shutdown."""
        probe = result.probe
        summary: dict[str, object] = {
            "sweep": result.id,
            "target": probe.target.name,
            "probe": probe.name,
            "model": probe.model,
            "version": result.facts.version if result.facts else "",
            "status": result.status.value,
            "reason": result.reason.value,
            "detail": result.reason_text,
            "duration_seconds": round(result.duration_ns / NS, 3),
            "requests": sum(result.outcomes.values()),
            "levels": len(result.measurements),
        }
        if result.facts and result.facts.address:
            summary["address"] = result.facts.address
        best = max(result.measurements, key=lambda measurement: measurement.throughput, default=None)
        if best is not None and best.latency is not None:
            summary["best_level"] = best.level.label
            summary["inferences_per_second"] = round(best.throughput, 3)
            summary["p50_seconds"] = best.latency.at(50.0) / NS
            summary["p99_seconds"] = best.latency.at(99.0) / NS
        if any(measurement.threshold_met is not None for measurement in result.measurements):
            summary["max_level_within_threshold"] = result.best.level.label if result.best is not None else "none"
        notes = dict.fromkeys(m.server_note for m in result.measurements if m.server_note)
        if notes:
            summary["server_note"] = "; ".join(notes)
        remainder_ns = max((m.negative_remainder_ns for m in result.measurements), default=0.0)
        if remainder_ns > 0:
            summary["negative_remainder_seconds"] = remainder_ns / NS
        checked = [measurement for measurement in result.measurements if measurement.validated is not None]
        if checked:
            summary |= _validation(checked)
        expected = result.usable or result.reason is Reason.SHUTDOWN
        log.log(logging.INFO if expected else logging.WARNING, "sweep ended", extra=fields(**summary))

    def sweep_skipped(self, probe: Probe, reason: SkipReason) -> None:
        """Logged as info: a skip is our own decision."""
        log.info(
            "sweep skipped",
            extra=fields(target=probe.target.name, probe=probe.name, model=probe.model, reason=reason.value),
        )


def _validation(measurements: Sequence[Measurement]) -> dict[str, object]:
    """Summarizes response validation; the worst values of all levels."""
    found: dict[str, object] = {"validated_requests": sum(measurement.validated or 0 for measurement in measurements)}
    errors = [measurement.output_error for measurement in measurements if measurement.output_error is not None]
    if errors:
        found["output_error_max"] = max(error.absolute for error in errors)
        found["output_error_max_relative"] = max(error.relative for error in errors)
        ratios = [error.signal_to_noise_db for error in errors if error.signal_to_noise_db is not None]
        if ratios:
            found["output_signal_to_noise_db"] = round(min(ratios), 1)
    differences = [measurement.output_difference for measurement in measurements if measurement.output_difference]
    if differences:
        found["wrong_output"] = differences[0]
    return found
