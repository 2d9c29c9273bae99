"""perf_analyzer's `-f` file, and the files of composing models beside it: the same columns, order, sorting and values.

Sources: its report_writer.cc, 69-240 for the file and 242-361 for composing models. Three differences: levels that are
not stable can be let in, composing models' files are written in whatever folder the file lies, and after its last
column, that of the GPUs' memory, come ours.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from exporter.analysis.averages import average_us, has_cache, microseconds, network_us, part_us, server_rest_us
from exporter.analysis.join import foreign_ratio
from exporter.commands.analyze.report.lines import gpus_of_one_source, level_rate, shown_percentiles
from exporter.commands.analyze.report.numbers import number, percentile_name
from exporter.core.facts import ModelStatistics
from exporter.core.probe import Mode, Probe, at_level
from exporter.core.result import GpuFigures, Measurement, ServerMetrics, SweepResult
from exporter.core.units import NS


@dataclass(frozen=True, slots=True)
class CsvOptions:
    """`verbose` is `--verbose-csv`, `metrics` `--collect-metrics` (its columns are verbose ones)."""

    verbose: bool = False
    metrics: bool = False
    include_unstable: bool = False


Column = tuple[str, Callable[[Measurement], str]]
"""A header and what makes the cell; "" is an empty one."""


def write_csv(path: Path, result: SweepResult, options: CsvOptions) -> list[Path]:
    """Writes the file, and one for each composing model beside it; returns their paths. Raises OSError.

    Nothing is written where no level has a row, as perf_analyzer does it: a file from an earlier run stays.
    """
    measurements = reported(result, options)
    if not measurements:
        return []
    texts = {path: main_table(result, options)}
    for model in {(each.name, each.version): each for row in measurements for each in row.composing}.values():
        texts[path.with_name(f"{model.name}_v{model.version}.{path.name}")] = composing_table(result, model, options)
    for each, text in texts.items():
        each.write_text(text, encoding="utf-8", newline="")
    return list(texts)


def reported(result: SweepResult, options: CsvOptions) -> list[Measurement]:
    """The levels with a row: by ascending throughput."""
    shown = [m for m in result.measurements if m.stable or options.include_unstable]
    return sorted(shown, key=lambda measurement: measurement.throughput)


def main_table(result: SweepResult, options: CsvOptions) -> str:
    """The file's text."""
    return _table(_columns(result, options), reported(result, options))


def composing_table(result: SweepResult, model: ModelStatistics, options: CsvOptions) -> str:
    """The text of the file of one composing model: no client's figures, and no percentiles."""
    key = (model.name, model.version)

    def of(cell: Callable[[ModelStatistics], int]) -> Callable[[Measurement], str]:
        def text(measurement: Measurement) -> str:
            found = _composing(measurement, key)
            return "" if found is None else str(cell(found))

        return text

    columns: list[Column] = [
        _load_column(result.probe),
        ("Inferences/Second", lambda m: _composing_rate(m, key)),
        ("Client Send", _nothing),
        ("Network+Server Send/Recv", of(server_rest_us)),
        ("Server Queue", of(lambda s: average_us(s.queue))),
        ("Server Compute Input", of(lambda s: average_us(s.compute_input))),
        ("Server Compute Infer", of(lambda s: average_us(s.compute_infer))),
        ("Server Compute Output", of(lambda s: average_us(s.compute_output))),
    ]
    if _has_cache(result):
        columns += [
            ("Server Cache Hit", of(lambda s: average_us(s.cache_hit))),
            ("Server Cache Miss", of(lambda s: average_us(s.cache_miss))),
        ]
    columns.append(("Client Recv", _nothing))
    return _table(columns, reported(result, options))


# --- columns ----------------------------------------------------------------------------------------------------------


