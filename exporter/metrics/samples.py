"""From the view of a probe to its samples: which figure goes where, converted to base units.

Pure: the same view gives the same lines. It must not know the page that they go to.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

from exporter.analysis.join import foreign_ratio
from exporter.analysis.threshold import keeps_threshold, meets_slo, threshold_of
from exporter.core.facts import ModelStatistics, request_priority
from exporter.core.outcome import Outcome
from exporter.core.probe import Mode, Probe, Signal, Slo, at_level
from exporter.core.result import LevelVerdict, Measurement, SignalVerdict, duration_buckets
from exporter.core.target import Target
from exporter.core.units import NS
from exporter.metrics import families as f
from exporter.metrics import token_families as tf
from exporter.metrics.exposition import Block, Lines, add_percentiles, label, labels, number
from exporter.metrics.family import Family
from exporter.metrics.server_samples import add_server_side
from exporter.metrics.stream_samples import add_streams
from exporter.metrics.token_samples import add_slo_limits, add_token_baseline, add_tokens
from exporter.state.probe_state import HistogramCounts, ProbeView, TokenCounters

LEVEL_MODES = frozenset({Mode.CONCURRENCY, Mode.REQUEST_RATE, Mode.PERIODIC, Mode.SESSIONS, Mode.STREAMS})
"""Those whose levels can be higher or lower than another."""


@functools.cache
def _bounds(per_decade: int) -> tuple[str, ...]:
    return (*(number(bound) for bound in duration_buckets(per_decade)), "+Inf")


@dataclass(frozen=True, slots=True)
class ProbeExtras:
    """What a probe's samples need beside its view."""

    next_run_unix_s: float | None
    paused: bool | None
    results_dropped: bool


def probe_labels(probe: Probe) -> str:
    """The P labels, and the place of a probe that has one."""
    place = {"place": probe.place} if probe.place else {}
    return labels(target=probe.target.name, probe=probe.name, model=probe.model, **place)


# --- state and counters: they stay as long as the probe is configured ------------------------------------------------


def state_blocks(view: ProbeView, extras: ProbeExtras) -> dict[Family, Block]:
    """The samples of a probe's state, of its last sweep as such, and its cumulative ones."""
    lines, p = Lines(), probe_labels(view.probe)
    if view.up is not None:
        lines.add(f.UP, p, view.up)
    lines.add(f.LAST_RUN, p, view.last_run_unix_s)
    lines.add(f.LAST_SUCCESS, p, view.last_success_unix_s)
    lines.add(f.NEXT_RUN, p, extras.next_run_unix_s or 0)
    lines.add(f.INTERVAL, p, view.probe.schedule.interval_ns / NS)
    lines.add(f.RESULTS_DROPPED, p, extras.results_dropped)
    lines.add(f.RUNNING, p, view.running_since_unix_s is not None)
    if extras.paused is not None:
        lines.add(f.PAUSED, p, extras.paused)
    lines.add(f.PROBE_INFO, f"{p},{_info_labels(view)}", 1)
    _add_last_sweep(lines, p, view)
    _add_counters(lines, p, view)
    return lines.blocks()


def _info_labels(view: ProbeView) -> str:
    probe, facts = view.probe, view.facts
    own = labels(
        version=facts.version if facts else probe.version,
        platform=facts.platform if facts else "",
        backend=facts.backend if facts else "",
        batch_size=",".join(dict.fromkeys(str(at_level(probe, level).input.batch_size) for level in probe.levels)),
        protocol=probe.target.protocol,
        kind=probe.target.kind,
        url=probe.target.url,
        config_hash=probe.config_hash,
        model_config_hash=facts.config_hash if facts else "",
        variant=probe.variant,
        variant_group=probe.variant_group,
        priority=str(request_priority(probe, facts) or "") if facts else "",
    )
    return ",".join([own, *(label(name, value) for name, value in probe.labels)])


def _add_last_sweep(lines: Lines, p: str, view: ProbeView) -> None:
    if view.fresh is None:
        return
    connection = view.fresh.connection
    for family, value_ns in (
        (f.SWEEP_DURATION, view.fresh.duration_ns),
        (f.CONNECT, connection.connect_ns),
        (f.TLS_HANDSHAKE, connection.tls_ns),
        (f.COLD_FIRST_REQUEST, connection.cold_first_request_ns),
    ):
        if value_ns is not None:
            lines.add(family, p, value_ns / NS)


