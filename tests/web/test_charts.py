"""The charts: where a figure is drawn, and that nothing but figures gets into the drawing."""

from __future__ import annotations

import math
import re
from dataclasses import replace
from xml.etree import ElementTree

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.state.day_ring import DAY_SECONDS, FIGURES, Conclusion, Day
from exporter.web.charts import PARTS, Scale, Sparklines, day_chart, load_curve, parts, sparkline
from exporter.web.report import LevelReport, VerdictReport

NOW = 1_700_000_000.0
EVIL = "<script>\"'&{{ x }}"


def day_of(ago_s: list[float], p99: list[float], failed: list[int] | None = None, **figures: float) -> Day:
    count = len(ago_s)
    columns = {name: np.full(count, math.nan, np.float32) for name in FIGURES}
    columns["p99"] = np.array(p99, np.float32)
    columns |= {name: np.full(count, value, np.float32) for name, value in figures.items()}
    severity = np.zeros(count, np.uint8)
    severity[failed or []] = Conclusion.FAILED.severity
    return Day(
        NOW - np.array(ago_s),
        severity,
        np.zeros(count, np.int64),
        np.zeros(count, np.int64),
        {"concurrency 1": columns},
    )


def numbers(path: str) -> list[tuple[float, float]]:
    return [(float(x), float(y)) for x, y in re.findall(r"[ML]([-\d.e+]+) ([-\d.e+]+)", path)]


def line_of(svg: str, css: str) -> str:
    found = ElementTree.fromstring(svg).findall(f".//path[@class='{css}']")
    return found[0].attrib["d"]


def test_a_sparkline_goes_from_left_to_right_and_doubles_where_the_latency_does() -> None:
    day = day_of([DAY_SECONDS - 1, DAY_SECONDS / 2, 1], [0.002, 0.004, 0.008])
    svg = sparkline(day, "concurrency 1", NOW)
    (x0, y0), (x1, y1), (x2, y2) = numbers(line_of(svg, "line"))
    assert (x0, x1, x2) == (0.5, 48.5, 95.5)
    heights = [26 - y for y in (y0, y1, y2)]
    assert heights[1] / heights[0] == pytest.approx(2, rel=0.01)
    assert heights[2] / heights[1] == pytest.approx(2, rel=0.01)
    assert 'aria-label="p99 over 24 h: 2.00 ms to 8.00 ms"' in svg


def test_a_sparkline_shows_the_highest_of_a_quarter_of_an_hour_the_baseline_and_failures() -> None:
    day = day_of([100, 200, 300, 50_000], [0.001, 0.009, 0.002, math.nan], [3], baseline_p99=0.0045)
    svg = sparkline(day, "concurrency 1", NOW)
    (point,) = numbers(line_of(svg, "line"))
    base = float(re.findall(r"M0 ([\d.]+)H96", line_of(svg, "base"))[0])
    assert (26 - point[1]) / (26 - base) == pytest.approx(2, rel=0.02)
    assert line_of(svg, "fail").startswith("M40.5 ")
    assert "baseline 4.50 ms; 1 of 4 sweeps failed" in svg


def test_a_line_ends_where_sweeps_are_missing() -> None:
    ago_s = [*range(80_000, 60_000, -900), *range(20_000, 0, -900)]
    day = day_of([float(ago) for ago in ago_s], [0.004] * len(ago_s))
    assert line_of(sparkline(day, "concurrency 1", NOW), "line").count("M") == 2
    hourly = [float(ago) for ago in range(80_000, 0, -3600)]
    assert line_of(sparkline(day_of(hourly, [0.004] * len(hourly)), "concurrency 1", NOW), "line").count("M") == 1


def test_the_band_reaches_from_the_baseline_to_the_limit() -> None:
    ago_s = [float(ago) for ago in range(3000, 0, -300)]
    day = day_of(ago_s, [0.004] * 10, baseline_p99=0.004, limit_p99=1.25, p50=0.002)
    svg = day_chart(day, "concurrency 1", "concurrency 1", NOW)
    ys = {y for _, y in numbers(line_of(svg, "band p99"))}
    top = 1.06 * 0.005
    assert sorted(ys) == pytest.approx([1000 * (1 - 0.005 / top), 1000 * (1 - 0.004 / top)], abs=0.1)
    texts = [text.text for text in ElementTree.fromstring(svg).iter("text")]
    assert "p99 4.00 ms" in texts
    assert "p50 2.00 ms" in texts
    assert svg.count('class="hit"') == 10


@given(
    st.lists(
        st.tuples(st.floats(-7200, 1.5 * DAY_SECONDS), st.floats(0, 1e4) | st.just(math.nan), st.integers(0, 5)),
        max_size=60,
    ),
    st.floats(1e-9, 1e4) | st.just(math.nan),
    st.floats(1, 1e3) | st.just(math.nan),
)
def test_whatever_the_figures_are_the_drawing_is_well_formed(
    sweeps: list[tuple[float, float, int]], baseline: float, limit: float
) -> None:
    sweeps = sorted(sweeps, reverse=True)
    day = day_of([ago for ago, _, _ in sweeps], [value for _, value, _ in sweeps], p50=0.5)
    day.severity[:] = [code for _, _, code in sweeps]
    figures = dict(day.levels["concurrency 1"])
    for name in ("p50", "p99"):
        figures[f"baseline_{name}"] = np.full(len(sweeps), baseline, np.float32)
        figures[f"limit_{name}"] = np.full(len(sweeps), limit, np.float32)
    day = replace(day, levels={"concurrency 1": figures})
    for svg in (sparkline(day, "concurrency 1", NOW), day_chart(day, "concurrency 1", EVIL, NOW)):
        assert "nan" not in svg
        assert "inf" not in svg
        assert "<script" not in svg
        if svg:
            ElementTree.fromstring(svg)
    for _, y in numbers(line_of(sparkline(day, "concurrency 1", NOW), "line")) if sweeps else ():
        assert 0 <= y <= 28


