"""The metric families of targets that take prompts: figures in tokens. `families` puts them on the page."""

from __future__ import annotations

from typing import Final

from exporter.metrics.family import PREFIX, FamilyTable, L, P

TABLE: Final = FamilyTable(PREFIX, L)
_family = TABLE.family

_LAST = (
    " Of the last sweep with usable data; absent once that is 3 intervals old, and where the target takes no prompts."
)
_STREAM = _LAST + " Absent without streaming."
_COUNTED = _LAST + " Absent if tokens are not counted."

STREAM_OPEN = _family(
    "gauge",
    "time_to_stream_open_seconds",
    "Percentiles of the time from sending to the first event of a response's stream, whatever it contains, of ok "
    "requests." + _STREAM,
    (*L, "percentile"),
)
FIRST_TOKEN = _family(
    "gauge",
    "time_to_first_token_seconds",
    "Percentiles of the time from sending to the first event with content, reasoning included, of ok "
    "requests." + _STREAM,
    (*L, "percentile"),
)
PER_OUTPUT_TOKEN = _family(
    "gauge",
    "time_per_output_token_seconds",
    "Percentiles of the time from the first to the last event with "
    "content divided by the output tokens minus one, one value per "
    "ok request." + _STREAM + " Absent if tokens are not counted.",
    (*L, "percentile"),
)
INTER_TOKEN = _family(
    "gauge",
    "inter_token_latency_seconds",
    "Percentiles of the time from one event with content to the next, of all ok requests." + _STREAM,
    (*L, "percentile"),
)
OUTPUT_TOKENS_PER_SECOND = _family(
    "gauge", "output_tokens_per_second", "Output tokens of ok requests, per second of the merged windows." + _COUNTED
)
OUTPUT_CHUNKS_PER_SECOND = _family(
    "gauge",
    "output_chunks_per_second",
    "Events with content of ok requests, per second of the merged windows: one can hold several tokens." + _STREAM,
)
PROMPT_TOKENS_MEAN = _family("gauge", "prompt_tokens_mean", "Mean prompt tokens of an ok request." + _COUNTED)
OUTPUT_TOKENS_MEAN = _family("gauge", "output_tokens_mean", "Mean output tokens of an ok request." + _COUNTED)
CACHED_RATIO = _family(
    "gauge",
    "prompt_cached_ratio",
    "Part of the prompt tokens of ok requests that the server had in its prefix cache, 0..1." + _COUNTED,
)
EARLY_END_RATIO = _family(
    "gauge",
    "early_end_ratio",
    "Part of the ok requests that ended before the requested number of output tokens, 0..1." + _LAST,
)
_NO_PAGE = _LAST + " Absent if the target's metrics URL does not report it."
SERVER_RUNNING = _family(
    "gauge",
    "server_running_requests_max",
    "Most requests that the server processed at once, of the readings in the merged windows." + _NO_PAGE,
)
SERVER_KV_CACHE = _family(
    "gauge",
    "server_kv_cache_usage_ratio",
    "Largest part of the server's kv cache in use, of the readings in the merged windows, 0..1." + _NO_PAGE,
)
GOODPUT = _family(
    "gauge",
    "goodput_requests_per_second",
    "Ok requests that kept every limit of the probe's slo, per second of the merged windows. Of the last sweep with "
    "usable data; absent once that is 3 intervals old, and at levels that the slo does not name.",
)
_BASELINE = " Of the last judged sweep; absent without a baseline, or if the target takes no prompts."
BASELINE_FIRST_TOKEN = _family(
    "gauge",
    "baseline_time_to_first_token_seconds",
    "Baseline of this percentile of the time to the first token, at this hour." + _BASELINE,
    (*L, "percentile"),
)
BASELINE_PER_OUTPUT_TOKEN = _family(
    "gauge",
    "baseline_time_per_output_token_seconds",
    "Baseline of this percentile of the time per output token, at this hour." + _BASELINE,
    (*L, "percentile"),
)
BASELINE_OUTPUT_TOKENS = _family(
    "gauge",
    "baseline_output_tokens_per_second",
    "Baseline of the output tokens per second, at this hour." + _BASELINE,
)
SLO_TOKEN_LIMIT = _family(
    "gauge",
    "slo_token_limit_seconds",
    "The slo's configured limits on tokens: time_to_first_token, time_per_output_token, inter_token_latency.",
    (*P, "slo", "of"),
)
CACHE_ALLOWED = _family(
    "gauge",
    "prompt_cache_allowed",
    "1 if the probe measures the server's prefix cache on purpose (input.prompt.cache: allow), else 0. Absent where "
    "the target takes no prompts.",
    P,
)
PROMPT_TOKENS = _family(
    "counter",
    "prompt_tokens",
    "Prompt tokens of finished requests, by the server's count, warm-up included; updated at the end of each window.",
    P,
)
GENERATION_TOKENS = _family(
    "counter",
    "generation_tokens",
    "Output tokens of finished requests, as far as they were counted; updated in the same way.",
    P,
)
CACHED_PROMPT_TOKENS = _family(
    "counter", "cached_prompt_tokens", "Prompt tokens that the server had in its prefix cache.", P
)
FIRST_TOKEN_DURATION = _family(
    "histogram",
    "request_time_to_first_token_seconds",
    "Time to the first token of ok requests without warm-up, over all sweeps. Absent if the probe disables it.",
)
PER_OUTPUT_TOKEN_DURATION = _family(
    "histogram",
    "request_time_per_output_token_seconds",
    "Time per output token of ok requests without warm-up, over all sweeps. Absent if the probe disables it.",
)
