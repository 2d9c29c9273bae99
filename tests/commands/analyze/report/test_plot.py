"""The plot: what is drawn where, the file, and what is reported without the library."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg

from exporter.commands.analyze.report.plot import SUFFIXES, draw, write_plot
from exporter.core.errors import ConfigError
from exporter.core.probe import MeasurementOptions
from exporter.core.result import LatencySummary, PercentileValue, SweepResult
from exporter.core.units import MS
from tests.builders import concurrency, make_probe
from tests.metrics.results import make_measurement, make_result, rate


def summary(p50_ms: float) -> LatencySummary:
    values = (
        PercentileValue(50.0, round(p50_ms * MS), None, None),
        PercentileValue(99.9, round(8 * p50_ms * MS), 0, 1),
    )
    return LatencySummary(10, p50_ms * MS, 0.0, 0, 1, values)


CURVE = {8: (201.0, 40.0), 1: (100.0, 10.0), 2: (190.0, 11.0), 4: (200.0, 20.0)}
"""Throughput and median by concurrency, in the order in which a search might come to them."""


def curve(threshold_ms: int = 0, percentile: float | None = None) -> SweepResult:
    options = MeasurementOptions(latency_threshold_ns=threshold_ms * MS, stability_percentile=percentile)
    probe = make_probe(levels=tuple(map(concurrency, CURVE)), measurement=options)
    measurements = tuple(
        make_measurement(concurrency(level), throughput=throughput, latency=summary(p50_ms), stable=level != 8)
        for level, (throughput, p50_ms) in CURVE.items()
    )
    return make_result(probe, measurements=measurements)


def test_a_line_for_each_percentile_with_knee_and_threshold() -> None:
    figure = draw(curve(threshold_ms=25, percentile=50.0))
    [axes] = figure.axes
    lines = {str(line.get_label()): line for line in axes.get_lines()}
    assert list(lines) == ["p50", "p99.9", "knee, at load 2", "threshold 25 ms"]
    assert np.asarray(lines["p50"].get_xdata()).tolist() == [100.0, 190.0, 200.0, 201.0]
    assert np.asarray(lines["p50"].get_ydata()).tolist() == [10.0, 11.0, 20.0, 40.0]
    assert np.asarray(lines["p99.9"].get_ydata()).tolist() == [80.0, 88.0, 160.0, 320.0]
    assert np.asarray(lines["knee, at load 2"].get_xdata()).tolist() == [190.0, 190.0]
    assert np.asarray(lines["threshold 25 ms"].get_ydata()).tolist() == [25.0, 25.0]
    assert [text.get_text() for text in axes.texts] == ["1", "2", "4", "8?"]
    assert figure.get_suptitle() == "addsub at http://127.0.0.1:8000"


def rates(host: str = "127.0.0.1") -> SweepResult:
    probe = make_probe(levels=(rate(50), rate(200)))
    probe = replace(probe, model="m" * 60, target=replace(probe.target, host=host))
    measurements = tuple(
        make_measurement(level, throughput=level.value, latency=summary(5.0), response_time=summary(response_ms))
        for level, response_ms in zip(probe.levels, (6.0, 900.0), strict=True)
    )
    return make_result(probe, measurements=measurements)


def test_rates_show_the_response_time_and_the_labels_are_explained() -> None:
    [axes] = draw(rates()).axes
    lines = {str(line.get_label()): line for line in axes.get_lines()}
    assert np.asarray(lines["p50"].get_ydata()).tolist() == [6.0, 900.0]
    assert axes.get_ylabel() == "response time from the moment due, milliseconds"
    assert axes.get_xlabel().splitlines()[1] == "numbers at the points: request rate asked for, requests per second"
    [axes] = draw(curve()).axes
    assert axes.get_xlabel().splitlines()[1] == (
        "numbers at the points: concurrency, requests in flight; ? marks a level that was not stable"
    )


def test_a_matrix_has_a_line_for_each_batch_size() -> None:
    probe = make_probe(levels=(concurrency(1), concurrency(2)))
    measurements = tuple(
        make_measurement(
            replace(level, label=f"{level.label}@b{size}", batch_size=size),
            throughput=level.value * size,
            latency=summary(level.value + 10 * size),
        )
        for level in probe.levels
        for size in (1, 4)
    )
    [axes] = draw(make_result(probe, measurements=measurements)).axes
    lines = [line for line in axes.get_lines() if line.get_color() == axes.get_lines()[0].get_color()]
    assert [np.asarray(line.get_xdata()).tolist() for line in lines] == [[1.0, 2.0], [4.0, 8.0]]
    assert [np.asarray(line.get_ydata()).tolist() for line in lines] == [[11.0, 12.0], [41.0, 42.0]]
    assert (
        axes.get_xlabel()
        .splitlines()[1]
        .startswith("numbers at the points: concurrency, requests in flight; after @ the batch size (b) or shape")
    )


@pytest.mark.parametrize("result", [curve(threshold_ms=500), rates("host." * 20 + "example")])
def test_nothing_is_clipped(result: SweepResult) -> None:
    """Every text lies within the figure, and each level's label within the axes or the margin above them."""
    figure = draw(result)
    FigureCanvasAgg(figure).draw()  # type: ignore[no-untyped-call]
    [axes] = figure.axes
    page = figure.bbox
    [title] = figure.texts
    texts = [*axes.texts, title, axes.xaxis.label, axes.yaxis.label, *figure.legends[0].get_texts()]
    for text in texts:
        box = text.get_window_extent()
        assert page.x0 <= box.x0 < box.x1 <= page.x1, text.get_text()
        assert page.y0 <= box.y0 < box.y1 <= page.y1, text.get_text()
    for label in axes.texts:
        assert not label.get_window_extent().overlaps(title.get_window_extent())


def test_one_level_has_neither() -> None:
    result = replace(curve(), measurements=curve().measurements[:1])
    [axes] = draw(result).axes
    assert [str(line.get_label()) for line in axes.get_lines()] == ["p50", "p99.9"]


@pytest.mark.parametrize(("suffix", "magic"), list(zip(SUFFIXES, (b"\x89PNG", b"<?xml", b"%PDF"), strict=True)))
def test_files(tmp_path: Path, suffix: str, magic: bytes) -> None:
    path = tmp_path / f"x{suffix}"
    assert write_plot(path, curve())
    assert path.read_bytes().startswith(magic)


def test_nothing_to_draw(tmp_path: Path) -> None:
    path = tmp_path / "x.png"
    assert not write_plot(path, make_result(measurements=(make_measurement(latency=None),)))
    assert not path.exists()


def test_without_the_library_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(ConfigError, match=r"pip install 'triton-canary\[plot\]'"):
        write_plot(tmp_path / "x.png", curve())
