"""Which channel an endpoint takes: HTTP/1.1 or gRPC, for the service kinds that speak both."""

from __future__ import annotations

from exporter.core.target import Target
from exporter.transport.call import Channel, Listener
from exporter.transport.grpc_channel import GrpcChannel
from exporter.transport.http_channel import HttpChannel

INFER_METHOD = "/inference.GRPCInferenceService/ModelInfer"
"""The Open Inference Protocol's unary call."""


def make_channel(
    target: Target, listener: Listener, *, keep_responses: bool = False, method: str = INFER_METHOD
) -> Channel:
    """A channel of the endpoint's protocol, not opened yet; `method` is what gRPC calls."""
    if target.is_grpc:
        capacity = target.streams_per_connection
        return GrpcChannel(target, listener, capacity, method=method, keep_responses=keep_responses)
    return HttpChannel(target, listener, keep_body=keep_responses)


def connections(target: Target, in_flight: int) -> int:
    """How many such channels carry `in_flight` calls: over HTTP/1.1 one for each."""
    streams = target.streams_per_connection if target.is_grpc else 1
    return max(-(-in_flight // streams), 1)
