"""Single figures: the slo's verdicts, shares of the server's counts, label text. The golden page shows the rest."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text

from exporter.core.facts import DurationStat, ModelStatistics
from exporter.core.outcome import Outcome
from exporter.core.probe import LoadLevel, MeasurementOptions, Mode, Search, SearchKind, Slo
from exporter.core.result import Measurement
from exporter.core.units import MS, NS
from exporter.metrics import families
from exporter.metrics.exposition import Format, Lines, header, label, labels, percentile_text
from exporter.metrics.family import Family
from exporter.metrics.replicas import by_pattern, replica_blocks
from exporter.metrics.samples import ProbeExtras, level_blocks, metrics_instance, state_blocks
from exporter.state.probe_state import ProbeView
from tests.builders import concurrency, make_probe, make_target
from tests.metrics.results import make_measurement, make_result, make_statistics, make_summary, rate


def values(family: Family, *measurements: Measurement, **probe: Any) -> dict[str, float]:
    """The samples of a family for these levels, by label text behind the P labels."""
    levels = tuple(measurement.level for measurement in measurements)
    configured = make_probe(levels=levels, **probe)
    view = ProbeView(configured, measured=make_result(configured, measurements=measurements))
    lines = level_blocks(view).get(family, "").splitlines()
    found = {}
    for line in lines:
        text, _, value = line.rpartition("} ")
        found[text.partition('model="addsub",')[2]] = float(value)
    return found


SLO = Slo("fast", 16 * MS, 99.0, ("1", "4"))


@pytest.mark.parametrize(
    ("changes", "met"),
    [
        pytest.param({}, 1.0, id="exactly at the threshold"),
        pytest.param({"latency": make_summary(4.001)}, 0.0, id="above it"),
        pytest.param({"outcomes": {Outcome.OK: 990, Outcome.TIMEOUT: 10}}, 1.0, id="errors use up the capacity"),
        pytest.param({"outcomes": {Outcome.OK: 989, Outcome.TIMEOUT: 11}}, 0.0, id="errors go beyond it"),
        pytest.param({"outcomes": {Outcome.OK: 990, Outcome.CANCELLED: 900}}, 1.0, id="cancelled do not count"),
        pytest.param({"latency": None, "outcomes": {Outcome.TIMEOUT: 5}}, 0.0, id="no ok requests"),
        pytest.param({"latency": None, "outcomes": {}}, 0.0, id="no requests"),
        pytest.param({"latency": make_summary(percentiles=())}, 0.0, id="percentile not measured"),
    ],
)
def test_slo_met(changes: Mapping[str, Any], met: float) -> None:
    assert values(families.SLO_MET, make_measurement(**changes), slo=SLO) == {'mode="concurrency",level="1"': met}


def test_slo_met_only_at_the_levels_of_the_slo() -> None:
    levels = [make_measurement(concurrency(level)) for level in (1, 2, 4)]
    assert set(values(families.SLO_MET, *levels, slo=SLO)) == {
        'mode="concurrency",level="1"',
        'mode="concurrency",level="4"',
    }
    assert values(families.SLO_MET, *levels) == {}


GOOD, SLOW = make_summary(4.0), make_summary(8.0)


@pytest.mark.parametrize(
    ("levels", "highest"),
    [
        pytest.param([(concurrency(1), {}), (concurrency(8), {})], {"concurrency": 8.0}, id="all hold"),
        pytest.param(
            [(concurrency(8), {"latency": SLOW}), (concurrency(1), {})], {"concurrency": 1.0}, id="the lower holds"
        ),
        pytest.param([(concurrency(1), {"latency": SLOW})], {"concurrency": 0.0}, id="none holds"),
        pytest.param(
            [(rate(100), {"outcomes": {Outcome.OK: 297}, "response_time": GOOD, "latency": SLOW})],
            {"request_rate": 100.0},
            id="an open loop goes by response time",
        ),
        pytest.param([(rate(100), {"response_time": SLOW})], {"request_rate": 0.0}, id="slow in an open loop"),
        pytest.param([(rate(100), {"outcomes": {Outcome.OK: 295}})], {"request_rate": 0.0}, id="rate not reached"),
        pytest.param([(LoadLevel(Mode.INTERVALS, 0.0, "night"), {})], {}, id="a file is no level to be highest"),
    ],
)
def test_max_level(levels: list[tuple[LoadLevel, dict[str, Any]]], highest: dict[str, float]) -> None:
    measurements = [make_measurement(level, **changes) for level, changes in levels]
    expected = {f'mode="{mode}"': value for mode, value in highest.items()}
    assert values(families.MAX_LEVEL, *measurements, slo=replace(SLO, levels=())) == expected


THRESHOLD = MeasurementOptions(latency_threshold_ns=10 * MS, stability_percentile=90.0)
FAILED: dict[str, Any] = {"latency": make_summary(6.0)}
UNSTABLE: dict[str, Any] = {"stable": False}


def test_a_search_publishes_its_result_and_its_declared_levels() -> None:
    """Up to 90th percentiles of 10 ms; the series of a level that was only visited would be another at each sweep."""
    probe = make_probe(
        levels=(concurrency(1), concurrency(8)),
        measurement=THRESHOLD,
        search=Search(SearchKind.BINARY, Mode.CONCURRENCY, 1, 8, 1),
    )
    run: list[tuple[int, dict[str, Any]]] = [(1, {}), (8, FAILED), (4, {}), (6, UNSTABLE), (5, FAILED)]
    visited = tuple(make_measurement(concurrency(value), **changes) for value, changes in run)
    blocks = level_blocks(ProbeView(probe, measured=make_result(probe, measurements=visited)))
    (line,) = blocks[families.MAX_LEVEL].splitlines()
    assert line.endswith('mode="concurrency"} 4.0')
    assert [line.rpartition(" ")[2] for line in blocks[families.LEVEL_VALUE].splitlines()] == ["1.0", "8.0"]


def test_a_latency_threshold_comes_before_the_slos() -> None:
    measurements = [make_measurement(concurrency(1)), make_measurement(concurrency(2), **FAILED)]
    slo = Slo("slow", 1000 * MS, 99.0, ())
    assert values(families.MAX_LEVEL, *measurements, slo=slo) == {'mode="concurrency"': 2.0}
    assert values(families.MAX_LEVEL, *measurements, slo=slo, measurement=THRESHOLD) == {'mode="concurrency"': 1.0}
    assert values(families.MAX_LEVEL, *measurements, measurement=THRESHOLD) == {'mode="concurrency"': 1.0}
    # Outside a search every level is run whatever became of the others: an unstable one counts by its figures.
    unstable = make_measurement(concurrency(4), **UNSTABLE)
    assert values(families.MAX_LEVEL, unstable, measurement=THRESHOLD) == {'mode="concurrency"': 4.0}


@pytest.mark.parametrize(
    ("family", "server", "foreign", "value"),
    [
        (families.SERVER_REQUEST_MEAN, make_statistics(success=DurationStat(4, 6 * NS)), 0, 1.5),
        (families.SERVER_REQUEST_MEAN, make_statistics(success=DurationStat()), 0, None),
        (families.SERVER_BATCH_SIZE, make_statistics(inference_count=10, execution_count=4), 0, 2.5),
        (families.SERVER_BATCH_SIZE, make_statistics(execution_count=0), 0, None),
        (families.SERVER_CACHE_HIT_RATIO, make_statistics(cache_miss=DurationStat(5, 1)), 0, 0.0),
        (families.SERVER_CACHE_HIT_RATIO, make_statistics(), 0, None),
        (families.FOREIGN_RATIO, make_statistics(100, fail=DurationStat(100, 1)), 50, 0.25),
        (families.FOREIGN_RATIO, make_statistics(100), -3, 0.0),
        (families.FOREIGN_RATIO, make_statistics(100), 150, 1.0),
        (families.FOREIGN_RATIO, make_statistics(100), None, None),
        (families.FOREIGN_RATIO, make_statistics(0), 0, None),
    ],
)
def test_server_figures(family: Family, server: ModelStatistics, foreign: int | None, value: float | None) -> None:
    found = values(family, make_measurement(server=server, foreign_requests=foreign))
    assert found == ({} if value is None else {'mode="concurrency",level="1"': value})


def test_a_level_without_ok_requests_has_no_latency_and_keeps_its_other_figures() -> None:
    bare = make_measurement(latency=None, breakdown_ns={}, throughput=0.0, outcomes={Outcome.TIMEOUT: 4})
    level = 'mode="concurrency",level="1"'
    assert values(families.LATENCY, bare) == values(families.LATENCY_MEAN, bare) == {}
    assert values(families.THROUGHPUT, bare) == {level: 0.0}
    assert values(families.ERROR_RATIO, bare) == {level: 1.0}
    assert values(families.MEASURED_REQUESTS, bare) == {level: 4.0}


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_what_is_not_finite_is_absent(value: float) -> None:
    assert values(families.SPREAD_RATIO, make_measurement(spread_ratio=value)) == {}


@pytest.mark.parametrize(("percentile", "text"), [(50.0, "50"), (99.9, "99.9"), (99.999, "99.999"), (0.1, "0.1")])
def test_percentile_text(percentile: float, text: str) -> None:
    assert percentile_text(percentile) == text


@pytest.mark.parametrize(
    ("url", "instance"),
    [
        ("", ""),
        ("http://triton:8002/metrics", "triton:8002"),
        ("http://user:secret@triton/metrics", "triton:80"),
        ("https://triton/metrics", "triton:443"),
        ("http://[::1]:8002/metrics", "[::1]:8002"),
    ],
)
def test_metrics_instance(url: str, instance: str) -> None:
    assert metrics_instance(make_target(metrics_url=url)) == instance


@given(value=st.text(st.characters(exclude_categories=["Cs"])))
def test_any_label_value_comes_back_as_it_was(value: str) -> None:
    lines = Lines()
    lines.add(families.UP, f"{labels(target=value, probe='b')},{label('model', value)}", 1)
    block = lines.blocks()[families.UP]
    for page_format, parse, end in ((Format.TEXT, parse_text, ""), (Format.OPENMETRICS, parse_openmetrics, "# EOF\n")):
        (family,) = parse(header(families.UP, page_format) + block + end)
        (sample,) = family.samples
        assert sample.labels == {"target": value, "probe": "b", "model": value}


@given(value=st.floats(allow_nan=False, allow_infinity=False))
def test_any_value_comes_back_as_it_was(value: float) -> None:
    lines = Lines()
    lines.add(families.UP, label("a", "b"), value)
    (family,) = parse_text(header(families.UP, Format.TEXT) + lines.blocks()[families.UP])
    assert family.samples[0].value == value


@pytest.mark.parametrize("place", ["zone-a", ""])
def test_every_sample_of_a_place_has_its_label_and_no_other_has(place: str) -> None:
    probe = make_probe(name="asr", place=place, target=make_target(parent="fleet"), parent="asr")
    view = ProbeView(probe, measured=make_result(probe, measurements=(make_measurement(level=probe.levels[0]),)))
    state = state_blocks(view, ProbeExtras(None, paused=False, results_dropped=False))
    blocks = [*level_blocks(view).values(), *state.values()]
    replicas = by_pattern([view])
    for key, views in replicas.items():
        blocks += replica_blocks(key, views).values()
    lines = [line for block in blocks for line in block.splitlines()]
    assert len(lines) > 20
    assert len(replicas) == 1
    assert all(('place="zone-a"' in line) == bool(place) for line in lines)
    assert place or not any("place=" in line for line in lines)
