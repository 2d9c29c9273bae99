"""The few exceptions of this package.

A failed request is never an exception: it is a record with an `Outcome`. A failed sweep is never an exception
either: it is a `SweepResult` with a `Reason`. What is left are the user's mistakes and the ways in which a call to
a server can go wrong before there is anything to record.
"""

from __future__ import annotations

from exporter.core.outcome import Outcome, Reason


class TritonCanaryError(Exception):
    """Base of everything that this package raises on purpose."""


class ConfigError(TritonCanaryError):
    """What a user wrote cannot be used. Holds every error found, not the first."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


class InputError(TritonCanaryError):
    """The input asked for does not fit the model; each error names the place, the tensor, what was expected and what
    was found. `more` is how many further ones are only counted."""

    def __init__(self, *problems: str, more: int = 0) -> None:
        self.problems = problems
        self.more = more
        super().__init__("; ".join(self.lines))

    @property
    def lines(self) -> tuple[str, ...]:
        """All errors, and the number of those that are only counted."""
        return (*self.problems, *((f"and {self.more} more",) if self.more else ()))

    def first(self, shown: int) -> str:
        """The first errors as one text, with the number of the others."""
        hidden = len(self.problems) - shown
        return str(InputError(*self.problems[:shown], more=self.more + max(hidden, 0)))


class ProtocolError(TritonCanaryError):
    """The peer broke its protocol. Raised by the wire cores alone; after it a core is of no more use."""


class TransportError(TritonCanaryError):
    """A connection could not be made or was lost; has the outcome as which it counts."""

    def __init__(self, outcome: Outcome, text: str) -> None:
        super().__init__(text)
        self.outcome = outcome


class PreflightError(TritonCanaryError):
    """The server or the model is not fit to be measured; has the reason for which the sweep fails, and what status the
    server gave, by HTTP's number or gRPC's name, if it gave one. `faults` are those of input, one by one, where the
    text has only the first of them."""

    def __init__(self, reason: Reason, text: str, status: str = "", problems: tuple[str, ...] = ()) -> None:
        super().__init__(text)
        self.reason = reason
        self.status = status
        self.problems = problems


class WorkerLostError(TritonCanaryError):
    """The worker process ended, or had to be ended, before it sent its result."""

    def __init__(self, reason: Reason, text: str) -> None:
        super().__init__(text)
        self.reason = reason
