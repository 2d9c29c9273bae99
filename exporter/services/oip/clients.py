"""Triton's official clients, one face for HTTP and gRPC: answers are protobuf messages, failures are PreflightErrors.

Owns how a target's TLS options and headers reach `tritonclient`, and what its exceptions mean. Only the `.aio` clients
are used: the synchronous HTTP client hung for ever when made in one thread and used in another.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import ssl
from collections.abc import AsyncIterator, Awaitable
from typing import Any, TypeVar

import aiohttp
import tritonclient.grpc.aio
import tritonclient.http.aio
from google.protobuf import json_format
from google.protobuf.message import Message
from tritonclient.grpc import service_pb2
from tritonclient.utils import InferenceServerException

from exporter.core.errors import PreflightError, TransportError
from exporter.core.outcome import Reason
from exporter.core.target import Target
from exporter.core.units import NS
from exporter.services.connectivity import check_connection, transport_reason
from exporter.services.grpc_credentials import grpc_credentials
from exporter.transport.dial import reason_text
from exporter.transport.headers import read_headers
from exporter.transport.tls import client_context

_M = TypeVar("_M", bound=Message)

_MAX_GRPC_MESSAGE_BYTES = 2**31 - 1


class OipClient:
    """One server through one of its endpoints. Connects when first used; after `close` it can be used again."""

    def __init__(self, target: Target, timeout_ns: int) -> None:
        self.target = target
        self._timeout_ns = timeout_ns
        self._client: Any = None
        self._headers: dict[str, str] = {}
        self._making = asyncio.Lock()

    async def check_connection(self) -> None:
        await check_connection(self.target)

    async def close(self) -> None:
        client, self._client = self._client, None
        if client is not None:
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
        answer = await self._ask("get_model_metadata", model, version)
        return self._message(answer, service_pb2.ModelMetadataResponse())

    async def repository_index(self) -> service_pb2.RepositoryIndexResponse:
        answer = await self._ask("get_model_repository_index")
        if not self.target.is_grpc:
            answer = {"models": answer}
        return self._message(answer, service_pb2.RepositoryIndexResponse())

    # --- inside ------------------------------------------------------------------------------------------------------

    async def _ask(self, method: str, *arguments: Any, limited: bool = True) -> Any:
        """Raises TimeoutError, too, unless the caller sets the limit."""
        async with _failures_mapped(self.target), asyncio.timeout(self._timeout_ns / NS if limited else None):
            async with self._making:
                if self._client is None:
                    self._headers = self._read_headers()
                    self._client = await self._make()
            call: Awaitable[Any] = getattr(self._client, method)(*arguments, headers=self._headers)
            return await call

    def _read_headers(self) -> dict[str, str]:
        """The target's headers as they are now. The client knows only the address of a target that is settled on one;
        what that server reads is still its name."""
        headers = read_headers(self.target.headers)
        if self.target.is_grpc:
            return {name.lower(): value for name, value in headers}
        return {"Host": self.target.authority, **dict(headers)}

    def _message(self, answer: Any, empty: _M) -> _M:
        if self.target.is_grpc:
            return answer  # type: ignore[no-any-return]
        try:
            json_format.ParseDict(answer, empty, ignore_unknown_fields=True)
        except json_format.ParseError as error:
            text = f"{self.target.url} answered JSON that is not Triton's: {error}"
            raise PreflightError(Reason.PROTOCOL, text) from error
        return empty

    async def _make(self) -> Any:
        target = self.target
        if not target.is_grpc:
            return tritonclient.http.aio.InferenceServerClient(
                target.settled_authority + target.path,
                conn_timeout=None,  # it is of the whole call; `_ask` has its own
                ssl=target.is_tls,
                ssl_context=client_context(target, ("http/1.1",)) if target.is_tls else True,
            )
        credentials, options = await grpc_credentials(target)
        options += [
            ("grpc.max_send_message_length", _MAX_GRPC_MESSAGE_BYTES),
            ("grpc.max_receive_message_length", _MAX_GRPC_MESSAGE_BYTES),
            # A channel of its own: shared ones would bring their back-off after an earlier failure with them.
            ("grpc.use_local_subchannel_pool", 1),
        ]
        client = tritonclient.grpc.aio.InferenceServerClient
        return client(target.settled_authority, creds=credentials, channel_args=options)


@contextlib.asynccontextmanager
async def _failures_mapped(target: Target) -> AsyncIterator[None]:
    try:
        yield
    except TransportError as error:
        raise transport_reason(error) from error
    except InferenceServerException as error:
        raise _server_said(target, error) from error
    except aiohttp.ClientOSError as error:
        cause = error.__cause__ if isinstance(error.__cause__, OSError) else error
        reason = Reason.TLS if isinstance(cause, ssl.SSLError) else Reason.UNREACHABLE
        raise PreflightError(reason, f"{target.url}: {reason_text(cause)}") from error
    except TimeoutError:
        raise
    except (aiohttp.ClientError, ValueError, UnicodeDecodeError) as error:
        text = f"{target.url} does not answer as a Triton does: {error or 'it closed the connection'}"
        raise PreflightError(Reason.PROTOCOL, text) from error


_STATUS_REASONS = {
    "401": Reason.AUTH,
    "403": Reason.AUTH,
    "408": Reason.PREFLIGHT_TIMEOUT,
    "502": Reason.UNREACHABLE,
    "503": Reason.SERVER_NOT_READY,
    "504": Reason.PREFLIGHT_TIMEOUT,
    "StatusCode.UNAUTHENTICATED": Reason.AUTH,
    "StatusCode.PERMISSION_DENIED": Reason.AUTH,
    "StatusCode.UNAVAILABLE": Reason.UNREACHABLE,
    "StatusCode.DEADLINE_EXCEEDED": Reason.PREFLIGHT_TIMEOUT,
    "StatusCode.NOT_FOUND": Reason.MODEL_UNKNOWN,
}


_HTTP2_WORDS = re.compile(r"failed parsing http/2|http1\.x", re.IGNORECASE)
_TLS_WORDS = re.compile(r"ssl|tls|certificate", re.IGNORECASE)


def _server_said(target: Target, error: InferenceServerException) -> PreflightError:
    status = str(error.status() or "")
    reason = _STATUS_REASONS.get(status, Reason.PROTOCOL)
    if reason is Reason.UNREACHABLE and _HTTP2_WORDS.search(error.message()):
        reason = Reason.PROTOCOL
    elif reason is Reason.UNREACHABLE and target.is_tls and _TLS_WORDS.search(error.message()):
        reason = Reason.TLS
    status = status.removeprefix("StatusCode.")
    return PreflightError(reason, f"{target.url} said {status}: {error.message()}", status)
