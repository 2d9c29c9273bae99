"""From the view of a probe to its samples in tokens, converted to base units. Pure."""

from __future__ import annotations

from exporter.core.probe import Signal, Slo
from exporter.core.result import Measurement, TokenFigures
from exporter.core.units import NS
from exporter.metrics import token_families as f
from exporter.metrics.exposition import Lines, add_percentiles, label

SLO_LIMITS = {
    "time_to_first_token": "first_token_ns",
    "time_per_output_token": "per_output_token_ns",
    "inter_token_latency": "inter_token_ns",
}


def add_tokens(lines: Lines, level_labels: str, measurement: Measurement) -> None:
    """The figures of one level."""
    if (goodput := measurement.goodput) is not None:
        lines.add(f.GOODPUT, level_labels, goodput)
    if (tokens := measurement.tokens) is None:
        return
    add_percentiles(lines, f.STREAM_OPEN, level_labels, tokens.stream_open)
    add_percentiles(lines, f.FIRST_TOKEN, level_labels, tokens.first_token)
    add_percentiles(lines, f.PER_OUTPUT_TOKEN, level_labels, tokens.per_output_token)
    add_percentiles(lines, f.INTER_TOKEN, level_labels, tokens.inter_token)
    if tokens.output_tokens_per_second is not None:
        lines.add(f.OUTPUT_TOKENS_PER_SECOND, level_labels, tokens.output_tokens_per_second)
    if tokens.chunks is not None and measurement.duration_ns:
        lines.add(f.OUTPUT_CHUNKS_PER_SECOND, level_labels, tokens.chunks * NS / measurement.duration_ns)
    _add_means(lines, level_labels, tokens)
    if (page := measurement.server_metrics) is not None:
        for family, value in (
            (f.SERVER_RUNNING, page.running_requests_max),
            (f.SERVER_KV_CACHE, page.kv_cache_usage_ratio_max),
        ):
            if value is not None:
                lines.add(family, level_labels, value)


def _add_means(lines: Lines, level_labels: str, tokens: TokenFigures) -> None:
    if not tokens.requests:
        return
    if tokens.prompt_tokens is not None:
        lines.add(f.PROMPT_TOKENS_MEAN, level_labels, tokens.prompt_tokens / tokens.requests)
    if tokens.output_tokens is not None:
        lines.add(f.OUTPUT_TOKENS_MEAN, level_labels, tokens.output_tokens / tokens.requests)
    if (cached_ratio := tokens.cached_ratio) is not None:
        lines.add(f.CACHED_RATIO, level_labels, cached_ratio)
    lines.add(f.EARLY_END_RATIO, level_labels, tokens.early_ends / tokens.requests)


def add_slo_limits(lines: Lines, slo_labels: str, slo: Slo) -> None:
    """What the slo asks of tokens."""
    for name, field in SLO_LIMITS.items():
        if limit_ns := getattr(slo, field):
            lines.add(f.SLO_TOKEN_LIMIT, f"{slo_labels},{label('of', name)}", limit_ns / NS)


_BASELINES = {
    Signal.FIRST_TOKEN_P50: (f.BASELINE_FIRST_TOKEN, "50"),
    Signal.FIRST_TOKEN_P99: (f.BASELINE_FIRST_TOKEN, "99"),
    Signal.PER_OUTPUT_TOKEN_P50: (f.BASELINE_PER_OUTPUT_TOKEN, "50"),
}


def add_token_baseline(lines: Lines, level_labels: str, signal: Signal, baseline: float) -> None:
    """What a signal of tokens should be."""
    if signal is Signal.OUTPUT_TOKENS:
        lines.add(f.BASELINE_OUTPUT_TOKENS, level_labels, baseline)
        return
    family, percentile = _BASELINES[signal]
    lines.add(family, f"{level_labels},{label('percentile', percentile)}", baseline / NS)
