"""The latest change point of a level, found beside the verdicts."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from exporter.baseline.second_opinion import SEARCH_EVERY_S, SecondOpinion
from exporter.baseline.state import LevelState
from exporter.baseline.store import BaselineStore
from exporter.core.probe import BaselineOptions, Probe, Signal
from exporter.core.result import LevelChange
from exporter.core.units import MS
from tests.builders import make_facts, make_probe
from tests.metrics.results import make_measurement, make_result, make_summary

BEGIN = 1_767_571_200.0
DAY = 86_400.0
KEY = ("p", "load", "concurrency 1")


def level(days: int, *versions: tuple[float, str], step: float = 1.2, at_day: float = 9.0) -> LevelState:
    """So many days, each version from its day on, slower from `at_day` on."""
    state, random = LevelState(), np.random.default_rng(3)
    for index in range(days * 288):
        unix_s = BEGIN + index * 300.0
        version = next(name for since, name in reversed(versions) if unix_s >= BEGIN + since * DAY)
        log = np.log(20 * MS) + random.normal(0, 0.03) + (np.log(step) if unix_s >= BEGIN + at_day * DAY else 0.0)
        state.version(version, unix_s).add(
            unix_s, {Signal.LATENCY_P50: float(log)}, {}, BaselineOptions(), unstable=False
        )
    return state


def searched(state: LevelState, probe: Probe | None = None, days: int = 14) -> LevelChange | None:
    opinion = SecondOpinion()
    try:
        opinion.look(KEY, state, probe or make_probe(), BEGIN + days * DAY)
        opinion.settle()
        return opinion.latest(KEY)
    finally:
        opinion.close()


def test_a_step_is_found_over_all_versions() -> None:
    found = searched(level(14, (0.0, "1"), (11.0, "2")))
    assert found is not None
    assert found.unix_s == pytest.approx(BEGIN + 9 * DAY, abs=4 * 3600)
    assert found.ratio == pytest.approx(1.2, rel=0.03)
    assert found.before == pytest.approx(20 * MS, rel=0.03)
    assert found.after == pytest.approx(24 * MS, rel=0.03)


def test_no_opinion_without_a_change_or_a_week_or_above_the_floor() -> None:
    assert searched(level(14, (0.0, "1"), step=1.0)) is None
    assert searched(level(6, (0.0, "1"), at_day=3.0)) is None
    floor = make_probe(baseline=BaselineOptions(p50_floor_ns=5 * MS))
    assert searched(level(14, (0.0, "1")), floor) is None


def test_a_level_is_searched_once_an_hour() -> None:
    opinion, now = SecondOpinion(), BEGIN + 14 * DAY
    opinion.look(KEY, level(14, (0.0, "1"), step=1.0), make_probe(), now)
    changed = level(14, (0.0, "1"))
    opinion.look(KEY, changed, make_probe(), now + SEARCH_EVERY_S - 1)
    opinion.settle()
    assert opinion.latest(KEY) is None
    opinion.look(KEY, changed, make_probe(), now + SEARCH_EVERY_S)
    opinion.settle()
    assert opinion.latest(KEY) is not None
    opinion.close()


def test_a_sweep_carries_what_the_search_found(tmp_path: Path) -> None:
    probe = make_probe(baseline=BaselineOptions())
    now = BEGIN
    store = BaselineStore(tmp_path, now=lambda: now)
    random = np.random.default_rng(5)
    last = None
    for index in range(10 * 24):
        now = BEGIN + index * 3600.0
        p50_ns = 20 * MS * np.exp(random.normal(0, 0.02)) * (1.3 if index >= 9 * 24 else 1.0)
        measured = make_measurement(latency=make_summary(p50_ns / MS))
        last = store.judge(
            make_result(probe, facts=make_facts(), started_unix_s=now, duration_ns=0, measurements=(measured,))
        )
        store.settle()
    store.close()
    assert last is not None
    change = last.verdicts[0].last_change
    assert change is not None
    assert change.unix_s == pytest.approx(BEGIN + 9 * DAY, abs=3 * 3600)
