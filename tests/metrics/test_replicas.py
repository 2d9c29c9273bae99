"""Replicas beside each other: the median over them, and how far the slowest is from it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from exporter.core.probe import Probe
from exporter.metrics import families as f
from exporter.metrics.replicas import by_pattern, replica_blocks
from exporter.state.probe_state import ProbeView
from tests.builders import concurrency, make_probe, make_target
from tests.metrics.results import make_measurement, make_result

P = 'target="fleet",probe="asr",model="addsub"'
L = f'{P},mode="concurrency",level="1"'


def replica(number: int) -> Probe:
    target = make_target(name=f"fleet/10.0.0.{number}:8001", parent="fleet")
    return make_probe(name=f"asr/10.0.0.{number}:8001", target=target, parent="asr")


def view(number: int, median_ms: float | None, up: bool | None = True) -> ProbeView:
    probe = replica(number)
    if median_ms is None:
        return ProbeView(probe, up=up)
    measurement = make_measurement(concurrency(1))
    assert measurement.latency is not None
    value_ns = round(median_ms * 1e6)
    percentiles = tuple(replace(p, value_ns=value_ns) for p in measurement.latency.percentiles)
    measurement = replace(measurement, latency=replace(measurement.latency, percentiles=percentiles))
    return ProbeView(probe, measured=make_result(probe, measurements=(measurement,)), up=up)


def test_who_belongs_together() -> None:
    views = [view(1, None), ProbeView(make_probe()), view(2, None)]
    assert by_pattern(views) == {("fleet", "asr", "addsub"): [views[0], views[2]]}


@pytest.mark.parametrize(
    ("medians_ms", "middle", "outlier"),
    [
        ([2.0, 2.0, 2.0], "0.002", "1.0"),
        ([2.0, 10.0, 2.5], "0.0025", "4.0"),
        ([2.0, 4.0], "0.003", "1.3333333333333333"),
        ([2.0, None, 3.0], "0.0025", "1.2"),
        ([2.0, None], "0.002", None),
        ([None, None], None, None),
    ],
)
def test_figures(medians_ms: list[float | None], middle: str | None, outlier: str | None) -> None:
    views = [view(number, median, up=median is not None) for number, median in enumerate(medians_ms)]
    blocks = replica_blocks(("fleet", "asr", "addsub"), views)
    expected = {
        f.REPLICAS: f"triton_canary_replicas{{{P}}} {len(views)}.0\n",
        f.REPLICAS_UP: f"triton_canary_replicas_up{{{P}}} {len(views) - medians_ms.count(None)}.0\n",
    }
    if middle is not None:
        expected[f.REPLICAS_LATENCY] = f"triton_canary_replicas_latency_median_seconds{{{L}}} {middle}\n"
    if outlier is not None:
        expected[f.REPLICAS_OUTLIER] = f"triton_canary_replicas_outlier_ratio{{{L}}} {outlier}\n"
    assert blocks == expected
