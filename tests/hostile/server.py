"""One hostile server for every service kind and protocol: a healthy server's responses, each of which a behaviour
may replace. A behaviour is a function of the honest response; over gRPC it is given, and gives, a message.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from asyncio import StreamReader as Reader
from asyncio import StreamWriter as Writer
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import DataReceived, RequestReceived, StreamEnded
from h2.exceptions import ProtocolError as H2Error
from tritonclient.grpc import model_config_pb2, service_pb2

from exporter.services.tfserving import tfserving_pb2 as tf
from exporter.wire.grpc_messages import frame_message
from tests.transport.scripted import serving


@dataclass(frozen=True)
class Response:
    """What goes out: over HTTP status, headers and body; over gRPC a message, or with `grpc_status` a failure."""

    body: bytes = b""
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    grpc_status: int = 0
    grpc_message: str = ""
    cut: bool = False


Behaviour = Callable[[str, Response], Response]
"""Of the path, or the method, and the honest response."""

_META = {"name": "m", "versions": ["1"], "platform": "p"}
_TENSOR = {"datatype": "FP32", "shape": [4]}
_TF_SIGNATURE = {
    "serving_default": {
        "inputs": {"INPUT0": {"dtype": "DT_FLOAT", "tensor_shape": {"dim": [{"size": "4"}]}}},
        "outputs": {"OUTPUT0": {"dtype": "DT_FLOAT", "tensor_shape": {"dim": [{"size": "4"}]}}},
    }
}
HTTP: Mapping[str, Any] = {
    "/v2": {"name": "triton", "version": "2", "extensions": ["statistics"]},
    "/v2/health/live": None,
    "/v2/health/ready": None,
    "/v2/models/m": {**_META, "inputs": [{"name": "INPUT0", **_TENSOR}], "outputs": [{"name": "OUTPUT0", **_TENSOR}]},
    "/v2/models/m/ready": None,
    "/v2/models/m/config": {"name": "m", "max_batch_size": 0},
    "/v2/models/m/stats": {"model_stats": [{"name": "m", "version": "1", "inference_count": "1"}]},
    "/v2/models/m/infer": {"model_name": "m", "outputs": [{"name": "OUTPUT0", **_TENSOR, "data": [1, 2, 3, 4]}]},
    "/v2/repository/index": [{"name": "m", "version": "1", "state": "READY"}],
    "/health": None,
    "/v1/models": {"object": "list", "data": [{"id": "m", "object": "model", "owned_by": "o"}]},
    "/ping": {"status": "Healthy"},
    "/predictions/m": {"result": 1},
    "/models/m": [{"modelVersion": "1.0", "workers": [{"id": "9000", "status": "READY"}]}],
    "/v1/models/m": {"model_version_status": [{"version": "1", "state": "AVAILABLE"}]},
    "/v1/models/m/metadata": {
        "model_spec": {"version": "1"},
        "metadata": {"signature_def": {"signature_def": _TF_SIGNATURE}},
    },
    "/v1/models/m:predict": {"outputs": [1.0, 2.0, 3.0, 4.0]},
}


def _grpc() -> Mapping[str, Any]:
    tensor = {"datatype": "FP32", "shape": [4]}
    signature = tf.SignatureDefMap()
    from google.protobuf import json_format

    json_format.ParseDict({"signature_def": _TF_SIGNATURE}, signature)
    metadata = tf.GetModelMetadataResponse()
    metadata.model_spec.version.value = 1
    metadata.metadata["signature_def"].value = signature.SerializeToString()
    states = json_format.ParseDict(HTTP["/v1/models/m"], tf.GetModelStatusResponse())
    infer = service_pb2.ModelInferResponse(model_name="m", raw_output_contents=[bytes(16)])
    infer.outputs.add(name="OUTPUT0", **tensor)
    return {
        "ServerLive": service_pb2.ServerLiveResponse(live=True),
        "ServerReady": service_pb2.ServerReadyResponse(ready=True),
        "ModelReady": service_pb2.ModelReadyResponse(ready=True),
        "ServerMetadata": service_pb2.ServerMetadataResponse(name="triton", version="2", extensions=["statistics"]),
        "ModelMetadata": service_pb2.ModelMetadataResponse(
            name="m",
            versions=["1"],
            platform="p",
            inputs=[{"name": "INPUT0", **tensor}],
            outputs=[{"name": "OUTPUT0", **tensor}],
        ),
        "ModelConfig": service_pb2.ModelConfigResponse(config=model_config_pb2.ModelConfig(name="m")),
        "ModelStatistics": service_pb2.ModelStatisticsResponse(model_stats=[{"name": "m", "version": "1"}]),
        "RepositoryIndex": service_pb2.RepositoryIndexResponse(models=[{"name": "m", "state": "READY"}]),
        "ModelInfer": infer,
        "GetModelStatus": states,
        "GetModelMetadata": metadata,
        "Predict": tf.PredictResponse(),
    }


@dataclass
class HostileServer:
    """Honest, but for what `behaviour` makes of a response."""

    behaviour: Behaviour
    asked: list[str] = field(default_factory=list)

    @contextlib.asynccontextmanager
    async def serve(self, scheme: str) -> AsyncIterator[int]:
        """The port."""
        script = self._grpc if scheme == "grpc" else self._http
        async with serving(script) as port:
            yield port

    async def respond(self, path: str, honest: Response) -> Response:
        """What goes out over HTTP."""
        return self.behaviour(path, honest)

    async def _http(self, reader: Reader, writer: Writer) -> None:
        while True:
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
            path = head.split(" ")[1]
            lines = head.lower().split("\r\n")
            await reader.readexactly(next((int(line[16:]) for line in lines if line.startswith("content-length: ")), 0))
            self.asked.append(path)
            known = path in HTTP
            content = b"" if HTTP.get(path) is None else json.dumps(HTTP[path]).encode()
            response = await self.respond(path, Response(content, 200 if known else 404))
            headers = {"Content-Length": str(len(response.body)), **response.headers}
            fields = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
            writer.write(f"HTTP/1.1 {response.status} x\r\n{fields}\r\n".encode("latin-1"))
            for start in range(0, len(response.body), 1 << 20):
                writer.write(response.body[start : start + (1 << 20)])
                await writer.drain()
            if response.cut:
                return

    async def _grpc(self, reader: Reader, writer: Writer) -> None:
        h2 = H2Connection(H2Configuration(client_side=False))
        h2.initiate_connection()
        writer.write(h2.data_to_send())
        honest = _grpc()
        methods: dict[int, str] = {}
        waiting: dict[int, tuple[Response, memoryview]] = {}
        while data := await reader.read(65536):
            try:
                events = h2.receive_data(data)
            except H2Error:
                return
            for event in events:
                if isinstance(event, RequestReceived):
                    fields = {bytes(name): bytes(value) for name, value in event.headers or ()}
                    methods[event.stream_id or 0] = fields[b":path"].decode().rpartition("/")[2]
                elif isinstance(event, DataReceived):
                    h2.acknowledge_received_data(event.flow_controlled_length or 0, event.stream_id or 0)
                elif isinstance(event, StreamEnded):
                    self._response(h2, event.stream_id or 0, methods, honest, waiting)
            self._send(h2, waiting)
            writer.write(h2.data_to_send())
            with contextlib.suppress(ConnectionError):
                await writer.drain()

    def _response(self, h2: Any, stream: int, methods: Any, honest: Any, waiting: Any) -> None:
        method = methods[stream]
        self.asked.append(method)
        known = method in honest
        message = honest[method].SerializeToString() if known else b""
        response = self.behaviour(method, Response(message, grpc_status=0 if known else 12))
        if response.status != 200:
            h2.send_headers(stream, [(":status", str(response.status)), *response.headers.items()], end_stream=True)
            return
        head = [(":status", "200"), ("content-type", "application/grpc")]
        if response.grpc_status:
            text = response.grpc_message or "no"
            tail = [("grpc-status", str(response.grpc_status)), ("grpc-message", text)]
            h2.send_headers(stream, [*head, *tail], end_stream=True)
            return
        h2.send_headers(stream, head)
        waiting[stream] = (response, memoryview(frame_message(response.body)))

    def _send(self, h2: Any, waiting: Any) -> None:
        for stream, (response, rest) in list(waiting.items()):
            left = rest
            try:
                while left and (
                    space := min(h2.local_flow_control_window(stream), h2.max_outbound_frame_size, len(left))
                ):
                    h2.send_data(stream, bytes(left[:space]))
                    left = left[space:]
                if left:
                    waiting[stream] = (response, left)
                    continue
                h2.send_headers(stream, [("grpc-status", "0")], end_stream=True)
            except H2Error:  # it was given up
                pass
            del waiting[stream]


async def until(condition: Callable[[], bool]) -> None:
    """Waits."""
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.01)
