"""Statistics from the pages of TorchServe, TensorFlow Serving, MLServer and KServe."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from exporter.core.facts import DurationStat, ModelStatistics
from exporter.core.units import NS
from exporter.server.metrics import PageError
from exporter.server.page_statistics import parse_statistics

TORCHSERVE = """\
# TYPE ts_inference_requests_total counter
ts_inference_requests_total{model_name="m",model_version="1.0",hostname="h",} 4.0
ts_inference_requests_total{model_name="other",model_version="1.0",hostname="h",} 9.0
# TYPE ts_inference_latency_microseconds counter
ts_inference_latency_microseconds{model_name="m",model_version="1.0",hostname="h",} 12000.5
ts_queue_latency_microseconds{model_name="m",model_version="1.0",hostname="h",} 400.0
QueueTime{Level="Host",Hostname="h",} 1.0
"""
TFSERVING = """\
# TYPE :tensorflow:serving:request_latency histogram
:tensorflow:serving:request_latency_bucket{model_name="m",API="predict",entrypoint="GRPC",le="10"} 1
:tensorflow:serving:request_latency_sum{model_name="m",API="predict",entrypoint="GRPC"} 900
:tensorflow:serving:request_latency_count{model_name="m",API="predict",entrypoint="GRPC"} 3
:tensorflow:serving:request_latency_sum{model_name="m",API="predict",entrypoint="REST"} 100
:tensorflow:serving:request_latency_count{model_name="m",API="predict",entrypoint="REST"} 1
"""
MLSERVER = """\
model_infer_request_success_total{model="m",version="v1"} 2.0
model_infer_request_success_total{model="m",version="v2"} 5.0
model_infer_request_failure_total{model="m",version="v2"} 1.0
model_infer_request_duration_sum{model="m",version="v2"} 0.25
"""
KSERVE = """\
request_predict_seconds_count{model_name="m"} 2.0
request_preprocess_seconds_sum{model_name="m"} 0.001
request_predict_seconds_sum{model_name="m"} 0.01
request_postprocess_seconds_sum{model_name="m"} 0.002
"""


def statistics(
    version: str, requests: int, ms: float, *, inferences: int | None = None, **parts_ms: float
) -> ModelStatistics:
    """What no page reports is not reported: of failures here, of executions anywhere; of inferences TorchServe alone
    does."""
    time = DurationStat(requests, round(ms * NS / 1000))
    found = ModelStatistics("m", version, inferences, None, success=time, fail=None)
    stats: dict[str, Any] = {name: DurationStat(requests, round(value * NS / 1000)) for name, value in parts_ms.items()}
    return replace(found, **stats)


PAGES = [
    (TORCHSERVE, "", (statistics("1.0", 4, 12.0005, inferences=4, queue=0.4),)),
    (TORCHSERVE, "2.0", ()),
    (TFSERVING, "", (statistics("", 4, 1.0),)),
    (TFSERVING, "7", (statistics("7", 4, 1.0),)),
    (KSERVE, "", (statistics("", 2, 13.0, compute_input=1, compute_infer=10, compute_output=2),)),
    ("# nothing yet\nother 1\n", "", ()),
]


@pytest.mark.parametrize(("page", "version", "expected"), PAGES)
def test_pages(page: str, version: str, expected: tuple[ModelStatistics, ...]) -> None:
    assert parse_statistics(page, "m", version) == expected


def test_versions_and_failures() -> None:
    first, second = parse_statistics(MLSERVER, "m")
    assert (first.version, first.success.count, second.version) == ("v1", 2, "v2")
    assert (second.success, second.fail) == (DurationStat(5, NS // 4), DurationStat(1))
    assert (first.fail, first.inference_count, first.execution_count) == (None, None, None)
    assert (first.requests, second.requests) == (2, 6)


def test_a_page_of_many_models() -> None:
    page = "".join(
        f'{family}{{model_name="my_model_{model}"}} {model}\n'
        for family in ("request_predict_seconds_count", "request_predict_seconds_sum", "request_preprocess_seconds_sum")
        for model in range(1000)
    )
    (found,) = parse_statistics(page, "my_model_77")
    assert (found.success, found.compute_infer) == (DurationStat(77, 154 * NS), DurationStat(77, 77 * NS))


def test_what_is_no_page() -> None:
    with pytest.raises(PageError, match="line 1 cannot be parsed"):
        parse_statistics('request_predict_seconds_count{model_name="m" 1\n', "m")
