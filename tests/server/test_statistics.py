"""Deltas of the model that was asked for; never a negative or a giant figure."""

from dataclasses import replace

from exporter.model import DurationStat, ModelStatistics, ServerSnapshot
from exporter.server.statistics import add_statistics, difference


def stats(name: str = "m", version: str = "1", count: int = 0, each_ns: int = 10) -> ModelStatistics:
    duration = DurationStat(count, count * each_ns)
    return ModelStatistics(name, version, count * 2, count, success=duration, queue=duration)


def snapshot(*models: ModelStatistics) -> ServerSnapshot:
    return ServerSnapshot(0, 0, models)


def test_the_difference() -> None:
    delta = difference(snapshot(stats(count=100)), snapshot(stats(count=130)), "m")
    assert delta == ModelStatistics("m", "1", 60, 30, success=DurationStat(30, 300), queue=DurationStat(30, 300))


def test_the_version_that_moved_most() -> None:
    before = snapshot(stats(version="1", count=5), stats(version="2", count=5))
    after = snapshot(stats(version="1", count=6), stats(version="2", count=25))
    delta = difference(before, after, "m")
    assert delta is not None
    assert (delta.version, delta.success.count) == ("2", 20)


def test_a_version_that_is_new_starts_from_nothing() -> None:
    delta = difference(snapshot(), snapshot(stats(version="3", count=7)), "m")
    assert delta is not None
    assert (delta.version, delta.success.count) == ("3", 7)


def test_other_models_do_not_count() -> None:
    assert difference(snapshot(), snapshot(stats("other", count=7)), "m") is None


def test_nothing_moved() -> None:
    assert difference(snapshot(stats(count=7)), snapshot(stats(count=7)), "m") is None


def test_a_missing_snapshot() -> None:
    assert difference(None, snapshot(stats(count=7)), "m") is None
    assert difference(snapshot(stats(count=7)), None, "m") is None


def test_a_counter_that_fell_was_a_restart() -> None:
    assert difference(snapshot(stats(count=100)), snapshot(stats(count=30)), "m") is None
    reloaded = replace(stats(count=130), queue=DurationStat(130, 0))
    assert difference(snapshot(stats(count=100)), snapshot(reloaded), "m") is None


def test_differences_are_added() -> None:
    assert add_statistics([stats(count=3)]) == stats(count=3)
    assert add_statistics([stats(count=3), stats(count=4), stats(count=5)]) == stats(count=12)


def test_a_sum_with_a_part_that_is_missing_or_another_version_is_none() -> None:
    assert add_statistics([stats(count=3), None]) is None
    assert add_statistics([stats(count=3), stats(version="2", count=3)]) is None
    assert add_statistics([]) is None