def _add_counters(lines: Lines, p: str, view: ProbeView) -> None:
    counters, slo = view.counters, view.probe.slo
    for outcome, count in counters.requests.items():
        lines.add(f.REQUESTS, f"{p},{label('outcome', outcome.label)}", count, "_total")
    lines.add(f.INFERENCES, p, counters.inferences, "_total")
    if slo is not None:
        slo_labels = f"{p},{label('slo', slo.name)}"
        lines.add(f.SLO_REQUESTS, slo_labels, counters.slo_requests, "_total")
        lines.add(f.SLO_BAD, slo_labels, counters.slo_bad, "_total")
        if slo.latency_ns:
            lines.add(f.SLO_THRESHOLD, slo_labels, slo.latency_ns / NS)
        add_slo_limits(lines, slo_labels, slo)
        lines.add(f.SLO_OBJECTIVE, slo_labels, slo.objective_ratio)
    for level, histogram in counters.histograms.items():
        _add_histogram(lines, f.DURATION, f"{p},{labels(mode=level.mode, level=level.label)}", histogram, view.probe)
    if counters.tokens is not None:
        _add_token_counters(lines, p, counters.tokens, view.probe)
    for (status, reason), count in counters.sweeps.items():
        lines.add(f.SWEEPS, f"{p},{labels(status=status, reason=reason)}", count, "_total")
    if view.probe.target.takes_prompts:
        lines.add(tf.CACHE_ALLOWED, p, view.probe.input.prompt.allow_cache)
    lines.add(f.SWEEP_SECONDS, p, counters.sweeps_ns / NS, "_total")
    for skip, count in view.skipped.items():
        lines.add(f.SWEEPS_SKIPPED, f"{p},{label('reason', skip)}", count, "_total")


def _add_token_counters(lines: Lines, p: str, tokens: TokenCounters, probe: Probe) -> None:
    lines.add(tf.PROMPT_TOKENS, p, tokens.prompt, "_total")
    lines.add(tf.GENERATION_TOKENS, p, tokens.output, "_total")
    lines.add(tf.CACHED_PROMPT_TOKENS, p, tokens.cached, "_total")
    for family, histograms in (
        (tf.FIRST_TOKEN_DURATION, tokens.first_token),
        (tf.PER_OUTPUT_TOKEN_DURATION, tokens.per_output_token),
    ):
        for level, histogram in histograms.items():
            _add_histogram(lines, family, f"{p},{labels(mode=level.mode, level=level.label)}", histogram, probe)


def _add_histogram(lines: Lines, family: Family, level_labels: str, histogram: HistogramCounts, probe: Probe) -> None:
    total = 0
    bounds = _bounds(probe.buckets_per_decade)
    for bound, total in zip(bounds, itertools.accumulate(histogram.bucket_counts), strict=True):
        lines.add(family, f"{level_labels},{label('le', bound)}", total, "_bucket")
    lines.add(family, level_labels, total, "_count")
    lines.add(family, level_labels, histogram.sum_ns / NS, "_sum")


# --- level results: they expire, and they go first where there are too many series -----------------------------------


def level_blocks(view: ProbeView) -> dict[Family, Block]:
    """The samples of the levels of a probe's last result that has any; none once that expired."""
    lines, p = Lines(), probe_labels(view.probe)
    decoupled = view.facts is not None and view.facts.decoupled
    for measurement in view.measurements:
        level_labels = f"{p},{labels(mode=measurement.level.mode, level=measurement.level.label)}"
        _add_latency(lines, level_labels, measurement)
        _add_rates(lines, level_labels, measurement, view.probe, decoupled=decoupled)
        _add_grounds(lines, level_labels, measurement)
        if measurement.modes_ns is not None:
            _add_modes(lines, level_labels, "windows", measurement.modes_ns)
        if measurement.server is not None:
            _add_server(lines, level_labels, measurement.server, measurement.foreign_requests)
        add_server_side(lines, level_labels, measurement)
        add_tokens(lines, level_labels, measurement)
        add_streams(lines, level_labels, measurement)
    if view.measured is not None:
        for verdict in view.measured.verdicts:
            if verdict.level in view.probe.levels:
                level_labels = f"{p},{labels(mode=verdict.level.mode, level=verdict.level.label)}"
                _add_verdict(lines, level_labels, verdict)
                _add_withheld(lines, level_labels, verdict, view.probe)
    if view.probe.slo is not None:
        _add_slo(lines, p, view.probe.slo, view.measurements)
    if view.measured is not None:
        # Of a search only its declared levels have series of their own; but its result is of all that it visited.
        visited = view.measured.measurements if view.probe.search else view.measurements
        _add_max_level(lines, p, view.probe, visited)
    return lines.blocks()


