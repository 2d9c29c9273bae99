"""Input files: every form gives the values that it reports, streams and steps stay in their order, and any JSON at all
gives data or a clear error."""

from __future__ import annotations

import base64
import json
import os
import struct
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exporter.core.errors import InputError
from exporter.core.facts import ModelFacts, TensorSpec
from exporter.core.probe import InputOptions
from exporter.payload import Dataset, check_files, make_dataset
from exporter.payload.input_errors import InputErrors
from exporter.payload.input_files import find_input_files
from exporter.payload.json_file import read_json_file
from tests.builders import make_facts


def facts(*inputs: TensorSpec, outputs: tuple[TensorSpec, ...] = ()) -> ModelFacts:
    return make_facts(inputs=inputs, outputs=outputs)


def read(tmp_path: Path, model: ModelFacts, *contents: Any, **options: Any) -> Dataset:
    paths = []
    for index, content in enumerate(contents):
        path = tmp_path / f"{index}.json"
        path.write_bytes(content if isinstance(content, bytes) else json.dumps(content).encode())
        paths.append(str(path))
    return make_dataset(model, InputOptions(source="files", paths=tuple(paths), **options))


def one(tmp_path: Path, spec: TensorSpec, tensor: Any) -> Any:
    (step,) = read(tmp_path, facts(spec), {"data": [{spec.name: tensor}]}).steps
    return step.inputs[spec.name]


VALUES: list[tuple[str, list[Any], list[Any]]] = [
    ("BOOL", [True, False], [True, False]),
    ("INT8", [-128, 127], [-128, 127]),
    ("INT16", [-32768, 32767], [-32768, 32767]),
    ("INT32", [-(2**31), 2**31 - 1], [-(2**31), 2**31 - 1]),
    ("INT64", [-(2**63), 2**63 - 1], [-(2**63), 2**63 - 1]),
    ("UINT8", [0, 255], [0, 255]),
    ("UINT16", [0, 65535], [0, 65535]),
    ("UINT32", [0, 2**32 - 1], [0, 2**32 - 1]),
    ("UINT64", [0, 2**64 - 1], [0, 2**64 - 1]),
    ("FP16", [1, 65504.0], [1.0, 65504.0]),
    ("BF16", [1, 1.0078125], [1.0, 1.0078125]),
    ("FP32", [0.1, 2**24], [float(np.float32(0.1)), 16777216.0]),
    ("FP64", [0.1, 10**30], [0.1, 1e30]),
    ("FP32", [1, 2], [1.0, 2.0]),
    ("FP32", [float("nan"), float("-inf")], [float("nan"), float("-inf")]),
    ("FP16", [float("inf"), 2], [float("inf"), 2.0]),
    ("FP64", [2**64, 2.5], [2.0**64, 2.5]),
    ("FP64", [10**30, 10**31], [1e30, 1e31]),
    ("BYTES", ["", "a\0b"], [b"", b"a\0b"]),
    ("BYTES", ["é", "𝄞"], ["é".encode(), "𝄞".encode()]),
]


@pytest.mark.parametrize(("datatype", "given_values", "expected"), VALUES)
@pytest.mark.parametrize("form", ["array", "content"])
def test_values(tmp_path: Path, datatype: str, given_values: list[Any], expected: list[Any], form: str) -> None:
    tensor = given_values if form == "array" else {"content": given_values, "shape": [2]}
    found = one(tmp_path, TensorSpec("X", datatype, (2,)), tensor)
    np.testing.assert_array_equal(np.array(found.tolist(), found.dtype), np.array(expected, found.dtype))
    assert [type(value) for value in found.tolist()] == [type(value) for value in expected]


RAW: list[tuple[str, bytes, list[Any]]] = [
    ("BOOL", b"\1\0", [True, False]),
    ("INT32", struct.pack("<2i", -7, 9), [-7, 9]),
    ("FP16", np.array([1.5, -2], np.float16).tobytes(), [1.5, -2.0]),
    ("BF16", np.array([1.5, -2], ml_dtypes.bfloat16).tobytes(), [1.5, -2.0]),
    ("FP64", struct.pack("<2d", 0.1, 1e300), [0.1, 1e300]),
    ("BYTES", b"\0\0\0\0\2\0\0\0\0\xff", [b"", b"\0\xff"]),
]


