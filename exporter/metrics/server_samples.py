"""The samples of the server's side of a level: its metrics page, its GPUs, and the models that it calls. Pure."""

from __future__ import annotations

from collections import Counter

from exporter.core.facts import ModelStatistics
from exporter.core.result import GpuFigures, Measurement
from exporter.core.units import NS
from exporter.metrics import families as f
from exporter.metrics.exposition import Lines, label, labels
from exporter.metrics.family import Family


def add_server_side(lines: Lines, level_labels: str, measurement: Measurement) -> None:
    """What is known of it; what is not is absent."""
    page = measurement.server_metrics
    if page is not None:
        _add(lines, f.SERVER_PENDING, level_labels, page.pending_requests_max)
        _add(lines, f.SERVER_CPU, level_labels, page.cpu_utilization_ratio)
        _add(lines, f.SERVER_CPU_MEMORY, level_labels, page.cpu_memory_used_bytes)
        _add(lines, f.SERVER_PINNED_MEMORY, level_labels, page.pinned_memory_used_bytes)
        for component, values in page.percentiles.items():
            for each in values:
                named = labels(component=component, percentile=f"{each.percentile:g}")
                _add(lines, f.SERVER_PERCENTILE, f"{level_labels},{named}", each.seconds)
    for gpu in measurement.gpu:
        _add_gpu(lines, f"{level_labels},{labels(gpu=gpu.uuid, source=gpu.source.value)}", gpu)
    _add(lines, f.ENERGY, level_labels, measurement.energy_per_inference_joules)
    names = Counter(part.name for part in measurement.composing)
    for part in measurement.composing:
        name = part.name if names[part.name] == 1 else f"{part.name}:{part.version}"
        _add_part(lines, f"{level_labels},{label('composing_model', name)}", part, measurement.duration_ns)


def _add(lines: Lines, family: Family, label_text: str, value: float | None) -> None:
    if value is not None:
        lines.add(family, label_text, value)


def _add_gpu(lines: Lines, gpu_labels: str, gpu: GpuFigures) -> None:
    for family, value in (
        (f.GPU_UTILIZATION, gpu.utilization_ratio),
        (f.GPU_POWER, gpu.power_watts),
        (f.GPU_MEMORY_USED, gpu.memory_used_bytes),
        (f.GPU_MEMORY_TOTAL, gpu.memory_total_bytes),
        (f.GPU_TEMPERATURE, gpu.temperature_celsius),
        (f.GPU_CLOCK, gpu.clock_hertz),
    ):
        _add(lines, family, gpu_labels, value)
    for reason, part in (gpu.throttled or {}).items():
        lines.add(f.GPU_THROTTLED, f"{gpu_labels},{label('reason', reason)}", part)


def _add_part(lines: Lines, part_labels: str, part: ModelStatistics, duration_ns: int) -> None:
    computing = part.compute_infer.count
    if part.queue.count > 0:
        lines.add(f.COMPOSING_QUEUE, part_labels, part.queue.ns / part.queue.count / NS)
    if computing > 0:
        compute_ns = part.compute_input.ns + part.compute_infer.ns + part.compute_output.ns
        lines.add(f.COMPOSING_COMPUTE, part_labels, compute_ns / computing / NS)
    if part.success.count > 0:
        lines.add(f.COMPOSING_REQUEST, part_labels, part.success.ns / part.success.count / NS)
    if duration_ns > 0 and part.execution_count is not None:
        lines.add(f.COMPOSING_EXECUTIONS, part_labels, part.execution_count * NS / duration_ns)
