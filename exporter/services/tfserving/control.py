"""TensorFlow Serving's control plane, over HTTP and gRPC: its models' states and signatures. Knows nothing of load."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Sequence
from typing import Any, TypeVar
from urllib.parse import quote

import grpc
from google.protobuf import json_format
from google.protobuf.message import DecodeError, Message

from exporter.core.errors import PreflightError, TransportError
from exporter.core.facts import ModelFacts
from exporter.core.outcome import Reason
from exporter.core.probe import DEFAULT_INPUT, InputOptions
from exporter.core.target import Target
from exporter.core.units import NS
from exporter.services.connectivity import check_connection, no_answer, transport_reason
from exporter.services.grpc_credentials import grpc_credentials
from exporter.services.http_pages import Page, ask
from exporter.services.tfserving import tfserving_pb2 as pb
from exporter.services.tfserving.messages import Told, available, model_facts, model_spec
from exporter.services.without_extensions import PlainControl
from exporter.transport.headers import read_headers

_M = TypeVar("_M", bound=Message)

_STATUS = "/tensorflow.serving.ModelService/GetModelStatus"
_METADATA = "/tensorflow.serving.PredictionService/GetModelMetadata"
_SIGNATURES = "signature_def"

_REASONS = {
    grpc.StatusCode.UNAUTHENTICATED: Reason.AUTH,
    grpc.StatusCode.PERMISSION_DENIED: Reason.AUTH,
    grpc.StatusCode.UNAVAILABLE: Reason.UNREACHABLE,
    grpc.StatusCode.DEADLINE_EXCEEDED: Reason.PREFLIGHT_TIMEOUT,
    grpc.StatusCode.NOT_FOUND: Reason.MODEL_UNKNOWN,
}


class TfServingControl(PlainControl):
    """A `Control` (services.base)."""

    async def preflight(
        self, model: str, version: str, composing: Sequence[str] = (), options: InputOptions = DEFAULT_INPUT
    ) -> ModelFacts:
        """What the server tells of the model, and `options` of what it does not. Raises PreflightError."""
        tell = self._over_grpc if self._target.is_grpc else self._over_http
        try:
            async with asyncio.timeout(self._timeout_ns / NS):
                told = await tell(model, version)
        except TimeoutError as error:
            raise no_answer(self._target.url, self._timeout_ns) from error
        return model_facts(model, version, told, options, self._page.there)

    # --- gRPC --------------------------------------------------------------------------------------------------------

    async def _over_grpc(self, model: str, version: str) -> Told:
        target = self._target
        await check_connection(target)
        try:
            credentials, options = await grpc_credentials(target)
            metadata = [(name.lower(), value) for name, value in read_headers(target.headers)]
        except TransportError as error:
            raise transport_reason(error, target.url) from error
        options.append(("grpc.use_local_subchannel_pool", 1))
        make = grpc.aio.secure_channel if credentials else grpc.aio.insecure_channel
        arguments = (credentials,) if credentials else ()
        async with make(target.settled_authority, *arguments, options=options) as channel:

            async def call(method: str, request: Message, answer: Callable[[bytes], _M]) -> _M | None:
                unary = channel.unary_unary(
                    method, request_serializer=type(request).SerializeToString, response_deserializer=answer
                )
                try:
                    return await unary(request, metadata=metadata)  # type: ignore[no-any-return]
                except grpc.aio.AioRpcError as error:
                    if error.code() is grpc.StatusCode.UNIMPLEMENTED:
                        return None
                    raise _refusal(target, error) from error

            spec = model_spec(model, version)
            asked_status = pb.GetModelStatusRequest(model_spec=spec)
            statuses = await call(_STATUS, asked_status, pb.GetModelStatusResponse.FromString)
            versions = available(statuses, model, target.url) if statuses is not None else ()
            asked = pb.GetModelMetadataRequest(model_spec=spec, metadata_field=[_SIGNATURES])
            answer = await call(_METADATA, asked, pb.GetModelMetadataResponse.FromString)
        if answer is None:
            return Told(versions)
        version = str(answer.model_spec.version.value) if answer.model_spec.HasField("version") else ""
        try:
            return Told(versions, pb.SignatureDefMap.FromString(answer.metadata[_SIGNATURES].value), version)
        except DecodeError as error:
            raise PreflightError(Reason.PROTOCOL, f"{target.url}: its signatures cannot be read: {error}") from error

    # --- HTTP --------------------------------------------------------------------------------------------------------

    async def _over_http(self, model: str, version: str) -> Told:
        path = model_path(model, version)
        statuses = _message(await self._page_of(path), pb.GetModelStatusResponse())
        versions = available(statuses, model, self._target.url)
        page = await self._page_of(f"{path}/metadata")
        with contextlib.suppress(KeyError, TypeError):
            signatures = _message(page, pb.SignatureDefMap(), lambda told: told["metadata"][_SIGNATURES])
            spec = _message(page, pb.ModelSpec(), lambda told: told.get("model_spec", {}))
            return Told(versions, signatures, str(spec.version.value) if spec.HasField("version") else "")
        raise PreflightError(Reason.PROTOCOL, f"{page.url} answered without signatures")

    async def _page_of(self, path: str) -> Page:
        page = await ask(self._target, path, self._timeout_ns)
        if not page.is_ok:
            raise page.refusal()
        return page


def model_path(model: str, version: str) -> str:
    """The path of a model, below the endpoint's prefix; a version that is no number is a label of one."""
    at = f"/{'versions' if version.isdigit() else 'labels'}/{quote(version, safe='')}" if version else ""
    return f"/v1/models/{quote(model, safe='')}{at}"


def _message(page: Page, empty: _M, part: Callable[[Any], Any] = lambda told: told) -> _M:
    """A page's JSON, or a part of it, as a message."""
    try:
        json_format.ParseDict(part(page.json()), empty, ignore_unknown_fields=True)
    except json_format.ParseError as error:
        text = f"{page.url} answered JSON that is not TensorFlow Serving's: {error}"
        raise PreflightError(Reason.PROTOCOL, text) from error
    return empty


def _refusal(target: Target, error: grpc.aio.AioRpcError) -> PreflightError:
    code = error.code()
    reason = _REASONS.get(code, Reason.PROTOCOL)
    return PreflightError(reason, f"{target.url} said {code.name}: {error.details()}", code.name)
