"""What is sent and what is expected: tensors made for a model, or read from files. Knows nothing of wire formats or
pacing."""

from __future__ import annotations

from exporter.core.facts import ModelFacts
from exporter.core.probe import InputOptions
from exporter.payload.compare import OutputComparison, compare
from exporter.payload.dataset import Dataset, Step, Tensor, Tensors, batch, round_robin
from exporter.payload.generate import generate
from exporter.payload.json_file import Progress
from exporter.payload.prompts import make_prompts
from exporter.payload.read import check_files, read_dataset

__all__ = [
    "Dataset",
    "OutputComparison",
    "Step",
    "Tensor",
    "Tensors",
    "batch",
    "check_files",
    "compare",
    "make_dataset",
    "make_steps",
    "round_robin",
]


def make_dataset(facts: ModelFacts, options: InputOptions, progress: Progress | None = None) -> Dataset:
    """What the probe sends to this model, generated or read. Raises InputError."""
    if facts.takes_prompts:
        return make_prompts(options)
    if options.source == "files":
        return read_dataset(facts, options, progress)
    return generate(facts, options)


def make_steps(facts: ModelFacts, options: InputOptions) -> list[Tensors]:
    """The inputs of each request that is sent in turn, by name and with the batch dimension. Raises InputError."""
    steps = make_dataset(facts, options).steps
    return [step.inputs for step in round_robin(steps, facts, options.batch_size)]
