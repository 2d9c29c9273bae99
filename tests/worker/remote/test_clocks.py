"""A level over workers whose clocks are hours apart: where its windows and requests are, by the clock of the server."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from exporter.analysis.latency import summarise
from exporter.analysis.windows import latencies_ns
from exporter.core.probe import LoadLevel, Mode, Probe
from exporter.core.units import MS, NS
from exporter.core.window import LevelEnd, RecordColumns, Window
from exporter.engine.plan import LevelPlan
from exporter.worker.merging import Merger
from exporter.worker.remote.pool import lend_remote
from tests.builders import make_target
from tests.engine.fakes import make_plan
from tests.standby.named_server import NamedServer
from tests.worker.remote.cluster import Cluster, need_shifted_clocks

pytest.importorskip("distributed")

AHEAD_S = (0, 86_400, 1_000_003)
WINDOW_MS = 500


class Merged:
    """By our clock: the windows of each member, and where the grid of those that are measured begins."""

    def __init__(self) -> None:
        self.of_members: dict[int, list[Window]] = {}
        self.grid_ns = 0


@pytest.fixture
def merged(monkeypatch: pytest.MonkeyPatch) -> Merged:
    """What is merged."""
    it = Merged()
    add, start_grid = Merger.add, Merger.start_grid

    def spy(merger: Merger, member: int, window: Window) -> None:
        it.of_members.setdefault(member, []).append(window)
        add(merger, member, window)

    def spy_grid(merger: Merger, at_ns: int) -> None:
        it.grid_ns = at_ns
        start_grid(merger, at_ns)

    monkeypatch.setattr(Merger, "add", spy)
    monkeypatch.setattr(Merger, "start_grid", spy_grid)
    return it


def rate_plan(server: NamedServer) -> LevelPlan:
    plan = make_plan(LoadLevel(Mode.REQUEST_RATE, 300.0, "300"), window_ms=WINDOW_MS)
    target = make_target(kind="oip", port=server.port)
    return replace(plan, probe=replace(plan.probe, target=target, model="m"), max_windows=4)


async def test_windows_of_clocks_that_are_days_apart(tmp_path: Path, merged: Merged) -> None:
    need_shifted_clocks()
    with NamedServer(0.005) as server, Cluster(tmp_path, 3, ahead_s=AHEAD_S) as cluster:
        plan = rate_plan(server)
        windows = await _windows(cluster, plan, plan.probe)
    error_ns = max(window.health.clock_error_ns or 0 for window in windows)
    assert 0 < error_ns < NS, "hours are known to less than a second"
    rows = RecordColumns.concatenate([window.columns for window in windows])
    arrivals_ns = np.array(sorted(at_s * NS for at_s, _ in server.arrivals))
    assert len(arrivals_ns) == len(rows) > 600
    # Each request came to the server after it was sent and before its response was there: so it is in both orders.
    assert (np.sort(rows.sent_ns) <= arrivals_ns + error_ns).all()
    assert (np.sort(rows.last_ns) >= arrivals_ns - error_ns).all()

    _edges_agree(merged)
    together = summarise(latencies_ns(RecordColumns.concatenate(_columns(merged.of_members))), (50.0, 95.0, 99.0))
    pooled = summarise(latencies_ns(rows), (50.0, 95.0, 99.0))
    assert together is not None
    assert pooled is not None
    assert (together.count, together.mean_ns) == (pooled.count, pooled.mean_ns)
    assert [each.value_ns for each in together.percentiles] == [each.value_ns for each in pooled.percentiles]
    measured = [window for window in windows if not window.warm_up][:3]
    sent_per_s = sum(window.sent for window in measured) * NS / sum(window.duration_ns for window in measured)
    print(f"clock error {error_ns / MS:.3f} ms of {WINDOW_MS} ms; {sent_per_s:.2f} requests per second of 300")


def _columns(of_members: dict[int, list[Window]]) -> list[RecordColumns]:
    return [window.columns for windows in of_members.values() for window in windows]


def _edges_agree(merged: Merged) -> None:
    """Members cut at the edges of one grid. How late each cut is, and whether one leaves an edge out, is the machine's
    business: each member has one that is near its edge."""
    assert len(merged.of_members) == len(AHEAD_S)
    for windows in merged.of_members.values():
        measured = [window for window in windows if not window.warm_up][:3]
        errors_ns = [window.health.clock_error_ns or 0 for window in measured]
        # Before the edge only by what the clock is wrong.
        allowed_ns = 2 * max(errors_ns)
        late_ns = [(window.end_ns - merged.grid_ns + allowed_ns) % (WINDOW_MS * MS) - allowed_ns for window in measured]
        print(f"cuts {[late / MS for late in late_ns]} ms late; errors {[error / MS for error in errors_ns]} ms")
        assert min(late_ns) < WINDOW_MS * MS / 2


async def _windows(cluster: Cluster, plan: LevelPlan, probe: Probe) -> list[Window]:
    async with lend_remote(cluster.address, len(AHEAD_S)) as worker:
        facts = await worker.preflight(probe)
        windows, sent = [], -1
        async for event in worker.run_level(replace(plan, facts=facts)):
            if isinstance(event, Window):
                windows.append(event)
            elif isinstance(event, LevelEnd):
                sent = event.sent
        await worker.end_sweep()
    assert sent == sum(len(window.columns) for window in windows)
    return windows
