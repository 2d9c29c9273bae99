"""What the metrics pages of language-model servers have beside their requests' statistics (`core.kinds` has those): the
families of vLLM, NIM, TensorRT-LLM, SGLang and llama.cpp by our names, in base units. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from prometheus_client.samples import Sample

RUNNING, WAITING, KV_CACHE = "running_requests", "pending_requests", "kv_cache_usage_ratio"

GAUGES: Final[Mapping[str, str]] = {
    "vllm:num_requests_running": RUNNING,
    "vllm:num_requests_waiting": WAITING,
    "vllm:kv_cache_usage_perc": KV_CACHE,
    "vllm:gpu_cache_usage_perc": KV_CACHE,  # its name before 0.10
    "num_requests_running": RUNNING,  # NIM's
    "num_requests_waiting": WAITING,
    "gpu_cache_usage_perc": KV_CACHE,
    "trtllm_kv_cache_utilization": KV_CACHE,
    "sglang:num_running_reqs": RUNNING,
    "sglang:num_queue_reqs": WAITING,
    "sglang:token_usage": KV_CACHE,
    "llamacpp:requests_processing": RUNNING,
    "llamacpp:requests_deferred": WAITING,
    "llamacpp:kv_cache_usage_ratio": KV_CACHE,
}
"""Those that end in `_perc` are ratios all the same."""
TYPED_GAUGES: Final[Mapping[tuple[str, str, str], str]] = {
    ("nv_trt_llm_request_metrics", "request_type", "active"): RUNNING,
    ("nv_trt_llm_request_metrics", "request_type", "waiting"): WAITING,
    ("nv_trt_llm_kv_cache_block_metrics", "kv_cache_block_type", "fraction"): KV_CACHE,
}
"""Of Triton's TensorRT-LLM backend: family, label and its value."""
COUNTERS: Final[Mapping[str, str]] = {
    "vllm:prompt_tokens_total": "prompt_tokens",
    "vllm:generation_tokens_total": "generation_tokens",
    "prompt_tokens_total": "prompt_tokens",
    "generation_tokens_total": "generation_tokens",
    "sglang:prompt_tokens_total": "prompt_tokens",
    "sglang:generation_tokens_total": "generation_tokens",
    "llamacpp:prompt_tokens_total": "prompt_tokens",
    "llamacpp:tokens_predicted_total": "generation_tokens",
    "llamacpp:prompt_seconds_total": "prefill_seconds",
    "llamacpp:tokens_predicted_seconds_total": "decode_seconds",
}
NAMES: Final = frozenset({*GAUGES, *COUNTERS, *(family for family, _, _ in TYPED_GAUGES)})
_MODEL_LABELS: Final = ("model_name", "model")


def is_of(sample: Sample, model: str) -> bool:
    """Whether the sample is the model's, or that of a server of one model."""
    named = next((sample.labels[label] for label in _MODEL_LABELS if label in sample.labels), "")
    return named in ("", model)


def take(sample: Sample, model: str, gauges: dict[str, float], counters: dict[str, float]) -> None:
    """Adds the sample, unless it is another model's. Engines of one model are summed; of a usage the fullest counts."""
    if not is_of(sample, model):
        return
    if (counter := COUNTERS.get(sample.name)) is not None:
        counters[counter] = counters.get(counter, 0.0) + sample.value
        return
    own = GAUGES.get(sample.name) or next(
        (
            name
            for (family, label, value), name in TYPED_GAUGES.items()
            if sample.name == family and sample.labels.get(label) == value
        ),
        "",
    )
    if own == KV_CACHE:
        if sample.value <= 1.0:
            gauges[own] = max(gauges.get(own, 0.0), sample.value)
    elif own:
        gauges[own] = gauges.get(own, 0.0) + sample.value
