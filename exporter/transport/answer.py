"""An answer that was kept, so that its content can be looked at once there is time for it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, eq=False)
class Answer:
    """What came for one call: its messages, still as they came, and over HTTP the head of the response before them.
    Those of a bidirectional stream are `streamed`: they are of another kind."""

    messages: Sequence[bytes | bytearray]
    head: bytes = b""
    streamed: bool = False

    @property
    def size(self) -> int:
        """Bytes that it holds in memory, about."""
        return len(self.head) + sum(map(len, self.messages))
