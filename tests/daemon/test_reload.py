"""The set of probes that changes while it runs, and the configuration's file that is read again."""

from __future__ import annotations

import asyncio
import gc
import os
from collections.abc import AsyncIterator, Callable
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from exporter.baseline.store import BaselineStore
from exporter.config import Settings, build_probes
from exporter.core.errors import ConfigError
from exporter.core.outcome import Outcome, SkipReason
from exporter.core.probe import Probe, Schedule
from exporter.core.units import NS
from exporter.daemon.reload import Changes, Loaded, ProbeSet, Reloader, read, summary
from exporter.schedule.scheduler import Scheduler
from exporter.state.probe_state import Board
from tests.builders import concurrency, make_facts, make_probe, make_target
from tests.metrics.results import make_counts, make_measurement, make_result
from tests.schedule.fakes import FakeClocks
from tests.waiting import PATIENCE_SECONDS

HOURLY = Schedule(interval_ns=3600 * NS)
TICK = 0.01


class Setup:
    """A board and a scheduler with nothing else, and sweeps that last until they are cancelled."""

    def __init__(self) -> None:
        self.fake = FakeClocks()
        self.board = Board(None, lambda: self.fake.unix_s)
        self.scheduler = Scheduler(self._run, self._skip, 2, self.fake.clocks)
        self.set = ProbeSet(self.board, self.scheduler)
        self.events: list[str] = []

    def next_runs(self) -> dict[str, float | None]:
        return {view.probe.name: self.scheduler.next_run(view.probe) for view in self.board.probes()}

    async def due(self, *probes: Probe) -> None:
        for probe in probes:
            self.scheduler.due(probe)
        await settle()

    async def _run(self, probe: Probe) -> None:
        self.board.sweep_started(probe, self.fake.unix_s)
        self.events.append(f"start {probe.name}")
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError as error:
            self.events.append(f"cancelled {probe.name}: {error}")
            raise

    def _skip(self, probe: Probe, reason: SkipReason) -> None:
        self.events.append(f"{reason.value} {probe.name}")
        self.board.sweep_skipped(probe, reason)


async def settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


@pytest.fixture
async def setup() -> AsyncIterator[Setup]:
    setup = Setup()
    yield setup
    assert await setup.scheduler.drain(1)


def probes_of_one_server(count: int) -> list[Probe]:
    return [make_probe(name=f"p{i}", schedule=HOURLY) for i in range(count)]


async def test_of_a_thousand_probes_one_changes_and_the_others_feel_nothing(setup: Setup, tmp_path: Path) -> None:
    probes = probes_of_one_server(1000)
    setup.set.start(probes)
    for probe in probes:
        setup.board.window_ended(probe, make_counts(outcomes={Outcome.OK: 7}))
        setup.board.sweep_ended(make_result(probe, started_unix_s=setup.fake.unix_s))
    store = BaselineStore(tmp_path)
    measured = make_result(probes[7], facts=make_facts(), measurements=(make_measurement(concurrency(1)),))
    store.judge(measured)
    baseline = store.current(probes[7])
    assert baseline is not None
    views, runs = setup.board.probes(), setup.next_runs()
    changed = [*(replace(p) for p in probes[:500]), replace(probes[500], levels=(concurrency(2),)), *probes[501:]]

    assert setup.set.apply(changed) == Changes(changed=1, unchanged=999)
    assert setup.next_runs() == runs
    for index, (before, after) in enumerate(zip(views, setup.board.probes(), strict=True)):
        assert (before is after) == (index != 500)
        assert after.counters.requests[Outcome.OK] == 7
        assert after.probe is before.probe or index == 500
    assert setup.board.probes()[500].probe.levels == (concurrency(2),)
    assert store.current(setup.board.probes()[7].probe) is baseline
    assert setup.events == []
    store.close()


async def test_what_is_gone_is_gone_and_what_is_new_runs_soon(setup: Setup) -> None:
    first, second = probes_of_one_server(2)
    setup.set.start([first])
    assert setup.set.apply([second]) == Changes(added=1, removed=1)
    assert setup.scheduler.next_run(first) is None
    assert [view.probe for view in setup.board.probes()] == [second]
    soon = setup.scheduler.next_run(second)
    assert soon is not None
    assert 0 < soon - setup.fake.unix_s <= 1.1


