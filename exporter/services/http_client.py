"""Triton's HTTP client as far as it is needed: the methods of `tritonclient.http.aio`, by `services.http_pages`.

That client's own transport follows redirects, with the target's headers, reads responses of any size, and does with
proxies and passwords those of the environment. Requests and results are still made and read by its library.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import quote

import tritonclient.http

from exporter.core.bounds import CONTROL_BYTES, HTTP_BYTES
from exporter.core.outcome import Reason
from exporter.core.target import Target
from exporter.services.http_pages import Page, PageClient

_REASONS = {
    401: Reason.AUTH,
    403: Reason.AUTH,
    408: Reason.PREFLIGHT_TIMEOUT,
    502: Reason.UNREACHABLE,
    503: Reason.SERVER_NOT_READY,
    504: Reason.PREFLIGHT_TIMEOUT,
}


_PATH_CHARACTERS = "!$&'()*+,;=:@"
"""What a segment of a path may hold beside letters, digits and -._~ (RFC 3986, section 3.3)."""


class HttpClient:
    """One server. Each method raises PreflightError. The headers are the target's own."""

    def __init__(self, target: Target) -> None:
        self._pages = PageClient(target)
        self._kind = target.kind

    async def close(self) -> None:
        await self._pages.close()

    async def is_server_live(self) -> bool:
        return await self._is_ok("/v2/health/live")

    async def is_server_ready(self) -> bool:
        return await self._is_ok("/v2/health/ready")

    async def is_model_ready(self, model: str, version: str) -> bool:
        return await self._is_ok(f"{self._path(model, version)}/ready")

    async def get_server_metadata(self) -> Any:
        return await self._get("/v2")

    async def get_model_metadata(self, model: str, version: str) -> Any:
        return await self._get(self._path(model, version))

    async def get_model_config(self, model: str, version: str) -> Any:
        return await self._get(f"{self._path(model, version)}/config")

    async def get_inference_statistics(self, model: str, version: str) -> Any:
        return await self._get(f"{self._path(model, version)}/stats")

    async def get_model_repository_index(self) -> Any:
        return (await self._post("/v2/repository/index", None)).json()

    async def get_trace_settings(self, model: str) -> Any:
        return await self._get(f"{self._of_model(model)}/trace/setting")

    async def update_trace_settings(self, model: str, settings: Mapping[str, Any]) -> None:
        await self._post(f"{self._of_model(model)}/trace/setting", settings)

    async def get_system_shared_memory_status(self) -> Any:
        return await self._get("/v2/systemsharedmemory/status")

    async def get_cuda_shared_memory_status(self) -> Any:
        return await self._get("/v2/cudasharedmemory/status")

    async def register_system_shared_memory(self, name: str, key: str, size: int) -> None:
        content = {"key": key, "offset": 0, "byte_size": size}
        await self._post(f"/v2/systemsharedmemory/region/{quote(name, safe='')}/register", content)

    async def register_cuda_shared_memory(self, name: str, raw_handle: str, device: int, size: int) -> None:
        content = {"raw_handle": {"b64": raw_handle}, "device_id": device, "byte_size": size}
        await self._post(f"/v2/cudasharedmemory/region/{quote(name, safe='')}/register", content)

    async def unregister_system_shared_memory(self, name: str) -> None:
        await self._post(f"/v2/systemsharedmemory/region/{quote(name, safe='')}/unregister", None)

    async def unregister_cuda_shared_memory(self, name: str) -> None:
        await self._post(f"/v2/cudasharedmemory/region/{quote(name, safe='')}/unregister", None)

    async def infer(self, model: str, inputs: Sequence[Any], version: str) -> Any:
        """One request's result. ValueError and the like where the response is none."""
        body, json_length = tritonclient.http.InferenceServerClient.generate_request_body(inputs)
        headers = [("Content-Type", "application/json" if json_length is None else "application/octet-stream")]
        if json_length is not None:
            headers.append(("Inference-Header-Content-Length", str(json_length)))
        page = await self._checked(f"{self._path(model, version)}/infer", "POST", bytes(body), headers, HTTP_BYTES)
        length = page.header("inference-header-content-length")
        header_length = int(length) if length else None
        return tritonclient.http.InferResult.from_response_body(page.body, header_length=header_length)

    # --- inside ------------------------------------------------------------------------------------------------------

    def _path(self, model: str, version: str) -> str:
        return model_path(self._kind, model, version)

    def _of_model(self, model: str) -> str:
        """The path of settings that a model and the server have."""
        return self._path(model, "") if model else "/v2"

    async def _is_ok(self, path: str) -> bool:
        """A redirect is neither: another server would be asked."""
        page = await self._pages.ask(path)
        if 300 <= page.status < 400:
            raise page.refusal(_REASONS)
        return page.status == 200

    async def _get(self, path: str) -> Any:
        return (await self._checked(path)).json()

    async def _post(self, path: str, content: Mapping[str, Any] | None) -> Page:
        return await self._checked(path, "POST", b"" if content is None else json.dumps(content).encode())

    async def _checked(
        self,
        path: str,
        method: str = "GET",
        body: bytes = b"",
        headers: Sequence[tuple[str, str]] = (),
        max_bytes: int = CONTROL_BYTES,
    ) -> Page:
        page = await self._pages.ask(path, method, body, headers, max_bytes)
        if page.status != 200:
            raise page.refusal(_REASONS)
        return page


def model_path(kind: str, model: str, version: str) -> str:
    """The path of a model, below the target's prefix. Of a name, what a path may hold stands for itself, since Triton
    decodes nothing: `%41` is three characters of a name to it, and one to servers of other kinds."""
    safe = _PATH_CHARACTERS + "%" if kind == "triton" else _PATH_CHARACTERS
    at_version = f"/versions/{quote(version, safe=safe)}" if version else ""
    return f"/v2/models/{quote(model, safe=safe)}{at_version}"
