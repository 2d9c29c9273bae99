"""What Triton's messages mean: metadata, configuration and statistics as our own types. Pure.

HTTP and gRPC both come here as protobuf messages, so that they give the same facts and the same configuration hash.
"""

from __future__ import annotations

import hashlib
import json
from typing import Any

from google.protobuf import json_format
from tritonclient.grpc import model_config_pb2, service_pb2

from exporter.core.facts import BatchStat, DurationStat, ModelFacts, ModelKey, ModelStatistics, TensorSpec
from exporter.services.oip.control import latest_version

_HASH_LENGTH = 12
_STATISTICS_EXTENSION = "statistics"


def config_hash(config: model_config_pb2.ModelConfig) -> str:
    """The first digits of the SHA-256 of the configuration as canonical JSON."""
    fields = json_format.MessageToDict(config, preserving_proto_field_name=True)
    text = json.dumps(fields, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:_HASH_LENGTH]


def model_facts(
    server: service_pb2.ServerMetadataResponse,
    metadata: service_pb2.ModelMetadataResponse,
    config: model_config_pb2.ModelConfig,
    asked_version: str,
) -> ModelFacts:
    """The facts. Shapes lose their batch dimension as in perf_analyzer (reference section 6.1): where max_batch_size is
    above 0, the first one."""
    batched = config.max_batch_size > 0
    optional = {tensor.name for tensor in config.input if tensor.optional}
    shape_tensors = {tensor.name for tensor in (*config.input, *config.output) if tensor.is_shape_tensor}

    def spec(tensor: Any) -> TensorSpec:
        shape = tuple(tensor.shape)[1 if batched else 0 :]
        name = tensor.name
        return TensorSpec(name, tensor.datatype, shape, name in optional, name in shape_tensors)

    return ModelFacts(
        name=metadata.name,
        version=asked_version or latest_version(metadata.versions),
        platform=metadata.platform,
        backend=config.backend,
        max_batch_size=config.max_batch_size,
        inputs=tuple(map(spec, metadata.inputs)),
        outputs=tuple(map(spec, metadata.outputs)),
        decoupled=config.model_transaction_policy.decoupled,
        sequence=config.HasField("sequence_batching"),
        ensemble=config.HasField("ensemble_scheduling"),
        response_cache=config.response_cache.enable,
        has_statistics=_STATISTICS_EXTENSION in server.extensions,
        config_hash=config_hash(config),
        server_name=server.name,
        server_version=server.version,
        asked_version=asked_version,
        priority_levels=config.dynamic_batching.priority_levels,
        dynamic_batching=config.HasField("dynamic_batching") and config.max_batch_size > 1,
    )


def ensemble_steps(config: model_config_pb2.ModelConfig) -> tuple[ModelKey, ...]:
    """The models of an ensemble's steps; none for another model. Version -1 is the server's choice."""
    return tuple(
        ModelKey(step.model_name, str(step.model_version) if step.model_version > 0 else "")
        for step in config.ensemble_scheduling.step
    )


def text_id_control(config: model_config_pb2.ModelConfig) -> str:
    """The control input by which the model gets its sequences' ids as text; "" where they are numbers, or none."""
    kind = model_config_pb2.ModelSequenceBatching.Control.CONTROL_SEQUENCE_CORRID
    for tensor in config.sequence_batching.control_input:
        for control in tensor.control:
            if control.kind == kind and control.data_type == model_config_pb2.TYPE_STRING:
                return str(tensor.name)
    return ""


def model_statistics(message: service_pb2.ModelStatistics) -> ModelStatistics:
    """One version's cumulative statistics."""
    stats = message.inference_stats
    return ModelStatistics(
        name=message.name,
        version=message.version,
        inference_count=message.inference_count,
        execution_count=message.execution_count,
        success=_duration(stats.success),
        fail=_duration(stats.fail),
        queue=_duration(stats.queue),
        compute_input=_duration(stats.compute_input),
        compute_infer=_duration(stats.compute_infer),
        compute_output=_duration(stats.compute_output),
        cache_hit=_duration(stats.cache_hit),
        cache_miss=_duration(stats.cache_miss),
        batches=tuple(
            BatchStat(batch.batch_size, batch.compute_infer.count, batch.compute_infer.ns)
            for batch in message.batch_stats
        ),
    )


def _duration(message: service_pb2.StatisticDuration) -> DurationStat:
    return DurationStat(message.count, message.ns)