def _columns(result: SweepResult, options: CsvOptions) -> list[Column]:
    probe, facts = result.probe, result.facts
    percentile = probe.measurement.stability_percentile
    columns: list[Column] = [_load_column(probe), ("Inferences/Second", lambda m: number(m.throughput))]
    if facts is not None and facts.decoupled:
        columns.append(("Response Throughput", _response_throughput))
    columns.append(("Client Send", lambda m: str(microseconds(m.client_send_ns))))
    if facts is None or facts.has_statistics:
        columns += _server_columns(cache=_has_cache(result))
    columns.append(("Client Recv", lambda m: str(microseconds(m.client_receive_ns))))
    columns += [_percentile_column(each) for each in shown_percentiles(percentile)]
    if options.verbose:
        if percentile is None:
            columns.append(("Avg latency", lambda m: "" if m.latency is None else str(microseconds(m.latency.mean_ns))))
        columns += [("request/response", lambda m: str(_request_response_us(m))), ("response wait", _response_wait)]
        if options.metrics:
            columns += [*_gpu_columns(), *_own_columns()]
    return [*columns, *_matrix_columns(probe)]


def _matrix_columns(probe: Probe) -> list[Column]:
    """What the levels of a matrix have beside their number."""
    columns: list[Column] = []
    if any(level.batch_size is not None for level in probe.levels):
        columns.append(("Batch Size", lambda m: str(at_level(probe, m.level).input.batch_size)))
    if any(level.shapes for level in probe.levels):
        columns.append(("Shapes", lambda m: "".join(f"{name}:{'x'.join(map(str, s))};" for name, s in m.level.shapes)))
    return columns


def _load_column(probe: Probe) -> Column:
    """One header for every load but a concurrency, as in perf_analyzer; streams, which it has not, have their own."""
    if probe.levels[0].mode is Mode.STREAMS:
        return "Streams", lambda m: number(m.level.value)
    concurrency = not probe.levels[0].mode.is_open_loop
    return "Concurrency" if concurrency else "Request Rate", lambda m: number(level_rate(m.level))


def _percentile_column(percentile: float) -> Column:
    def cell(measurement: Measurement) -> str:
        values = measurement.latency.percentiles if measurement.latency else ()
        return next((str(microseconds(each.value_ns)) for each in values if each.percentile == percentile), "")

    return f"{percentile_name(percentile)} latency", cell


def _server_columns(*, cache: bool) -> list[Column]:
    def of(cell: Callable[[ModelStatistics], int]) -> Callable[[Measurement], str]:
        return lambda m: "" if m.server is None else str(cell(m.server))

    def part(name: str) -> Callable[[Measurement], str]:
        return lambda m: "" if m.server is None else _cell(part_us(m.server, name))

    columns: list[Column] = [
        ("Network+Server Send/Recv", _network),
        ("Server Queue", part("queue")),
        ("Server Compute Input", part("compute_input")),
        ("Server Compute Infer", part("compute_infer")),
        ("Server Compute Output", part("compute_output")),
    ]
    if cache:
        columns += [
            ("Server Cache Hit", of(lambda s: average_us(s.cache_hit))),
            ("Server Cache Miss", of(lambda s: average_us(s.cache_miss))),
        ]
    return columns


def _gpu_columns() -> list[Column]:
    return [
        ("Avg GPU Utilization", lambda m: _by_gpu(m, lambda gpu: gpu.utilization_ratio)),
        ("Avg GPU Power Usage", lambda m: _by_gpu(m, lambda gpu: gpu.power_watts)),
        ("Max GPU Memory Usage", lambda m: _by_gpu(m, lambda gpu: _whole(gpu.memory_used_bytes))),
        ("Total GPU Memory", lambda m: _by_gpu(m, lambda gpu: _whole(gpu.memory_total_bytes))),
    ]


def _by_gpu(measurement: Measurement, figure: Callable[[GpuFigures], float | None]) -> str:
    """`uuid:value;` for each GPU that reports it, by uuid (report_writer.cc, 365-389)."""
    return _gpu_cell(gpus_of_one_source(measurement.gpu), figure)


def _gpu_cell(gpus: Iterable[GpuFigures], figure: Callable[[GpuFigures], float | None]) -> str:
    reported = [(gpu.uuid, value) for gpu in gpus if (value := figure(gpu)) is not None]
    return "".join(f"{uuid}:{_figure(value)};" for uuid, value in reported)


