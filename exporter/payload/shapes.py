"""Which inputs a request carries and in which shape: the model's word, the user's shapes, and the batch size."""

from __future__ import annotations

import difflib
import math
from collections.abc import Sequence

from exporter.core.datatypes import DATATYPES
from exporter.core.errors import InputError
from exporter.core.facts import ModelFacts, TensorSpec
from exporter.core.probe import InputOptions


def request_shapes(facts: ModelFacts, options: InputOptions) -> list[tuple[TensorSpec, tuple[int, ...]]]:
    """Each input of a generated request with its full shape, batch dimension included.

    An optional input is left out if its values or its size cannot be known, or `options` omit it; not if their shapes
    name it. Raises InputError with every problem found.
    """
    problems = option_problems(facts, options)
    overrides = dict(options.shapes)
    batch = (options.batch_size,) if facts.max_batch_size > 0 else ()
    result = []
    for spec in facts.inputs:
        shape = overrides.get(spec.name, spec.shape)
        if spec.optional and spec.name not in overrides and not _is_sent(spec, options):
            continue
        if spec.shape_tensor:
            problems.append(f"input {spec.name!r} is a shape tensor: its values can only be given, by files")
        elif spec.name not in overrides and min(shape, default=1) < 1:
            varies = f"input {spec.name!r} has shape {shape_text(shape)}, with a dimension that varies"
            example = [max(size, 1) for size in shape]
            problems.append(f"{varies}: give its size by input.shapes, as {{{spec.name}: {example}}}")
        result.append((spec, batch + shape))
    if not result and any(not spec.alternative for spec in facts.inputs):
        problems.append("every input is optional, and none would be sent: give input.shapes for those to send")
    if problems:
        raise InputError(*problems)
    return result


def _is_sent(spec: TensorSpec, options: InputOptions) -> bool:
    """Whether generated requests have this optional input, for which no shape is asked."""
    known = spec.datatype in DATATYPES and not spec.shape_tensor and min(spec.shape, default=1) >= 1
    return known and not spec.alternative and options.optional_inputs == "send"


def option_problems(facts: ModelFacts, options: InputOptions) -> list[str]:
    """What is wrong with the batch size and the shapes that are asked for, wherever the data comes from."""
    specs = {spec.name: spec for spec in facts.inputs}
    problems = _batch_problems(facts, options.batch_size)
    for name, shape in options.shapes:
        if name not in specs:
            problems.append(f"input.shapes: {unknown_text(facts.name, name, list(specs), 'input')}")
        elif problem := _shape_problem(specs[name], shape):
            problems.append(problem)
    return problems


def _batch_problems(facts: ModelFacts, batch_size: int) -> list[str]:
    if batch_size < 1:
        return [f"batch_size {batch_size}: must be 1 or more"]
    if facts.max_batch_size == 0 and batch_size > 1:
        return [f"batch_size {batch_size}: model {facts.name!r} does no batching (its max_batch_size is 0)"]
    if 0 < facts.max_batch_size < batch_size:
        return [f"batch_size {batch_size}: model {facts.name!r} takes at most {facts.max_batch_size}"]
    return []


def unknown_text(model: str, name: str, known: Sequence[str], what: str) -> str:
    """A tensor's name that the model does not know, and those that it knows. `what` is input, output, or both."""
    near = difflib.get_close_matches(name, known, n=1)
    hint = f"did you mean {near[0]!r}?" if near else f"it has {', '.join(map(repr, known)) or 'none'}"
    return f"{name!r} is not an {what} of model {model!r}: {hint}"


def _shape_problem(spec: TensorSpec, given: Sequence[int]) -> str:
    """What is wrong with a shape that was given for an input; "" if nothing is."""
    expected, found = shape_text(spec.shape), shape_text(given)
    if len(given) != len(spec.shape):
        return (
            f"input {spec.name!r}: expected shape {expected} (without the batch dimension) of {len(spec.shape)} "
            f"dimensions, found {found} of {len(given)}"
        )
    if min(given, default=1) < 1:
        return f"input {spec.name!r}: expected dimensions of 1 or more, found {found}"
    if any(want not in (-1, got) for want, got in zip(spec.shape, given, strict=True)):
        return f"input {spec.name!r}: expected shape {expected} (without the batch dimension), found {found}"
    return ""


def shape_text(shape: Sequence[int]) -> str:
    """[1,-1] and the like."""
    return f"[{','.join(map(str, shape))}]"


def elements(shape: Sequence[int]) -> int:
    """How many elements a tensor of this shape has."""
    return math.prod(shape)
