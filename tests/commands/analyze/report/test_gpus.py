"""From a page that a Triton with four GPUs printed to the CSV file's cells and the samples, each figure by hand."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import pytest

from exporter.commands.analyze.report.csv import CsvOptions, main_table
from exporter.core.facts import GpuReading, GpuSource, ServerReading
from exporter.core.units import NS
from exporter.metrics import families as f
from exporter.metrics.samples import level_blocks
from exporter.server.figures import energy_per_inference_joules, gpu_figures
from exporter.server.metrics import parse_page
from exporter.state.probe_state import ProbeView
from tests.builders import concurrency, make_probe
from tests.metrics.results import make_measurement, make_result

PAGE = (Path(__file__).parents[3] / "server" / "triton-4gpu-recorded.txt").read_text()
A = "GPU-71ce41fd-3ac0-afe7-c995-21119f1e984a"
B = "GPU-8674351b-fff7-56c3-f545-26313154b8ed"
C = "GPU-4bb61721-0ae2-9004-636f-e73bab9ef8e0"
D = "GPU-7a9c9f44-ff57-1177-e21a-1740a8cf1a65"
TOTAL_BYTES = 16944988160.0


def test_the_page_as_it_was_recorded() -> None:
    reading = parse_page(PAGE, 0, "distilgpt2_cola")
    assert reading.gpus == (
        GpuReading(A, GpuSource.TRITON, 0.0, 58.954, 7451181056.0, TOTAL_BYTES, 205620.582),
        GpuReading(B, GpuSource.TRITON, 0.0, 59.436, 7111442432.0, TOTAL_BYTES, 203679.455),
        GpuReading(C, GpuSource.TRITON, 0.0, 60.32, 7111442432.0, TOTAL_BYTES, 205479.234),
        GpuReading(D, GpuSource.TRITON, 0.0, 58.993, 7329546240.0, TOTAL_BYTES, 199292.13),
    )
    # An instance on each GPU: 4 x 151 requests; 47.574974 + 50.371315 + 47.312693 + 47.603188 s, and so on.
    assert reading.counters == {
        "requests_failed": 0.0,
        "inferences": 604.0,
        "executions": 604.0,
        "request_seconds": pytest.approx(192.86217),
        "queue_seconds": pytest.approx(0.065956),
        "compute_infer_seconds": pytest.approx(192.747598),
    }


def pages() -> list[ServerReading]:
    """The recorded one, and two after 2 s and 4 s: all counters grow by 200 J and 400 J, and the first GPU works."""
    second = _changed(
        [
            (f'nv_gpu_utilization{{gpu_uuid="{A}"}} 0.000000', f'nv_gpu_utilization{{gpu_uuid="{A}"}} 0.900000'),
            ("58.954000", "258.954000"),
            ("7451181056.000000", "7600000000.000000"),
            *(("205620.582", "205820.582"), ("203679.455", "203879.455")),
            *(("205479.234", "205679.234"), ("199292.130", "199492.130")),
        ]
    )
    third = _changed(
        [
            (f'nv_gpu_utilization{{gpu_uuid="{A}"}} 0.000000', f'nv_gpu_utilization{{gpu_uuid="{A}"}} 0.600000'),
            ("58.954000", "262.092000"),
            *(("205620.582", "206220.582"), ("203679.455", "204279.455")),
            *(("205479.234", "206079.234"), ("199292.130", "199892.130")),
        ]
    )
    return [parse_page(text, 2 * index * NS, "distilgpt2_cola") for index, text in enumerate((PAGE, second, third))]


def _changed(changes: list[tuple[str, str]]) -> str:
    page = PAGE
    for old, new in changes:
        assert page.count(old) == 1
        page = page.replace(old, new)
    return page


FOUND = gpu_figures(pages())
PROBE = make_probe(levels=(concurrency(1),))
# 4 x 400 J in the 2 s from the first change to the last, at 100 inferences a second.
RESULT = make_result(
    PROBE,
    measurements=(
        make_measurement(gpu=FOUND, energy_per_inference_joules=energy_per_inference_joules(pages(), None, 0, 100.0)),
    ),
)


def test_figures() -> None:
    assert [(gpu.uuid, gpu.source, gpu.utilization_ratio, gpu.memory_used_bytes) for gpu in FOUND] == [
        (A, GpuSource.TRITON, 0.5, 7.6e9),
        (B, GpuSource.TRITON, 0.0, 7111442432.0),
        (C, GpuSource.TRITON, 0.0, 7111442432.0),
        (D, GpuSource.TRITON, 0.0, 7329546240.0),
    ]
    # The first GPU's are 58.954, 258.954 and 262.092 W.
    assert [gpu.power_watts for gpu in FOUND] == pytest.approx([193.33333, 59.436, 60.32, 58.993])
    assert [gpu.energy_joules for gpu in FOUND] == pytest.approx([600.0] * 4)
    assert {gpu.memory_total_bytes for gpu in FOUND} == {TOTAL_BYTES}


def test_cells() -> None:
    [row] = csv.DictReader(io.StringIO(main_table(RESULT, CsvOptions(verbose=True, metrics=True))))
    assert {name: cell for name, cell in row.items() if "GPU" in name or "Energy" in name} == {
        "Avg GPU Utilization": f"{C}:0;{A}:0.5;{D}:0;{B}:0;",
        "Avg GPU Power Usage": f"{C}:60.32;{A}:193.333;{D}:58.993;{B}:59.436;",
        "Max GPU Memory Usage": f"{C}:7111442432;{A}:7600000000;{D}:7329546240;{B}:7111442432;",
        "Total GPU Memory": f"{C}:16944988160;{A}:16944988160;{D}:16944988160;{B}:16944988160;",
        "Max GPU Temperature (celsius)": "",
        "Avg GPU Clock (hertz)": "",
        "GPU Energy (joules)": f"{C}:600;{A}:600;{D}:600;{B}:600;",
        "Energy per Inference (joules)": "8",
    }


def test_samples() -> None:
    blocks = level_blocks(ProbeView(PROBE, measured=RESULT))
    reported: dict[str, dict[str, float]] = {}
    for family in (f.GPU_UTILIZATION, f.GPU_POWER, f.GPU_MEMORY_USED, f.GPU_MEMORY_TOTAL):
        for line in blocks[family].splitlines():
            labels, _, value = line.rpartition("} ")
            assert labels.endswith(',source="triton"')
            uuid = labels.partition(',gpu="')[2].partition('"')[0]
            reported.setdefault(uuid, {})[family.name] = float(value)
    assert reported == {
        uuid: {
            "triton_canary_gpu_utilization_ratio": utilization,
            "triton_canary_gpu_power_watts": pytest.approx(watts),
            "triton_canary_gpu_memory_used_bytes": used,
            "triton_canary_gpu_memory_total_bytes": TOTAL_BYTES,
        }
        for uuid, utilization, watts, used in (
            (A, 0.5, 193.33333, 7.6e9),
            (B, 0.0, 59.436, 7111442432.0),
            (C, 0.0, 60.32, 7111442432.0),
            (D, 0.0, 58.993, 7329546240.0),
        )
    }
    [energy] = blocks[f.ENERGY].splitlines()
    assert float(energy.rpartition(" ")[2]) == pytest.approx(8.0)
    assert f.GPU_TEMPERATURE not in blocks