def _own_columns() -> list[Column]:
    """What perf_analyzer does not have: of the GPUs what Triton never reports, of the server and of others' traffic."""
    return [
        ("Max GPU Temperature (celsius)", lambda m: _by_teller(m, lambda gpu: gpu.temperature_celsius)),
        ("Avg GPU Clock (hertz)", lambda m: _by_teller(m, lambda gpu: _whole(gpu.clock_hertz))),
        ("GPU Energy (joules)", lambda m: _by_teller(m, lambda gpu: gpu.energy_joules)),
        ("Energy per Inference (joules)", lambda m: _figure(m.energy_per_inference_joules)),
        ("Max Pending Requests", lambda m: _of_page(m, lambda page: page.pending_requests_max)),
        ("Avg Server CPU Utilization (ratio)", lambda m: _of_page(m, lambda page: page.cpu_utilization_ratio)),
        ("Max Server Memory (bytes)", lambda m: _of_page(m, lambda page: _whole(page.cpu_memory_used_bytes))),
        ("Foreign Requests (ratio)", _foreign_ratio),
        ("Batch Executions", _batch_executions),
    ]


def _by_teller(measurement: Measurement, figure: Callable[[GpuFigures], float | None]) -> str:
    """As `_by_gpu`, of the first source that reports this figure."""
    return _gpu_cell(gpus_of_one_source([gpu for gpu in measurement.gpu if figure(gpu) is not None]), figure)


def _of_page(measurement: Measurement, figure: Callable[[ServerMetrics], float | None]) -> str:
    return "" if measurement.server_metrics is None else _figure(figure(measurement.server_metrics))


def _figure(value: float | None) -> str:
    if value is None:
        return ""
    return str(value) if isinstance(value, int) else number(value)


def _foreign_ratio(measurement: Measurement) -> str:
    if measurement.server is None or measurement.foreign_requests is None:
        return ""
    return number(foreign_ratio(measurement.server, measurement.foreign_requests))


def _batch_executions(measurement: Measurement) -> str:
    """`size:executions;` for each batch size that the model was executed with."""
    batches = () if measurement.server is None else measurement.server.batches
    return "".join(f"{batch.size}:{batch.executions};" for batch in batches)


def _whole(value: float | None) -> int | None:
    return None if value is None else round(value)


def _has_cache(result: SweepResult) -> bool:
    return has_cache(result.facts, [model for m in result.measurements for model in m.composing])


def _network(measurement: Measurement) -> str:
    return _cell(network_us(measurement))


def _cell(value: int | None) -> str:
    return "" if value is None else str(value)


def _request_response_us(measurement: Measurement) -> int:
    return microseconds(measurement.client_send_ns) + microseconds(measurement.client_receive_ns)


def _response_wait(measurement: Measurement) -> str:
    if measurement.latency is None:
        return ""
    return str(max(0, microseconds(measurement.latency.mean_ns) - _request_response_us(measurement)))


def _response_throughput(measurement: Measurement) -> str:
    return number(measurement.responses * NS / measurement.duration_ns) if measurement.duration_ns else ""


def _composing(measurement: Measurement, key: tuple[str, str]) -> ModelStatistics | None:
    return next((model for model in measurement.composing if (model.name, model.version) == key), None)


def _composing_rate(measurement: Measurement, key: tuple[str, str]) -> str:
    """The client's throughput, by how often the model was called for each request."""
    model, server = _composing(measurement, key), measurement.server
    if model is None or server is None or not server.success.count:
        return ""
    return number(measurement.throughput * model.success.count / server.success.count)


def _nothing(_measurement: Measurement) -> str:
    return "0"


def _table(columns: Sequence[Column], measurements: Iterable[Measurement]) -> str:
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([name for name, _ in columns])
    for measurement in measurements:
        writer.writerow([cell(measurement) for _, cell in columns])
    return text.getvalue()
