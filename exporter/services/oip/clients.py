"""Triton's questions, one face for both protocols: responses are protobuf messages, failures are PreflightErrors.

Requests and results are those of Triton's client library; what carries them is ours (`services.http_client` and
`services.grpc_client`), so that a question goes where the load goes, as the load does, and its response is bounded.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Iterator
from typing import Any, TypeVar

from google.protobuf import json_format
from google.protobuf.message import Message
from tritonclient.grpc import service_pb2
from tritonclient.utils import InferenceServerException

from exporter.core.bounds import CONTROL_BYTES
from exporter.core.errors import PreflightError
from exporter.core.outcome import Reason
from exporter.core.target import Target
from exporter.core.units import NS
from exporter.core.untrusted_text import clean_text
from exporter.services.base import NO_RESPONSE
from exporter.services.connectivity import check_connection
from exporter.services.grpc_client import GrpcClient
from exporter.services.http_client import HttpClient

_M = TypeVar("_M", bound=Message)


class OipClient:
    """One server through one of its endpoints. Connects when first used; after `close` it can be used again."""

    def __init__(self, target: Target, timeout_ns: int) -> None:
        self.target = target
        self._timeout_ns = timeout_ns
        self._clients: dict[int, Any] = {}

    async def check_connection(self) -> None:
        await check_connection(self.target)

    async def close(self) -> None:
        clients, self._clients = list(self._clients.values()), {}
        for client in clients:
            await client.close()

    # --- questions, each raising PreflightError ----------------------------------------------------------------------

    async def server_live(self) -> bool:
        return bool(await self._ask("is_server_live"))

    async def server_ready(self) -> bool:
        return bool(await self._ask("is_server_ready"))

    async def model_ready(self, model: str, version: str) -> bool:
        return bool(await self._ask("is_model_ready", model, version))

    async def server_metadata(self) -> service_pb2.ServerMetadataResponse:
        return self._message(await self._ask("get_server_metadata"), service_pb2.ServerMetadataResponse())

    async def model_metadata(self, model: str, version: str) -> service_pb2.ModelMetadataResponse:
        response = await self._ask("get_model_metadata", model, version)
        return self._message(response, service_pb2.ModelMetadataResponse())

    async def repository_index(self) -> service_pb2.RepositoryIndexResponse:
        response = await self._ask("get_model_repository_index")
        if not self.target.is_grpc:
            response = {"models": response}
        return self._message(response, service_pb2.RepositoryIndexResponse())

    # --- inside ------------------------------------------------------------------------------------------------------

    async def _ask(self, method: str, *arguments: Any, limited: bool = True, max_bytes: int = CONTROL_BYTES) -> Any:
        """Raises TimeoutError, too, unless the caller sets the limit. `max_bytes` is the most that a gRPC response may
        have."""
        async with asyncio.timeout(self._timeout_ns / NS if limited else None):
            client = self._clients.get(max_bytes)
            if client is None:
                client = self._clients[max_bytes] = self._make(max_bytes)
            call: Awaitable[Any] = getattr(client, method)(*arguments)
            return await call

    def _message(self, response: Any, empty: _M) -> _M:
        if self.target.is_grpc:
            return response  # type: ignore[no-any-return]
        with reading(self.target):
            json_format.ParseDict(response, empty, ignore_unknown_fields=True)
        return empty

    def _make(self, max_bytes: int) -> Any:
        return GrpcClient(self.target, max_bytes) if self.target.is_grpc else HttpClient(self.target)


@contextlib.contextmanager
def reading(target: Target) -> Iterator[None]:
    """What reads a response of the target's, and raises PreflightError for one that is of another shape."""
    try:
        yield
    except (json_format.ParseError, InferenceServerException, *NO_RESPONSE) as error:
        text = f"{target.url} sent JSON that is not Triton's: {clean_text(str(error))}"
        raise PreflightError(Reason.PROTOCOL, text) from error
