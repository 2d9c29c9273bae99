"""Every bound on what a server, or another machine, sends us: how much, where it is checked, and what happens beyond.

docs/security.md has these lines as a table, made by `bounds_table`. A bound is used by its name, and set only here.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Bound:
    """One line of the table."""

    value: int
    unit: str
    what: str
    beyond: str

    @property
    def shown(self) -> str:
        """The value as people read it."""
        if self.unit == "bytes":
            for shift, unit in ((30, "GiB"), (20, "MiB"), (10, "KiB")):
                if self.value >= 1 << shift and self.value % (1 << shift) == 0:
                    return f"{self.value >> shift} {unit}"
        return f"{self.value:,} {self.unit}".rstrip()


BOUNDS: list[Bound] = []


def bound(value: int, unit: str, what: str, beyond: str) -> int:
    """The value, which is listed from now on."""
    BOUNDS.append(Bound(value, unit, what, beyond))
    return value


# --- control responses: health, metadata, configuration, statistics, repository index ---------------------------------
TEXT = bound(300, "characters", "a server's error text, anywhere", "made printable and one line, then cut (`…`)")
NAME = bound(128, "characters", "a name or version that a server gives: label values, facts", "made printable, cut")
TENSOR_NAME = bound(512, "characters", "a tensor's name", "the sweep fails as `protocol`")
CONTROL_BYTES = bound(
    8 << 20, "bytes", "a control response, HTTP and gRPC, also unpacked", "the call fails as `protocol`"
)
NESTING = bound(64, "levels", "JSON of a control response", "the call fails as `protocol`")
TENSORS = bound(1000, "", "inputs, and outputs, of a model", "the sweep fails as `protocol`")
DIMENSIONS = bound(32, "", "dimensions of a tensor (as many as numpy has)", "the sweep fails as `protocol`")
VERSIONS = bound(1000, "", "versions of a model with statistics", "the others are left out")
BATCH_SIZES = bound(1000, "", "batch sizes in a model's statistics", "the others are left out")
READY_MODELS = bound(10_000, "", "models of a repository index", "the others are left out, and a warning is logged")

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
SEGMENT_BYTES = bound(
    64 << 20,
    "bytes",
    "a file of the archive, or a sixteenth of `archive.max_size`",
    "the day's rows go on in the next one; the oldest go, today's too, once the archive is over `archive.max_size`",
)
SERIES_BYTES = bound(
    512, "bytes", "a line of the metrics page, on average", "it takes the room of several series of `limits.max_series`"
)


def bounds_table() -> str:
    """The bounds as a Markdown table."""
    rows = [f"| {each.what} | {each.shown} | {each.beyond} |" for each in BOUNDS]
    return "\n".join(["| what | limit | beyond |", "|---|---|---|", *rows])