async def test_one_that_comes_back_within_its_interval_does_not_run_again_for_that(setup: Setup) -> None:
    probe = make_probe(name="flapping", schedule=HOURLY)
    setup.set.start([probe])
    regular = setup.scheduler.next_run(replace(probe))
    setup.board.sweep_ended(make_result(probe, started_unix_s=setup.fake.unix_s))
    for _ in range(3):
        setup.set.apply([])
        setup.set.apply([probe])
    back = setup.scheduler.next_run(probe)
    assert back is not None
    assert regular is not None
    assert back - setup.fake.unix_s > 1.1 or back == regular


@pytest.mark.parametrize("removed", [True, False])
async def test_the_running_sweep_of_a_changed_or_removed_probe_ends(removed: bool, setup: Setup) -> None:
    other = make_probe(name="other", target=make_target(name="b", group="b"), schedule=HOURLY)
    probe = make_probe(name="heavy", schedule=HOURLY, levels=(concurrency(64),))
    setup.set.start([probe, other])
    await setup.due(probe, other)
    lighter = [] if removed else [replace(probe, levels=(concurrency(1),))]
    setup.set.apply([*lighter, other])
    await settle()
    assert setup.events == [
        "start heavy",
        "start other",
        "cancelled heavy: the configuration of the probe changed",
    ]


async def test_who_waits_in_line_keeps_its_place_under_what_it_became(setup: Setup) -> None:
    running, waiting, gone = probes_of_one_server(3)
    setup.set.start([running, waiting, gone])
    await setup.due(running, waiting, gone)
    became = replace(waiting, target=replace(waiting.target, group="free"))
    setup.set.apply([running, became])
    await settle()
    assert setup.events == ["start p0", "shutdown p2", "start p1"]


async def test_a_new_schedule_is_planned_again(setup: Setup) -> None:
    probe = make_probe(schedule=HOURLY)
    setup.set.start([probe])
    setup.board.sweep_ended(make_result(probe, started_unix_s=setup.fake.unix_s))
    faster = replace(probe, schedule=Schedule(interval_ns=60 * NS))
    setup.set.apply([faster])
    next_run = setup.scheduler.next_run(faster)
    assert next_run is not None
    assert next_run - setup.fake.unix_s <= 60


async def test_after_the_drain_nothing_is_taken(setup: Setup) -> None:
    setup.set.start([])
    await setup.scheduler.drain(1)
    setup.set.apply(probes_of_one_server(1))
    assert list(setup.next_runs().values()) == [None]


# --- the file --------------------------------------------------------------------------------------------------------


def document(*models: str, **more: object) -> bytes:
    return yaml.safe_dump(
        {
            "targets": [{"name": "t", "url": "http://triton.example:8000"}],
            "probes": [
                {"name": m, "target": "t", "model": m, "load": {"concurrency": 1}, "schedule": {"every": "1h"}}
                for m in models
            ],
            **more,
        }
    ).encode()


