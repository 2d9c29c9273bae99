"""The service kind `oip`: any server of the Open Inference Protocol (v2), by HTTP and by gRPC: MLServer, KServe, …

Nothing of Triton's extensions is assumed, and numbers in a response may be in `contents` where Triton sends them raw.
"""

from __future__ import annotations

from collections.abc import Sequence

from exporter.core.facts import ModelFacts
from exporter.core.probe import Probe
from exporter.core.target import Target
from exporter.services.base import Control, Tensors
from exporter.services.channel_factory import make_channel
from exporter.services.encoding import request_ids
from exporter.services.inference_body import no_inference
from exporter.services.oip.requests import encode_grpc, encode_http, encode_json
from exporter.services.without_extensions import PlainService
from exporter.transport.call import Channel, EncodedRequest, Listener, Response


class OipService(PlainService):
    """A `Service` (services.base)."""

    def control(self, target: Target, timeout_ns: int) -> Control:
        """The control plane, whatever the endpoint's protocol."""
        from exporter.services.oip.control import OipControl

        return OipControl(target, timeout_ns)

    def encode(self, probe: Probe, facts: ModelFacts, steps: Sequence[Tensors], sweep_id: str) -> list[EncodedRequest]:
        """One request per step; over HTTP as JSON where the server takes no binary tensors. Headers are read now, so a
        token that was changed is in use from the next level on. Raises InputError, or PreflightError if a header's
        value cannot be read."""
        over_http = encode_http if facts.binary_tensors else encode_json
        encode = encode_grpc if probe.target.is_grpc else over_http
        return [
            encode(probe, facts, tensors, sweep_id, request_id)
            for tensors, request_id in zip(steps, request_ids(sweep_id), strict=False)
        ]

    def channel(
        self, target: Target, listener: Listener, *, streaming: bool = False, keep_responses: bool = False
    ) -> Channel:
        """A channel of the endpoint's protocol; the protocol has no streams."""
        return make_channel(target, listener, keep_responses=keep_responses, judge=no_inference)

    def decode_response(self, facts: ModelFacts, response: Response) -> list[Tensors]:
        """The outputs of each message, raw or not. Raises ProtocolError."""
        from exporter.services.oip.responses import decode_response

        return decode_response(response)