def _add_latency(lines: Lines, level_labels: str, measurement: Measurement) -> None:
    add_percentiles(lines, f.LATENCY, level_labels, measurement.latency)
    if (latency := measurement.latency) is not None:
        lines.add(f.LATENCY_MEAN, level_labels, latency.mean_ns / NS)
        lines.add(f.LATENCY_STDDEV, level_labels, latency.stddev_ns / NS)
        lines.add(f.LATENCY_MIN, level_labels, latency.min_ns / NS)
        lines.add(f.LATENCY_MAX, level_labels, latency.max_ns / NS)
    if measurement.level.mode.is_open_loop:
        add_percentiles(lines, f.RESPONSE_TIME, level_labels, measurement.response_time)
        add_percentiles(lines, f.SEND_LAG, level_labels, measurement.send_lag)
    add_percentiles(lines, f.FIRST_RESPONSE, level_labels, measurement.first_response)
    add_percentiles(lines, f.INTER_RESPONSE, level_labels, measurement.inter_response)
    for component, mean_ns in measurement.breakdown_ns.items():
        lines.add(f.BREAKDOWN, f"{level_labels},{label('component', component)}", mean_ns / NS)


def _add_rates(lines: Lines, level_labels: str, measurement: Measurement, probe: Probe, *, decoupled: bool) -> None:
    lines.add(f.LEVEL_VALUE, level_labels, measurement.level.value)
    if measurement.level.batch_size is not None:
        lines.add(f.LEVEL_BATCH_SIZE, level_labels, measurement.level.batch_size)
    lines.add(f.THROUGHPUT, level_labels, measurement.throughput)
    if probe.unit is not None:
        per_second = measurement.throughput * probe.unit.per_inference
        lines.add(f.THROUGHPUT_UNITS, f"{level_labels},{label('unit', probe.unit.name)}", per_second)
    if decoupled and measurement.duration_ns > 0:
        lines.add(f.RESPONSES_PER_SECOND, level_labels, measurement.responses * NS / measurement.duration_ns)
    if measurement.sequences is not None and measurement.duration_ns > 0:
        lines.add(f.SEQUENCES_PER_SECOND, level_labels, measurement.sequences * NS / measurement.duration_ns)
    lines.add(f.OFFERED, level_labels, measurement.offered)
    lines.add(f.UNSENT_RATIO, level_labels, measurement.unsent_ratio)
    if (error_ratio := measurement.error_ratio) is not None:
        lines.add(f.ERROR_RATIO, level_labels, error_ratio)
    lines.add(f.MEASURED_REQUESTS, level_labels, measured_requests(measurement))
    if measurement.validated is not None:
        lines.add(f.VALIDATED_REQUESTS, level_labels, measurement.validated)
    if measurement.output_error is not None:
        lines.add(f.OUTPUT_ERROR_MAX, level_labels, measurement.output_error.absolute)


def measured_requests(measurement: Measurement) -> int:
    """Requests of the merged windows, all but the cancelled: what the error ratio is over."""
    return sum(count for outcome, count in measurement.outcomes.items() if outcome is not Outcome.CANCELLED)


def _add_grounds(lines: Lines, level_labels: str, measurement: Measurement) -> None:
    lines.add(f.STABLE, level_labels, measurement.stable)
    if measurement.spread_ratio is not None:
        lines.add(f.SPREAD_RATIO, level_labels, measurement.spread_ratio)
    lines.add(f.WINDOWS, level_labels, measurement.windows_run)
    lines.add(f.CLIENT_LIMITED, level_labels, measurement.client_limited)
    lines.add(f.CLIENT_LOOP_LAG, level_labels, measurement.health.loop_lag_ns / NS)
    lines.add(f.CLIENT_CPU, level_labels, measurement.health.cpu_ratio)
    if (error_ns := measurement.health.clock_error_ns) is not None:
        lines.add(f.CLOCK_ERROR, level_labels, error_ns / NS)
        lines.add(f.CLOCK_UNCERTAIN, level_labels, measurement.clock_uncertain)


def _add_server(lines: Lines, level_labels: str, server: ModelStatistics, foreign: int | None) -> None:
    lookups = server.cache_hit.count + server.cache_miss.count
    if server.success.count > 0:
        lines.add(f.SERVER_REQUEST_MEAN, level_labels, server.success.ns / server.success.count / NS)
    if server.inference_count and server.execution_count:
        lines.add(f.SERVER_BATCH_SIZE, level_labels, server.inference_count / server.execution_count)
    if lookups > 0:
        lines.add(f.SERVER_CACHE_HIT_RATIO, level_labels, server.cache_hit.count / lookups)
    if foreign is not None and server.requests > 0:
        lines.add(f.FOREIGN_RATIO, level_labels, foreign_ratio(server, foreign))


def _add_slo(lines: Lines, p: str, slo: Slo, measurements: Sequence[Measurement]) -> None:
    for measurement in measurements:
        level = measurement.level
        if level.label in slo.levels:
            met = meets_slo(slo, measurement)
            lines.add(f.SLO_MET, f"{p},{labels(mode=level.mode, level=level.label)}", met)


