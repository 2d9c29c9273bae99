"""The service kind `torchserve`: TorchServe's predictions over HTTP.

A model's input is whatever its handler takes, so there are no tensors: a request is a file, as perf_analyzer sends it,
or a body that the data holds itself.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote, urlsplit

import numpy as np

from exporter.core.errors import InputError, PreflightError
from exporter.core.facts import ModelFacts, TensorSpec
from exporter.core.kinds import KINDS
from exporter.core.outcome import Reason
from exporter.core.probe import DEFAULT_INPUT, InputOptions, Probe
from exporter.core.target import Target
from exporter.core.untrusted_text import clean_name
from exporter.services.base import Control, Tensors
from exporter.services.channel_factory import make_channel
from exporter.services.encoding import checked, http_request
from exporter.services.without_extensions import PlainControl, PlainService
from exporter.transport.call import Channel, EncodedRequest, Listener, Response
from exporter.wire.http1 import decoded_body

FILE, BODY, OUTPUT = KINDS["torchserve"].path_input, "TORCHSERVE_BODY", "TORCHSERVE_OUTPUT"
"""What stands for tensors: the path of a file (perf_analyzer's name for it), a body, and the body of the response."""

FORM: Final = "multipart/form-data"
_PART = "data"
"""The form's field, as perf_analyzer and most handlers have it."""
SHOWN: Final = 8
"""Workers that an error names."""
_SERVING: Final = ("Healthy", "Partial Healthy")
"""The health of a server, for some of its models or all."""


class TorchServeService(PlainService):
    """A `Service` (services.base)."""

    def control(self, target: Target, timeout_ns: int) -> Control:
        return TorchServeControl(target, timeout_ns)

    def encode(self, probe: Probe, facts: ModelFacts, steps: Sequence[Tensors], sweep_id: str) -> list[EncodedRequest]:
        """One request a step. Files are read now. Raises InputError, or PreflightError if a header's value cannot be
        read."""
        files = _Files(dict(probe.input.moved))
        return [_encode(probe, facts, tensors, sweep_id, files) for tensors in steps]

    def channel(
        self, target: Target, listener: Listener, *, streaming: bool = False, keep_responses: bool = False
    ) -> Channel:
        """Without a judge: a handler may send any body, with any status."""
        return make_channel(target, listener, keep_responses=keep_responses)

    def decode_response(self, facts: ModelFacts, response: Response) -> list[Tensors]:
        """The body of the response, as it is."""
        (message,) = response.messages
        return [{OUTPUT: _one(decoded_body(response.head, message))}]


class TorchServeControl(PlainControl):
    """A `Control` (services.base)."""

    async def preflight(
        self, model: str, version: str, composing: Sequence[str] = (), options: InputOptions = DEFAULT_INPUT
    ) -> ModelFacts:
        """Whether the server is healthy, has the model, and workers for it, as far as its endpoints report. Raises
        PreflightError."""
        await self._check_health()
        await self._check_model(model, version)
        return ModelFacts(
            name=model,
            version=await self._served_version(model, version),
            platform="pytorch",
            backend="",
            max_batch_size=0,
            inputs=tuple(TensorSpec(name, "BYTES", (1,), optional=True, alternative=True) for name in (FILE, BODY)),
            outputs=(TensorSpec(OUTPUT, "BYTES", (1,)),),
            has_statistics=self._page.there,
            server_name="TorchServe",
            asked_version=version,
        )

    async def served_version(self, model: str) -> str:
        """By the management endpoint. Raises PreflightError."""
        return await self._served_version(model, "")

    async def _check_health(self) -> None:
        """Whether the server is up. What it reports about its health is of all its models together: it fails the sweep
        only where this one's workers are not known."""
        from exporter.services.http_pages import ask

        page = await ask(self._target, "/ping", self._timeout_ns)
        if page.status not in (200, 500) or b"status" not in page.body:
            if not page.is_ok:
                raise _refused(page)
            return
        status = page.json().get("status", "")
        if status not in _SERVING and not self._target.management_url:
            text = f"the server at {self._target.url} reports that it is {status or 'in no known state'!r}"
            fix = "give management_url, which reports this one's workers"
            raise PreflightError(Reason.SERVER_NOT_READY, f"{text}, which can be of any of its models; {fix}")

    async def _check_model(self, model: str, version: str) -> None:
        """The endpoint's description of a prediction is there for models that are."""
        from exporter.services.http_pages import ask

        page = await ask(self._target, predictions_path(model, version), self._timeout_ns, "OPTIONS")
        if not page.is_ok:
            raise _refused(page)

    async def _served_version(self, model: str, version: str) -> str:
        """The version that serves, "" if it is not known. Only the management endpoint reports it, and the state of the
        model's workers: without one that is ready, requests wait until they time out. Raises PreflightError."""
        from exporter.services.http_pages import ask

        management = management_endpoint(self._target)
        if management is None:
            return version
        at = f"/{quote(version, safe='')}" if version else ""
        page = await ask(management, f"/models/{quote(model, safe='')}{at}", self._timeout_ns)
        if not page.is_ok:
            raise _refused(page)
        entries = page.json()
        try:
            workers = [worker for entry in entries for worker in entry["workers"]]
            shown = [(clean_name(worker["id"]), clean_name(worker["status"].lower())) for worker in workers[:SHOWN]]
            states = [f"worker {name} {state}" for name, state in shown]
            found = str(entries[0]["modelVersion"])
        except (TypeError, KeyError, IndexError, AttributeError) as error:
            raise PreflightError(Reason.PROTOCOL, f"{page.url} sent JSON that is not TorchServe's") from error
        if not any(worker["status"] == "READY" for worker in workers):
            text = (
                f"model {model!r} has no worker that is ready at {management.url}: {'; '.join(states) or 'it has none'}"
            )
            raise PreflightError(Reason.MODEL_NOT_READY, text)
        return found


def management_endpoint(target: Target) -> Target | None:
    """The target's management endpoint, where it names one. It is no part of what the target is settled on."""
    if not target.management_url:
        return None
    parts = urlsplit(target.management_url)
    return replace(
        target,
        scheme=parts.scheme,
        host=parts.hostname or "",
        port=parts.port or (443 if parts.scheme == "https" else 80),
        path=parts.path.rstrip("/"),
        headers=target.management_headers,
        host_header="",
        address="",
    )


def predictions_path(model: str, version: str) -> str:
    """The path of a prediction, below the endpoint's prefix."""
    at = f"/{quote(version, safe='')}" if version else ""
    return f"/predictions/{quote(model, safe='')}{at}"


def _refused(page: Any) -> PreflightError:
    """A token that is not accepted has a status of its own kind: 400."""
    refusal: PreflightError = page.refusal()
    if b"InvalidKeyException" in page.body or b"Token Authorization failed" in page.body:
        return PreflightError(Reason.AUTH, str(refusal), refusal.status)
    return refusal


def _encode(probe: Probe, facts: ModelFacts, tensors: Tensors, sweep_id: str, files: _Files) -> EncodedRequest:
    given = checked(facts, tensors)
    if len(given) != 1:
        text = f"a request has one of {FILE}, the path of a file, and {BODY}, what is sent: give one"
        raise InputError(f"{text} in a JSON file, or input.shapes: {{{BODY}: [1]}} with input.string_data")
    spec, tensor = given[0]
    content: bytes = tensor.item()
    if spec.name == FILE:
        content = files.read(content)
        kind = probe.input.content_type or FORM
    else:
        kind = probe.input.content_type or ("application/json" if _is_json(content) else "application/octet-stream")
    if kind == FORM:
        kind, content = _form(content)
    return http_request(
        probe, sweep_id, predictions_path(probe.model, probe.version), [("Content-Type", kind)], content
    )


class _Files:
    """Each is read once; `moved` has where those are that a worker of another machine got."""

    def __init__(self, moved: Mapping[str, str]) -> None:
        self._moved = moved
        self._read: dict[str, bytes] = {}

    def read(self, path: bytes) -> bytes:
        """The content of the file that the data names. Raises InputError."""
        name = path.decode(errors="replace")
        if name not in self._read:
            try:
                self._read[name] = Path(self._moved.get(name, name)).read_bytes()
            except (OSError, ValueError) as error:
                reason = error.strerror if isinstance(error, OSError) else str(error)
                raise InputError(f"{FILE} {name!r}: cannot be read: {reason}") from error
        return self._read[name]


def _is_json(content: bytes) -> bool:
    try:
        json.loads(content)
    except ValueError:
        return False
    return True


def _form(content: bytes) -> tuple[str, bytes]:
    """The content as a form's only field, and the form's content type."""
    boundary = "triton-canary"
    while boundary.encode() in content:
        boundary += "-"
    head = f'--{boundary}\r\nContent-Disposition: form-data; name="{_PART}"\r\n\r\n'
    return f"{FORM}; boundary={boundary}", b"".join([head.encode(), content, f"\r\n--{boundary}--\r\n".encode()])


def _one(content: bytes) -> Any:
    tensor = np.empty(1, np.object_)
    tensor[0] = content
    return tensor
