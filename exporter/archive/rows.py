"""How a sweep becomes the archive's rows.

Pure: no file is opened here. The columns named as perf_analyzer names them hold perf_analyzer's figures, by its own
arithmetic (integer division at every step, microseconds), so that its users' scripts keep working; all the others
are ours.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime

from exporter.analysis.averages import average_ns, average_us, microseconds, network_us, part_us
from exporter.archive.columns import PERCENTILES, SCHEMA_VERSION, Cell, Row, percentile_text
from exporter.archive.json_cells import json_cell
from exporter.archive.server_cells import server_side_cells
from exporter.core.outcome import Outcome
from exporter.core.probe import LoadLevel, Mode, at_level
from exporter.core.result import LatencySummary, Measurement, SweepResult, WindowSummary
from exporter.core.units import NS
from exporter.core.window import ClientHealth


def iso_time(unix_s: float) -> str:
    """ISO 8601 in UTC with milliseconds. Raises ValueError or OverflowError for a time beyond the calendar."""
    return datetime.fromtimestamp(unix_s, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def level_rows(sweep: SweepResult) -> list[Row]:
    """One row a level; a sweep that failed or was aborted closes with a row of its own, which has no level and no
    figures, so that it is in the archive whether or not it came to a measurement."""
    rows = [_level_row(sweep, measurement) for measurement in sweep.measurements]
    if not sweep.usable or not rows:
        rows.append(_sweep_row(sweep))
    return rows


def window_rows(sweep: SweepResult) -> list[Row]:
    """One row a measured window of each level, those that its verdict no longer needed included."""
    return [
        _window_row(sweep, measurement.level, window)
        for measurement in sweep.measurements
        for window in measurement.window_summaries
    ]


def _sweep_row(sweep: SweepResult) -> Row:
    return {
        **_place(sweep, None),
        "reason": sweep.reason.value,
        "status": sweep.status.value,
        **_sweep_cells(sweep),
        "reason_text": sweep.reason_text,
    }


def _level_row(sweep: SweepResult, measurement: Measurement) -> Row:
    return {
        **_place(sweep, measurement.level),
        "stable": measurement.stable,
        "reason": measurement.reason.value,
        "status": sweep.status.value,
        **_perf_analyzer_cells(sweep, measurement),
        **_client_cells(measurement),
        "threshold_met": measurement.threshold_met,
        "warm_up_requests": measurement.warm_up_requests,
        "tokens": json_cell(measurement.tokens),
        "goodput_requests_per_second": measurement.goodput,
        "streams": json_cell(measurement.streams),
        "repeats": max(1, len(measurement.repeats)),
        "seed": sweep.seed if measurement.level.is_random else None,
        **_server_cells(measurement),
        **_health(measurement.health),
        **_clock(measurement.health, uncertain=measurement.clock_uncertain),
        "batch_size": at_level(sweep.probe, measurement.level).input.batch_size,
        **_sweep_cells(sweep),
        "reason_text": measurement.reason_text,
    }


def _window_row(sweep: SweepResult, level: LoadLevel, window: WindowSummary) -> Row:
    return {
        **_place(sweep, level),
        "window": window.index,
        "window_start": iso_time(window.start_unix_s),
        "duration_seconds": window.duration_ns / NS,
        "judged": window.judged,
        "sent": window.sent,
        "unsent": window.unsent,
        "throughput_per_second": window.throughput,
        "request_count": window.latency.count if window.latency else 0,
        **_outcomes(window.outcomes),
        **_summary("", window.latency, intervals=True),
        **_health(window.health),
        **_clock(window.health, uncertain=window.health.is_clock_uncertain(window.duration_ns)),
        "percentiles": _other_percentiles(latency=window.latency),
    }


def _place(sweep: SweepResult, level: LoadLevel | None) -> dict[str, Cell]:
    """The key that both tables share: with it their rows are joined."""
    probe, facts = sweep.probe, sweep.facts
    return {
        "schema_version": SCHEMA_VERSION,
        "time": iso_time(sweep.started_unix_s),
        "sweep_id": sweep.id,
        "target": probe.target.name,
        "probe": probe.name,
        "model": probe.model,
        "version": facts.version if facts else probe.version,
        "probe_config_hash": probe.config_hash,
        "model_config_hash": facts.config_hash if facts else "",
        "mode": level.mode.value if level else None,
        "level": level.label if level else None,
    }


def _sweep_cells(sweep: SweepResult) -> dict[str, Cell]:
    times = sweep.connection
    return {
        "place": sweep.probe.place,
        "sweep_duration_seconds": sweep.duration_ns / NS,
        "connect_seconds": _seconds(times.connect_ns),
        "tls_handshake_seconds": _seconds(times.tls_ns),
        "cold_first_request_seconds": _seconds(times.cold_first_request_ns),
    }


def _client_cells(measurement: Measurement) -> dict[str, Cell]:
    latency, response_time, send_lag = measurement.latency, measurement.response_time, measurement.send_lag
    return {
        "request_count": latency.count if latency else 0,
        **_outcomes(measurement.outcomes),
        "error_ratio": measurement.error_ratio,
        **_summary("", latency, intervals=True),
        "response_time_count": response_time.count if response_time else None,
        **_summary("response_time_", response_time, intervals=True),
        **_summary("send_lag_", send_lag, intervals=False),
        "offered_per_second": measurement.offered,
        "unsent_ratio": measurement.unsent_ratio,
        **_streaming_cells(measurement),
        "duration_seconds": measurement.duration_ns / NS,
        "windows_run": measurement.windows_run,
        "windows_merged": measurement.windows_merged,
        "spread_ratio": measurement.spread_ratio,
        "client_limited": measurement.client_limited,
        "bytes_out": measurement.bytes_out,
        "bytes_in": measurement.bytes_in,
        **_validation_cells(measurement),
        "percentiles": _other_percentiles(
            latency=latency,
            response_time=response_time,
            send_lag=send_lag,
            first_response=measurement.first_response,
            inter_response=measurement.inter_response,
        ),
    }


def _streaming_cells(measurement: Measurement) -> dict[str, Cell]:
    sequences, first, inter = measurement.sequences, measurement.first_response, measurement.inter_response
    seconds = measurement.duration_ns / NS
    return {
        "responses": measurement.responses,
        "responses_per_second": measurement.responses / seconds if seconds else None,
        "responses_per_request": measurement.responses_per_request,
        "sequences": sequences,
        "sequences_per_second": sequences / seconds if seconds and sequences is not None else None,
        **_summary("first_response_", first, intervals=True),
        **_summary("inter_response_", inter, intervals=True),
    }


def _validation_cells(measurement: Measurement) -> dict[str, Cell]:
    error = measurement.output_error
    return {
        "validated_requests": measurement.validated,
        "output_error_max": error.absolute if error else None,
        "output_error_max_relative": error.relative if error else None,
        "output_signal_to_noise_db": error.signal_to_noise_db if error else None,
        "output_difference": measurement.output_difference,
    }


def _server_cells(measurement: Measurement) -> dict[str, Cell]:
    cells: dict[str, Cell] = {
        f"breakdown_{component}_seconds": _seconds(ns) for component, ns in measurement.breakdown_ns.items()
    }
    if measurement.breakdown_ns:
        cells["negative_remainder_seconds"] = measurement.negative_remainder_ns / NS
    server = measurement.server
    if server:
        cells |= {
            "server_request_count": server.success.count,
            "server_failed_count": server.fail.count if server.fail else None,
            "server_inference_count": server.inference_count,
            "server_execution_count": server.execution_count,
            "server_request_mean_ns": average_ns(server.success) if server.success.count else None,
        }
    return cells | {"foreign_requests": measurement.foreign_requests, **server_side_cells(measurement)}


def _outcomes(outcomes: Mapping[Outcome, int]) -> dict[str, Cell]:
    return {f"outcome_{outcome.label}": outcomes.get(outcome, 0) for outcome in Outcome}


def _health(health: ClientHealth) -> dict[str, Cell]:
    return {
        "client_loop_lag_seconds": health.loop_lag_ns / NS,
        "client_cpu_ratio": health.cpu_ratio,
        "client_throttled_seconds": health.throttled_ns / NS,
    }


def _clock(health: ClientHealth, *, uncertain: bool) -> dict[str, Cell]:
    """Nothing where one machine's clock set the edges."""
    if health.clock_error_ns is None:
        return {}
    return {"client_clock_error_seconds": health.clock_error_ns / NS, "client_clock_uncertain": uncertain}


