"""Triton's stream of inferences (ModelStreamInfer): what a request must ask for, and what a response means."""

from __future__ import annotations

from typing import Any

from tritonclient.grpc import service_pb2

from exporter.core.outcome import Outcome
from exporter.services.triton.sequence import append_parameters
from exporter.transport.call import EncodedRequest
from exporter.transport.grpc_link import EMPTY
from exporter.transport.grpc_stream import StreamMessage, StreamProtocol

_FINAL = "triton_final_response"
_QUEUE_FULL = "Exceeds maximum queue size"


def streamed(request: EncodedRequest) -> EncodedRequest:
    """The request, asking for a final response even if it has no content: otherwise the end of a
    decoupled model is done. Raises InputError if the request is compressed."""
    return append_parameters(request, triton_enable_empty_final_response=True)


def decode_response(message: bytes | bytearray) -> StreamMessage:
    """One message of the stream. Triton's are never empty: a final one without content has parameters.

    A server that does not know of final responses sends one response to each request.
    """
    if not message:
        return StreamMessage(has_content=False, is_final=True, outcome=Outcome.PROTOCOL_ERROR, text=EMPTY)
    try:
        response = service_pb2.ModelStreamInferResponse.FromString(bytes(message))
    except Exception:  # protobuf's DecodeError is of another class in each of its implementations
        return _failed("a message that is not Triton's")
    inner = response.infer_response
    parameters = inner.parameters
    # An error, too, may have its final marker apart from it. One without a word of it never reached the model.
    is_final = _FINAL not in parameters or parameters[_FINAL].bool_param
    if response.error_message:
        return _failed(response.error_message, is_final=is_final)
    return StreamMessage(has_content=not is_final or len(inner.outputs) > 0, is_final=is_final)


def infer_response(message: bytes) -> Any:
    """The response in a message of the stream. Raises DecodeError."""
    return service_pb2.ModelStreamInferResponse.FromString(message).infer_response


def _failed(text: str, *, is_final: bool = True) -> StreamMessage:
    """On a stream an error is a text, without a status: its cause can seldom be known. (The header
    `triton_grpc_error` asks for a status, but release 2.51 does not heed it where a request is refused.)"""
    outcome = Outcome.OVERLOAD if _QUEUE_FULL in text else Outcome.SERVER_ERROR
    return StreamMessage(has_content=False, is_final=is_final, outcome=outcome, text=text)


PROTOCOL = StreamProtocol("/inference.GRPCInferenceService/ModelStreamInfer", decode_response)
