"""The service kind `tfserving`: TensorFlow Serving's Predict, by gRPC and by REST.

Owns what its requests look like. All of it is encoded before a level starts; the protocol is our own part of theirs
(tfserving.proto), so that TensorFlow is not needed.
"""

from __future__ import annotations

import json
from collections.abc import Sequence

from exporter.core.errors import ProtocolError
from exporter.core.facts import ModelFacts
from exporter.core.probe import Probe
from exporter.core.target import Target
from exporter.core.untrusted_text import clean_text, load_json
from exporter.services.base import NO_RESPONSE, Control, Tensors
from exporter.services.channel_factory import make_channel
from exporter.services.encoding import checked, grpc_request, http_request
from exporter.services.inference_body import no_inference
from exporter.services.without_extensions import PlainService
from exporter.transport.call import Channel, EncodedRequest, Listener, Response
from exporter.wire.http1 import decoded_body

PREDICT = "/tensorflow.serving.PredictionService/Predict"


class TfServingService(PlainService):
    """A `Service` (services.base)."""

    def control(self, target: Target, timeout_ns: int) -> Control:
        from exporter.services.tfserving.control import TfServingControl

        return TfServingControl(target, timeout_ns)

    def encode(self, probe: Probe, facts: ModelFacts, steps: Sequence[Tensors], sweep_id: str) -> list[EncodedRequest]:
        """One request a step. Raises InputError, or PreflightError if a header's value cannot be read."""
        encode = _encode_grpc if probe.target.is_grpc else _encode_http
        return [encode(probe, facts, tensors, sweep_id) for tensors in steps]

    def channel(
        self, target: Target, listener: Listener, *, streaming: bool = False, keep_responses: bool = False
    ) -> Channel:
        return make_channel(target, listener, keep_responses=keep_responses, method=PREDICT, judge=no_inference)

    def decode_response(self, facts: ModelFacts, response: Response) -> list[Tensors]:
        """The outputs of a response. Raises ProtocolError."""
        from google.protobuf.message import DecodeError

        read = _from_http if response.head else _from_grpc
        try:
            return [read(facts, response)]
        except (DecodeError, *NO_RESPONSE) as error:
            raise ProtocolError(f"the response is not a prediction: {clean_text(str(error))}") from error


def _encode_grpc(probe: Probe, facts: ModelFacts, tensors: Tensors, sweep_id: str) -> EncodedRequest:
    from exporter.services.tfserving import tfserving_pb2 as pb
    from exporter.services.tfserving.messages import model_spec, write_tensor

    request = pb.PredictRequest(model_spec=model_spec(probe.model, probe.version, probe.input.signature))
    for spec, tensor in checked(facts, tensors):
        write_tensor(request.inputs[spec.name], spec, tensor)
    return grpc_request(probe, sweep_id, request)


def _encode_http(probe: Probe, facts: ModelFacts, tensors: Tensors, sweep_id: str) -> EncodedRequest:
    from exporter.services.tfserving.control import model_path
    from exporter.services.tfserving.messages import write_json

    inputs = {spec.name: write_json(spec, tensor) for spec, tensor in checked(facts, tensors)}
    content = json.dumps({"signature_name": probe.input.signature, "inputs": inputs}).encode()
    path = f"{model_path(probe.model, probe.version)}:predict"
    return http_request(probe, sweep_id, path, [("Content-Type", "application/json")], content)


def _from_grpc(_facts: ModelFacts, response: Response) -> Tensors:
    from exporter.services.tfserving import tfserving_pb2 as pb
    from exporter.services.tfserving.messages import read_tensor

    (message,) = response.messages
    outputs = pb.PredictResponse.FromString(bytes(message)).outputs
    return {name: read_tensor(outputs[name]) for name in sorted(outputs)}


def _from_http(facts: ModelFacts, response: Response) -> Tensors:
    from exporter.services.tfserving.messages import read_json

    (message,) = response.messages
    return read_json(load_json(decoded_body(response.head, message))["outputs"], facts.outputs)