def level(label: str, throughput: float, p50: float, p99: float, baseline: float | None = None) -> LevelReport:
    verdict = VerdictReport("latency_p99", baseline, None, {}, None, None, "", None, None, None, False)
    return LevelReport(
        mode="concurrency",
        level=label,
        throughput=throughput,
        percentiles={"50": p50, "99": p99},
        error_ratio=0.0,
        unsent_ratio=0.0,
        stable=True,
        client_limited=False,
        breakdown={},
        bimodal=None,
        regression="",
        slowest_part="",
        no_verdict="",
        verdicts=[verdict],
    )


def test_the_load_curve_has_a_point_per_level_in_order_of_the_load() -> None:
    levels = [level("1", 100.0, 0.002, 0.004, 0.003), level("8", 400.0, 0.004, 0.016), level(EVIL, 200.0, 0.003, 0.008)]
    svg = load_curve(levels)
    points = numbers(line_of(svg, "line p99"))
    assert [round(x / points[0][0], 2) for x, _ in points] == [1.0, 4.0, 2.0]
    assert [round((1000 - y) / (1000 - points[0][1]), 1) for _, y in points] == [1.0, 4.0, 2.0]
    assert svg.count('class="ring p99"') == 1
    assert "baseline 3.00 ms" in svg
    assert "<script" not in svg


def test_a_single_level_has_no_curve() -> None:
    assert load_curve([level("1", 100.0, 0.002, 0.004)]) == ""
    assert load_curve([]) == ""


@given(st.floats(1e-9, 1e6))
def test_an_axis_has_few_round_values_from_zero(most: float) -> None:
    scale = Scale.upto(most)
    assert scale.values[0] == 0
    assert 3 <= len(scale.values) <= 6
    assert scale.values[-1] <= scale.top
    step = scale.values[1]
    mantissa = step / 10 ** math.floor(math.log10(step) + 1e-9)
    assert min(abs(mantissa - round_one) for round_one in (1, 2, 2.5, 5, 10)) < 1e-6


@given(st.dictionaries(st.sampled_from([name for names in PARTS.values() for name in names]), st.floats(0, 10)))
def test_the_parts_fill_the_bar(breakdown: dict[str, float]) -> None:
    made = parts(breakdown)
    assert sum(part.seconds for part in made) == pytest.approx(sum(breakdown.values()))
    if made:
        assert sum(part.width for part in made) == pytest.approx(100, abs=0.1)
        assert [part.at for part in made] == pytest.approx(
            [sum(part.width for part in made[:index]) for index in range(len(made))], abs=0.1
        )


def test_a_sparkline_is_drawn_again_for_a_new_sweep_level_or_quarter_of_an_hour() -> None:
    drawn = Sparklines()
    day = day_of([900.0, 300.0], [0.002, 0.004])
    first = drawn.get("p", day, "concurrency 1", NOW)
    assert drawn.get("p", day, "concurrency 1", NOW + 10) is first
    assert drawn.get("p", day, "concurrency 2", NOW) is not first
    newer = day_of([900.0, 300.0, 1.0], [0.002, 0.004, 0.008])
    second = drawn.get("p", newer, "concurrency 1", NOW)
    assert "8.00 ms" in second
    failed = replace(newer, severity=np.array([0, 0, Conclusion.FAILED.severity], np.uint8))
    assert "1 of 3 sweeps failed" in drawn.get("p", failed, "concurrency 1", NOW)
    assert drawn.get("p", newer, "concurrency 1", NOW + 900) != second


def test_a_sweep_without_neighbours_is_a_dot() -> None:
    assert line_of(sparkline(day_of([1.0], [0.002]), "concurrency 1", NOW), "lone ").count("M") == 1
    svg = day_chart(day_of([1.0], [0.002]), "concurrency 1", "concurrency 1", NOW)
    assert line_of(svg, "lone p99") == line_of(svg, "line p99")
    near = day_of([float(ago) for ago in range(900, 0, -300)], [0.002] * 3)
    assert "lone" not in day_chart(near, "concurrency 1", "concurrency 1", NOW)


@pytest.mark.parametrize(
    ("ago_s", "first_x", "times"),
    [
        ([3000.0, 2000.0, 1000.0], 1000 / 6, ["21:30", "21:45", "22:00"]),  # an hour is the least
        ([10_000.0, 5000.0, 1.0], 1000 / 51, ["20:00", "20:30", "21:00", "21:30", "22:00"]),
        ([DAY_SECONDS - 1, 1.0], 0.01, ["00:00", "06:00", "12:00", "18:00"]),
    ],
)
def test_a_chart_begins_with_the_first_sweep(ago_s: list[float], first_x: float, times: list[str]) -> None:
    svg = day_chart(day_of(ago_s, [0.004] * len(ago_s)), "concurrency 1", "concurrency 1", NOW)
    assert numbers(line_of(svg, "line p99"))[0][0] == pytest.approx(first_x, rel=0.01, abs=0.1)
    assert re.findall(r'class="tick"[^>]*>([\d:]+)<', svg) == times
