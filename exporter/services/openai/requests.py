"""Prompts as requests of OpenAI's HTTP API: encoded once, but for the text that makes each unlike the others."""

from __future__ import annotations

import itertools
import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from exporter.core.errors import InputError
from exporter.core.probe import CHAT, EMBEDDINGS, Probe, prompt_api
from exporter.core.untrusted_text import clean_text
from exporter.payload.prompts import PAYLOAD, PROMPT
from exporter.services.base import Tensors
from exporter.services.encoding import http_request
from exporter.transport.call import EncodedRequest

NONCE_BYTES = 8
_STEP = 0x9E3779B1
"""Odd, so that 2^32 nonces are different; by the golden ratio, so that each differs from the last in its first digit.
"""
_OUTPUT_LIMITS = ("max_tokens", "max_completion_tokens")


@dataclass(frozen=True, slots=True)
class PromptRequest(EncodedRequest):
    """A request whose body has a text of its own each time it goes out, at these places. `asked_tokens` are how many
    its response is to have, 0 where that is open; `api` is one of `core.probe.PROMPT_APIS`."""

    api: str
    asked_tokens: int
    nonce_at: tuple[int, ...]
    nonces: Iterator[bytes]

    def fresh(self) -> EncodedRequest:
        """What is sent this time: as long as the last time."""
        if not self.nonce_at:
            return self
        nonce, body, parts, begin = next(self.nonces), self.body, [], 0
        for place in self.nonce_at:
            parts += [body[begin:place], nonce]
            begin = place + NONCE_BYTES
        parts.append(body[begin:])
        return EncodedRequest(self.head, b"".join(parts))


def base_of(endpoint: str) -> str:
    """The path beside which a server's other endpoints are: `v1/` of `v1/chat/completions`."""
    return endpoint.strip("/").removesuffix(prompt_api(endpoint))


def encode(probe: Probe, steps: Sequence[Tensors], sweep_id: str) -> list[EncodedRequest]:
    """One request per step. Raises InputError, or PreflightError if a header's value cannot be read."""
    nonces = Nonces()
    return [_request(probe, tensors, sweep_id, nonces) for tensors in steps]


