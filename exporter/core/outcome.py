"""How requests and sweeps end, and why a due sweep was skipped. Closed lists: they are label values."""

from __future__ import annotations

import enum
from collections.abc import Mapping


class Outcome(enum.IntEnum):
    """How one request ended. Closed: these are label values and the codes in the record columns."""

    OK = 0
    TIMEOUT = 1
    CONNECT_ERROR = 2
    TLS_ERROR = 3
    PROTOCOL_ERROR = 4
    CLIENT_ERROR = 5
    AUTH_ERROR = 6
    OVERLOAD = 7
    SERVER_ERROR = 8
    WRONG_OUTPUT = 9
    SEQUENCE_CONFLICT = 10
    CANCELLED = 11

    @property
    def label(self) -> str:
        """The outcome as a label value, also shown to users."""
        return self.name.lower()


class SweepStatus(enum.StrEnum):
    """How a sweep ended. `ok` and `unstable` give usable data (`up` 1); the others do not (`up` 0)."""

    OK = "ok"
    UNSTABLE = "unstable"
    ABORTED = "aborted"
    FAILED = "failed"


class Reason(enum.StrEnum):
    """Why a sweep was not ok. Closed: label values. The accompanying free text goes to log, page and archive."""

    NONE = ""
    UNSTABLE = "unstable"
    # failed: the server or the model cannot be measured
    UNREACHABLE = "unreachable"
    TLS = "tls"
    AUTH = "auth"
    PREFLIGHT_TIMEOUT = "preflight_timeout"
    PROTOCOL = "protocol"
    SERVER_NOT_LIVE = "server_not_live"
    SERVER_NOT_READY = "server_not_ready"
    MODEL_UNKNOWN = "model_unknown"
    MODEL_NOT_READY = "model_not_ready"
    BAD_INPUT = "bad_input"
    UNSUPPORTED = "unsupported"
    NO_WORKER = "no_worker"
    # aborted: it ran and was stopped
    NO_VALID_REQUESTS = "no_valid_requests"
    ERROR_RATIO = "error_ratio"
    REQUEST_BUDGET = "request_budget"
    TOKEN_BUDGET = "token_budget"  # noqa: S105  # not a password
    TIME_BUDGET = "time_budget"
    LATENCY = "latency"
    PENDING_QUEUE = "pending_queue"
    DEADLINE = "deadline"
    MODEL_CHANGED = "model_changed"
    DAEMON_STALLED = "daemon_stalled"
    WORKER_CRASH = "worker_crash"
    SHUTDOWN = "shutdown"
    INTERNAL = "internal"


class SkipReason(enum.StrEnum):
    """Why a due sweep did not run. A skip is our own decision and never changes `up`."""

    OVERLAP = "overlap"
    MISFIRE = "misfire"
    BUDGET = "budget"
    PAUSED = "paused"
    SHUTDOWN = "shutdown"


def error_ratio(outcomes: Mapping[Outcome, int]) -> float | None:
    """Failed requests over all requests, without cancelled ones; None if there were none."""
    judged = sum(count for outcome, count in outcomes.items() if outcome is not Outcome.CANCELLED)
    if judged == 0:
        return None
    return (judged - outcomes.get(Outcome.OK, 0)) / judged
