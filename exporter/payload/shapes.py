"""Which inputs a request carries and in which shape: the model's word, the user's shapes, and the batch size."""

from __future__ import annotations

import difflib
import math
from collections.abc import Mapping, Sequence

from exporter.errors import InputError
from exporter.model import ModelFacts, TensorSpec
from exporter.probe import InputOptions


def request_shapes(facts: ModelFacts, options: InputOptions) -> list[tuple[TensorSpec, tuple[int, ...]]]:
    """Each input of a request with its full shape, batch dimension included.

    An optional input is sent only where `options.shapes` gives its shape. Raises InputError with every fault found.
    """
    faults = _batch_faults(facts, options.batch_size)
    overrides = dict(options.shapes)
    known = [spec.name for spec in facts.inputs]
    faults += [_unknown_text(facts, name, known) for name in overrides if name not in known]
    result = []
    for spec in facts.inputs:
        if spec.optional and spec.name not in overrides:
            continue
        fault = _shape_fault(spec, overrides)
        if fault:
            faults.append(fault)
            continue
        batch = (options.batch_size,) if facts.max_batch_size > 0 else ()
        result.append((spec, batch + tuple(overrides.get(spec.name, spec.shape))))
    if faults:
        raise InputError("; ".join(faults))
    return result


def _batch_faults(facts: ModelFacts, batch_size: int) -> list[str]:
    if batch_size < 1:
        return [f"batch_size {batch_size}: must be 1 or more"]
    if facts.max_batch_size == 0 and batch_size > 1:
        return [f"batch_size {batch_size}: model {facts.name!r} does no batching (its max_batch_size is 0)"]
    if 0 < facts.max_batch_size < batch_size:
        return [f"batch_size {batch_size}: model {facts.name!r} takes at most {facts.max_batch_size}"]
    return []


def _unknown_text(facts: ModelFacts, name: str, known: Sequence[str]) -> str:
    near = difflib.get_close_matches(name, known, n=1)
    hint = f"did you mean {near[0]!r}?" if near else f"its inputs are {', '.join(map(repr, known)) or 'none'}"
    return f"input.shapes names {name!r}, which is no input of model {facts.name!r}: {hint}"


def _shape_fault(spec: TensorSpec, overrides: Mapping[str, Sequence[int]]) -> str:
    expected = shape_text(spec.shape)
    given = overrides.get(spec.name)
    if given is None:
        if min(spec.shape, default=1) < 1:
            return f"input {spec.name!r} has shape {expected}, with a dimension that varies: give input.shapes for it"
        return ""
    found = shape_text(given)
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
