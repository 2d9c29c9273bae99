"""Generated tensors: the right inputs in the right shapes, with values that a model can compute with."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tritonclient.utils import np_to_triton_dtype

from exporter.core.errors import InputError
from exporter.core.facts import ModelFacts, TensorSpec
from exporter.core.probe import InputOptions
from exporter.payload import make_steps
from tests.builders import make_facts

DATATYPES = [
    *("BOOL", "INT8", "INT16", "INT32", "INT64", "UINT8", "UINT16", "UINT32", "UINT64"),
    *("FP16", "FP32", "FP64", "BF16", "BYTES"),
]


def facts(*inputs: TensorSpec, max_batch_size: int = 8) -> ModelFacts:
    return make_facts(inputs=inputs, max_batch_size=max_batch_size)


@pytest.mark.parametrize("datatype", DATATYPES)
@pytest.mark.parametrize("source", ["random", "zero"])
def test_every_datatype(datatype: str, source: str) -> None:
    options = InputOptions(source=source, batch_size=3, string_length=7)
    (step,) = make_steps(facts(TensorSpec("X", datatype, (40, 5))), options)
    tensor: Any = step["X"]
    assert tensor.shape == (3, 40, 5)
    assert np_to_triton_dtype(tensor.dtype) == datatype
    if datatype == "BYTES":
        assert {len(string) for string in tensor.flat} == {7 if source == "random" else 0}
        assert all(isinstance(string, bytes) and string.isascii() for string in tensor.flat)
        return
    values = tensor.astype(np.float64)
    assert np.isfinite(values).all()
    if source == "zero":
        assert not values.any()
    else:
        low, high = {"INT8": (-128, 127), "UINT8": (0, 255)}.get(datatype, (0, 99))
        assert values.min() >= low
        assert values.max() <= (1 if datatype in ("BOOL", "FP16", "FP32", "FP64", "BF16") else high)
        assert len(np.unique(values)) > 1


def test_the_seed_decides_and_each_input_has_values_of_its_own() -> None:
    first, second = TensorSpec("A", "FP32", (16,)), TensorSpec("B", "FP32", (16,))
    (step,) = make_steps(facts(first, second), InputOptions())
    (again,) = make_steps(facts(second, first), InputOptions())
    (other,) = make_steps(facts(first, second), InputOptions(seed=1))
    assert {name: tensor.tolist() for name, tensor in step.items()} == {n: t.tolist() for n, t in again.items()}
    assert step["A"].tolist() != step["B"].tolist()
    assert step["A"].tolist() != other["A"].tolist()


def shaped(**shapes: tuple[int, ...]) -> InputOptions:
    return InputOptions(shapes=tuple(shapes.items()))


SHAPES: dict[str, tuple[ModelFacts, InputOptions, dict[str, tuple[int, ...]]]] = {
    "batched": (facts(TensorSpec("X", "FP32", (2, 3))), InputOptions(batch_size=4), {"X": (4, 2, 3)}),
    "largest batch": (facts(TensorSpec("X", "FP32", (2,))), InputOptions(batch_size=8), {"X": (8, 2)}),
    "unbatched": (facts(TensorSpec("X", "FP32", (2, 3)), max_batch_size=0), InputOptions(), {"X": (2, 3)}),
    "scalar": (facts(TensorSpec("X", "FP32", ()), max_batch_size=0), InputOptions(), {"X": ()}),
    "varying": (facts(TensorSpec("X", "FP32", (-1, 3))), shaped(X=(7, 3)), {"X": (1, 7, 3)}),
    "override of a fixed shape by the same": (facts(TensorSpec("X", "FP32", (2,))), shaped(X=(2,)), {"X": (1, 2)}),
    "optional": (
        facts(TensorSpec("X", "FP32", (2,)), TensorSpec("O", "FP32", (3,), optional=True)),
        InputOptions(),
        {"X": (1, 2), "O": (1, 3)},
    ),
    "only optional": (facts(TensorSpec("O", "FP32", (3,), optional=True)), InputOptions(), {"O": (1, 3)}),
    "optional left out": (
        facts(TensorSpec("X", "FP32", (2,)), TensorSpec("O", "FP32", (3,), optional=True)),
        InputOptions(optional_inputs="omit"),
        {"X": (1, 2)},
    ),
    "of two alternatives the one asked for": (
        facts(*(TensorSpec(name, "BYTES", (1,), optional=True, alternative=True) for name in ("FILE", "BODY"))),
        shaped(BODY=(1,)),
        {"BODY": (1, 1)},
    ),
    "optional and not to be known": (
        facts(
            TensorSpec("X", "FP32", (2,)),
            TensorSpec("O", "FP32", (-1,), optional=True),
            TensorSpec("SHAPE", "INT32", (2,), optional=True, shape_tensor=True),
            TensorSpec("FUTURE", "FP8", (2,), optional=True),
        ),
        InputOptions(),
        {"X": (1, 2)},
    ),
    "optional asked for": (
        facts(TensorSpec("X", "FP32", (2,)), TensorSpec("O", "FP32", (-1,), optional=True)),
        shaped(O=(3,)),
        {"X": (1, 2), "O": (1, 3)},
    ),
}


@pytest.mark.parametrize(("model", "options", "shapes"), SHAPES.values(), ids=SHAPES)
def test_shapes(model: ModelFacts, options: InputOptions, shapes: dict[str, tuple[int, ...]]) -> None:
    (step,) = make_steps(model, options)
    assert {name: tensor.shape for name, tensor in step.items()} == shapes


INPUT = TensorSpec("INPUT0", "FP32", (-1, 3))
ERRORS = {
    "unresolved": (
        facts(INPUT),
        InputOptions(),
        "input 'INPUT0' has shape [-1,3], with a dimension that varies: give its size by input.shapes, "
        "as {INPUT0: [1, 3]}",
    ),
    "rank": (
        facts(INPUT),
        shaped(INPUT0=(7,)),
        "input 'INPUT0': expected shape [-1,3] (without the batch dimension) of 2 dimensions, found [7] of 1",
    ),
    "fixed dimension": (
        facts(INPUT),
        shaped(INPUT0=(7, 4)),
        "input 'INPUT0': expected shape [-1,3] (without the batch dimension), found [7,4]",
    ),
    "zero dimension": (
        facts(INPUT),
        shaped(INPUT0=(0, 3)),
        "input 'INPUT0': expected dimensions of 1 or more, found [0,3]",
    ),
    "unknown name": (
        facts(TensorSpec("INPUT0", "FP32", (3,))),
        shaped(INPUTO=(3,)),
        "input.shapes: 'INPUTO' is not an input of model 'addsub': did you mean 'INPUT0'?",
    ),
    "name like no other": (
        facts(TensorSpec("INPUT0", "FP32", (3,))),
        shaped(zzz=(3,)),
        "input.shapes: 'zzz' is not an input of model 'addsub': it has 'INPUT0'",
    ),
    "batch too large": (
        facts(TensorSpec("X", "FP32", (3,))),
        InputOptions(batch_size=9),
        "batch_size 9: model 'addsub' takes at most 8",
    ),
    "batch without batching": (
        facts(TensorSpec("X", "FP32", (3,)), max_batch_size=0),
        InputOptions(batch_size=2),
        "batch_size 2: model 'addsub' does no batching (its max_batch_size is 0)",
    ),
    "nothing to send": (
        facts(TensorSpec("O", "FP32", (3,), optional=True)),
        InputOptions(optional_inputs="omit"),
        "every input is optional, and none would be sent: give input.shapes for those to send",
    ),
    "no batch": (facts(), InputOptions(batch_size=0), "batch_size 0: must be 1 or more"),
    "several": (
        facts(INPUT, TensorSpec("X", "FP32", (-1,))),
        InputOptions(batch_size=9),
        "batch_size 9: model 'addsub' takes at most 8; "
        "input 'INPUT0' has shape [-1,3], with a dimension that varies: give its size by input.shapes, "
        "as {INPUT0: [1, 3]}; "
        "input 'X' has shape [-1], with a dimension that varies: give its size by input.shapes, as {X: [1]}",
    ),
    "datatype": (
        facts(TensorSpec("X", "FP8", (3,))),
        InputOptions(),
        "datatype 'FP8' is none that can be generated",
    ),
    "size": (
        facts(TensorSpec("X", "FP32", (-1, -1))),
        shaped(X=(100_000, 100_000)),
        "inputs 'X' [1,100000,100000] have 40000000000 bytes in all: expected at most 1073741824",
    ),
}


@pytest.mark.parametrize(("model", "options", "text"), ERRORS.values(), ids=ERRORS)
def test_errors(model: ModelFacts, options: InputOptions, text: str) -> None:
    with pytest.raises(InputError) as caught:
        make_steps(model, options)
    assert str(caught.value) == text


@given(
    shape=st.lists(st.sampled_from([-1, 1, 2, 3]), max_size=4).map(tuple),
    given_shape=st.lists(st.integers(-1, 3), max_size=4).map(tuple),
)
def test_an_override_is_taken_exactly_if_it_matches(shape: tuple[int, ...], given_shape: tuple[int, ...]) -> None:
    matches = (
        len(shape) == len(given_shape)
        and all(got >= 1 for got in given_shape)
        and all(want in (-1, got) for want, got in zip(shape, given_shape, strict=True))
    )
    try:
        (step,) = make_steps(facts(TensorSpec("X", "UINT8", shape)), shaped(X=given_shape))
    except InputError:
        assert not matches
    else:
        assert matches
        assert step["X"].shape == (1, *given_shape)


def test_string_data() -> None:
    model = facts(TensorSpec("X", "BYTES", (2,)))
    for source in ("random", "zero"):
        (step,) = make_steps(model, InputOptions(source=source, string_data="é"))
        assert step["X"].tolist() == [["é".encode()] * 2]


def test_a_shape_tensor_is_not_made_up() -> None:
    with pytest.raises(InputError, match="input 'X' is a shape tensor: its values can only be given, by files"):
        make_steps(facts(TensorSpec("X", "INT32", (2,), shape_tensor=True)), InputOptions())
