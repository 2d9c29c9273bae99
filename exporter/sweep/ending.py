"""How a sweep ended: its status by reason, and the verdict on a sweep that ran to its end. Pure."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from exporter.core.outcome import Outcome, Reason, SweepStatus
from exporter.core.probe import Probe
from exporter.core.result import Measurement

_ABORTS = frozenset(
    {
        Reason.ERROR_RATIO,
        Reason.REQUEST_BUDGET,
        Reason.TOKEN_BUDGET,
        Reason.TIME_BUDGET,
        Reason.LATENCY,
        Reason.PENDING_QUEUE,
        Reason.DEADLINE,
        Reason.MODEL_CHANGED,
        Reason.DAEMON_STALLED,
        Reason.WORKER_CRASH,
        Reason.SHUTDOWN,
        Reason.INTERNAL,
    }
)
"""The sweep ran and was stopped. Every other reason except `unstable` means that the server or the model could not be
measured."""

STILL_SEARCHES = frozenset({Reason.NONE, Reason.LATENCY, Reason.PENDING_QUEUE})
"""A search looks for the level that is too high: if one of these stops it there, it continues below."""


def status_of(reason: Reason) -> SweepStatus:
    """The status of a sweep that ended for this reason."""
    if reason is Reason.NONE:
        return SweepStatus.OK
    if reason is Reason.UNSTABLE:
        return SweepStatus.UNSTABLE
    return SweepStatus.ABORTED if reason in _ABORTS else SweepStatus.FAILED


def judged_complete(probe: Probe, measurements: Collection[Measurement], outcomes: str) -> tuple[Reason, str]:
    """The reason and text of a sweep that ran to its end; `outcomes` describes its requests."""
    if not measurements:
        return Reason.NO_VALID_REQUESTS, f"no window was measured ({outcomes})"
    for measurement in measurements:
        # In a search, a level above the threshold counts as such even if it is unstable.
        if not measurement.stable and (probe.search is None or measurement.threshold_met):
            return Reason.UNSTABLE, measurement.reason_text
    return Reason.NONE, ""


def outcomes_text(outcomes: Mapping[Outcome, int], last_error: str) -> str:
    """How many requests ended with each outcome, and the last error's text."""
    counts = ", ".join(f"{count} {outcome.label}" for outcome, count in outcomes.items())
    last = f"; last: {last_error}" if last_error else ""
    return f"{counts or 'none got a response'}{last}"
