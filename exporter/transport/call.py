"""A call: a request on its way to the server, its response, and the channel that carries it.

The engine owns calls, the kinds in `services/` encode requests and create channels, and the channels here carry them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from exporter.core.bounds import STREAM_RESPONSES
from exporter.core.outcome import Outcome

TOO_MANY_RESPONSES = f"more than {STREAM_RESPONSES} responses to one request"
"""Why a streamed request is given up: the time of each response takes memory."""


@dataclass(frozen=True, slots=True)
class EncodedRequest:
    """A request encoded once, before the level starts, compressed if configured. Only the kind's own channels can read
    it."""

    head: bytes
    body: bytes


@dataclass(frozen=True, slots=True, eq=False)
class Response:
    """The response to one call: its raw messages, and over HTTP the response head. `streamed` marks messages of a
    bidirectional stream, which have another type."""

    messages: Sequence[bytes | bytearray]
    head: bytes = b""
    streamed: bool = False

    @property
    def size(self) -> int:
        """Approximate size in memory, in bytes."""
        return len(self.head) + sum(map(len, self.messages))


class Call:
    """One request in flight. The engine owns and reuses it; the channel fills it in.

    The engine sets `step`, `intended_ns`, `deadline_ns`, `sequence_id` and `sequence_end` and passes it to
    `Channel.send`. The channel sets the other columns (as in `RecordColumns`) and calls the listener with it exactly
    once. All times are `time.monotonic_ns`. A streaming channel appends the time of each response to `response_ns`, and
    then calls `on_response` if it is set. A channel that keeps responses sets `response` for an ok call. A channel that
    counts tokens also sets `opened_ns`, the tokens (-1: not counted) and `early_end`.
    """

    __slots__ = (
        "bytes_in",
        "bytes_out",
        "cached_tokens",
        "channel",
        "deadline_ns",
        "early_end",
        "first_ns",
        "intended_ns",
        "last_ns",
        "on_response",
        "opened_ns",
        "outcome",
        "output_tokens",
        "prompt_tokens",
        "response",
        "response_ns",
        "responses",
        "retry_after_ns",
        "send_done_ns",
        "sent_ns",
        "sequence_end",
        "sequence_id",
        "slot",
        "step",
        "text",
    )

    def __init__(self, slot: int) -> None:
        self.slot = slot
        self.channel: Channel | None = None
        self.step = 0
        self.response: Response | None = None
        self.outcome = Outcome.OK
        self.text = ""
        self.intended_ns = self.sent_ns = self.send_done_ns = self.first_ns = self.last_ns = self.deadline_ns = 0
        self.responses = self.bytes_out = self.bytes_in = self.retry_after_ns = 0
        self.sequence_end = False
        self.sequence_id = 0
        self.response_ns: list[int] = []
        self.on_response: Callable[[Call], None] | None = None
        self.opened_ns = 0
        self.prompt_tokens = self.output_tokens = self.cached_tokens = -1
        self.early_end = False


Listener = Callable[[Call], None]
"""Called with a call that has ended, with any outcome. It may send the next request on this channel at once."""


class Channel(Protocol):
    """A connection that carries requests to one model, and reopens itself after the server closed it.

    `send` never raises and never loses a call: each call sent returns to the listener once, with its outcome. Opening
    is separate from sending: its time is in `connect_ns` and `tls_ns`, never in a call.
    """

    capacity: int
    """How many calls it can carry at once; 1 for HTTP/1.1."""
    connect_ns: int | None
    """Duration of the last connect; None before the first."""
    tls_ns: int | None
    certificate_expiry_unix_s: float | None

    async def open(self) -> None:
        """Connects. Raises TransportError (connect, TLS, or protocol) if that fails or exceeds the target's
        time-out."""

    def send(self, call: Call, request: EncodedRequest) -> None:
        """Sends the request. Reconnects first if the connection is gone; `sent_ns` is set afterwards."""

    def give_up(self, call: Call, outcome: Outcome) -> None:
        """Ends a call in flight with this outcome (time-out or cancelled), and notifies the server as the protocol
        allows: RST_STREAM over HTTP/2, closing the connection over HTTP/1.1. The listener is called before this
        returns."""

    async def close(self) -> None:
        """Closes the connection. Calls in flight end as cancelled."""
