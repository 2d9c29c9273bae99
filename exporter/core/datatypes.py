"""The tensor datatypes, by their Open Inference Protocol names. All other lists derive from this one. Pure.

`payload.values.dtype_of` maps them to numpy types. It uses Triton's client library, which has a type for BF16.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, NamedTuple


class Datatype(NamedTuple):
    """Size and encodings of a datatype."""

    size: int
    """Bytes per element in binary form; 0 for strings, whose length varies."""
    code: int
    """Its number in Triton's C API (TRITONSERVER_DataType)."""
    contents: str
    """The InferTensorContents field that lists its elements; "" if the protocol only carries them raw."""


DATATYPES: Final[Mapping[str, Datatype]] = {
    "BOOL": Datatype(1, 1, "bool_contents"),
    "UINT8": Datatype(1, 2, "uint_contents"),
    "UINT16": Datatype(2, 3, "uint_contents"),
    "UINT32": Datatype(4, 4, "uint_contents"),
    "UINT64": Datatype(8, 5, "uint64_contents"),
    "INT8": Datatype(1, 6, "int_contents"),
    "INT16": Datatype(2, 7, "int_contents"),
    "INT32": Datatype(4, 8, "int_contents"),
    "INT64": Datatype(8, 9, "int64_contents"),
    "FP16": Datatype(2, 10, ""),
    "FP32": Datatype(4, 11, "fp32_contents"),
    "FP64": Datatype(8, 12, "fp64_contents"),
    "BF16": Datatype(2, 14, ""),
    "BYTES": Datatype(0, 13, "bytes_contents"),
}

HALF_FLOATS: Final = frozenset(name for name, datatype in DATATYPES.items() if not datatype.contents)
"""The datatypes that only have a binary form, and no JSON form: FP16 and BF16."""
