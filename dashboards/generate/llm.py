"""Language models: one probe of a target that takes prompts, in tokens."""

from __future__ import annotations

from dashboards.generate.board import Board, change_annotations
from dashboards.generate.panels import COMPONENT_COLORS, PERCENTILE_COLORS, curves, lines
from dashboards.generate.queries import BY_LEVEL, FLEET, LEVEL, PROBE, Query, metric

FIRST = "triton_canary_time_to_first_token_seconds"
TOKENS_A_SECOND = "suffix:tok/s"


def board() -> Board:
    it = Board(
        "triton-canary-llm",
        "Triton Canary / Language models",
        "Time to the first token, pace and rate of tokens of one probe, and what its server reports beside it.",
    )
    jobs = 'job=~"$job", instance=~"$instance"'
    it.many("target", "Target", f"label_values({FIRST}{{{jobs}}}, target)")
    it.many("model", "Model", f'label_values({FIRST}{{{jobs}, target=~"$target"}}, model)')
    it.one("probe", "Probe", f"label_values({FIRST}{{{FLEET}}}, probe)")
    it.one("level", "Level", f"label_values(triton_canary_level_value{{{PROBE}}}, level)", numeric=True)
    it.annotations = change_annotations(PROBE)
    _times(it)
    _rates(it)
    _curves(it)
    _server(it)
    return it


def _times(it: Board) -> None:
    first = lines(
        "Time to first token at level $level",
        "From sent to the first event with content, and dashed what its median should be at this hour.",
        "s",
        Query(f"max by (percentile) ({metric('time_to_first_token_seconds', LEVEL)})", "p{{percentile}}"),
        Query(
            f"max by (percentile) ({metric('baseline_time_to_first_token_seconds', LEVEL, percentile='50')})",
            "baseline p50",
        ),
        colors=PERCENTILE_COLORS,
        dashed=("baseline p50",),
    )
    pace = lines(
        "Time per output token at level $level",
        "From the first to the last event with content over the tokens between; dashed what its median should be.",
        "s",
        Query(f"max by (percentile) ({metric('time_per_output_token_seconds', LEVEL)})", "p{{percentile}}"),
        Query(
            f"max by (percentile) ({metric('baseline_time_per_output_token_seconds', LEVEL, percentile='50')})",
            "baseline p50",
        ),
        colors=PERCENTILE_COLORS,
        dashed=("baseline p50",),
    )
    gaps = lines(
        "Inter-token latency at level $level",
        "The gaps between events with content, all of all requests: stalls show in the upper percentiles.",
        "s",
        Query(f"max by (percentile) ({metric('inter_token_latency_seconds', LEVEL)})", "p{{percentile}}"),
        colors=PERCENTILE_COLORS,
    )
    opened = lines(
        "Time to stream open at level $level",
        "From sent to the first event of any kind: a server may send a role before it asks the model.",
        "s",
        Query(f"max by (percentile) ({metric('time_to_stream_open_seconds', LEVEL)})", "p{{percentile}}"),
        colors=PERCENTILE_COLORS,
    )
    it.row("What a user waits for", (9, [first, pace]), (8, [gaps, opened]))


def _rates(it: Board) -> None:
    tokens = lines(
        "Output tokens per second",
        "Of all requests of a level together; chunks where they were not counted the tokens.",
        TOKENS_A_SECOND,
        Query(f"max by (level) ({metric('output_tokens_per_second', PROBE)})", "level {{level}}"),
        Query(
            f"max by (level) ({metric('output_chunks_per_second', PROBE)}"
            f" unless on ({BY_LEVEL}) {metric('output_tokens_per_second', PROBE)})",
            "level {{level}}, chunks",
        ),
    )
    good = lines(
        "Goodput",
        "Requests a second that kept every limit of the probe's slo, and all requests that were sent.",
        "reqps",
        Query(f"max by (level) ({metric('goodput_requests_per_second', PROBE)})", "good, level {{level}}"),
        Query(f"max by (level) ({metric('offered_requests_per_second', LEVEL)})", "sent, level {{level}}"),
    )
    spent = lines(
        "Tokens spent",
        "Tokens a second that the canary's own requests cost, warm-up included.",
        TOKENS_A_SECOND,
        Query(f"sum by (probe) (rate({metric('prompt_tokens_total', PROBE)}[$__rate_interval]))", "prompt"),
        Query(f"sum by (probe) (rate({metric('generation_tokens_total', PROBE)}[$__rate_interval]))", "output"),
        Query(f"sum by (probe) (rate({metric('cached_prompt_tokens_total', PROBE)}[$__rate_interval]))", "cached"),
    )
    honest = lines(
        "What would make a figure too good",
        "Part of the prompt's tokens that the server had cached, and of the requests that ended early.",
        "percentunit",
        Query(f"max by (level) ({metric('prompt_cached_ratio', PROBE)})", "cached, level {{level}}"),
        Query(f"max by (level) ({metric('early_end_ratio', PROBE)})", "ended early, level {{level}}"),
        maximum=1,
    )
    it.row("How much comes", (8, [tokens, good]), (8, [spent, honest]))


def _curves(it: Board) -> None:
    first = curves(
        "Time to first token against load",
        "Percentiles of the last finished sweep over its levels.",
        "s",
        Query(f"max by (percentile, level) ({metric('time_to_first_token_seconds', PROBE)})"),
        by="percentile",
    )
    pace = curves(
        "Time per output token against load",
        "Percentiles of the last finished sweep over its levels.",
        "s",
        Query(f"max by (percentile, level) ({metric('time_per_output_token_seconds', PROBE)})"),
        by="percentile",
    )
    it.row("Load curves of the last finished sweep", (8, [first, pace]))


def _server(it: Board) -> None:
    parts = lines(
        "Where the time goes at level $level",
        "The mean latency by component: queue, prefill and decode where the server's metrics page has them.",
        "s",
        Query(f"max by (component) ({metric('latency_breakdown_seconds', LEVEL)})", "{{component}}"),
        stacked=True,
        colors=COMPONENT_COLORS,
    )
    requests = lines(
        "Requests in the server at level $level",
        "Most that it worked at, and that waited, of the readings of its metrics page.",
        "short",
        Query(f"max by (probe) ({metric('server_running_requests_max', LEVEL)})", "running"),
        Query(f"max by (probe) ({metric('server_pending_requests_max', LEVEL)})", "waiting"),
        width=6,
    )
    cache = lines(
        "KV cache at level $level",
        "Largest part of the server's kv cache in use, of the readings of its metrics page.",
        "percentunit",
        Query(f"max by (probe) ({metric('server_kv_cache_usage_ratio', LEVEL)})", "in use"),
        width=6,
        maximum=1,
    )
    it.row("What the server reports", (8, [parts, requests, cache]))
