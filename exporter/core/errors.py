"""The exceptions of this package.

A failed request raises nothing: it is a record with an `Outcome`. A failed sweep raises nothing either: it is a
`SweepResult` with a `Reason`. Exceptions remain for user errors, and for calls that fail before there is anything to
record.
"""

from __future__ import annotations

from exporter.core.outcome import Outcome, Reason


class TritonCanaryError(Exception):
    """Base of all exceptions that this package raises on purpose."""


class ConfigError(TritonCanaryError):
    """Invalid user input. Holds all errors found, not just the first."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


class OutputError(TritonCanaryError):
    """Standard output does not take what a command prints."""

    def __init__(self, error: OSError) -> None:
        super().__init__(f"cannot write: {error.strerror or error}")


class InputError(TritonCanaryError):
    """The configured input does not fit the model. Each error names the place, the tensor, the expected and the actual
    value. `more` counts errors that are not listed."""

    def __init__(self, *problems: str, more: int = 0) -> None:
        self.problems = problems
        self.more = more
        super().__init__("; ".join(self.lines))

    @property
    def lines(self) -> tuple[str, ...]:
        """All listed errors, then the number of unlisted ones."""
        return (*self.problems, *((f"and {self.more} more",) if self.more else ()))

    def first(self, shown: int) -> str:
        """The first `shown` errors as one text, with the number of the others."""
        hidden = len(self.problems) - shown
        return str(InputError(*self.problems[:shown], more=self.more + max(hidden, 0)))


class ProtocolError(TritonCanaryError):
    """The peer violated its protocol. Only the wire cores raise it; the core is unusable afterwards."""


class TransportError(TritonCanaryError):
    """A connection failed or was lost. `outcome` is the outcome to record."""

    def __init__(self, outcome: Outcome, text: str) -> None:
        super().__init__(text)
        self.outcome = outcome


class PreflightError(TritonCanaryError):
    """The server or the model cannot be measured. `reason` is the sweep's reason. `status` is the server's HTTP status
    number or gRPC status name, "" without one. `problems` lists all input errors; the text has only the first."""

    def __init__(self, reason: Reason, text: str, status: str = "", problems: tuple[str, ...] = ()) -> None:
        super().__init__(text)
        self.reason = reason
        self.status = status
        self.problems = problems


class WorkerLostError(TritonCanaryError):
    """The worker process ended, or was killed, before it sent its result."""

    def __init__(self, reason: Reason, text: str) -> None:
        super().__init__(text)
        self.reason = reason
