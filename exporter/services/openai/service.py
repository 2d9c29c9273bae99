"""The service kind `openai`: what makes its control plane, its requests and its channels."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from exporter.core.errors import ProtocolError
from exporter.core.facts import ModelFacts
from exporter.core.probe import Probe
from exporter.core.target import Target
from exporter.payload.tokenizer import open_tokenizer
from exporter.services.base import Control, Dialogue, Tensors
from exporter.services.openai.reader import CountTokens, OpenAiReader
from exporter.services.without_extensions import PlainService
from exporter.transport.call import Channel, EncodedRequest, Listener, Response
from exporter.transport.event_channel import EventChannel


class OpenAiService(PlainService):
    """A `Service` (services.base)."""

    def __init__(self) -> None:
        self._count_tokens: CountTokens | None = None

    def control(self, target: Target, timeout_ns: int) -> Control:
        from exporter.services.openai.control import OpenAiControl

        return OpenAiControl(target, timeout_ns)

    def encode(self, probe: Probe, facts: ModelFacts, steps: Sequence[Tensors], sweep_id: str) -> list[EncodedRequest]:
        """One request per step; headers are read now. Raises InputError, or PreflightError if one cannot be read."""
        from exporter.services.openai.requests import encode

        self._count_tokens = open_tokenizer(probe.input.prompt.tokenizer)
        return encode(probe, steps, sweep_id)

    def dialogues(self, probe: Probe, steps: Sequence[Tensors], sweep_id: str) -> Callable[[], Dialogue]:
        from exporter.services.openai.dialogue import begin_dialogues

        return begin_dialogues(probe, steps, sweep_id)

    def channel(
        self, target: Target, listener: Listener, *, streaming: bool = False, keep_responses: bool = False
    ) -> Channel:
        """A channel that counts tokens as the requests that were encoded last are to be counted."""
        return EventChannel(
            target,
            listener,
            lambda: OpenAiReader(self._count_tokens, keep_text=keep_responses),
            streaming=streaming,
            keep_text=keep_responses,
        )

    def decode_response(self, facts: ModelFacts, response: Response) -> list[Tensors]:
        raise ProtocolError("the text of a language model is not compared")
