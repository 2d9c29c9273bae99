"""Input files of a model: from what they hold to a dataset, or to all that is wrong with them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from exporter.core.errors import InputError
from exporter.core.facts import ModelFacts, TensorSpec
from exporter.core.probe import InputOptions
from exporter.payload.dataset import Dataset, Step, Tensor, Tensors
from exporter.payload.input_errors import NOT_SEEN, InputErrors
from exporter.payload.input_files import InputFiles, find_input_files
from exporter.payload.json_file import Progress, RawFile, RawStep, read_json_file
from exporter.payload.json_tensor import RawTensor
from exporter.payload.shapes import option_problems, shape_text, unknown_text
from exporter.payload.values import convert, from_bytes, strings_to_bytes

_SHAPE_BESIDE = "give 'shape' beside 'content' in a JSON file"

MAX_STEPS = 1_000_000
"""Steps of one probe's data; each becomes a request that is kept encoded."""


def check_files(paths: Sequence[str], progress: Progress | None = None, *, outputs_seen: bool = True) -> None:
    """Looks for what is wrong with input files whatever the model is. `outputs_seen` is whether responses can be held
    against what is expected. Raises InputError."""
    files = _find(paths)
    if not files.is_directory:
        errors = InputErrors()
        for file in _read_json_files(files.paths, errors, progress):
            if file.expected is not None and not outputs_seen:
                errors.add(f"{file.path}: 'validation_data': {NOT_SEEN}")
        errors.raise_if_any()


def read_dataset(facts: ModelFacts, options: InputOptions, progress: Progress | None = None) -> Dataset:
    """The data in the files of `options.paths`. Raises InputError with every error found, the first ones in full."""
    files = checked_files(options)
    if wrong := option_problems(facts, options):
        raise InputError(*wrong)
    if files.is_directory:
        return _from_directory(files.paths, facts, options)
    errors = InputErrors()
    return _from_json_files(_read_json_files(files.paths, errors, progress), facts, options, errors)


def checked_files(options: InputOptions) -> InputFiles:
    """The files of `options.paths`, as they were when they were checked. Raises InputError."""
    files = _find(options.paths)
    if options.files_digest and files.digest != options.files_digest:
        text = "has changed since the configuration was read; reload it to take the new data into use"
        raise InputError(f"{', '.join(options.paths)}: {text}")
    return files


def _find(paths: Sequence[str]) -> InputFiles:
    try:
        return find_input_files(paths)
    except ValueError as error:
        raise InputError(str(error)) from error


# --- JSON ------------------------------------------------------------------------------------------------------------


def _read_json_files(paths: Sequence[Path], errors: InputErrors, progress: Progress | None) -> list[RawFile]:
    """The files as far as they can be used. Raises InputError if they do not fit together."""
    files = [file for path in paths if (file := read_json_file(path, errors, progress)) is not None]
    for file in files[1:]:
        if file.is_flat != files[0].is_flat:
            forms = {True: "steps", False: "lists of steps"}
            expected = f"expected {forms[files[0].is_flat]} in 'data', as in {files[0].path}"
            errors.add(f"{file.path}: {expected}, found {forms[file.is_flat]}")
        if (file.expected is None) != (files[0].expected is None):
            with_data, without = (file, files[0]) if file.expected is not None else (files[0], file)
            errors.add(f"{without.path}: expected 'validation_data', as in {with_data.path}")
    if not files:
        errors.raise_if_any()
    return files


def _from_json_files(files: list[RawFile], facts: ModelFacts, options: InputOptions, errors: InputErrors) -> Dataset:
    is_flat = files[0].is_flat
    inputs, outputs = _Expected.inputs(facts, options), _Expected.outputs(facts)
    streams: list[tuple[Step, ...]] = []
    while files:
        file = files.pop(0)
        expected = file.expected or [[] for _ in file.streams]
        for raw_stream, raw_expected in zip(file.streams, expected, strict=True):
            streams.append(_stream(raw_stream, raw_expected, inputs, outputs, errors))
    errors.raise_if_any()
    if is_flat:
        streams = [tuple(step for stream in streams for step in stream)]
    count = sum(map(len, streams))
    if count > MAX_STEPS:
        raise InputError(f"{', '.join(options.paths)}: expected at most {MAX_STEPS} steps, found {count}")
    return Dataset(tuple(streams))


def _stream(
    raw: list[RawStep], raw_expected: list[RawStep], inputs: _Expected, outputs: _Expected, errors: InputErrors
) -> tuple[Step, ...]:
    """Takes the steps out of their lists: what was converted is let go of at once, so that the data is never in memory
    twice as a whole."""
    steps = []
    raw.reverse()
    raw_expected.reverse()
    while raw:
        raw_step = raw.pop()
        step = raw_expected.pop() if raw_expected else None
        if not raw_step.responses:
            continue
        tensors = inputs.tensors(raw_step.place, raw_step.responses[0], errors)
        responses: tuple[Tensors, ...] = ()
        if step is not None:
            responses = tuple(outputs.tensors(step.place, response, errors) for response in step.responses)
        # Where no output is named nothing is expected, and nothing is counted as checked.
        steps.append(Step(tensors, responses if any(responses) else (), raw_step.place))
    return tuple(steps)