def _summary(prefix: str, summary: LatencySummary | None, *, intervals: bool) -> dict[str, Cell]:
    if summary is None:
        return {}
    cells: dict[str, Cell] = {
        f"{prefix}mean_ns": float(summary.mean_ns),
        f"{prefix}stddev_ns": float(summary.stddev_ns),
        f"{prefix}min_ns": summary.min_ns,
        f"{prefix}max_ns": summary.max_ns,
    }
    for entry in summary.percentiles:
        if entry.percentile not in PERCENTILES:
            continue
        column = f"{prefix}p{percentile_text(entry.percentile)}"
        cells[f"{column}_ns"] = entry.value_ns
        if intervals:
            cells[f"{column}_low_ns"] = entry.low_ns
            cells[f"{column}_high_ns"] = entry.high_ns
    return cells


def _other_percentiles(**summaries: LatencySummary | None) -> str:
    """A probe's percentiles without columns of their own, as JSON by summary and percentile; "" if it has none."""
    found: dict[str, dict[str, dict[str, int | None]]] = {}
    for name, summary in summaries.items():
        for entry in summary.percentiles if summary else ():
            if entry.percentile not in PERCENTILES:
                figures = {
                    "value_ns": int(entry.value_ns),
                    "low_ns": None if entry.low_ns is None else int(entry.low_ns),
                    "high_ns": None if entry.high_ns is None else int(entry.high_ns),
                }
                found.setdefault(name, {})[percentile_text(entry.percentile)] = figures
    return json.dumps(found, separators=(",", ":")) if found else ""


