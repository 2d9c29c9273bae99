"""The kinds of requests of the comparison, and the recogniser's command line."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from bench.models import ACCUMULATOR
from bench.requests import SWEEP, kinds
from exporter.commands.analyze.flags import parse
from exporter.core.probe import Mode, Search, SearchKind, WindowMode


def test_each_kind_is_there_once_for_each_endpoint() -> None:
    found = kinds(Path("steps.json"))
    assert set(Counter((kind.name, kind.endpoint) for kind in found).values()) == {1}
    for kind in found:
        assert ("--streaming" in kind.arguments) == kind.changes.get("streaming", False)
        assert ("--shared-memory" in kind.arguments) == ("shared memory" in kind.name)
        assert (kind.model == ACCUMULATOR) == ("sequences" in kind.changes)
        assert (kind.aim is None) == (kind.model != "cached_identity")


def test_the_recognisers_line_is_one_of_ours() -> None:
    probe = parse(SWEEP.split()).probe
    assert probe is not None
    assert probe.search == Search(SearchKind.LINEAR, Mode.REQUEST_RATE, 512, 4096, 512)
    assert (probe.measurement.window_mode, probe.measurement.window_requests) == (WindowMode.COUNT, 5000)
    assert (probe.streaming, probe.sequences and probe.sequences.length) == (True, 50)
