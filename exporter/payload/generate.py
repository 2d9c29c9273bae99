"""Generated tensors: random, by a seed, or zero.

The values are ones that a model can compute with: no NaN, no infinity, no index far outside a vocabulary. (Random bytes
would measure how fast a server handles denormals, and make an embedding model fail.)
"""

from __future__ import annotations

import zlib

import numpy as np

from exporter.core.bounds import REQUEST_BYTES
from exporter.core.datatypes import DATATYPES
from exporter.core.errors import InputError
from exporter.core.facts import ModelFacts
from exporter.core.probe import InputOptions
from exporter.payload.dataset import Dataset, Step, Tensor, Tensors
from exporter.payload.shapes import elements, request_shapes, shape_text
from exporter.payload.values import dtype_of

MAX_REQUEST_BYTES = REQUEST_BYTES
"""The most that one request's tensors may have, on the wire or in memory: beyond it lies a mistake in a shape, not a
load."""
_CHUNK = 1 << 20
"""Values made at a time: the generator's own can be eight times as wide as those that are kept."""
_STRING_BYTES = 50
"""What a string takes in memory beside its characters, about."""

_LETTERS = np.frombuffer(b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789 .?!", np.uint8)
_INDEX_LIMIT = 100
_INTEGER_RANGES = {"INT8": (-128, 128), "UINT8": (0, 256)}
"""Eight bits are mostly pixels: all values. Wider integers are mostly indices: 0.._INDEX_LIMIT."""


def generate(facts: ModelFacts, options: InputOptions) -> Dataset:
    """One stream, with a step of its own for each inference of a batch: so all requests are the same.

    The same seed gives the same values, whatever the order of the inputs. Raises InputError.
    """
    shapes = request_shapes(facts, options)
    size = sum(elements(shape) * _element_bytes(spec.datatype, options) for spec, shape in shapes)
    if size > MAX_REQUEST_BYTES:
        text = ", ".join(f"{spec.name!r} {shape_text(shape)}" for spec, shape in shapes)
        raise InputError(f"inputs {text} have {size} bytes in all: expected at most {MAX_REQUEST_BYTES}")
    make = _random if options.source == "random" else _zero
    tensors = {spec.name: make(spec.datatype, shape, options, _stream(spec.name)) for spec, shape in shapes}
    if facts.max_batch_size == 0:
        return Dataset(((Step(tensors),),))
    return Dataset((tuple(_element(tensors, index) for index in range(options.batch_size)),))


def _element(tensors: Tensors, index: int) -> Step:
    return Step({name: np.asarray(tensor[index], tensor.dtype) for name, tensor in tensors.items()})


def _stream(name: str) -> int:
    return zlib.crc32(name.encode())


def _element_bytes(datatype: str, options: InputOptions) -> int:
    """On the wire, where a string has its length before it, or in memory, where it is an object."""
    if datatype != "BYTES":
        return int(_dtype(datatype).itemsize)
    if options.string_data or options.source != "random":
        return max(8, 4 + len(options.string_data.encode()))
    return _STRING_BYTES + options.string_length


def _dtype(datatype: str) -> np.dtype[np.generic]:
    if datatype not in DATATYPES:
        raise InputError(f"datatype {datatype!r} is none that can be generated")
    return dtype_of(datatype)


def _zero(datatype: str, shape: tuple[int, ...], options: InputOptions, _stream: int) -> Tensor:
    if datatype == "BYTES":
        return np.full(shape, options.string_data.encode(), np.object_)
    return np.zeros(shape, _dtype(datatype))


def _random(datatype: str, shape: tuple[int, ...], options: InputOptions, stream: int) -> Tensor:
    generator = np.random.default_rng([options.seed, stream])
    if datatype == "BYTES" and options.string_data:
        return np.full(shape, options.string_data.encode(), np.object_)
    if datatype == "BYTES":
        return _random_strings(generator, shape, options.string_length)
    dtype = _dtype(datatype)
    tensor = np.empty(elements(shape), dtype)
    for start in range(0, tensor.size, _CHUNK):
        part = tensor[start : start + _CHUNK]
        if datatype == "BOOL":
            part[:] = generator.integers(0, 2, part.size)
        elif dtype.kind in "iu":
            low, high = _INTEGER_RANGES.get(datatype, (0, _INDEX_LIMIT))
            part[:] = generator.integers(low, high, part.size, dtype)
        else:
            part[:] = generator.random(part.size, np.float32).astype(dtype)
    return tensor.reshape(shape)


def _random_strings(generator: np.random.Generator, shape: tuple[int, ...], length: int) -> Tensor:
    strings = np.empty(elements(shape), np.object_)
    rows = max(1, _CHUNK // max(1, length))
    for start in range(0, strings.size, rows):
        part = strings[start : start + rows]
        part[:] = [row.tobytes() for row in generator.choice(_LETTERS, (part.size, length))]
    return strings.reshape(shape)