# --- perf_analyzer's columns -----------------------------------------------------------------------------------------


def _perf_analyzer_cells(sweep: SweepResult, measurement: Measurement) -> dict[str, Cell]:
    facts, level = sweep.facts, measurement.level
    value = int(level.value) if level.value == int(level.value) else level.value
    cells: dict[str, Cell] = {
        "Concurrency": value if level.mode is Mode.CONCURRENCY else None,
        "Request Rate": value if level.mode is Mode.REQUEST_RATE else None,
        "Inferences/Second": measurement.throughput,
    }
    if facts and facts.decoupled and measurement.duration_ns:
        cells["Response Throughput"] = measurement.responses * NS / measurement.duration_ns
    cells |= _server_averages(measurement, response_cache=facts is not None and facts.response_cache)
    if measurement.latency:
        cells |= _client_averages(measurement, measurement.latency)
    return cells


def _client_averages(measurement: Measurement, latency: LatencySummary) -> dict[str, Cell]:
    send_us, receive_us = microseconds(measurement.client_send_ns), microseconds(measurement.client_receive_ns)
    by_percentile = {entry.percentile: entry.value_ns for entry in latency.percentiles}
    cells: dict[str, Cell] = {
        f"p{percentile_text(p)} latency": microseconds(by_percentile[p])
        for p in (50.0, 90.0, 95.0, 99.0)
        if p in by_percentile
    }
    return cells | {
        "Client Send": send_us,
        "Network+Server Send/Recv": network_us(measurement),
        "Client Recv": receive_us,
        "Avg latency": microseconds(latency.mean_ns),
        "request/response": send_us + receive_us,
        "response wait": max(0, microseconds(latency.mean_ns) - send_us - receive_us),
    }


def _server_averages(measurement: Measurement, *, response_cache: bool) -> dict[str, Cell]:
    """Each average by the part's own count, and 0 where the count is 0, as perf_analyzer has it; none where the server
    does not report it."""
    server = measurement.server
    if server is None:
        return {}
    cells: dict[str, Cell] = {
        "Server Queue": part_us(server, "queue"),
        "Server Compute Input": part_us(server, "compute_input"),
        "Server Compute Infer": part_us(server, "compute_infer"),
        "Server Compute Output": part_us(server, "compute_output"),
    }
    if response_cache:
        cells["Server Cache Hit"] = average_us(server.cache_hit)
        cells["Server Cache Miss"] = average_us(server.cache_miss)
    return cells


def _seconds(ns: float | None) -> float | None:
    return None if ns is None else ns / NS
