"""Every limit on input from a server or another machine: its size, and the reaction when it is exceeded.

`bounds_table` renders these lines as the table of docs/security.md. Each limit is set only here and used by name.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Bound:
    """One row of the table."""

    value: int
    unit: str
    what: str
    beyond: str

    @property
    def shown(self) -> str:
        """The value in human-readable form."""
        if self.unit == "bytes":
            for shift, unit in ((30, "GiB"), (20, "MiB"), (10, "KiB")):
                if self.value >= 1 << shift and self.value % (1 << shift) == 0:
                    return f"{self.value >> shift} {unit}"
        return f"{self.value:,} {self.unit}".rstrip()


BOUNDS: list[Bound] = []


def bound(value: int, unit: str, what: str, beyond: str) -> int:
    """Adds a row to the table and returns its value."""
    BOUNDS.append(Bound(value, unit, what, beyond))
    return value


# --- control responses: health, metadata, configuration, statistics, repository index --------------------------------
TEXT = bound(300, "characters", "a server's error text, anywhere", "made printable and one line, then cut (`…`)")
MESSAGE = bound(1000, "characters", "a whole message that a worker sends, with our own words", "the same")
NAME = bound(128, "characters", "a name or version that a server gives", "made printable, then cut")
TENSOR_NAME = bound(512, "characters", "a tensor's name", "the sweep fails as `protocol`")
CONTROL_BYTES = bound(8 << 20, "bytes", "a control response, also unpacked", "the call fails as `protocol`")
NESTING = bound(64, "levels", "JSON of a control response", "the call fails as `protocol`")
TENSORS = bound(1000, "", "inputs, and outputs, of a model", "the sweep fails as `protocol`")
DIMENSIONS = bound(32, "", "dimensions of a tensor", "the sweep fails as `protocol`")
VERSIONS = bound(1000, "", "versions of a model in its statistics", "the others are left out")
BATCH_SIZES = bound(1000, "", "batch sizes in a model's statistics", "the others are left out")
READY_MODELS = bound(10_000, "", "models of a repository index", "the others are left out, with a warning")

# --- HTTP of the load ------------------------------------------------------------------------------------------------
HTTP_HEAD = bound(64 << 10, "bytes", "an HTTP response's head", "the request fails as `protocol_error`")
HTTP_BYTES = bound(1 << 30, "bytes", "an HTTP response, also unpacked", "the request fails as `protocol_error`")
HTTP_INTERIM = bound(32, "", "interim HTTP responses (1xx) before one", "the request fails as `protocol_error`")
GZIP_MEMBERS = bound(64, "", "members of a gzip body", "what follows is left out")

SSE_EVENT = bound(1 << 20, "bytes", "a server-sent event, or a line of one", "the request fails as `protocol_error`")
TOKENS = bound(1 << 24, "", "tokens of one request, by the server's `usage`", "the count is ignored")
SESSION_TEXT = bound(
    1 << 20, "characters", "a response kept for a chat session", "the request fails as `protocol_error`"
)

RETRY_AFTER_S = bound(
    300, "s", "the pause that an overloaded server asks for (Retry-After)", "the pause is cut to this"
)

# --- gRPC of the load ------------------------------------------------------------------------------------------------
GRPC_MESSAGE = bound(128 << 20, "bytes", "a gRPC message, also unpacked", "`protocol_error`; `max_response` sets more")
GRPC_HELD = bound(256 << 20, "bytes", "gRPC responses that are under way on a connection", "the largest fails")
STREAM_RESPONSES = bound(100_000, "", "responses to one streamed request", "the request fails as `protocol_error`")
HEADER_BLOCK = bound(64 << 10, "bytes", "a block of gRPC headers or trailers, also unpacked", "its request fails")
HEADER_FLOOD = bound(1 << 20, "bytes", "a header block, before it is unpacked", "the connection fails")
HEADER_FRAMES = bound(64, "", "frames of a block of headers", "the connection fails")
HTTP2_FRAME = bound(1 << 20, "bytes", "an HTTP/2 frame", "the connection fails")
SETTINGS_BYTES = bound(1 << 10, "bytes", "a SETTINGS frame", "the connection fails")
SETTINGS_CHANGES = bound(1000, "", "SETTINGS of a connection after its first", "the connection fails")
HTTP2_ACKNOWLEDGEMENTS = bound(1000, "", "PING and SETTINGS while our responses are not read", "the connection fails")

# --- requests sized by a server's metadata ----------------------------------------------------------------------------
REQUEST_BYTES = bound(1 << 30, "bytes", "generated tensors of a request, on the wire or in memory", "`bad_input`")
SHARED_OUTPUT_BYTES = bound(4 << 30, "bytes", "outputs in shared memory, of all requests in flight", "`bad_input`")

# --- metrics pages ---------------------------------------------------------------------------------------------------
PAGE_BYTES = bound(8 << 20, "bytes", "a metrics page", "the reading fails")
PAGE_MS = bound(2000, "ms", "fetching a metrics page", "its connection is closed; the reading fails")
PAGE_LINES = bound(2000, "", "lines of a metrics page that concern the model or GPUs", "the reading fails")
PAGE_LINE = bound(8 << 10, "characters", "such a line of a metrics page", "the reading fails")
PAGE_LABELS = bound(64, "", "labels of such a line", "the reading fails")
PAGE_PARSE_MS = bound(500, "ms", "cpu time to parse a metrics page", "the reading fails")
PAGE_GPUS = bound(16, "", "GPUs, MIG instances included, by one source", "the others are left out")

# --- the web side, discovery, the archive, the page ----------------------------------------------------------------
CLIENTS = bound(
    512, "", "clients of the web side, or half of the open files that the process may have", "the longest idle one goes"
)
WAITING_PASSWORDS = bound(
    64, "", "passwords waiting to be compared", "503 for the oldest of the address that has most of them"
)
LIST_BYTES = bound(8 << 20, "bytes", "a list of `file_sd` or `http_sd`", "it is not taken; the last good one stays")
LIST_FILES = bound(1000, "", "files that one pattern of `file_sd` matches", "the list is not taken")
LIST_ADDRESSES = bound(20_000, "", "addresses in a list", "it is not taken")
LEASE_BYTES = bound(256 << 10, "bytes", "the Kubernetes API's response about a lease", "the attempt failed")
SEGMENT_BYTES = bound(
    64 << 20,
    "bytes",
    "a file of the archive, or a sixteenth of `archive.max_size`",
    "the day's rows continue in the next one; the oldest go, today's too, once the archive is over `archive.max_size`",
)
SERIES_BYTES = bound(
    512,
    "bytes",
    "a line of the metrics page, on average",
    "it counts as several series of `limits.max_series`",
)


def bounds_table() -> str:
    """The bounds as a Markdown table."""
    rows = [f"| {each.what} | {each.shown} | {each.beyond} |" for each in BOUNDS]
    return "\n".join(["| what | limit | beyond |", "|---|---|---|", *rows])
