"""The static properties of each service kind: endpoints, metrics pages, supported and unsupported keys. Pure.

The configuration validates with this table. So do the kinds' modules in `services`, for programs that use no
configuration. Nothing here knows how to call a server.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from exporter.core.units import NS, US

TRITON: Final = "triton"
IN_PROCESS: Final = "triton_in_process"


@dataclass(frozen=True, slots=True)
class Take:
    """The statistic of a model that a metric family adds to: to its count, or with `unit_ns` (nanoseconds per unit) to
    its time. `inferences` are not requests: one request can hold a batch."""

    name: str
    unit_ns: int = 0


@dataclass(frozen=True, slots=True)
class Kind:
    """A service kind.

    `ports` are the default ports by scheme; a scheme that is missing is unsupported, and a kind without any sends
    nothing. `metrics_page` is the default port and path of the metrics page. `requires` are the mandatory keys of a
    target, each with its error text. `own` are target and probe keys for this kind only (and for other kinds that list
    them). `lacks` are keys that this kind does not support, each with its error text; `{kind}` is the kind and
    `{given}` the configured value. `families` are the families of its metrics page, for kinds without a statistics
    call.
    """

    ports: Mapping[str, int] = field(default_factory=dict)
    metrics_page: str = ""
    requires: Mapping[str, str] = field(default_factory=lambda: {"url": "is required"})
    own: frozenset[str] = frozenset()
    lacks: Mapping[str, str] = field(default_factory=dict)
    families: Mapping[str, tuple[Take, ...]] = field(default_factory=dict)
    takes_prompts: bool = False
    """Requests are prompts, and responses are counted in tokens; over HTTP they stream if the probe sets it."""
    path_input: str = ""
    """The input whose strings are paths of files, which are sent in their place."""


NO_SUCH: Final = "the target's kind is {kind}, which has no such thing"
_NOTHING_SENT: Final = "found {given}: the target's Triton is in this process, nothing is sent"
_ONE_FORM: Final = "found {given}: has no effect, since {kind} has no choice of forms; leave it out"

PLAIN: Final[Mapping[str, str]] = dict.fromkeys(
    (
        "streaming",
        "composing_models",
        "server_settings",
        "load.sequences",
        "load.streams",
        "input.shared_memory",
        "validation.reference_model",
    ),
    NO_SUCH,
)
"""Not supported by servers without Triton's extensions."""
_NO_TENSOR_PROTOCOL: Final[Mapping[str, str]] = {
    **PLAIN,
    "models": NO_SUCH,
    "input.parameters": NO_SUCH,
    "input.format": _ONE_FORM,
    "input.output_format": _ONE_FORM,
}

_PROMPTS: Final[Mapping[str, str]] = {
    **{key: problem for key, problem in _NO_TENSOR_PROTOCOL.items() if key not in ("streaming", "input.parameters")},
    "input.compression": NO_SUCH,
    "input.batch_size": "found {given}: a request is one prompt, and the server makes the batches; give 1",
    "input.shapes": "have no meaning: {kind} takes prompts, which input.prompt describes",
    "validation": "has no meaning: a language model's text is not compared",
}

