"""The live line's words and its estimate; that it comes on a terminal alone is seen from the whole command."""

from __future__ import annotations

import io
from dataclasses import replace

import pytest
from rich.console import Console

from exporter.commands.analyze.report.live import LiveReport, Progress, least_left_ns, window_line
from exporter.core.probe import LoadLevel, MeasurementOptions, Mode, Probe, Search, SearchKind, WindowMode
from exporter.core.units import NS
from exporter.sweep.stability import Stability
from tests.archive.archive_samples import make_window_summary
from tests.builders import concurrency, make_probe
from tests.metrics.results import make_summary

LEVELS = (concurrency(1), concurrency(2), concurrency(4))
PROBE = make_probe(levels=LEVELS, measurement=MeasurementOptions(window_ns=5 * NS, stability_percentile=95.0))
SUMMARY = make_window_summary(throughput=812.25, latency=make_summary(4.0))
AGREE = Stability(stable=False, spread_ratio=1.042)


def test_the_line() -> None:
    line = window_line(PROBE, Progress(1, LEVELS[1], 2), SUMMARY, AGREE)
    assert (
        line
        == "level 2 (2/3) | window 2/10 | 812.25 infer/sec | p95 12.000 ms | spread 4.2% of 10.0% | 20 s left or more"
    )


def test_the_line_of_what_is_not_known() -> None:
    probe = replace(PROBE, search=Search(SearchKind.LINEAR, Mode.CONCURRENCY, 1.0, 0.0, 1.0))
    none = Stability(stable=False, spread_ratio=None)
    line = window_line(probe, Progress(0, LEVELS[0], 1), replace(SUMMARY, latency=None), none)
    assert line == "level 1 | window 1/10 | 812.25 infer/sec"


@pytest.mark.parametrize(
    ("changes", "level", "ended", "windows", "seconds"),
    [
        ({}, LEVELS[0], 0, 1, 2 * 5 + 2 * 15),
        ({}, LEVELS[0], 0, 3, 5 + 2 * 15),
        ({}, LEVELS[2], 2, 9, 5),
        ({}, LEVELS[2], 2, 10, 0),
        ({"measurement": MeasurementOptions(window_mode=WindowMode.COUNT)}, LEVELS[0], 0, 1, None),
        ({"measurement": MeasurementOptions(request_count=100)}, LEVELS[0], 0, 1, None),
        ({}, LoadLevel(Mode.SCHEDULE, 3.0, "night"), 0, 1, None),
    ],
)
def test_the_time_left(
    changes: dict[str, object], level: LoadLevel, ended: int, windows: int, seconds: int | None
) -> None:
    probe: Probe = replace(PROBE, **changes)  # type: ignore[arg-type]
    assert least_left_ns(probe, Progress(ended, level, windows)) == (None if seconds is None else seconds * NS)


def test_the_line_goes_away_for_others() -> None:
    stream = io.StringIO()
    live = LiveReport(Console(file=stream, force_terminal=True, width=100), PROBE)
    live.start()
    live.load_begins()
    live.window_judged(LEVELS[0], SUMMARY, AGREE, 2)
    with live.paused():
        stream.write("a line of the report\n")
    live.level_ended()
    live.window_judged(LEVELS[1], SUMMARY, AGREE, 1)
    live.stop()
    text = stream.getvalue()
    assert "level 1 (1/3) | window 2/10" in text
    assert "level 2 (2/3) | window 1/10" in text
    erase_line = "\x1b[2K"
    assert text.index(erase_line) < text.index("a line of the report")