class Nonces:
    """Texts that no other request begins with, and what is for them until one goes out."""

    def __init__(self) -> None:
        # Longer than they are, so that no prompt has it by chance.
        self.placeholder = os.urandom(16).hex()
        start = int.from_bytes(os.urandom(NONCE_BYTES // 2))
        self.texts = (b"%08x" % (number & 0xFFFFFFFF) for number in itertools.count(start, _STEP))

    def places(self, body: bytes) -> tuple[int, ...]:
        """Where they go, once the placeholders are cut to their length."""
        shorter = len(self.placeholder) - NONCE_BYTES
        found = re.finditer(self.placeholder.encode(), body)
        return tuple(each.start() - number * shorter for number, each in enumerate(found))

    def cut(self, body: bytes) -> bytes:
        """The body with space for as many texts."""
        return body.replace(self.placeholder.encode(), b"0" * NONCE_BYTES)


def _request(probe: Probe, tensors: Tensors, sweep_id: str, nonces: Nonces) -> PromptRequest:
    endpoint = probe.input.prompt.endpoint.strip("/")
    api = prompt_api(endpoint)
    payload = make_payload(probe, api, tensors)
    if not probe.input.prompt.allow_cache:
        put_nonce(payload, api, nonces.placeholder)
    asked = asked_tokens(payload)
    return prompt_request(probe, sweep_id, f"/{endpoint}", payload, nonces, asked=asked, api=api)


def asked_tokens(payload: Mapping[str, Any]) -> int:
    """How many tokens the response is to have, 0 where that is open."""
    return next((payload[key] for key in _OUTPUT_LIMITS if isinstance(payload.get(key), int)), 0)


def prompt_request(
    probe: Probe,
    sweep_id: str,
    path: str,
    payload: Mapping[str, Any],
    nonces: Nonces,
    *,
    asked: int,
    api: str = "",
) -> PromptRequest:
    """A POST of this JSON, in which the nonces' placeholder stands for what differs from time to time. Raises
    PreflightError if a header's value cannot be read."""
    body, headers = encoded_json(payload), prompt_headers(probe, api)
    places, body = nonces.places(body), nonces.cut(body)
    sent = http_request(probe, sweep_id, path, headers, body)
    return PromptRequest(sent.head, sent.body, api, asked, places, nonces.texts)


def encoded_json(payload: Mapping[str, Any]) -> bytes:
    """The payload as it is sent."""
    return json.dumps(payload, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace")


def prompt_headers(probe: Probe, api: str) -> list[tuple[str, str]]:
    """What a request of this form has, beside the target's headers."""
    accept = "text/event-stream" if probe.streaming and api != EMBEDDINGS else "application/json"
    return [("Content-Type", "application/json"), ("Accept", accept)]


def make_payload(probe: Probe, api: str, tensors: Tensors) -> dict[str, Any]:
    """What the request of this step is, but for the text that makes it unlike the others. Raises InputError."""
    if (given := tensors.get(PAYLOAD)) is not None:
        return _completed(probe, api, json.loads(given.item()))
    options = probe.input.prompt
    text = tensors[PROMPT].item().decode()
    payload: dict[str, Any] = {"model": probe.model}
    if api == EMBEDDINGS:
        payload["input"] = text
        return payload | dict(probe.input.parameters)
    if api == CHAT:
        system = [{"role": "system", "content": options.system}] if options.system else []
        payload["messages"] = [*system, {"role": "user", "content": text}]
    else:
        payload["prompt"] = f"{options.system}\n{text}" if options.system else text
    if not any(key in _OUTPUT_LIMITS for key, _ in probe.input.parameters):
        payload["max_tokens"] = options.output_tokens
    if options.fixed_output:
        payload["ignore_eos"] = True
    return _streamed(probe, payload | dict(probe.input.parameters))


def _completed(probe: Probe, api: str, payload: dict[str, Any]) -> dict[str, Any]:
    """A request of the user's own, with what it lacks."""
    given = payload.setdefault("model", probe.model)
    if given != probe.model:
        shown = clean_text(str(given), 80)
        raise InputError(f"a payload names the model {shown!r}, and the probe's is {probe.model!r}: give them one name")
    payload |= dict(probe.input.parameters)
    if api == EMBEDDINGS:
        return payload
    if not any(key in payload for key in _OUTPUT_LIMITS):
        payload["max_tokens"] = probe.input.prompt.output_tokens
    return _streamed(probe, payload)


def _streamed(probe: Probe, payload: dict[str, Any]) -> dict[str, Any]:
    """Whether it is streamed is the probe's affair: its figures depend on it."""
    payload["stream"] = probe.streaming
    payload.pop("stream_options", None)
    if probe.streaming:
        payload["stream_options"] = {"include_usage": True}
    return payload


# --- the text that differs -------------------------------------------------------------------------------------------


def put_nonce(payload: dict[str, Any], api: str, nonce: str) -> None:
    """At the very beginning, since a server's prefix cache goes from there. Raises InputError."""
    if api == CHAT:
        messages = payload.get("messages")
        first = messages[0] if isinstance(messages, list) and messages and isinstance(messages[0], dict) else {}
        payload["messages"] = [{**first, "content": _marked(first.get("content"), nonce)}, *(messages or [])[1:]]
        return
    key = "input" if api == EMBEDDINGS else "prompt"
    payload[key] = _marked(payload.get(key), nonce)


def _marked(content: Any, nonce: str) -> Any:
    if isinstance(content, str):
        return f"{nonce} {content}"
    if isinstance(content, list) and content:
        if all(isinstance(part, str) for part in content):
            return [f"{nonce} {part}" for part in content]
        for index, part in enumerate(content):
            if isinstance(part, dict) and isinstance(part.get("text"), str):
                return [*content[:index], {**part, "text": f"{nonce} {part['text']}"}, *content[index + 1 :]]
    text = "a payload has no text that a nonce could go before, so that each request would measure the server's cache"
    raise InputError(f"{text}: set input.prompt.cache: allow")
