"""The service kind `triton`: the Open Inference Protocol with Triton's extensions, by HTTP and by gRPC.

Owns what the extensions add: streams, sequences and shared memory. The requests are the protocol's (`services.oip`).
"""

from __future__ import annotations

from collections.abc import Sequence

from exporter.core.facts import ModelFacts
from exporter.core.probe import Probe
from exporter.core.target import Target
from exporter.services.base import Control, Placer, SharedRequests, Tensors
from exporter.services.oip.service import OipService
from exporter.transport.call import Channel, EncodedRequest, Listener, Response
from exporter.transport.grpc_stream import GrpcStreamChannel


class TritonService(OipService):
    """A `Service` (services.base)."""

    def control(self, target: Target, timeout_ns: int) -> Control:
        """The control plane, whatever the endpoint's protocol."""
        from exporter.services.triton.control import TritonControl

        return TritonControl(target, timeout_ns)

    def encode(self, probe: Probe, facts: ModelFacts, steps: Sequence[Tensors], sweep_id: str) -> list[EncodedRequest]:
        """As `OipService`, and fit for a stream where the probe has one."""
        requests = super().encode(probe, facts, steps, sweep_id)
        if probe.streaming:
            from exporter.services.triton.stream import streamed

            return [streamed(request) for request in requests]
        return requests

    async def check_shared_memory(self, probe: Probe) -> None:
        """See `services.triton.shared_memory`."""
        from exporter.services.triton.shared_memory import check

        await check(probe)

    async def share(
        self, probe: Probe, facts: ModelFacts, steps: Sequence[Tensors], sweep_id: str, places: int
    ) -> SharedRequests:
        """See `services.triton.shared_requests`."""
        from exporter.services.triton.shared_requests import share

        return await share(self.encode, probe, facts, steps, sweep_id, places=places)

    def placer(self, target: Target, requests: Sequence[EncodedRequest]) -> Placer:
        """See `services.triton.sequence`."""
        from exporter.services.triton.sequence import GrpcPlacer, HttpPlacer

        return GrpcPlacer(requests) if target.is_grpc else HttpPlacer(requests)

    def channel(
        self, target: Target, listener: Listener, *, streaming: bool = False, keep_responses: bool = False
    ) -> Channel:
        """A channel of the endpoint's protocol; streaming is gRPC's alone."""
        if streaming:
            from exporter.services.triton.stream import PROTOCOL

            capacity = target.streams_per_connection
            return GrpcStreamChannel(target, listener, capacity, PROTOCOL, keep_responses=keep_responses)
        return super().channel(target, listener, keep_responses=keep_responses)

    def decode_response(self, facts: ModelFacts, response: Response) -> list[Tensors]:
        """The outputs of each message, also of a stream's. Raises ProtocolError."""
        if response.streamed:
            from exporter.services.oip.responses import decode_response
            from exporter.services.triton.stream import infer_response

            return decode_response(response, infer_response)
        return super().decode_response(facts, response)
