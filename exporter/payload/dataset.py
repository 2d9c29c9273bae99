"""The data of a probe as the load takes it: streams of steps, and how steps become the requests of a batch.

A step is one inference: its tensors have no batch dimension. Models without sequences get all steps of all streams in
turn; a sequence gets the steps of one stream.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from exporter.core.errors import InputError
from exporter.core.facts import ModelFacts
from exporter.payload.shapes import shape_text

MAX_COPIED_BYTES = 1 << 30
"""Of requests in which steps occur several times. They are in memory twice: as tensors, and encoded."""

Tensor = npt.NDArray[np.generic]
Tensors = Mapping[str, Tensor]


@dataclass(frozen=True, slots=True, eq=False)
class Step:
    """The inputs of one inference, and what is expected of its responses: one mapping of outputs for each response,
    none where nothing is expected. `place` is the step's place, for messages."""

    inputs: Tensors
    expected: tuple[Tensors, ...] = ()
    place: str = ""


@dataclass(frozen=True, slots=True, eq=False)
class Dataset:
    """What is sent. No stream is empty."""

    streams: tuple[tuple[Step, ...], ...]

    @property
    def steps(self) -> tuple[Step, ...]:
        """All steps of all streams, in their order."""
        return tuple(step for stream in self.streams for step in stream)


def round_robin(steps: Sequence[Step], facts: ModelFacts, batch_size: int) -> list[Step]:
    """The requests that are sent in turn until they begin again, with the batch dimension where the model has one.

    Element i of the k-th request is step (k * batch_size + i) mod steps, as in perf_analyzer, so that all steps are
    sent equally often: each occurs in batch_size / gcd(steps, batch_size) of them. Raises InputError where steps that
    meet in one batch do not fit together, or where so many copies are too much for the memory.
    """
    if facts.max_batch_size == 0:
        return list(steps)
    requests = len(steps) // math.gcd(len(steps), batch_size)
    copies = requests * batch_size // len(steps)
    if copies > 1:
        _refuse_too_much(steps, batch_size, copies)
    return [batch(steps, index * batch_size, facts, batch_size) for index in range(requests)]


def _refuse_too_much(steps: Sequence[Step], batch_size: int, copies: int) -> None:
    size = copies * sum(
        _bytes(tensor) for step in steps for part in (step.inputs, *step.expected) for tensor in part.values()
    )
    if size > MAX_COPIED_BYTES:
        expected = f"expected at most {MAX_COPIED_BYTES} bytes of requests, found {size}"
        fix = f"a number of steps that is a multiple of input.batch_size, {batch_size}, needs {copies} times less"
        raise InputError(f"{_both(steps[0].place, steps[-1].place)}: {len(steps)} steps: {expected}: {fix}")


def _bytes(tensor: Tensor) -> int:
    """What the tensor takes in a request."""
    return sum(map(len, tensor.ravel().tolist())) if tensor.dtype.hasobject else tensor.nbytes


def batch(steps: Sequence[Step], first: int, facts: ModelFacts, batch_size: int) -> Step:
    """One request of a model with a batch dimension: the steps `first`, `first + 1`, … mod their number. Raises
    InputError."""
    chosen = [steps[(first + element) % len(steps)] for element in range(batch_size)]
    whole = {spec.name for spec in (*facts.inputs, *facts.outputs) if spec.shape_tensor}
    inputs = _stacked([(step.place, step.inputs) for step in chosen], whole, "inputs")
    expected: tuple[Tensors, ...] = ()
    if any(step.expected for step in chosen):
        responses = {len(step.expected) for step in chosen}
        if len(responses) > 1:
            text = f"{_both(chosen[0].place, chosen[-1].place)}: expected the same number of responses in one batch"
            raise InputError(text)
        expected = tuple(
            _stacked([(step.place, step.expected[response]) for step in chosen], whole, "expected outputs")
            for response in range(responses.pop())
        )
    return Step(inputs, expected, chosen[0].place)


def _stacked(parts: Sequence[tuple[str, Tensors]], whole: set[str], what: str) -> Tensors:
    """The tensors of several steps as one each, with the batch dimension first. Those in `whole`, shape tensors, are
    the request's and not an element's: they have to be the same, and stay as they are."""
    place, first = parts[0]
    for other_place, other in parts[1:]:
        if first.keys() != other.keys():
            names = f"{_names(first)} and {_names(other)}"
            raise InputError(f"{_both(place, other_place)}: expected the same {what} in one batch, found {names}")
        for name, tensor in first.items():
            if tensor.shape != other[name].shape:
                shapes = f"{shape_text(tensor.shape)} and {shape_text(other[name].shape)}"
                text = f"{_both(place, other_place)}: tensor {name!r}: expected the same shape in one batch"
                raise InputError(f"{text}, found {shapes}")
            if name in whole and not np.array_equal(tensor, other[name]):
                text = f"{_both(place, other_place)}: shape tensor {name!r}: expected the same values in one batch"
                raise InputError(text)
    return {
        name: tensor if name in whole else _with_batch([tensors[name] for _, tensors in parts])
        for name, tensor in first.items()
    }


def _with_batch(elements: Sequence[Tensor]) -> Tensor:
    """A batch of one is the same memory: data of hundreds of MB is not copied."""
    return elements[0][np.newaxis] if len(elements) == 1 else np.stack(elements)


def _both(first: str, second: str) -> str:
    return f"{first} and {second}"


def _names(tensors: Tensors) -> str:
    return ", ".join(map(repr, tensors)) or "none"