# --- a directory -----------------------------------------------------------------------------------------------------


def _from_directory(paths: Sequence[Path], facts: ModelFacts, options: InputOptions) -> Dataset:
    """One step: each file holds the input, or the expected output, of its name; raw bytes, or strings one a line."""
    errors = InputErrors()
    inputs, outputs = _Expected.inputs(facts, options), _Expected.outputs(facts)
    directory = paths[0].parent
    given: dict[str, RawTensor | None] = {}
    expected: dict[str, RawTensor | None] = {}
    for path in paths:
        spec = inputs.specs.get(path.name) or outputs.specs.get(path.name)
        if spec is None:
            names = [*inputs.specs, *outputs.specs]
            errors.add(f"{path}: {unknown_text(facts.name, path.name, names, 'input or output')}")
            continue
        (given if path.name in inputs.specs else expected)[path.name] = _file_tensor(path, spec)
    place = str(directory)
    tensors = inputs.tensors(place, given, errors)
    responses = (outputs.tensors(place, expected, errors),) if expected else ()
    errors.raise_if_any()
    return Dataset(((Step(tensors, responses, place),),))


def _file_tensor(path: Path, spec: TensorSpec) -> RawTensor:
    content = path.read_bytes()
    return RawTensor(None, strings_to_bytes(content.splitlines()) if spec.datatype == "BYTES" else content)


# --- tensors ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Expected:
    """The tensors that a step may have, and must have, with their shapes as far as they are known."""

    model: str
    what: str
    specs: Mapping[str, TensorSpec]
    shapes: Mapping[str, tuple[int, ...]]
    required: tuple[str, ...]
    fix: str
    """What gives a shape of which several dimensions vary."""

    @classmethod
    def inputs(cls, facts: ModelFacts, options: InputOptions) -> _Expected:
        specs = {spec.name: spec for spec in facts.inputs}
        shapes = {spec.name: spec.shape for spec in facts.inputs} | dict(options.shapes)
        required = tuple(s.name for s in facts.inputs if not s.optional)
        return cls(facts.name, "input", specs, shapes, required, f"{_SHAPE_BESIDE}, or input.shapes")

    @classmethod
    def outputs(cls, facts: ModelFacts) -> _Expected:
        """Those that are not given are not looked at. The shape of an output that varies must be in the file."""
        specs = {spec.name: spec for spec in facts.outputs}
        return cls(facts.name, "output", specs, {spec.name: spec.shape for spec in facts.outputs}, (), _SHAPE_BESIDE)

    def tensors(self, place: str, raw: Mapping[str, RawTensor | None], errors: InputErrors) -> dict[str, Tensor]:
        """The tensors of a step; what does not fit goes to the errors."""
        found = {}
        for name, tensor in raw.items():
            spec = self.specs.get(name)
            if spec is None:
                errors.add(f"{place}: {unknown_text(self.model, name, list(self.specs), self.what)}")
                continue
            if tensor is None:
                continue
            try:
                found[name] = _tensor(spec, self.shapes[name], tensor, self.fix)
            except ValueError as error:
                errors.add(f"{place}, tensor {name!r}: {error}")
        for name in self.required:
            if name not in raw:
                errors.add(f"{place}: expected a tensor for {self.what} {name!r}, found none")
        return found


def _tensor(spec: TensorSpec, shape: tuple[int, ...], raw: RawTensor, fix: str) -> Tensor:
    """Raises ValueError."""
    if raw.shape is not None:
        fits = len(raw.shape) == len(shape) and all(w in (-1, got) for w, got in zip(shape, raw.shape, strict=True))
        if not fits:
            expected = f"shape {shape_text(shape)} (without the batch dimension)"
            raise ValueError(f"expected {expected}, found {shape_text(raw.shape)}")
        shape = raw.shape
    is_raw = raw.data is not None
    flat = from_bytes(raw.data or b"", spec.datatype) if is_raw else convert(raw.elements or (), spec.datatype)
    return flat.reshape(_whole(shape, len(flat), fix))


def _whole(shape: tuple[int, ...], count: int, fix: str) -> tuple[int, ...]:
    """The shape for so many elements: one dimension that varies follows from their number. Raises ValueError, with the
    fix where it does not."""
    varying = [axis for axis, size in enumerate(shape) if size < 0]
    if len(varying) > 1:
        raise ValueError(f"its shape {shape_text(shape)} has several dimensions that vary: {fix}")
    fixed = math.prod(size for size in shape if size >= 0)
    if varying and fixed and count % fixed == 0:
        return (*shape[: varying[0]], count // fixed, *shape[varying[0] + 1 :])
    if varying:
        raise ValueError(f"expected a multiple of {fixed} values (shape {shape_text(shape)}), found {count}")
    if count != fixed:
        values = "1 value" if fixed == 1 else f"{fixed} values"
        raise ValueError(f"expected {values} (shape {shape_text(shape)}), found {count}")
    return shape
