"""How many series the page can have of a probe and of a target: upper bounds, from the families and their labels.

A new family is counted by its labels, at every level of every probe, unless `_absent` excludes it. Three things that no
configuration names are left out: GPUs (`gpu_*` and the energy, at each level), models that an ensemble calls by its own
configuration, and replicas that are discovered.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping

from exporter.analysis.join import COMPONENTS, TOKEN_COMPONENTS
from exporter.analysis.threshold import threshold_of
from exporter.core.outcome import Outcome, Reason, SkipReason
from exporter.core.probe import Mode, Probe, signals_of
from exporter.core.result import duration_buckets
from exporter.core.target import Target
from exporter.metrics import families as f
from exporter.metrics import stream_families as sf
from exporter.metrics import token_families as tf
from exporter.metrics.family import Family, P
from exporter.metrics.samples import BASELINE_PERCENTILES, LEVEL_MODES
from exporter.metrics.token_samples import SLO_LIMITS
from exporter.server.histograms import PERCENTILES, TOKEN_PARTS

_REPLICAS = frozenset({f.REPLICAS, f.REPLICAS_UP, f.REPLICAS_LATENCY, f.REPLICAS_OUTLIER})


def most_probe_series(probe: Probe) -> int:
    """The most series that the page has of the probe, once everything has happened to it that can."""
    absent, values = frozenset(_absent(probe)), _values(probe)
    return sum(
        _series(family, probe, values)
        for family in f.PAGE_ORDER
        if family.labels[: len(P)] == P and family not in absent
    )


def most_target_series(target: Target) -> int:
    """The most series that the page has of the target itself."""
    absent = {f.CERTIFICATE_EXPIRY: not target.is_tls, f.SERVER_METRICS_UP: not target.metrics_url}
    return sum(family.labels[: len(P)] != P and not absent.get(family) for family in f.PAGE_ORDER)


def _series(family: Family, probe: Probe, values: Mapping[str, int]) -> int:
    """The product of what each of its labels can be; of some families the labels depend on each other."""
    levels = len(probe.levels)
    exact = {
        f.SLO_MET: len(probe.slo.levels) if probe.slo else 0,
        # Each reason goes with one status.
        f.SWEEPS: len(Reason),
        f.SWEEPS_SKIPPED: len(SkipReason),
        **dict.fromkeys((tf.BASELINE_FIRST_TOKEN, f.BASELINE_LATENCY), levels * len(BASELINE_PERCENTILES)),
        tf.BASELINE_PER_OUTPUT_TOKEN: levels,
        f.REGRESSION: levels * sum(len(tier.signals) for tier in probe.baseline.tiers),
        f.REGRESSION_SWEEPS: 2 * levels * sum(len(tier.signals) for tier in probe.baseline.tiers),
        # A signal has one reason at a time.
        f.VERDICT_WITHHELD: levels * len({signal for tier in probe.baseline.tiers for signal in tier.signals}),
        f.BIMODAL_LATENCY: levels * (4 if probe.baseline.enabled else 2),
        # And +Inf, the sum and the count.
        **dict.fromkeys(
            (f.DURATION, tf.FIRST_TOKEN_DURATION, tf.PER_OUTPUT_TOKEN_DURATION),
            levels * (len(duration_buckets(probe.buckets_per_decade)) + 3),
        ),
        f.SERVER_PERCENTILE: levels * len(PERCENTILES) * (len(TOKEN_PARTS) if probe.target.takes_prompts else 1),
        tf.GOODPUT: len(probe.slo.levels) if probe.slo else 0,
        tf.SLO_TOKEN_LIMIT: len(SLO_LIMITS) if probe.slo and probe.slo.is_of_tokens else 0,
    }
    return exact.get(family, math.prod(values.get(label, 1) for label in family.labels))


def _values(probe: Probe) -> dict[str, int]:
    """How many values each label has; those that are not here have one."""
    return {
        "level": len(probe.levels),
        "percentile": len(probe.measurement.percentiles),
        "component": len(COMPONENTS) - (0 if probe.target.takes_prompts else len(TOKEN_COMPONENTS)),
        "composing_model": len(probe.composing_models),
        "outcome": len(Outcome),
        "signal": len(signals_of(probe.target)),
        "gpu": 0,
    }


def _absent_of_tokens(probe: Probe) -> Iterator[Family]:
    if probe.target.takes_prompts:
        yield from (f.FIRST_RESPONSE, f.INTER_RESPONSE, f.RESPONSES_PER_SECOND)
        if not probe.target.metrics_url:
            yield from (tf.SERVER_RUNNING, tf.SERVER_KV_CACHE)
    else:
        yield from (family for family in tf.TABLE.families if family not in (tf.GOODPUT, tf.SLO_TOKEN_LIMIT))
    if probe.slo is None or not probe.slo.latency_ns:
        yield f.SLO_THRESHOLD


def _absent_of_load(probe: Probe) -> Iterator[Family]:
    if not probe.pool:
        yield from (f.CLOCK_ERROR, f.CLOCK_UNCERTAIN)
    if all(level.batch_size is None for level in probe.levels):
        yield f.LEVEL_BATCH_SIZE
    if all(level.mode is not Mode.STREAMS for level in probe.levels):
        yield from sf.TABLE.families


def _absent(probe: Probe) -> Iterator[Family]:
    """The families that the page never has of this probe."""
    modes = {level.mode for level in probe.levels}
    yield from _REPLICAS
    yield f.ENERGY
    yield from _absent_of_load(probe)
    if not any(mode.is_open_loop for mode in modes):
        yield from (f.RESPONSE_TIME, f.SEND_LAG)
    if not probe.streaming:
        yield from (f.FIRST_RESPONSE, f.INTER_RESPONSE, f.RESPONSES_PER_SECOND)
    yield from _absent_of_tokens(probe)
    if probe.unit is None:
        yield f.THROUGHPUT_UNITS
    if not probe.validation and not probe.input.paths:
        yield from (f.VALIDATED_REQUESTS, f.OUTPUT_ERROR_MAX)
    if not probe.target.metrics_url:
        yield from (f.SERVER_PENDING, f.SERVER_CPU, f.SERVER_CPU_MEMORY, f.SERVER_PINNED_MEMORY, f.SERVER_PERCENTILE)
    if not probe.target.is_tls:
        yield f.TLS_HANDSHAKE
    if probe.slo is None:
        yield from (f.SLO_REQUESTS, f.SLO_BAD, f.SLO_OBJECTIVE)
    if threshold_of(probe) is None or not modes & LEVEL_MODES:
        yield f.MAX_LEVEL
    if not probe.histogram:
        yield from (f.DURATION, tf.FIRST_TOKEN_DURATION, tf.PER_OUTPUT_TOKEN_DURATION)
    if not probe.baseline.enabled:
        yield from (f.BASELINE_LATENCY, f.BASELINE_THROUGHPUT, f.BASELINE_RATIO, f.BASELINE_VERSION_RATIO)
        yield from (tf.BASELINE_FIRST_TOKEN, tf.BASELINE_PER_OUTPUT_TOKEN, tf.BASELINE_OUTPUT_TOKENS)
        yield from (f.REGRESSION, f.REGRESSION_SWEEPS, f.REGRESSION_COMPONENT, f.BASELINE_PINNED, f.VERDICT_WITHHELD)
        yield from (f.CHANGE_TIME, f.CHANGE_RATIO)