@pytest.mark.parametrize(("datatype", "data", "expected"), RAW)
@pytest.mark.parametrize("form", ["b64", "content"])
def test_raw_bytes(tmp_path: Path, datatype: str, data: bytes, expected: list[Any], form: str) -> None:
    raw = {"b64": base64.b64encode(data).decode()}
    found = one(tmp_path, TensorSpec("X", datatype, (2,)), raw if form == "b64" else {"content": raw, "shape": [2]})
    assert found.tolist() == expected


SHAPES: list[tuple[tuple[int, ...], Any, tuple[int, ...]]] = [
    ((2, 3), [1, 2, 3, 4, 5, 6], (2, 3)),
    ((-1,), [1, 2, 3], (3,)),
    ((-1, 2), [1, 2, 3, 4], (2, 2)),
    ((2, -1), [1, 2, 3, 4, 5, 6], (2, 3)),
    ((-1,), [], (0,)),
    ((-1, -1), {"content": [1, 2], "shape": [2, 1]}, (2, 1)),
    ((-1, 2), {"content": [], "shape": [0, 2]}, (0, 2)),
    ((), [5], ()),
    ((), {"content": [5], "shape": []}, ()),
]


@pytest.mark.parametrize(("shape", "tensor", "expected"), SHAPES)
def test_shapes(tmp_path: Path, shape: tuple[int, ...], tensor: Any, expected: tuple[int, ...]) -> None:
    found = one(tmp_path, TensorSpec("X", "FP32", shape), tensor)
    content = tensor["content"] if isinstance(tensor, dict) else tensor
    assert found.shape == expected
    assert found.ravel().tolist() == content


def test_a_shape_of_the_configuration_stands_for_the_models(tmp_path: Path) -> None:
    model = facts(TensorSpec("X", "FP32", (-1, -1)))
    (step,) = read(tmp_path, model, {"data": [{"X": [1, 2, 3, 4]}]}, shapes=(("X", (1, 4)),)).steps
    assert step.inputs["X"].shape == (1, 4)
    with pytest.raises(InputError, match=r"expected shape \[1,4\] \(without the batch dimension\), found \[2,2\]"):
        read(tmp_path, model, {"data": [{"X": {"content": [1, 2, 3, 4], "shape": [2, 2]}}]}, shapes=(("X", (1, 4)),))
    with pytest.raises(InputError, match=r"batch_size 9: .*; input\.shapes: 'Y' is not an input"):
        read(tmp_path, model, {"data": []}, shapes=(("Y", (1, 4)),), batch_size=9)


def values(dataset: Dataset) -> list[list[float]]:
    return [[float(step.inputs["X"][0]) for step in stream] for stream in dataset.streams]


X = facts(TensorSpec("X", "FP32", (1,)))


def steps(*numbers: float) -> list[dict[str, list[float]]]:
    return [{"X": [number]} for number in numbers]


def test_flat_files_are_one_stream_and_files_of_streams_add_theirs(tmp_path: Path) -> None:
    assert values(read(tmp_path, X, {"data": steps(1, 2)}, {"data": steps(3)})) == [[1, 2, 3]]
    many = read(tmp_path, X, {"data": [steps(1, 2), steps(3)]}, {"data": [steps(4)]})
    assert values(many) == [[1, 2], [3], [4]]
    assert [step.place.rpartition("/")[2] for step in many.steps] == [
        "0.json: stream 0, step 0",
        "0.json: stream 0, step 1",
        "0.json: stream 1, step 0",
        "1.json: stream 0, step 0",
    ]


def test_an_optional_input_is_sent_where_it_is_given_and_a_model_name_is_ignored(tmp_path: Path) -> None:
    model = facts(TensorSpec("X", "FP32", (1,)), TensorSpec("O", "INT32", (1,), optional=True))
    first, second = read(tmp_path, model, {"data": [{"X": [1], "model": "m"}, {"X": [2], "O": [3]}]}).steps
    assert list(first.inputs) == ["X"]
    assert second.inputs["O"].tolist() == [3]


