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


@pytest.fixture
def of_members(monkeypatch: pytest.MonkeyPatch) -> dict[int, list[Window]]:
    """The windows of each member, by our clock, as they are merged."""
    taken: dict[int, list[Window]] = {}
    add = Merger.add

    def spy(merger: Merger, member: int, window: Window) -> None:
        taken.setdefault(member, []).append(window)
        add(merger, member, window)

    monkeypatch.setattr(Merger, "add", spy)
    return taken


def rate_plan(server: NamedServer) -> LevelPlan:
    plan = make_plan(LoadLevel(Mode.REQUEST_RATE, 300.0, "300"), window_ms=WINDOW_MS)
    target = make_target(kind="oip", port=server.port)
    return replace(plan, probe=replace(plan.probe, target=target, model="m"), max_windows=4)


async def test_windows_of_clocks_that_are_days_apart(tmp_path: Path, of_members: dict[int, list[Window]]) -> None:
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

    _edges_agree(of_members)
    together = summarise(latencies_ns(RecordColumns.concatenate(_columns(of_members))), (50.0, 95.0, 99.0))
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


def _edges_agree(of_members: dict[int, list[Window]]) -> None:
    """Members cut at the edges of one grid. How late each cut is, is the machine's business."""
    assert len(of_members) == len(AHEAD_S)
    for edge in zip(*_measured(of_members), strict=False):
        ends_ns = [window.end_ns for window in edge]
        errors_ns = sorted(window.health.clock_error_ns or 0 for window in edge)
        apart_ns = max(ends_ns) - min(ends_ns)
        print(f"edges {apart_ns / MS:.3f} ms apart; errors {[error / MS for error in errors_ns]} ms")
        assert apart_ns < WINDOW_MS * MS / 2 + sum(errors_ns[-2:]), "it is one edge"


def _measured(of_members: dict[int, list[Window]]) -> list[list[Window]]:
    return [[window for window in windows if not window.warm_up][:3] for windows in of_members.values()]


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
