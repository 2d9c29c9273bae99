"""A sweep over three Dask workers: its figures are those of all rows together, as each worker process kept them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from exporter.core.outcome import Outcome, Reason
from exporter.core.probe import MeasurementOptions, StopRules
from exporter.core.result import Measurement
from exporter.core.units import MS, NS
from exporter.core.window import RecordColumns, Window
from exporter.sweep.conductor import Sweep
from exporter.sweep.watcher import Watcher
from exporter.worker.remote.pool import lend_remote
from tests.builders import make_probe, make_target
from tests.daemon.counting_server import CountingServer
from tests.engine.fakes import request_rate
from tests.worker.remote.cluster import Cluster

MEMBERS = 3
RATE = 240
WINDOW_NS = 500 * MS
PERCENTILES = (50.0, 90.0, 95.0, 99.0, 99.9)
RECORDING = "tests.worker.remote.recording_worker"


class Taken(Watcher):
    """Keeps the windows of the level."""

    def __init__(self) -> None:
        self.windows: list[Window] = []

    def window_measured(self, window: Window) -> None:
        self.windows.append(window)


async def test_percentiles_are_those_of_all_rows_together_to_the_nanosecond(tmp_path: Path) -> None:
    records = tmp_path / "records"
    records.mkdir()
    environment = {"TRITON_RECORDED_WINDOWS": str(records)}
    with CountingServer(0.004) as server, Cluster(tmp_path, MEMBERS, environment=environment) as cluster:
        target = make_target(kind="oip", port=server.port)
        options = MeasurementOptions(window_ns=WINDOW_NS, stability_ratio=100.0, max_windows=3, percentiles=PERCENTILES)
        stop = replace(StopRules(), max_in_flight=200, max_error_ratio=1.0)
        it = make_probe(target=target, model="m", levels=(request_rate(RATE),), measurement=options, stop=stop)
        it = replace(it, workers=MEMBERS, pool=cluster.address)
        taken = Taken()
        lend = partial(lend_remote, cluster.address, MEMBERS, module=RECORDING)
        result = await Sweep(it, [], watchers=[taken]).run(lend)
    assert result.reason in (Reason.NONE, Reason.UNSTABLE), result.reason_text
    (measured,) = result.measurements
    rows = _rows(records, taken.windows[-measured.windows_merged :])
    _same(measured, np.sort(np.concatenate([last_ns - sent_ns for sent_ns, last_ns, _ in rows])))
    # What was due is a schedule: no machine is too slow for it. Of each process alone: on a busy machine one cuts late,
    # and has fewer rows here than the others.
    for _, _, intended_ns in rows:
        assert np.median(np.diff(np.sort(intended_ns))) == pytest.approx(MEMBERS / RATE * NS, rel=1e-3)


Recorded = Mapping[str, np.ndarray]


def _rows(records: Path, merged: list[Window]) -> list[tuple[np.ndarray, ...]]:
    """The rows of responses in these windows of the level, as each process had them: when they were sent, had their
    response, and were due."""
    by_process: dict[str, list[Recorded]] = {}
    for path in records.glob("*.npz"):
        with np.load(path) as file:
            by_process.setdefault(path.name.partition("-")[0], []).append(dict(file))
    assert len(by_process) == MEMBERS
    rows = []
    for windows in by_process.values():
        moved_ns = _moved_ns(windows, merged)
        inside = [
            window
            for window in windows
            if not window["warm_up"] and merged[0].start_ns < window["end_ns"] - moved_ns <= merged[-1].end_ns
        ]
        is_ok = np.concatenate([window["outcome"] == Outcome.OK for window in inside])
        names = ("sent_ns", "last_ns", "intended_ns")
        rows.append(tuple(np.concatenate([window[name] for window in inside])[is_ok] for name in names))
    return rows


def _moved_ns(windows: list[Recorded], merged: list[Window]) -> int:
    """By how much the client moved the moments of this process, whose clock is the client's own: found by the rows
    whose latency no other has."""
    here = RecordColumns.concatenate([window.columns for window in merged])
    sent_by_latency = dict(zip((here.last_ns - here.sent_ns).tolist(), here.sent_ns.tolist(), strict=True))
    there = {
        int(last - sent): int(sent)
        for window in windows
        for sent, last in zip(window["sent_ns"], window["last_ns"], strict=True)
    }
    (moved_ns, rows), *_ = Counter(
        there[each] - sent_by_latency[each] for each in there.keys() & sent_by_latency.keys()
    ).most_common(1)
    assert rows > 50
    return int(moved_ns)


def _same(measured: Measurement, ordered_ns: np.ndarray) -> None:
    """Each figure, by perf_analyzer's definition of a percentile."""
    latency = measured.latency
    assert latency is not None
    assert latency.count == len(ordered_ns)
    for percentile in PERCENTILES:
        expected_ns = ordered_ns[int(percentile / 100 * (len(ordered_ns) - 1) + 0.5)]
        assert latency.at(percentile) == expected_ns, percentile
    assert (latency.min_ns, latency.max_ns) == (ordered_ns[0], ordered_ns[-1])
    assert latency.mean_ns == float(ordered_ns.mean())
    assert sum(measured.outcomes.values()) == measured.outcomes.get(Outcome.OK)
