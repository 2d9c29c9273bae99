"""Replicas beside each other: from the views of the probes of one pattern to its own samples. Pure.

The aggregate is the median over the replicas, which one that is slow does not move; the outlier figure is how far the
slowest is from it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from statistics import median

from exporter.core.probe import LoadLevel
from exporter.core.units import NS
from exporter.metrics import families as f
from exporter.metrics.exposition import Block, Lines, labels
from exporter.metrics.family import Family
from exporter.state.probe_state import ProbeView

MEDIAN = 50.0


def by_pattern(views: Sequence[ProbeView]) -> dict[tuple[str, str, str], list[ProbeView]]:
    """The views of replicas, by the target and the probe that they are of, and the model."""
    found: defaultdict[tuple[str, str, str], list[ProbeView]] = defaultdict(list)
    for view in views:
        probe = view.probe
        if probe.parent:
            found[probe.target.parent, probe.parent, probe.model].append(view)
    return dict(found)


def replica_blocks(key: tuple[str, str, str], views: Sequence[ProbeView]) -> dict[Family, Block]:
    """The samples over these replicas, which have the same load."""
    lines = Lines()
    target, probe, model = key
    place = {"place": views[0].probe.place} if views[0].probe.place else {}
    p = labels(target=target, probe=probe, model=model, **place)
    lines.add(f.REPLICAS, p, len(views))
    lines.add(f.REPLICAS_UP, p, sum(view.up is True for view in views))
    for level, latencies_ns in _latencies_ns(views).items():
        level_labels = f"{p},{labels(mode=level.mode, level=level.label)}"
        middle_ns = median(latencies_ns)
        lines.add(f.REPLICAS_LATENCY, level_labels, middle_ns / NS)
        if len(latencies_ns) > 1 and middle_ns > 0:
            lines.add(f.REPLICAS_OUTLIER, level_labels, max(latencies_ns) / middle_ns)
    return lines.blocks()


def _latencies_ns(views: Sequence[ProbeView]) -> dict[LoadLevel, list[int]]:
    """Each replica's median latency, by level."""
    found: defaultdict[LoadLevel, list[int]] = defaultdict(list)
    for view in views:
        for measurement in view.measurements:
            if measurement.latency is not None:
                found[measurement.level].append(measurement.latency.at(MEDIAN))
    return dict(found)
