"""The metric families of the daemon itself, in page order. `process_*` and `python_*`, the client library's own, are
between those of discovery and those of the page.
"""

from __future__ import annotations

from typing import Final

from exporter.metrics.family import EXPORTER_PREFIX, Family, FamilyTable

_table = FamilyTable(EXPORTER_PREFIX)
_family = _table.family

BUILD_INFO = _family("gauge", "build_info", "Always 1; the version as label.", ("version",))
CONFIG_INFO = _family("gauge", "config_info", "Always 1; the hash of the loaded configuration as label.", ("hash",))
RELOAD_SUCCESSFUL = _family(
    "gauge", "config_last_reload_successful", "1 if the last reload of the configuration succeeded, else 0."
)
RELOAD_SUCCESS = _family(
    "gauge",
    "config_last_reload_success_timestamp_seconds",
    "Unix time of the last successful reload of the configuration.",
)
PROBES = _family("gauge", "probes", "Probes configured.")
PAUSES = _family("gauge", "pauses", "Manual pauses, by scope: all (everything), target, probe.", ("scope",))
LAST_TICK = _family("gauge", "scheduler_last_tick_timestamp_seconds", "Unix time of the scheduler's last tick.")
CLOCK_JUMPS = _family("counter", "clock_jumps", "Detected jumps of the wall clock.")
WORKERS = _family("gauge", "workers", "Running worker processes.")
WORKER_RESTARTS = _family(
    "counter", "worker_restarts", "Workers replaced, by reason. Absent before the first.", ("reason",)
)
ARCHIVE_ROWS = _family("counter", "archive_rows", "Rows written to the archive.")
ARCHIVE_WRITE_ERRORS = _family("counter", "archive_write_errors", "Writes to the archive that failed.")
ARCHIVE_BYTES = _family("gauge", "archive_bytes", "Size of the archive.")
BUDGET_USED = _family(
    "gauge",
    "group_budget_used_ratio",
    "Part of the group's budget (requests, duty, tokens) that its sweeps used in the last hour. Absent without sweeps "
    "in that time.",
    ("group", "budget"),
)
DISCOVERY_UP = _family(
    "gauge", "discovery_up", "1 if the last read of the source succeeded; else its previous list is kept.", ("source",)
)
DISCOVERY_FOUND = _family("gauge", "discovery_found", "Addresses or models in the source's last list.", ("source",))
DISCOVERY_DROPPED = _family("gauge", "discovery_dropped", "Discovered probes dropped because of limits.max_discovered.")
LEASE_HELD = _family(
    "gauge",
    "lease_held",
    "1 if this daemon has the lease of its shard and measures, 0 for a standby. Absent without a lease.",
    ("lease", "shard"),
)
LEASE_LEFT = _family(
    "gauge",
    "lease_left_seconds",
    "How long this daemon may still measure if the lease is not renewed, 0 for a standby. Absent without a lease.",
    ("lease", "shard"),
)
LEASE_ERRORS = _family(
    "counter",
    "lease_errors",
    "Reads and renewals of the lease that failed. Absent without a lease.",
    ("lease", "shard"),
)
GATES_RUNNING = _family("gauge", "gates_running", "Rollout gates that run or wait their turn.")
_GATE = ("stable", "candidate")
GATE_VERDICT = _family(
    "gauge",
    "gate_verdict",
    "1 for the verdict of the last finished rollout gate, 0 for the others: better, equivalent, worse, undecided.",
    (*_GATE, "verdict"),
)
GATE_END = _family("gauge", "gate_end_timestamp_seconds", "Unix time at which the last rollout gate ended.", _GATE)
GATE_RATIO = _family(
    "gauge",
    "gate_ratio",
    "Candidate divided by stable in the last rollout gate, by figure. Absent for figures that no pair had.",
    (*_GATE, "figure"),
)
GATE_RATIO_LOW = _family(
    "gauge", "gate_ratio_low", "Lower bound of that ratio. Absent without a bound.", (*_GATE, "figure")
)
GATE_RATIO_HIGH = _family(
    "gauge", "gate_ratio_high", "Upper bound of that ratio. Absent without a bound.", (*_GATE, "figure")
)
GATE_ERROR_RATIO = _family(
    "gauge", "gate_error_ratio", "Part of the candidate's requests that failed in the last rollout gate.", _GATE
)
GATE_PAIRS = _family("gauge", "gate_pairs", "Pairs of windows in the last rollout gate.", _GATE)
GATE_DURATION = _family("gauge", "gate_duration_seconds", "Duration of the last rollout gate.", _GATE)
SERIES = _family("gauge", "series", "Series of probes and targets on this page.")
SERIES_DROPPED = _family("gauge", "series_dropped", "Series dropped from this page because of limits.max_series.")
COLLECTOR_ERRORS = _family(
    "counter", "collector_errors", "Failures to create the page or to write the state file.", ("collector",)
)

EXPORTER_ORDER: Final[tuple[Family, ...]] = tuple(_table.families)
"""All families of the daemon itself, in the order of the page."""