def test_expected_outputs(tmp_path: Path) -> None:
    outputs = (TensorSpec("S", "FP32", (-1,)), TensorSpec("T", "BYTES", (1,)))
    model = facts(TensorSpec("X", "FP32", (1,)), outputs=outputs)
    expected = [{"S": [1, 2], "T": ["a"]}, {}, {"responses": [{"S": [1]}, {"S": [2]}]}]
    first, second, third = read(tmp_path, model, {"data": steps(1, 2, 3), "validation_data": expected}).steps
    assert [{name: tensor.tolist() for name, tensor in response.items()} for response in first.expected] == [
        {"S": [1.0, 2.0], "T": [b"a"]}
    ]
    assert second.expected == ()
    assert [response["S"].tolist() for response in third.expected] == [[1.0], [2.0]]


def test_a_byte_order_mark_does_no_harm_and_lines_are_counted_after_it(tmp_path: Path) -> None:
    mark = b"\xef\xbb\xbf"
    assert values(read(tmp_path, X, mark + b'{"data": [{"X": [1]}]}')) == [[1]]
    with pytest.raises(InputError, match=r"0\.json:2: is not JSON: Invalid value \(column 3\)"):
        read(tmp_path, X, mark + b'{"data":\n  ]}')


def test_progress_is_reported(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_bytes(b'{"data": [{"X": [1]}]}' + b" " * (2 << 20))
    reported: list[tuple[Path, int, int]] = []
    check_files((str(path),), lambda *news: reported.append(news))
    size = (2 << 20) + 22
    assert [read for _, read, _ in reported] == [1 << 20, 2 << 20, size, size]
    assert {(path, size)} == {(path, size) for path, _, size in reported}


# --- directories -----------------------------------------------------------------------------------------------------


def test_a_directory(tmp_path: Path) -> None:
    inputs = TensorSpec("X", "FP32", (2,)), TensorSpec("W", "BYTES", (-1,))
    model = facts(*inputs, outputs=(TensorSpec("S", "INT8", (2,)),))
    (tmp_path / "X").write_bytes(struct.pack("<2f", 1.5, -2))
    (tmp_path / "W").write_bytes(b"one\r\ntwo \xff\n\nfour")
    (tmp_path / "S").write_bytes(b"\1\xff")
    (tmp_path / ".hidden").write_bytes(b"")
    (tmp_path / "folder").mkdir()
    (step,) = make_dataset(model, InputOptions(source="files", paths=(str(tmp_path),))).steps
    assert {name: tensor.tolist() for name, tensor in step.inputs.items()} == {
        "X": [1.5, -2.0],
        "W": [b"one", b"two \xff", b"", b"four"],
    }
    assert [{name: tensor.tolist() for name, tensor in response.items()} for response in step.expected] == [
        {"S": [1, -1]}
    ]


def test_what_is_expected_in_a_shape_that_only_json_can_state(tmp_path: Path) -> None:
    """There is no option for an output's shape, so none is named."""
    model = facts(TensorSpec("X", "FP32", (1,)), outputs=(TensorSpec("S", "INT8", (-1, -1)),))
    (tmp_path / "X").write_bytes(struct.pack("<f", 1.5))
    (tmp_path / "S").write_bytes(b"\1\2\3\4")
    with pytest.raises(InputError) as caught:
        make_dataset(model, InputOptions(source="files", paths=(str(tmp_path),)))
    problem = "its shape [-1,-1] has several dimensions that vary: give 'shape' beside 'content' in a JSON file"
    assert str(caught.value) == f"{tmp_path}, tensor 'S': {problem}"


@pytest.mark.parametrize(
    ("names", "problem"),
    [
        (["empty"], "{0}/empty: has 0 files; from 1 to 1000 are allowed"),
        (["empty", "a.json"], "{0}/empty: a directory excludes other paths; give one directory, or JSON files"),
        (["pipe"], "{0}/pipe: is not a file"),
        (["none.json"], "{0}/none.json: cannot be read: No such file or directory"),
    ],
)
def test_paths_that_are_no_input(tmp_path: Path, names: list[str], problem: str) -> None:
    (tmp_path / "empty").mkdir()
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "a.json").write_text("{}")
    with pytest.raises(InputError) as caught:
        check_files([str(tmp_path / name) for name in names])
    assert str(caught.value) == problem.format(tmp_path)


