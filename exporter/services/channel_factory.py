"""Which channel an endpoint takes: HTTP/1.1 or gRPC, for the service kinds that speak both."""

from __future__ import annotations

from exporter.core.target import Target
from exporter.transport.call import Channel, Listener
from exporter.transport.grpc_channel import GrpcChannel
from exporter.transport.http_channel import HttpChannel, Judge

INFER_METHOD = "/inference.GRPCInferenceService/ModelInfer"
"""The Open Inference Protocol's unary call."""


def make_channel(
    target: Target,
    listener: Listener,
    *,
    keep_responses: bool = False,
    method: str = INFER_METHOD,
    judge: Judge | None = None,
) -> Channel:
    """A channel of the endpoint's protocol, not opened yet; `method` is what gRPC calls. With a `judge` of HTTP's
    responses, one over gRPC must not be empty."""
    if target.is_grpc:
        capacity = target.streams_per_connection
        takes_empty = judge is None
        return GrpcChannel(
            target, listener, capacity, method=method, keep_responses=keep_responses, takes_empty=takes_empty
        )
    return HttpChannel(target, listener, keep_body=keep_responses, judge=judge)


def connections(target: Target, in_flight: int) -> int:
    """How many such channels carry `in_flight` calls: over HTTP/1.1 one for each."""
    streams = target.streams_per_connection if target.is_grpc else 1
    return max(-(-in_flight // streams), 1)
