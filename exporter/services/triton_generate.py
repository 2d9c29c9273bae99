"""The service kind `triton_generate`: Triton's generate extension, `/v2/models/M/generate` and `generate_stream`, for
language models that Triton serves by a backend. Triton's statistics are joined, as with the kind `triton`.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Final

from exporter.core.errors import InputError, PreflightError, ProtocolError
from exporter.core.facts import ModelFacts
from exporter.core.outcome import Reason
from exporter.core.probe import DEFAULT_INPUT, InputOptions, Probe
from exporter.core.target import Target
from exporter.payload.prompts import PAYLOAD, PROMPT
from exporter.payload.tokenizer import open_tokenizer
from exporter.services.base import Control, Tensors
from exporter.services.error_body import is_error
from exporter.services.http_client import model_path
from exporter.services.openai.control import PROMPT_INPUTS
from exporter.services.openai.reader import CountTokens, OpenAiReader, document_object, failure, json_object
from exporter.services.openai.requests import Nonces, prompt_request
from exporter.services.triton.control import TritonControl
from exporter.services.without_extensions import PlainService
from exporter.transport.call import Channel, EncodedRequest, Listener, Response
from exporter.transport.event_channel import EventChannel, EventMessage, TokenCounts
from exporter.wire.sse import SseEvent

TEXT_INPUT: Final = "text_input"
"""The input that takes the prompt: of Triton's vLLM and TensorRT-LLM backends, and by convention of others."""
_LIMIT, _STREAM, _SAMPLING = "max_tokens", "stream", "sampling_parameters"
_NO_OUTPUTS: Final = frozenset({"model_name", "model_version", "id"})


class GenerateService(PlainService):
    """A `Service` (services.base)."""

    def __init__(self) -> None:
        self._count_tokens: CountTokens | None = None

    def control(self, target: Target, timeout_ns: int) -> Control:
        return GenerateControl(target, timeout_ns)

    def encode(self, probe: Probe, facts: ModelFacts, steps: Sequence[Tensors], sweep_id: str) -> list[EncodedRequest]:
        """One request per step; headers are read now. Raises InputError, or PreflightError if one cannot be read."""
        self._count_tokens = open_tokenizer(probe.input.prompt.tokenizer)
        nonces = Nonces()
        return [_request(probe, facts, tensors, sweep_id, nonces) for tensors in steps]

    def channel(
        self, target: Target, listener: Listener, *, streaming: bool = False, keep_responses: bool = False
    ) -> Channel:
        """A channel that counts tokens as the requests that were encoded last are to be counted."""
        return EventChannel(target, listener, lambda: GenerateReader(self._count_tokens), streaming=streaming)

    def decode_response(self, facts: ModelFacts, response: Response) -> list[Tensors]:
        raise ProtocolError("the text of a language model is not compared")


class GenerateControl(TritonControl):
    """A `Control` (services.base): Triton's own."""

    async def preflight(
        self, model: str, version: str, composing: Sequence[str] = (), options: InputOptions = DEFAULT_INPUT
    ) -> ModelFacts:
        """As `TritonControl`. Raises PreflightError, also for a model that takes no prompt."""
        facts = await super().preflight(model, version, composing, options)
        names = [spec.name for spec in facts.inputs]
        if TEXT_INPUT not in names and options.source != "files":
            text = f"model {model!r} has no input {TEXT_INPUT!r}, but {', '.join(map(repr, names))}"
            raise PreflightError(Reason.BAD_INPUT, f"{text}: give payloads (input.source: files)")
        own = tuple(replace(spec, optional=True) for spec in facts.inputs)
        return replace(facts, inputs=(*PROMPT_INPUTS, *own), max_batch_size=0, takes_prompts=True)


class GenerateReader(OpenAiReader):
    """An `EventReader` (transport.event_channel): each event is a response of the model, and tokens are not counted.
    No event is known to be the last one."""

    endpoint_key = ""
    names_model = False

    def event(self, event: SseEvent) -> EventMessage:
        return self._take(json_object(event.data, "an event"))

    def document(self, body: bytes) -> EventMessage:
        return self._take(document_object(body))

    def end(self) -> TokenCounts:
        if not self._has_content:
            raise ProtocolError("the response has no content: no output of the model has a value")
        output = self._count_tokens("".join(self._texts)) if self._count_tokens else -1
        return TokenCounts(output=output, early_end=0 <= output < self._asked)

    def _take(self, value: dict[str, Any]) -> EventMessage:
        if is_error(value):
            return failure(value)
        found = False
        for name, content in value.items():
            if name not in _NO_OUTPUTS and content:
                found = self._has_content = True
                if self._count_tokens is not None and isinstance(content, str):
                    self._texts.append(content)
        return EventMessage(found)


def _request(probe: Probe, facts: ModelFacts, tensors: Tensors, sweep_id: str, nonces: Nonces) -> EncodedRequest:
    given = tensors.get(PAYLOAD)
    payload = json.loads(given.item()) if given is not None else _payload(probe, facts, tensors)
    if not probe.input.prompt.allow_cache:
        text = payload.get(TEXT_INPUT)
        if not isinstance(text, str):
            reason = f"a payload has no {TEXT_INPUT!r} that a nonce could go before"
            raise InputError(
                f"{reason}, so that each request would measure the server's cache: set input.prompt.cache: allow"
            )
        payload[TEXT_INPUT] = f"{nonces.placeholder} {text}"
    verb = "generate_stream" if probe.streaming else "generate"
    path = f"{model_path('triton', probe.model, probe.version)}/{verb}"
    limit = payload.get(_LIMIT)
    return prompt_request(probe, sweep_id, path, payload, nonces, asked=limit if isinstance(limit, int) else 0)


def _payload(probe: Probe, facts: ModelFacts, tensors: Tensors) -> dict[str, Any]:
    """What is no input of the model goes as a request parameter, which its code can read."""
    options, inputs = probe.input.prompt, {spec.name for spec in facts.inputs}
    text = tensors[PROMPT].item().decode()
    payload: dict[str, Any] = {TEXT_INPUT: f"{options.system}\n{text}" if options.system else text}
    if _SAMPLING in inputs:  # the vLLM backend's
        sampling: dict[str, Any] = {_LIMIT: options.output_tokens}
        if options.fixed_output:
            sampling["ignore_eos"] = True
        payload[_SAMPLING] = json.dumps(sampling)
    else:
        payload[_LIMIT] = options.output_tokens
    if _STREAM in inputs:
        payload[_STREAM] = probe.streaming
    return payload | dict(probe.input.parameters)