def _add_max_level(lines: Lines, p: str, probe: Probe, measurements: Sequence[Measurement]) -> None:
    if threshold_of(probe) is None:
        return
    best: dict[Mode, float] = {}
    for measurement in measurements:
        level = measurement.level
        if level.mode in LEVEL_MODES:
            kept = keeps_threshold(probe, measurement) and (measurement.stable or probe.search is None)
            best[level.mode] = max(best.get(level.mode, 0.0), level.value if kept else 0.0)
    for mode, value in best.items():
        lines.add(f.MAX_LEVEL, f"{p},{label('mode', mode)}", value)


BASELINE_PERCENTILES = {Signal.LATENCY_P50: "50", Signal.LATENCY_P99: "99"}


def _add_baseline(lines: Lines, level_labels: str, each: SignalVerdict) -> None:
    if each.baseline is None:
        return
    if each.signal.is_of_tokens:
        add_token_baseline(lines, level_labels, each.signal, each.baseline)
    elif (percentile := BASELINE_PERCENTILES.get(each.signal)) is not None:
        text = f"{level_labels},{label('percentile', percentile)}"
        lines.add(f.BASELINE_LATENCY, text, each.baseline / NS)
    else:
        lines.add(f.BASELINE_THROUGHPUT, level_labels, each.baseline)


def _add_verdict(lines: Lines, level_labels: str, verdict: LevelVerdict) -> None:
    for each in verdict.signals:
        _add_baseline(lines, level_labels, each)
        signal_labels = f"{level_labels},{label('signal', each.signal)}"
        if each.ratio is not None:
            lines.add(f.BASELINE_RATIO, signal_labels, each.ratio)
        if each.version_ratio is not None:
            lines.add(f.BASELINE_VERSION_RATIO, signal_labels, each.version_ratio)
        for tier, holds in each.tiers.items():
            lines.add(f.REGRESSION, f"{signal_labels},{label('tier', tier)}", holds)
            if holds and tier in each.counts:
                bad, judged, _ = each.counts[tier]
                for counted, value in (("bad", bad), ("judged", judged)):
                    lines.add(f.REGRESSION_SWEEPS, f"{signal_labels},{labels(tier=tier, counted=counted)}", value)
    for component, change_ns in verdict.components_ns.items():
        lines.add(f.REGRESSION_COMPONENT, f"{level_labels},{label('component', component)}", change_ns / NS)
    if verdict.pinned_unix_s is not None:
        lines.add(f.BASELINE_PINNED, level_labels, verdict.pinned_unix_s)
    if verdict.last_change is not None:
        lines.add(f.CHANGE_TIME, level_labels, verdict.last_change.unix_s)
        lines.add(f.CHANGE_RATIO, level_labels, verdict.last_change.ratio)


def _add_withheld(lines: Lines, level_labels: str, verdict: LevelVerdict, probe: Probe) -> None:
    looked_at = {signal for tier in probe.baseline.tiers for signal in tier.signals}
    for each in verdict.signals:
        if each.reason is not None and each.signal in looked_at:
            lines.add(f.VERDICT_WITHHELD, f"{level_labels},{labels(signal=each.signal, reason=each.reason)}", 1)
        if each.modes is not None and each.signal is Signal.LATENCY_P50:
            _add_modes(lines, level_labels, "sweeps", each.modes)


def _add_modes(lines: Lines, level_labels: str, of: str, values_ns: tuple[float, float]) -> None:
    for group, value_ns in zip(("lower", "upper"), values_ns, strict=True):
        lines.add(f.BIMODAL_LATENCY, f"{level_labels},{labels(of=of, group=group)}", value_ns / NS)


# --- targets: one sample each, however many probes they have ----------------------------------------------------------


def target_blocks(
    target: Target, certificate_expiry_unix_s: float | None, server_metrics_up: bool | None
) -> dict[Family, Block]:
    """The samples of a target."""
    lines, name = Lines(), label("target", target.name)
    lines.add(f.TARGET_INFO, f"{name},{labels(url=target.url, metrics_instance=metrics_instance(target))}", 1)
    if certificate_expiry_unix_s is not None:
        lines.add(f.CERTIFICATE_EXPIRY, name, certificate_expiry_unix_s)
    if server_metrics_up is not None:
        lines.add(f.SERVER_METRICS_UP, name, server_metrics_up)
    return lines.blocks()


def metrics_instance(target: Target) -> str:
    """host:port of the target's metrics url, without credentials; "" where it has none."""
    if not target.metrics_url:
        return ""
    url = urlsplit(target.metrics_url)
    host = url.hostname or ""
    port = url.port or (443 if url.scheme == "https" else 80)
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
