"""What is read of responses in OpenAI's forms: events of a stream, or one document. Owns what counts as content, what
as an error, and where tokens are counted."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any, Final

from exporter.core.bounds import SESSION_TEXT, TOKENS
from exporter.core.errors import ProtocolError
from exporter.core.outcome import Outcome
from exporter.core.probe import EMBEDDINGS
from exporter.core.untrusted_text import clean_text
from exporter.services.error_body import error_message, is_error, message_of
from exporter.services.openai.advice import advice
from exporter.services.openai.hiding import prompt_texts, without_repeats
from exporter.services.openai.requests import PromptRequest
from exporter.transport.call import EncodedRequest
from exporter.transport.event_channel import EventMessage, TokenCounts
from exporter.transport.event_errors import WEB_PAGE
from exporter.transport.http_channel import status_outcome
from exporter.wire.sse import SseEvent

DONE: Final = b"[DONE]"
CONTENT_KEYS: Final = ("content", "reasoning_content", "reasoning", "refusal", "tool_calls", "function_call", "audio")
"""What of a chat's delta is the model's own: what it thinks counts, the role does not."""

_NOTHING = EventMessage(has_content=False)
_CONTENT = EventMessage(has_content=True)
_SHOWN = 120

CountTokens = Callable[[str], int]


class OpenAiReader:
    """An `EventReader` (transport.event_channel). `count_tokens` is asked where the server counts none. With
    `keep_text` there is a `text`."""

    endpoint_key: str = "input.prompt.endpoint"
    """The key that sets the path of requests, "" if none does."""
    names_model: bool = True
    """Whether requests have the model's name as `model` in their bodies."""

    def __init__(self, count_tokens: CountTokens | None = None, *, keep_text: bool = False) -> None:
        self._count_tokens = count_tokens
        self._keep_text = keep_text
        self._api = ""
        self._asked = 0
        self._request = EncodedRequest(b"", b"")
        self._last_asked: object = None
        self._last_explained = ""
        self._reset()

    def _reset(self) -> None:
        self._usage: Mapping[str, Any] = {}
        self._finish = ""
        self._done = False
        self._streamed = False
        self._has_content = False
        self._texts: list[str] = []
        self._kept: list[str] = []
        self._kept_characters = 0

    def begin(self, request: EncodedRequest) -> EncodedRequest:
        self._reset()
        self._request = request
        if not isinstance(request, PromptRequest):
            return request
        self._api, self._asked = request.api, request.asked_tokens
        return request.fresh()

    def event(self, event: SseEvent) -> EventMessage:
        self._streamed = True
        data = event.data
        if data == DONE:
            self._done = True
            return _NOTHING
        value = json_object(data, "an event")
        if event.type == b"error" or is_error(value):
            return failure(value)
        if usage := value.get("usage"):
            self._usage = usage if isinstance(usage, dict) else {}
        return _CONTENT if self._take_choices(value) else _NOTHING

    def document(self, body: bytes) -> EventMessage:
        value = document_object(body)
        if is_error(value):
            return failure(value)
        usage = value.get("usage")
        self._usage = usage if isinstance(usage, dict) else {}
        self._done = True
        if self._api == EMBEDDINGS:
            self._has_content = isinstance(value.get("data"), list) and bool(value["data"])
        else:
            self._take_choices(value)
        return _CONTENT if self._has_content else _NOTHING

    def refusal(self, body: bytes) -> str:
        return error_message(body)

    def text(self) -> str:
        return "".join(self._kept)

    def is_complete(self) -> bool:
        return self._done or bool(self._finish)

    def explained(self, outcome: Outcome, text: str) -> str:
        asked = self._request, outcome, text
        if asked != self._last_asked:  # many requests fail with one text
            shown = without_repeats(text, prompt_texts(self._request.body, names_model=self.names_model))
            fix = advice(outcome, text, self._request.head, self.endpoint_key)
            self._last_asked, self._last_explained = asked, f"{shown.rstrip('.')}; {fix}" if fix else shown
        return self._last_explained

    def end(self) -> TokenCounts:
        if not self.is_complete():
            raise ProtocolError("the stream ended early: neither a finish_reason nor [DONE] came")
        if not self._has_content:
            raise ProtocolError(self._why_empty())
        usage = self._usage
        output = _count(usage.get("completion_tokens"))
        if output < 0 and self._count_tokens is not None and self._api != EMBEDDINGS:
            output = self._count_tokens("".join(self._texts))
        details = usage.get("prompt_tokens_details")
        cached = _count(details.get("cached_tokens")) if isinstance(details, dict) else -1
        is_early = 0 <= output < self._asked if output >= 0 else self._finish not in ("", "length")
        return TokenCounts(_count(usage.get("prompt_tokens")), output, cached, is_early and self._api != EMBEDDINGS)

    def _why_empty(self) -> str:
        if self._api == EMBEDDINGS:
            return "the response has no embedding"
        finish = f" (finish_reason: {clean_text(self._finish)})" if self._finish else ""
        return f"the response has no content{finish}: no text, reasoning or tool call"

    def _take_choices(self, value: Mapping[str, Any]) -> bool:
        """Whether there is content in any of them."""
        choices, found = value.get("choices"), False
        for choice in choices if isinstance(choices, list) else ():
            if not isinstance(choice, dict):
                continue
            if reason := choice.get("finish_reason"):
                self._finish = str(reason)[:_SHOWN]
            part = choice.get("delta" if self._streamed else "message")
            part = part if isinstance(part, dict) else choice
            for key in (*CONTENT_KEYS, "text"):
                if content := part.get(key):
                    found = self._has_content = True
                    if self._count_tokens is not None and isinstance(content, str):
                        self._texts.append(content)
                    if self._keep_text and key == "content" and isinstance(content, str) and not choice.get("index"):
                        self._keep(content)
        return found

    def _keep(self, content: str) -> None:
        self._kept_characters += len(content)
        if self._kept_characters > SESSION_TEXT:
            raise ProtocolError(f"more than {SESSION_TEXT} characters to be part of a session's next request")
        self._kept.append(content)


def failure(value: Mapping[str, Any]) -> EventMessage:
    """An error that a server reports inside of a response that began well, with the outcome of its code."""
    error = value.get("error") or value
    code = error.get("code") if isinstance(error, dict) else None
    status = code if isinstance(code, int) and not isinstance(code, bool) and 400 <= code < 600 else 500
    outcome = status_outcome(status)
    if outcome is Outcome.OK:
        outcome = Outcome.SERVER_ERROR
    return EventMessage(False, outcome, f"the response reports an error: {clean_text(message_of(value))}")


def json_object(data: bytes, what: str) -> dict[str, Any]:
    """The object that a server sent as `what`. Raises ProtocolError."""
    try:
        value = json.loads(data.decode())  # a third faster than of bytes, whose coding it looks for
    except (ValueError, RecursionError):
        # With more bytes than the characters shown can take, so that "…" shows that it is cut.
        shown = clean_text(bytes(data[: 4 * _SHOWN + 1]).decode("utf-8", "replace"), _SHOWN)
        raise ProtocolError(f"{what} is not JSON: {shown!r}") from None
    if not isinstance(value, dict):
        raise ProtocolError(f"{what} is not a JSON object")
    return value


def document_object(body: bytes) -> dict[str, Any]:
    """The object that is a whole response. Raises ProtocolError."""
    if body[:_SHOWN].lstrip().lower().startswith((b"<!doctype html", b"<html")):
        raise ProtocolError(WEB_PAGE)
    return json_object(body, "the response")


def _count(value: Any) -> int:
    """A number of tokens; -1 for what can be none."""
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= TOKENS else -1
