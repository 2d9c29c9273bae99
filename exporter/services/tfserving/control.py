"""TensorFlow Serving's control plane, over HTTP and gRPC: its models' states and signatures. Knows nothing of load."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Sequence
from typing import Any, TypeVar
from urllib.parse import quote

from google.protobuf import json_format
from google.protobuf.message import DecodeError, Message

from exporter.core.errors import PreflightError
from exporter.core.facts import ModelFacts
from exporter.core.outcome import Reason
from exporter.core.probe import DEFAULT_INPUT, InputOptions
from exporter.core.units import NS
from exporter.core.untrusted_text import clean_text
from exporter.services.connectivity import check_connection, no_response
from exporter.services.grpc_calls import GrpcCalls
from exporter.services.http_pages import Page, ask
from exporter.services.tfserving import tfserving_pb2 as pb
from exporter.services.tfserving.messages import Reported, available, model_facts, model_spec
from exporter.services.without_extensions import PlainControl
from exporter.wire.grpc import Code

_M = TypeVar("_M", bound=Message)

_STATUS = "/tensorflow.serving.ModelService/GetModelStatus"
_METADATA = "/tensorflow.serving.PredictionService/GetModelMetadata"
_SIGNATURES = "signature_def"


class TfServingControl(PlainControl):
    """A `Control` (services.base)."""

    async def preflight(
        self, model: str, version: str, composing: Sequence[str] = (), options: InputOptions = DEFAULT_INPUT
    ) -> ModelFacts:
        """The server's description of the model, completed by `options`. Raises PreflightError."""
        read = self._over_grpc if self._target.is_grpc else self._over_http
        try:
            async with asyncio.timeout(self._timeout_ns / NS):
                reported = await read(model, version)
        except TimeoutError as error:
            raise await no_response(self._target, self._timeout_ns) from error
        return model_facts(model, version, reported, options, self._page.there)

    async def served_version(self, model: str) -> str:
        """By the model's status and metadata. Raises PreflightError."""
        read = self._over_grpc if self._target.is_grpc else self._over_http
        return (await read(model, "")).served_version("")

    # --- gRPC --------------------------------------------------------------------------------------------------------

    async def _over_grpc(self, model: str, version: str) -> Reported:
        target = self._target
        await check_connection(target)
        calls = GrpcCalls(target)

        async def call(method: str, request: Message, response: type[_M]) -> _M | None:
            try:
                return await calls.call(method, request, response)
            except PreflightError as error:
                if error.status == Code.UNIMPLEMENTED.name:
                    return None
                raise

        try:
            spec = model_spec(model, version)
            statuses = await call(_STATUS, pb.GetModelStatusRequest(model_spec=spec), pb.GetModelStatusResponse)
            versions = available(statuses, model, target.url) if statuses is not None else ()
            asked = pb.GetModelMetadataRequest(model_spec=spec, metadata_field=[_SIGNATURES])
            response = await call(_METADATA, asked, pb.GetModelMetadataResponse)
        finally:
            await calls.close()
        if response is None:
            return Reported(versions)
        version = str(response.model_spec.version.value) if response.model_spec.HasField("version") else ""
        try:
            return Reported(versions, pb.SignatureDefMap.FromString(response.metadata[_SIGNATURES].value), version)
        except DecodeError as error:
            raise PreflightError(Reason.PROTOCOL, f"{target.url}: its signatures cannot be read: {error}") from error

    # --- HTTP --------------------------------------------------------------------------------------------------------

    async def _over_http(self, model: str, version: str) -> Reported:
        path = model_path(model, version)
        statuses = _message(await self._page_of(path), pb.GetModelStatusResponse())
        versions = available(statuses, model, self._target.url)
        page = await self._page_of(f"{path}/metadata")
        with contextlib.suppress(KeyError, TypeError):
            signatures = _message(page, pb.SignatureDefMap(), lambda reported: reported["metadata"][_SIGNATURES])
            spec = _message(page, pb.ModelSpec(), lambda reported: reported.get("model_spec", {}))
            return Reported(versions, signatures, str(spec.version.value) if spec.HasField("version") else "")
        raise PreflightError(Reason.PROTOCOL, f"{page.url} sent no signatures")

    async def _page_of(self, path: str) -> Page:
        page = await ask(self._target, path, self._timeout_ns)
        if not page.is_ok:
            raise page.refusal()
        return page


def model_path(model: str, version: str) -> str:
    """The path of a model, below the endpoint's prefix; a version that is no number is a label of one."""
    at = f"/{'versions' if version.isdigit() else 'labels'}/{quote(version, safe='')}" if version else ""
    return f"/v1/models/{quote(model, safe='')}{at}"


def _message(page: Page, empty: _M, part: Callable[[Any], Any] = lambda reported: reported) -> _M:
    """A page's JSON, or a part of it, as a message."""
    try:
        json_format.ParseDict(part(page.json()), empty, ignore_unknown_fields=True)
    except (json_format.ParseError, TypeError, AttributeError, ValueError, OverflowError) as error:
        text = f"{page.url} sent JSON that is not TensorFlow Serving's: {clean_text(str(error))}"
        raise PreflightError(Reason.PROTOCOL, text) from error
    return empty
