"""What is sent, as a user writes it: input files and request parameters. Raises ValueError with what is allowed."""

from __future__ import annotations

import math

from exporter.config import text
from exporter.payload.input_files import InputFiles, find_input_files

Parameter = str | int | float | bool
"""The value of a request parameter."""

_RESERVED = ("sequence_id", "sequence_start", "sequence_end", "priority", "timeout", "binary_data_output")
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


def parameter_name(name: str) -> str:
    """The name, if it is none that Triton keeps for itself."""
    if not name or not name.isprintable():
        raise ValueError("a parameter's name must be of printable characters")
    if name in _RESERVED or name.startswith(_RESERVED_PREFIX):
        raise ValueError("is a name that Triton keeps for itself")
    return name
