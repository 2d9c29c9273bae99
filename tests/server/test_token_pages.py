"""Metrics pages of language-model servers, as their projects document them, as our figures."""

from __future__ import annotations

import pytest

from exporter.core.units import NS
from exporter.server.metrics import parse_page
from exporter.server.page_statistics import parse_statistics

VLLM = """\
# HELP vllm:num_requests_running Number of requests in model execution batches.
vllm:num_requests_running{engine="0",model_name="m"} 3.0
vllm:num_requests_running{engine="1",model_name="m"} 2.0
vllm:num_requests_running{engine="0",model_name="other"} 9.0
vllm:num_requests_waiting{engine="0",model_name="m"} 4.0
vllm:kv_cache_usage_perc{engine="0",model_name="m"} 0.25
vllm:kv_cache_usage_perc{engine="1",model_name="m"} 0.5
vllm:prompt_tokens_total{engine="0",model_name="m"} 100.0
vllm:generation_tokens_total{engine="0",model_name="m"} 50.0
vllm:request_success_total{engine="0",finished_reason="stop",model_name="m"} 6.0
vllm:request_success_total{engine="0",finished_reason="length",model_name="m"} 4.0
vllm:e2e_request_latency_seconds_sum{engine="0",model_name="m"} 20.0
vllm:request_queue_time_seconds_sum{engine="0",model_name="m"} 2.0
vllm:request_prefill_time_seconds_sum{engine="0",model_name="m"} 3.0
vllm:request_decode_time_seconds_sum{engine="0",model_name="m"} 15.0
"""
NIM = """\
num_requests_running{model_name="m"} 5.0
num_requests_waiting{model_name="m"} 4.0
gpu_cache_usage_perc{model_name="m"} 0.5
prompt_tokens_total{model_name="m"} 100.0
generation_tokens_total{model_name="m"} 50.0
request_success_total{model_name="m"} 10.0
request_failure_total{model_name="m"} 1.0
e2e_request_latency_seconds_sum{model_name="m"} 20.0
"""
TENSORRT_LLM = """\
trtllm_request_success_total{engine_type="tensorrt",finished_reason="length",model_name="m"} 10.0
trtllm_e2e_request_latency_seconds_sum{engine_type="tensorrt",model_name="m"} 20.0
trtllm_request_queue_time_seconds_sum{engine_type="tensorrt",model_name="m"} 2.0
trtllm_kv_cache_utilization{engine_type="tensorrt",model_name="m"} 0.5
"""
TENSORRT_LLM_BACKEND = """\
nv_trt_llm_request_metrics{model="m",request_type="active",version="1"} 5
nv_trt_llm_request_metrics{model="m",request_type="waiting",version="1"} 4
nv_trt_llm_request_metrics{model="m",request_type="max",version="1"} 64
nv_trt_llm_kv_cache_block_metrics{kv_cache_block_type="fraction",model="m",version="1"} 0.5
nv_trt_llm_kv_cache_block_metrics{kv_cache_block_type="used",model="m",version="1"} 900
"""
LLAMA_CPP = """\
llamacpp:prompt_tokens_total 100
llamacpp:tokens_predicted_total 50
llamacpp:prompt_seconds_total 3
llamacpp:tokens_predicted_seconds_total 15
llamacpp:requests_processing 5
llamacpp:requests_deferred 4
"""
IN_USE = {"running_requests": 5.0, "pending_requests": 4.0, "kv_cache_usage_ratio": 0.5}
TOKENS = {"prompt_tokens": 100.0, "generation_tokens": 50.0}


@pytest.mark.parametrize(
    ("page", "gauges", "counters"),
    [
        (VLLM, IN_USE, TOKENS),
        (NIM, IN_USE, TOKENS),
        (TENSORRT_LLM, {"kv_cache_usage_ratio": 0.5}, {}),
        (TENSORRT_LLM_BACKEND, IN_USE, {}),
        (
            LLAMA_CPP,
            {"running_requests": 5.0, "pending_requests": 4.0},
            TOKENS | {"prefill_seconds": 3.0, "decode_seconds": 15.0},
        ),
    ],
    ids=["vLLM", "NIM", "TensorRT-LLM", "its backend", "llama.cpp"],
)
def test_what_is_in_use(page: str, gauges: dict[str, float], counters: dict[str, float]) -> None:
    reading = parse_page(page, 1, "m")
    assert (reading.gauges, reading.counters) == (gauges, counters)


@pytest.mark.parametrize(
    ("page", "queue", "prefill", "decode"),
    [(VLLM, 2, 3, 15), (NIM, None, None, None), (TENSORRT_LLM, 2, None, None)],
    ids=["vLLM", "NIM", "TensorRT-LLM"],
)
def test_where_the_time_went(page: str, queue: int | None, prefill: int | None, decode: int | None) -> None:
    (found,) = parse_statistics(page, "m")
    assert (found.success.count, found.success.ns) == (10, 20 * NS)
    for part, seconds in ((found.queue, queue), (found.prefill, prefill), (found.decode, decode)):
        assert (part.count, part.ns) == ((0, 0) if seconds is None else (10, seconds * NS))
    assert (found.fail.count if found.fail else None) == (1 if page is NIM else None)


def test_a_usage_that_can_not_be_is_none() -> None:
    assert parse_page('vllm:kv_cache_usage_perc{model_name="m"} 25.0\n', 1, "m").gauges == {}
