"""The archive's two tables: their columns, in order, and how a row becomes a line of text.

Knows nothing of sweeps and opens no file. docs/archive.md explains every column.
"""

from __future__ import annotations

import csv
import io
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from exporter.analysis.join import COMPONENTS
from exporter.core.outcome import Outcome

SCHEMA_VERSION = 1
"""The first cell of every row. It grows when the meaning of a column changes or when the columns do."""

Cell = str | int | float | bool | None
Row = Mapping[str, Cell]
"""Cells by column name; a column that is left out is an empty cell."""

PERCENTILES = (50.0, 90.0, 95.0, 99.0, 99.9)
"""Those with columns of their own; a probe's other percentiles share the column `percentiles`."""


def percentile_text(percentile: float) -> str:
    """50.0 as "50", 99.9 as "99.9"."""
    return str(float(percentile)).removesuffix(".0")


def _summary_columns(prefix: str, *, intervals: bool) -> tuple[str, ...]:
    suffixes = ("_ns", "_low_ns", "_high_ns") if intervals else ("_ns",)
    return (
        *(f"{prefix}{name}_ns" for name in ("mean", "stddev", "min", "max")),
        *(f"{prefix}p{percentile_text(p)}{suffix}" for p in PERCENTILES for suffix in suffixes),
    )


_PLACE_COLUMNS = (
    "schema_version",
    "time",
    "sweep_id",
    "target",
    "probe",
    "model",
    "version",
    "probe_config_hash",
    "model_config_hash",
    "mode",
    "level",
)
_OUTCOME_COLUMNS = tuple(f"outcome_{outcome.label}" for outcome in Outcome)
_HEALTH_COLUMNS = ("client_loop_lag_seconds", "client_cpu_ratio", "client_throttled_seconds")
_CLOCK_COLUMNS = ("client_clock_error_seconds", "client_clock_uncertain")

PERF_ANALYZER_COLUMNS = (
    "Concurrency",
    "Request Rate",
    "Inferences/Second",
    "Response Throughput",
    "Client Send",
    "Network+Server Send/Recv",
    "Server Queue",
    "Server Compute Input",
    "Server Compute Infer",
    "Server Compute Output",
    "Server Cache Hit",
    "Server Cache Miss",
    "Client Recv",
    "p50 latency",
    "p90 latency",
    "p95 latency",
    "p99 latency",
    "Avg latency",
    "request/response",
    "response wait",
)
"""The union of the columns that perf_analyzer prints under `--verbose-csv`, in its order."""

LEVEL_COLUMNS = (
    *_PLACE_COLUMNS,
    "stable",
    "reason",
    "status",
    *PERF_ANALYZER_COLUMNS,
    "request_count",
    *_OUTCOME_COLUMNS,
    "error_ratio",
    *_summary_columns("", intervals=True),
    "response_time_count",
    *_summary_columns("response_time_", intervals=True),
    *_summary_columns("send_lag_", intervals=False),
    "offered_per_second",
    "unsent_ratio",
    "responses",
    "responses_per_second",
    "responses_per_request",
    "sequences",
    "sequences_per_second",
    *_summary_columns("first_response_", intervals=True),
    *_summary_columns("inter_response_", intervals=True),
    "batch_size",
    "duration_seconds",
    "windows_run",
    "windows_merged",
    "spread_ratio",
    *(f"breakdown_{component}_seconds" for component in COMPONENTS),
    "negative_remainder_seconds",
    "foreign_requests",
    "server_request_count",
    "server_failed_count",
    "server_inference_count",
    "server_execution_count",
    "server_request_mean_ns",
    "server_note",
    "composing",
    "server_metrics",
    "gpu",
    "energy_per_inference_joules",
    "client_limited",
    *_HEALTH_COLUMNS,
    "bytes_out",
    "bytes_in",
    "validated_requests",
    "output_error_max",
    "output_error_max_relative",
    "output_signal_to_noise_db",
    "output_difference",
    "sweep_duration_seconds",
    "connect_seconds",
    "tls_handshake_seconds",
    "cold_first_request_seconds",
    "reason_text",
    "percentiles",
    "threshold_met",
    "warm_up_requests",
    "repeats",
    "seed",
    "tokens",
    "goodput_requests_per_second",
    "streams",
    "place",
    *_CLOCK_COLUMNS,
)

WINDOW_COLUMNS = (
    *_PLACE_COLUMNS,
    "window",
    "window_start",
    "duration_seconds",
    "judged",
    "sent",
    "unsent",
    "throughput_per_second",
    "request_count",
    *_OUTCOME_COLUMNS,
    *_summary_columns("", intervals=True),
    *_HEALTH_COLUMNS,
    "percentiles",
    *_CLOCK_COLUMNS,
)


# --- a table as bytes ------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Table:
    """One of the archive's tables. A row is always exactly one line: text with line ends is escaped."""

    name: str
    columns: tuple[str, ...]

    @property
    def header(self) -> bytes:
        """The first line of each of its files."""
        return (",".join(self.columns) + "\n").encode()

    @property
    def beginning(self) -> bytes:
        """How a file of this schema begins: the header, and the first cell of its first row."""
        return self.header + f"{SCHEMA_VERSION},".encode()

    def encode(self, rows: Iterable[Row]) -> bytes:
        """The rows as whole lines. ValueError if one has a column that the table has not."""
        text = io.StringIO(newline="")
        writer = csv.DictWriter(text, self.columns, restval="", lineterminator="\n")
        for row in rows:
            writer.writerow({name: _text(cell) for name, cell in row.items()})
        return text.getvalue().encode()


LEVELS = Table("levels", LEVEL_COLUMNS)
WINDOWS = Table("windows", WINDOW_COLUMNS)

_ESCAPED = re.compile(r"^[=+\-@]|[\\\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
_SHORT_ESCAPES = {"\\": r"\\", "\n": r"\n", "\r": r"\r", "\t": r"\t"}


def _escape(found: re.Match[str]) -> str:
    return _SHORT_ESCAPES.get(found[0]) or f"\\u{ord(found[0]):04x}"


_ESCAPE = re.compile(r"\\(?:u([0-9a-f]{4})|(.))")
_LONG_ESCAPES = {"n": "\n", "r": "\r", "t": "\t"}


def unescape(cell: str) -> str:
    """A cell of text as it was before it was written."""
    return _ESCAPE.sub(
        lambda found: chr(int(found[1], 16)) if found[1] else _LONG_ESCAPES.get(found[2], found[2]), cell
    )


def _text(cell: Cell) -> str:
    """A cell as text. Numbers are exact: reading them back gives the same number. In free text a control character
    would break the one-line rule or a terminal, and a leading `=` is a formula to a spreadsheet: both are escaped."""
    if cell is None or (isinstance(cell, float) and not math.isfinite(cell)):
        return ""
    if isinstance(cell, str):
        return _ESCAPED.sub(_escape, cell)
    if isinstance(cell, float):
        return repr(float(cell))  # float(): numpy's own floats have another repr
    return str(int(cell))
