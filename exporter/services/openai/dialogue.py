"""Sessions with a chat model: each turn's request has the turns before it, and what the model responded to them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from exporter.core.errors import InputError
from exporter.core.probe import CHAT, Probe
from exporter.payload.prompts import PROMPT
from exporter.services.base import Tensors
from exporter.services.encoding import sent_headers
from exporter.services.openai.requests import (
    Nonces,
    PromptRequest,
    asked_tokens,
    encoded_json,
    make_payload,
    prompt_headers,
    put_nonce,
)
from exporter.transport.call import EncodedRequest, Response
from exporter.wire.http1 import request_head

Message = dict[str, Any]


class Turns:
    """The turns of all sessions, encoded but for their history. Raises InputError, or PreflightError if a header's
    value cannot be read."""

    def __init__(self, probe: Probe, steps: Sequence[Tensors], sweep_id: str) -> None:
        self._payloads = [make_payload(probe, CHAT, tensors) for tensors in steps]
        for payload in self._payloads:
            messages = payload.get("messages")
            if not isinstance(messages, list) or not all(isinstance(each, dict) for each in messages):
                raise InputError("a turn of a session needs 'messages', a list of objects")
        self._own_system = [bool(probe.input.prompt.system) and PROMPT in tensors for tensors in steps]
        self._headers = sent_headers(probe, sweep_id, prompt_headers(probe, CHAT))
        self._path = f"{probe.target.path}/{probe.input.prompt.endpoint.strip('/')}"
        self._authority = probe.target.sent_authority
        self._nonces = None if probe.input.prompt.allow_cache else Nonces().texts

    def begin(self) -> ChatDialogue:
        """A new session: its history begins with a text that no other's does, unless caches are wanted."""
        return ChatDialogue(self, next(self._nonces).decode() if self._nonces is not None else "")

    def added(self, step: int, *, is_first: bool) -> list[Message]:
        """What the turn adds to the history. The probe's system prompt is in the first turn alone."""
        messages: list[Message] = self._payloads[step]["messages"]
        return messages if is_first or not self._own_system[step] else messages[1:]

    def encoded(self, step: int, history: list[Message]) -> EncodedRequest:
        """The turn's request with this history."""
        payload = self._payloads[step] | {"messages": history}
        body = encoded_json(payload)
        head = request_head("POST", self._path, self._authority, self._headers, len(body))
        return PromptRequest(head, body, CHAT, asked_tokens(payload), (), iter(()))


class ChatDialogue:
    """A `Dialogue` (services.base)."""

    def __init__(self, turns: Turns, nonce: str) -> None:
        self._turns = turns
        self._nonce = nonce
        self._history: list[Message] = []

    def request(self, step: int) -> EncodedRequest:
        is_first = not self._history
        self._history += self._turns.added(step, is_first=is_first)
        if is_first and self._nonce:
            payload = {"messages": self._history}
            put_nonce(payload, CHAT, self._nonce)
            self._history = payload["messages"]
        return self._turns.encoded(step, self._history)

    def responded(self, response: Response) -> None:
        text = b"".join(response.messages).decode("utf-8", "replace")
        self._history.append({"role": "assistant", "content": text})


def begin_dialogues(probe: Probe, steps: Sequence[Tensors], sweep_id: str) -> Callable[[], ChatDialogue]:
    """As `Service.dialogues`."""
    return Turns(probe, steps, sweep_id).begin
