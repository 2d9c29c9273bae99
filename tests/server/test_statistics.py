"""Deltas of the model that was asked for; never a negative or a giant figure."""

from dataclasses import replace

import pytest

from exporter.core.facts import BatchStat, DurationStat, ModelFacts, ModelKey, ModelStatistics, ServerSnapshot
from exporter.server.statistics import (
    NOTHING_MOVED,
    NOTHING_REPORTED,
    RESET,
    SEVERAL_VERSIONS,
    SNAPSHOT_MISSING,
    ServerDelta,
    add_deltas,
    difference,
)
from tests.builders import make_facts


def stats(name: str = "m", version: str = "1", count: int = 0) -> ModelStatistics:
    duration = DurationStat(count, count * 10)
    return ModelStatistics(name, version, count * 2, count, success=duration, queue=duration)


def snapshot(*models: ModelStatistics) -> ServerSnapshot:
    return ServerSnapshot(0, 0, models)


M = make_facts(name="m")


def test_the_difference() -> None:
    delta = difference([snapshot(stats(count=100)), snapshot(stats(count=130))], M)
    model = ModelStatistics("m", "1", 60, 30, success=DurationStat(30, 300), queue=DurationStat(30, 300))
    assert delta == ServerDelta(model)


def test_the_batch_sizes_seen() -> None:
    before = replace(stats(count=100), batches=(BatchStat(1, 100, 1000), BatchStat(4, 5, 500)))
    after = replace(stats(count=130), batches=(BatchStat(1, 100, 1000), BatchStat(4, 9, 940), BatchStat(8, 2, 800)))
    delta = difference([snapshot(before), snapshot(after)], M)
    assert delta.model is not None
    assert delta.model.batches == (BatchStat(4, 4, 440), BatchStat(8, 2, 800))


def test_a_model_that_is_called_by_two_names_is_one() -> None:
    facts = replace(M, composing=(ModelKey("a", "1"), ModelKey("a"), ModelKey("a", "2")))
    before, after = (
        snapshot(stats(), stats("a"), stats("a", "2")),
        snapshot(stats(count=1), stats("a", "1", 7), stats("a", "2", 3)),
    )
    found = difference([before, after], facts).composing
    assert [(part.name, part.version, part.success.count) for part in found] == [("a", "1", 7), ("a", "2", 3)]


@pytest.mark.parametrize(
    ("asked", "moved", "version", "others"),
    [
        ("", {"1": 1, "2": 20}, "2", ("1",)),
        ("", {"1": 500, "2": 20}, "2", ("1",)),  # other clients' traffic, and more of it
        ("", {"9": 500, "10": 20, "11": 0}, "10", ("9",)),
        ("", {"1": 500, "2": 0}, "1", ()),
        ("1", {"1": 1, "2": 20}, "1", ()),
        ("", {"v2": 500, "v10": 20, "v3": 0}, "v2", ("v10",)),  # another kind of server: no order is known
    ],
)
def test_the_highest_version_that_moved_or_that_was_asked_for(
    asked: str, moved: dict[str, int], version: str, others: tuple[str, ...]
) -> None:
    before = snapshot(*(stats(version=each, count=5) for each in moved))
    after = snapshot(*(stats(version=each, count=5 + count) for each, count in moved.items()))
    delta = difference([before, after], replace(M, asked_version=asked))
    assert delta.model is not None
    assert (delta.model.version, delta.model.success.count) == (version, moved[version])
    assert delta.other_versions == others


def test_a_version_that_is_new_starts_from_nothing() -> None:
    delta = difference([snapshot(), snapshot(stats(version="3", count=7))], M)
    assert delta.model is not None
    assert (delta.model.version, delta.model.success.count) == ("3", 7)


def test_composing_models_that_moved() -> None:
    facts = replace(M, composing=(ModelKey("a"), ModelKey("b", "2"), ModelKey("idle")))
    before = snapshot(stats(), stats("a"), stats("b", "1"), stats("b", "2"), stats("idle", count=3))
    after = snapshot(
        stats(count=5), stats("a", count=5), stats("b", "1", 50), stats("b", "2", 10), stats("idle", count=3)
    )
    parts = difference([before, after], facts).composing
    assert [(part.name, part.version, part.success.count) for part in parts] == [("a", "1", 5), ("b", "2", 10)]


UNTOLD = ModelStatistics("m", "1", None, None, success=DurationStat(2, 20), fail=None)
FAILED = replace(UNTOLD, success=DurationStat(5, 50), fail=DurationStat(1))


