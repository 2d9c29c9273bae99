"""Two recorded runs of perf_analyzer 2.60 on the delay model: from its profile export our functions make the client's
figures that it printed, to the last digit.

The runs (the exports are without their tensors):

    perf_analyzer -m delay --concurrency-range 2 -p 250 -s 10 --percentile 95 -v --profile-export-file closed.json
    perf_analyzer -m delay --request-rate-range 60 -p 400 -s 20 -a -v --profile-export-file rate.json
"""

from __future__ import annotations

import itertools
import json
import re
from pathlib import Path

import numpy as np
import pytest

from exporter.core.outcome import Reason
from exporter.core.probe import MeasurementOptions, StabilityRule
from exporter.core.result import Measurement
from exporter.core.window import RecordColumns, Window
from exporter.sweep.level_run import LevelRun
from tests.builders import concurrency, make_facts, make_probe

RECORDED = Path(__file__).parent / "perf_analyzer"
THEIRS = StabilityRule.PERF_ANALYZER
CLOSED = MeasurementOptions(
    stability_ratio=0.1, stability_percentile=95.0, percentiles=(50.0, 90.0, 95.0, 99.0), stability_rule=THEIRS
)
RATE = MeasurementOptions(stability_ratio=0.2, percentiles=(50.0, 90.0, 95.0, 99.0), stability_rule=THEIRS)


def windows_of(name: str) -> list[Window]:
    """The windows between the export's boundaries, each with the requests that ended in it, wherever they began."""
    experiment = json.loads((RECORDED / f"{name}.json").read_text())["experiments"][0]
    sent_ns = np.array([request["timestamp"] for request in experiment["requests"]], np.int64)
    last_ns = np.array([request["response_timestamps"][-1] for request in experiment["requests"]], np.int64)
    windows = []
    for index, (start_ns, end_ns) in enumerate(itertools.pairwise(experiment["window_boundaries"])):
        inside = (start_ns <= last_ns) & (last_ns <= end_ns)
        columns = RecordColumns.empty(int(inside.sum()))
        columns.intended_ns[:] = columns.sent_ns[:] = sent_ns[inside]
        columns.first_ns[:] = columns.last_ns[:] = last_ns[inside]
        windows.append(Window(index, start_ns, end_ns, columns, sent=len(columns)))
    return windows


def measure(name: str, options: MeasurementOptions) -> tuple[Measurement, list[bool]]:
    """The level as we measure it, and after which of its windows it is stable."""
    run = LevelRun(make_probe(measurement=options), make_facts(), concurrency(2))
    stable = [run.add(window, 1000.0).stable for window in windows_of(name)]
    measurement = run.measurement(Reason.NONE, "")
    assert measurement is not None
    return measurement, stable


def us(ns: float) -> int:
    return int(ns) // 1000


@pytest.mark.parametrize(("name", "options"), [("closed", CLOSED), ("rate", RATE)])
def test_each_pass(name: str, options: MeasurementOptions) -> None:
    """Throughput and the figure that stability is judged by, of every window."""
    measurement, stable = measure(name, options)
    found = []
    for window in measurement.window_summaries:
        assert window.latency is not None
        text = f"  Pass [{window.index + 1}] throughput: {window.throughput:g} infer/sec. "
        if options.stability_percentile is not None:
            text += f"p95 latency: {us(window.latency.at(95.0))} usec"
        else:
            text += f"Avg latency: {us(window.latency.mean_ns)} usec (std {us(window.latency.stddev_ns)} usec)."
        found.append(text)
    printed = (RECORDED / f"{name}.txt").read_text().splitlines()
    assert found == [line.rstrip() for line in printed if line.startswith("  Pass")]
    # It continued until the last three agreed, and no longer: so would we.
    assert stable == [False] * (len(found) - 1) + [True]


@pytest.mark.parametrize(("name", "options"), [("closed", CLOSED), ("rate", RATE)])
def test_the_merged_figures(name: str, options: MeasurementOptions) -> None:
    """The client's block of its report: the last three windows, pooled."""
    measurement, _ = measure(name, options)
    latency = measurement.latency
    assert latency is not None
    client = (RECORDED / f"{name}.txt").read_text().split("  Client:")[1].split("  Server:")[0]
    expected = {
        "Request count": str(latency.count),
        "Throughput": f"{measurement.throughput:g} infer/sec",
        **{f"p{entry.percentile:g} latency": f"{us(entry.value_ns)} usec" for entry in latency.percentiles},
    }
    if options.stability_percentile is None:
        mean, stddev = us(latency.mean_ns), us(latency.stddev_ns)
        expected["Avg latency"] = f"{mean} usec (standard deviation {stddev} usec)"
    printed = dict(re.findall(r"^    ([^:]+): (.+)$", client, re.MULTILINE))
    assert {key: printed[key] for key in expected} == expected
    assert measurement.stable
    assert measurement.windows_merged == 3
