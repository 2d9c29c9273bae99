"""What is sent, as a user writes it: input files and request parameters. Raises ValueError with what is allowed."""

from __future__ import annotations

import math

from exporter.config import text
from exporter.payload.input_files import InputFiles, find_input_files

Parameter = str | int | float | bool
"""The value of a request parameter."""

_RESERVED = ("sequence_id", "sequence_start", "sequence_end", "binary_data_output")
_WHOLE = ("priority", "timeout")
"""Triton's own, which a request may set: whole numbers."""
_RESERVED_PREFIX = "triton_"


def parse_paths(given: object) -> InputFiles | None:
    """The files of a directory, or the JSON files, of these paths; None for an empty list."""
    if not isinstance(given, list) or not all(isinstance(path, str) for path in given):
        raise ValueError("must be a list of paths")
    return find_input_files([text.filled_path_text(path) for path in given]) if given else None


def parse_parameter(given: object) -> Parameter:
    """A request parameter's value."""
    if isinstance(given, int) and not -(2**63) <= given < 2**63:
        raise ValueError("must fit into 64 bits")
    if isinstance(given, float) and not math.isfinite(given):
        raise ValueError("must be a finite number")
    if isinstance(given, str | int | float):
        return given
    raise ValueError("must be text, a number, true or false")


def check_parameter(name: str, value: Parameter) -> None:
    """Raises ValueError for a name that Triton keeps for itself, and for a value that its own cannot have."""
    if not name or not name.isprintable():
        raise ValueError("a parameter's name must be of printable characters")
    if name in _RESERVED or name.startswith(_RESERVED_PREFIX):
        raise ValueError("is a name that Triton keeps for itself")
    if name in _WHOLE and (isinstance(value, bool) or not isinstance(value, int) or value < 0):
        raise ValueError("must be a whole number of 0 or more, as Triton has it")
