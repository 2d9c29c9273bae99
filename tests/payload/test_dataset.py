"""From steps to requests: batches in perf_analyzer's order, each step as often as the others."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.core.errors import InputError
from exporter.core.facts import TensorSpec
from exporter.payload import Dataset, Step, batch, dataset, round_robin
from tests.builders import make_facts

FACTS = make_facts(
    inputs=(TensorSpec("X", "INT32", (-1,)), TensorSpec("S", "INT32", (1,), shape_tensor=True)),
    outputs=(TensorSpec("Y", "INT32", (1,)),),
)
UNBATCHED = make_facts(max_batch_size=0, inputs=(TensorSpec("X", "INT32", (1,)),))


def step(value: int, **expected: Any) -> Step:
    outputs = ({name: np.array([number]) for name, number in expected.items()},) if expected else ()
    return Step({"X": np.array([value], np.int32)}, outputs, f"step {value}")


def sent(requests: list[Step]) -> list[list[int]]:
    return [request.inputs["X"].ravel().tolist() for request in requests]


@pytest.mark.parametrize(
    ("steps", "batch_size", "expected"),
    [
        (3, 1, [[0], [1], [2]]),
        (3, 2, [[0, 1], [2, 0], [1, 2]]),
        (4, 2, [[0, 1], [2, 3]]),
        (1, 3, [[0, 0, 0]]),
        (2, 5, [[0, 1, 0, 1, 0], [1, 0, 1, 0, 1]]),
    ],
)
def test_the_order_is_perf_analyzers(steps: int, batch_size: int, expected: list[list[int]]) -> None:
    assert sent(round_robin([step(value) for value in range(steps)], FACTS, batch_size)) == expected


@given(st.integers(1, 30), st.integers(1, 12))
def test_all_steps_are_sent_equally_often_and_in_turn(steps: int, batch_size: int) -> None:
    requests = sent(round_robin([step(value) for value in range(steps)], FACTS, batch_size))
    flat = [value for request in requests for value in request]
    assert flat == [index % steps for index in range(len(flat))]
    assert len(set(Counter(flat).values())) == 1


def test_so_many_copies_as_the_memory_has_no_capacity_for_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """65 steps of 10 numbers, and an expected one: with a batch of 32 each is in 32 of 65 requests."""
    steps = [
        Step({"X": np.zeros(10, np.float32)}, ({"Y": np.zeros(1, np.int32)},), f"step {number}") for number in range(65)
    ]
    monkeypatch.setattr(dataset, "MAX_COPIED_BYTES", 65 * 44 * 32)
    requests = round_robin(steps, FACTS, 32)
    assert sum(tensor.nbytes for request in requests for tensor in request.inputs.values()) == 65 * 40 * 32
    monkeypatch.setattr(dataset, "MAX_COPIED_BYTES", 65 * 44 * 32 - 1)
    with pytest.raises(InputError) as caught:
        round_robin(steps, FACTS, 32)
    assert str(caught.value) == (
        "step 0 and step 64: 65 steps: expected at most 91519 bytes of requests, found 91520: a number of steps that "
        "is a multiple of input.batch_size, 32, needs 32 times less"
    )
    # Without a copy they are as many as the data is large.
    assert len(round_robin(steps[:64], FACTS, 32)) == 2
    assert len(round_robin(steps, FACTS, 1)) == 65


def test_copies_of_texts_count_their_letters(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dataset, "MAX_COPIED_BYTES", 3 * 1000)
    texts = [Step({"X": np.array([b"x" * 1001], np.object_)}, (), "a")]
    with pytest.raises(InputError, match="found 3003: "):
        round_robin(texts, FACTS, 3)


def test_all_streams_are_sent() -> None:
    dataset = Dataset(((step(0), step(1)), (step(2),)))
    assert sent(round_robin(dataset.steps, UNBATCHED, 1)) == [[0], [1], [2]]


def test_a_batch_of_one_stream() -> None:
    request = batch([step(value, Y=10 * value) for value in range(3)], 2, FACTS, 2)
    assert request.inputs["X"].tolist() == [[2], [0]]
    assert request.expected[0]["Y"].tolist() == [[20], [0]]
    assert request.inputs["X"].dtype == np.int32


def test_a_shape_tensor_is_sent_once() -> None:
    first, second = (Step({"S": np.array([4], np.int32)}, place=place) for place in ("a", "b"))
    assert batch([first, second], 0, FACTS, 2).inputs["S"].tolist() == [4]
    other = Step({"S": np.array([5], np.int32)}, place="c")
    with pytest.raises(InputError) as caught:
        batch([first, other], 0, FACTS, 2)
    assert str(caught.value) == "a and c: shape tensor 'S': expected the same values in one batch"


@pytest.mark.parametrize(
    ("first", "second", "problem"),
    [
        (
            step(0),
            Step({"X": np.array([1, 2], np.int32)}, place="b"),
            "step 0 and b: tensor 'X': expected the same shape in one batch, found [1] and [2]",
        ),
        (
            step(0),
            Step({}, place="b"),
            "step 0 and b: expected the same inputs in one batch, found 'X' and none",
        ),
        (step(0, Y=1), step(1), "step 0 and step 1: expected the same number of responses in one batch"),
        (
            step(0, Y=1),
            step(1, Z=1),
            "step 0 and step 1: expected the same expected outputs in one batch, found 'Y' and 'Z'",
        ),
    ],
)
def test_steps_that_do_not_fit_together(first: Step, second: Step, problem: str) -> None:
    with pytest.raises(InputError) as caught:
        round_robin([first, second], FACTS, 2)
    assert str(caught.value) == problem
    assert len(round_robin([first, second], FACTS, 1)) == 2