def test_files_that_changed_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text(json.dumps({"data": steps(1)}))
    options = InputOptions(source="files", paths=(str(path),), files_digest=find_input_files([str(path)]).digest)
    assert values(make_dataset(X, options)) == [[1]]
    path.write_text(json.dumps({"data": steps(22)}))
    with pytest.raises(InputError, match=r"a\.json: has changed since the configuration was read; reload it"):
        make_dataset(X, options)


# --- any JSON --------------------------------------------------------------------------------------------------------

SCALARS = st.one_of(
    st.none(), st.booleans(), st.integers(), st.integers(-(10**40), 10**40), st.floats(), st.text(max_size=5)
)
KEYS = st.sampled_from(["data", "validation_data", "X", "W", "S", "content", "shape", "b64", "responses", "model"])
TREES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS | st.text(max_size=3), inner, max_size=3),
    max_leaves=12,
)
TENSORS = st.one_of(
    TREES,
    st.lists(SCALARS, max_size=3),
    st.fixed_dictionaries({"content": st.lists(SCALARS, max_size=3)}, optional={"shape": st.lists(st.integers(-1, 3))}),
    st.fixed_dictionaries({"b64": st.binary(max_size=12).map(lambda data: base64.b64encode(data).decode())}),
)
STEPS = st.dictionaries(st.sampled_from(["X", "W", "S", "responses"]), TENSORS, max_size=3)
STREAMS = st.lists(STEPS, max_size=3) | st.lists(st.lists(STEPS, max_size=2), max_size=2)
ROOTS = TREES | st.fixed_dictionaries({"data": STREAMS}, optional={"validation_data": STREAMS})
MODEL = facts(
    TensorSpec("X", "FP16", (-1,)),
    TensorSpec("W", "BYTES", (1,), optional=True),
    outputs=(TensorSpec("S", "UINT8", (-1, 2)),),
)


@settings(max_examples=300, deadline=None)
@given(ROOTS)
def test_any_json_gives_data_or_a_clear_error(tmp_path_factory: pytest.TempPathFactory, root: Any) -> None:
    path = tmp_path_factory.getbasetemp() / "any.json"
    path.write_text(json.dumps(root))
    problems: tuple[str, ...] = ()
    try:
        dataset = make_dataset(MODEL, InputOptions(source="files", paths=(str(path),)))
    except InputError as error:
        dataset, problems = Dataset(()), error.problems
    assert bool(dataset.steps) != bool(problems)
    assert all(problem.startswith(f"{path}") and len(problem) < 1000 for problem in problems)
    for step in dataset.steps:
        assert step.inputs["X"].dtype == np.float16
        assert all(response["S"].shape[1] == 2 for response in step.expected if response)


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=40) | st.text('[]{}",:0123456789.eE+-NaInfity \n\\u', max_size=40).map(str.encode))
def test_any_bytes_give_data_or_a_clear_error(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "any-bytes.json"
    path.write_bytes(content)
    problems = InputErrors()
    assert (read_json_file(path, problems) is None) == (len(problems) > 0)


@given(st.lists(st.integers(-(2**31), 2**31 - 1), max_size=30))
def test_what_was_written_is_read(tmp_path_factory: pytest.TempPathFactory, numbers: list[int]) -> None:
    path = tmp_path_factory.getbasetemp() / "numbers.json"
    path.write_text(json.dumps({"data": [{"X": numbers}]}))
    (step,) = make_dataset(
        facts(TensorSpec("X", "INT32", (-1,))), InputOptions(source="files", paths=(str(path),))
    ).steps
    assert step.inputs["X"].tolist() == numbers
