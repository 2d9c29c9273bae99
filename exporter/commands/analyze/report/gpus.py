"""The GPUs of a report: each is told once, though several sources may tell of it. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from exporter.core.facts import GpuSource
from exporter.core.result import GpuFigures

_ORDER = (GpuSource.TRITON, GpuSource.DCGM, GpuSource.NVML)
"""Triton's own first: its page is what perf_analyzer reads."""
_MIG_PREFIX = "MIG-"
"""Of NVML's uuids of MIG instances, which stand beside the whole GPU."""


def gpus_of_one_source(gpus: Sequence[GpuFigures]) -> list[GpuFigures]:
    """Those of the first source that tells of any, by uuid; of the driver's without the parts of GPUs."""
    whole = [gpu for gpu in gpus if not gpu.uuid.startswith(_MIG_PREFIX)]
    chosen = next((source for source in _ORDER if any(gpu.source is source for gpu in whole)), None)
    return sorted((gpu for gpu in whole if gpu.source is chosen), key=lambda gpu: gpu.uuid)
