"""docs/metrics.md is what the code states, and what the page has."""

from __future__ import annotations

from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families

from exporter.metrics.exporter_families import EXPORTER_ORDER
from exporter.metrics.families import LEVEL_VALUE, PAGE_ORDER, PROBE_INFO, REQUESTS
from exporter.metrics.reference import reference

ROOT = Path(__file__).parents[2]


def test_the_page_of_the_metrics_is_made_from_the_families() -> None:
    page = (ROOT / "docs" / "metrics.md").read_text(encoding="utf-8")
    assert page.endswith(f"## All metrics\n\n{reference().strip()}\n"), "after a change of the families: make reference"


def test_the_labels_of_each_family_are_those_on_the_golden_page() -> None:
    golden = (ROOT / "tests" / "golden" / "metrics.txt").read_text(encoding="utf-8")
    families = {family.name: family.labels for family in PAGE_ORDER}
    seen = set()
    for metric in text_string_to_metric_families(golden):
        for sample in metric.samples:
            if metric.name in families:
                labels = set(sample.labels) - {"le"} - ({"team"} if metric.name == PROBE_INFO.name else set())
                place = {"place"} if sample.labels.get("probe") == "callers" else set()
                assert labels == set(families[metric.name]) | place, sample.name
                seen.add(metric.name)
    # The scenario has no replicas; those families have tests of their own.
    assert {name for name in set(families) - seen if "_replicas" not in name} == set()


def test_the_daemons_own_families_are_those_on_the_golden_page_in_its_order() -> None:
    golden = (ROOT / "tests" / "golden" / "metrics.txt").read_text(encoding="utf-8")
    types = [line.split()[2:] for line in golden.splitlines() if line.startswith("# TYPE triton_canary_exporter_")]
    totals = {"counter": "_total", "gauge": ""}
    assert types == [[family.name + totals[family.kind], family.kind] for family in EXPORTER_ORDER]
    labels = {family.name: set(family.labels) for family in EXPORTER_ORDER}
    for metric in text_string_to_metric_families(golden):
        for sample in metric.samples:
            assert set(sample.labels) == labels.get(metric.name, set(sample.labels)), sample.name


def test_every_help_of_a_result_states_when_it_is_absent() -> None:
    results = PAGE_ORDER[PAGE_ORDER.index(LEVEL_VALUE) : PAGE_ORDER.index(REQUESTS)]
    assert [family.name for family in results if "absent" not in family.help.lower()] == []
