"""The list of datatypes, held to Triton's own: its client library and its message."""

from __future__ import annotations

import numpy as np
import pytest
from tritonclient.grpc import service_pb2
from tritonclient.utils import triton_to_np_dtype

from exporter.core.datatypes import DATATYPES, HALF_FLOATS
from exporter.payload.values import dtype_of


@pytest.mark.parametrize("name", DATATYPES)
def test_sizes_are_those_of_tritons_client(name: str) -> None:
    dtype = dtype_of(name)
    assert dtype == triton_to_np_dtype(name)
    assert DATATYPES[name].size == (0 if dtype == np.object_ else dtype.itemsize)


def test_listed_elements_have_a_field_of_the_message() -> None:
    fields = set(service_pb2.InferTensorContents.DESCRIPTOR.fields_by_name)
    assert {datatype.contents for datatype in DATATYPES.values()} == fields | {""}
    assert {"FP16", "BF16"} == HALF_FLOATS


def test_codes_count_up_from_one() -> None:
    """As in TRITONSERVER_DataType, where 0 is none."""
    in_order = sorted(DATATYPES, key=lambda name: DATATYPES[name].code)
    assert [DATATYPES[name].code for name in in_order] == list(range(1, 15))
    assert in_order[-3:] == ["FP64", "BYTES", "BF16"]