@pytest.mark.parametrize(
    ("before", "after", "fail"),
    [
        ([UNTOLD], replace(UNTOLD, success=DurationStat(5, 50)), None),
        ([], UNTOLD, None),
        ([UNTOLD], FAILED, DurationStat(1)),
        ([FAILED], replace(FAILED, success=DurationStat(6, 60), fail=DurationStat(4)), DurationStat(3)),
    ],
)
def test_what_is_not_reported_is_no_difference(
    before: list[ModelStatistics], after: ModelStatistics, fail: DurationStat | None
) -> None:
    """But a page that reports failures only once there is one has reported them all."""
    delta = difference([snapshot(*before), snapshot(after)], M).model
    assert delta is not None
    assert (delta.fail, delta.inference_count, delta.execution_count) == (fail, None, None)


def test_what_had_counted_and_is_not_reported_any_more_restarted() -> None:
    later = replace(UNTOLD, success=DurationStat(9, 90))
    assert difference([snapshot(FAILED), snapshot(later)], M).note == RESET


def test_repeats_add_up_what_is_reported() -> None:
    total = add_deltas([ServerDelta(UNTOLD), ServerDelta(FAILED)]).model
    assert total == replace(UNTOLD, success=DurationStat(7, 70), fail=DurationStat(1))


ALL, FEW = stats(count=100), stats(count=30)


@pytest.mark.parametrize(
    ("snapshots", "facts", "note"),
    [
        pytest.param([snapshot(ALL), snapshot(ALL)], M, NOTHING_MOVED, id="nothing moved"),
        pytest.param([snapshot(), snapshot(stats("other", count=7))], M, NOTHING_REPORTED, id="another model moved"),
        pytest.param([snapshot(), snapshot()], M, NOTHING_REPORTED, id="nothing is reported"),
        pytest.param(
            [snapshot(), snapshot(stats(version="2", count=7))],
            replace(M, asked_version="1"),
            NOTHING_REPORTED,
            id="another version moved",
        ),
        pytest.param([None, snapshot(ALL)], M, SNAPSHOT_MISSING, id="no first snapshot"),
        pytest.param([snapshot(ALL), None], M, SNAPSHOT_MISSING, id="no last snapshot"),
        pytest.param([None, None], M, "", id="no statistics ever came"),
        pytest.param([None, None], replace(M, has_statistics=False), "", id="a server without statistics"),
        pytest.param([snapshot(ALL), snapshot(FEW)], M, RESET, id="a count fell"),
        pytest.param(
            [snapshot(ALL), snapshot(replace(stats(count=130), queue=DurationStat(130, 0)))], M, RESET, id="a time fell"
        ),
        pytest.param([snapshot(ALL), snapshot(FEW), snapshot(stats(count=200))], M, RESET, id="it fell in between"),
        pytest.param([snapshot(ALL), None, snapshot(FEW)], M, RESET, id="it fell past a missing one"),
        pytest.param([snapshot(ALL), snapshot(stats(version="2", count=200))], M, RESET, id="the version is gone"),
        pytest.param(
            [snapshot(ALL, stats("part", count=9)), snapshot(stats(count=130), stats("part", count=1))],
            replace(M, composing=(ModelKey("part"),)),
            RESET,
            id="a part restarted",
        ),
    ],
)
def test_no_figure_and_why(snapshots: list[ServerSnapshot | None], facts: ModelFacts, note: str) -> None:
    assert difference(snapshots, facts) == ServerDelta(note=note)


def test_deltas_are_added() -> None:
    one = replace(stats(count=3), batches=(BatchStat(1, 3, 30), BatchStat(4, 1, 9)))
    two = replace(stats(count=4), batches=(BatchStat(1, 4, 40),))
    both = ServerDelta(
        replace(stats(count=7), batches=(BatchStat(1, 7, 70), BatchStat(4, 1, 9))), (stats("part", count=5),)
    )
    parts = [ServerDelta(one, (stats("part", count=2),)), ServerDelta(two, (stats("part", count=3),))]
    assert add_deltas(parts) == both
    assert add_deltas(parts[:1]) == parts[0]


def test_a_sum_with_a_part_that_is_missing_or_of_another_version_has_no_figures() -> None:
    known = ServerDelta(stats(count=3))
    assert add_deltas([known, ServerDelta(note=RESET)]) == ServerDelta(note=RESET)
    assert add_deltas([known, ServerDelta(stats(version="2", count=3))]) == ServerDelta(note=SEVERAL_VERSIONS)
    assert add_deltas([]) == ServerDelta()