KINDS: Final[dict[str, Kind]] = {
    TRITON: Kind(
        ports={"http": 8000, "https": 443, "grpc": 8001, "grpcs": 8001},
        metrics_page="8002/metrics",
    ),
    IN_PROCESS: Kind(
        requires=dict.fromkeys(("server_directory", "model_repository"), f"is required with kind: {IN_PROCESS}"),
        lacks={
            **dict.fromkeys(
                ("url", "headers", "tls", "discover", "resolve", "streams_per_connection"),
                "has no meaning with kind: {kind}",
            ),
            "models": NO_SUCH,
            "input.format": _NOTHING_SENT,
            "input.output_format": _NOTHING_SENT,
            "input.compression": _NOTHING_SENT,
            "input.shared_memory": _NOTHING_SENT,
            "load.pool": "has no meaning: the target's Triton is in this machine's process",
            "load.workers": "found {given}: each would load a Triton of its own; give 1",
            "server_settings": "have no meaning: the target's Triton is in this process, and does not trace",
        },
    ),
    "oip": Kind(
        ports={"http": 8080, "https": 443, "grpc": 8081, "grpcs": 8081},  # MLServer's and KServe's
        metrics_page="8082/metrics",
        own=frozenset({"input.datatypes"}),
        lacks={
            **PLAIN,
            "input.batch_size": "found {given}: the Open Inference Protocol has no batch dimension; give whole "
            "shapes in input.shapes, and batch_size 1",
        },
        families={
            # MLServer: a summary, in seconds, and counters.
            "model_infer_request_success_total": (Take("success"),),
            "model_infer_request_failure_total": (Take("fail"),),
            "model_infer_request_duration_sum": (Take("success", NS),),
            # KServe: histograms of the parts of a request, in seconds.
            "request_predict_seconds_count": (Take("success"),),
            "request_preprocess_seconds_sum": (Take("success", NS), Take("compute_input", NS)),
            "request_predict_seconds_sum": (Take("success", NS), Take("compute_infer", NS)),
            "request_postprocess_seconds_sum": (Take("success", NS), Take("compute_output", NS)),
        },
    ),
    "tfserving": Kind(
        ports={"http": 8501, "https": 443, "grpc": 8500, "grpcs": 8500},
        metrics_page="8501/monitoring/prometheus/metrics",
        own=frozenset({"input.datatypes", "input.signature"}),
        lacks=_NO_TENSOR_PROTOCOL,
        families={
            # A histogram, in microseconds.
            ":tensorflow:serving:request_latency_count": (Take("success"),),
            ":tensorflow:serving:request_latency_sum": (Take("success", US),),
        },
    ),
    "torchserve": Kind(
        ports={"http": 8080, "https": 443},
        metrics_page="8082/metrics",
        own=frozenset({"input.content_type", "management_url", "management_headers"}),
        lacks={
            **_NO_TENSOR_PROTOCOL,
            "input.compression": NO_SUCH,
            "input.batch_size": "found {given}: a request to TorchServe is one input, and the server makes the "
            "batches; give 1",
        },
        path_input="TORCHSERVE_INPUT",
        families={
            # Running sums, in microseconds.
            "ts_inference_requests_total": (Take("success"), Take("inferences")),
            "ts_inference_latency_microseconds": (Take("success", US),),
            "ts_queue_latency_microseconds": (Take("queue", US),),
        },
    ),
    "openai": Kind(
        ports={"http": 8000, "https": 443},
        metrics_page="8000/metrics",
        own=frozenset({"input.prompt", "load.session_concurrency"}),
        lacks=_PROMPTS,
        families={
            # vLLM: counters by the reason of the end, and histograms, in seconds.
            "vllm:request_success_total": (Take("success"),),
            "vllm:e2e_request_latency_seconds_sum": (Take("success", NS),),
            "vllm:request_queue_time_seconds_sum": (Take("queue", NS),),
            "vllm:request_prefill_time_seconds_sum": (Take("prefill", NS),),
            "vllm:request_decode_time_seconds_sum": (Take("decode", NS),),
            # NIM: the same without queue and parts.
            "request_success_total": (Take("success"),),
            "request_failure_total": (Take("fail"),),
            "e2e_request_latency_seconds_sum": (Take("success", NS),),
            # TensorRT-LLM's own server.
            "trtllm_request_success_total": (Take("success"),),
            "trtllm_e2e_request_latency_seconds_sum": (Take("success", NS),),
            "trtllm_request_queue_time_seconds_sum": (Take("queue", NS),),
        },
        takes_prompts=True,
    ),
    "triton_generate": Kind(
        ports={"http": 8000, "https": 443},
        metrics_page="8002/metrics",
        own=frozenset({"input.prompt"}),
        lacks={
            **_PROMPTS,
            "input.prompt.endpoint": "has no meaning: {kind} asks /v2/models/MODEL/generate, or generate_stream",
        },
        takes_prompts=True,
    ),
}
"""By the `kind` of a target; `services.SERVICES` has the factory of each kind's service. https needs a proxy where the
server has no TLS of its own, as with Triton's HTTP endpoint."""


def refusal(kind: str, key: str, given: str = "") -> str:
    """Why targets of this kind do not support this target or probe key, as an error text; `given` is the configured
    value. "" if they do."""
    if sentence := KINDS.get(kind, Kind()).lacks.get(key):
        return sentence.format(kind=kind, given=given)
    owners = [name for name, each in KINDS.items() if key in each.own]
    if owners and kind not in owners:
        return f"is for targets of kind {' and '.join(owners)}; this one's is {kind}"
    owners = [name for name, each in KINDS.items() if key in each.requires]
    if owners and kind not in owners:
        return f"has no meaning without kind: {' or '.join(owners)}"
    return ""