class Desk:
    """A reloader over a file, and the names of the probes that it handed out."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.path.write_bytes(document("a"))
        self.taken: list[list[str]] = []
        self.reloader = Reloader(path, read(path, build_probes), build_probes, self._take)

    def _take(self, loaded: Loaded) -> None:
        self.taken.append([probe.name for probe in loaded.probes])


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(tmp_path / "canary.yaml")


async def test_a_good_file_is_taken(desk: Desk) -> None:
    before = desk.reloader.hash
    desk.path.write_bytes(document("a", "b"))
    assert await desk.reloader.reload("test") is None
    assert desk.taken == [["a", "b"]]
    assert desk.reloader.hash != before
    assert [probe.name for probe in desk.reloader.probes] == ["a", "b"]
    assert desk.reloader.restart_keys == ()


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (b"targets: [", "is not YAML"),
        (b"", "is empty"),
        (document("a", porbes=1), "unknown key; did you mean 'probes'?"),
        (b"\xff\xfe", "is not UTF-8 text"),
        (None, "cannot be read: No such file or directory"),
    ],
    ids=["syntax", "empty", "unknown key", "not text", "gone"],
)
async def test_a_bad_file_changes_nothing_and_reports_it(data: bytes | None, problem: str, desk: Desk) -> None:
    before = desk.reloader.hash, desk.reloader.settings, desk.reloader.success_unix_s
    desk.path.unlink() if data is None else desk.path.write_bytes(data)
    error = await desk.reloader.reload("test")
    assert problem in str(error)
    assert desk.reloader.error is error
    assert desk.taken == []
    assert (desk.reloader.hash, desk.reloader.settings, desk.reloader.success_unix_s) == before
    desk.path.write_bytes(document("c"))
    assert await desk.reloader.reload("test") is None
    assert desk.reloader.error is None
    assert desk.taken == [["c"]]


async def test_what_needs_a_restart_is_reported(desk: Desk) -> None:
    desk.path.write_bytes(document("a", limits={"concurrent_sweeps": 3}, log={"level": "debug"}))
    assert await desk.reloader.reload("test") is None
    assert desk.reloader.restart_keys == ("limits",)
    comment, _, shown = desk.reloader.shown().partition("\n")
    assert comment == "# Changed, needs a restart: limits"
    assert yaml.safe_load(shown)["limits"] == {"concurrent_sweeps": 3}
    desk.path.write_bytes(document("a", limits={"concurrent_sweeps": 3}, web={"listen": ":1"}))
    assert await desk.reloader.reload("test") is None
    assert desk.reloader.shown().startswith("# Changed, needs a restart: web, limits\n")


async def test_the_cap_of_discovery_needs_no_restart(desk: Desk) -> None:
    desk.path.write_bytes(document("a", limits={"max_discovered": 3}))
    assert await desk.reloader.reload("test") is None
    assert (desk.reloader.settings.limits.max_discovered, desk.reloader.restart_keys) == (3, ())
    assert "#" not in desk.reloader.shown()


async def test_the_probes_of_the_present_settings_can_be_taken_again(desk: Desk) -> None:
    await desk.reloader.refresh()
    assert desk.taken == [["a"]]


async def test_a_link_swapped_ten_times_a_second_ends_with_the_last(tmp_path: Path) -> None:
    """As the kubelet does it: the file is a link into a folder that is itself a link, and that one is renamed over."""
    path = tmp_path / "canary.yaml"
    path.symlink_to("..data/canary.yaml")
    swap(tmp_path, 0, document("m0"))
    taken: list[list[str]] = []
    loaded = read(path, build_probes)
    reloader = Reloader(path, loaded, build_probes, lambda new: taken.append([p.name for p in new.probes]))
    watch = asyncio.create_task(reloader.watch(TICK))
    for number in range(1, 11):
        swap(tmp_path, number, document(f"m{number}"))
        await asyncio.sleep(TICK / 4)
    await until(lambda: taken[-1:] == [["m10"]])
    assert len(taken) <= 10
    assert reloader.hash == read(path, build_probes).hash
    swap(tmp_path, 11, document("m10"))  # another file with the same in it is no change
    count = len(taken)
    await asyncio.sleep(4 * TICK)
    assert len(taken) == count
    watch.cancel()


async def test_the_watch_tries_a_bad_file_once_and_takes_the_old_one_back(desk: Desk) -> None:
    watch = asyncio.create_task(desk.reloader.watch(TICK))
    good = desk.path.read_bytes()
    desk.path.write_bytes(b"targets: [")
    await until(lambda: desk.reloader.error is not None)
    error = desk.reloader.error
    await asyncio.sleep(4 * TICK)
    assert desk.reloader.error is error
    desk.path.write_bytes(good)
    await until(lambda: desk.reloader.error is None)
    desk.path.unlink()
    await until(lambda: desk.reloader.error is not None)
    watch.cancel()


@pytest.mark.parametrize("good", [True, False])
def test_a_file_is_read_without_collections_of_cycles(good: bool, tmp_path: Path) -> None:
    """Each of them stops the loop, for longer the more probes there are."""
    path, seen = tmp_path / "canary.yaml", []
    path.write_text("targets: []\nprobes: []\n")

    def probes_of(settings: Settings) -> tuple[Probe, ...]:
        seen.append(gc.isenabled())
        if not good:
            raise ConfigError(["bad"])
        return build_probes(settings)

    with nullcontext() if good else pytest.raises(ConfigError):
        read(path, probes_of)
    assert (seen, gc.isenabled()) == ([False], True)


def test_only_the_first_errors_are_reported() -> None:
    assert summary(ConfigError(["a", "b"])) == "a; b"
    assert summary(ConfigError(list("abcdefg"))) == "a; b; c; d; e; and 2 more"


def swap(folder: Path, number: int, data: bytes) -> None:
    (folder / f"..{number}").mkdir()
    (folder / f"..{number}" / "canary.yaml").write_bytes(data)
    (folder / "..data_tmp").symlink_to(f"..{number}")
    os.replace(folder / "..data_tmp", folder / "..data")


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE_SECONDS):
        while not condition():
            await asyncio.sleep(TICK)
