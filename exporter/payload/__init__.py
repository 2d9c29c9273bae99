"""What is sent and what is expected: tensors made for a model, or read from files. Knows nothing of wire formats or
pacing."""

from exporter.payload.compare import OutputComparison, compare
from exporter.payload.dataset import Dataset, Step, Tensor, Tensors, batch, round_robin
from exporter.payload.make import make_dataset, make_steps
from exporter.payload.read import check_files

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
