"""What the chart hands on of dashboards/: the same rules and boards, tried again as they are rendered."""

from __future__ import annotations

from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import yaml
from helm_python import Chart

from tests.helm.chart import CHART, ROOT, Document, one, render, values_of
from tests.rules.test_rules import CASES, as_test, run_promtool, tool

BOARDS = ROOT / "dashboards"
RULES = BOARDS / "rules" / "triton-canary.rules.yaml"
PLAIN = {"prometheusRule": {"enabled": True}, "dashboards": {"enabled": True}}


def rules_of(values: Document) -> Document:
    """The rendered rules as a rule file."""
    return {"groups": one(render(values), "PrometheusRule")["spec"]["groups"]}


def by_name(rules: Document) -> dict[str, Any]:
    return {rule["alert"]: rule for group in rules["groups"] for rule in group["rules"] if "alert" in rule}


def written(folder: Path, rules: Document) -> str:
    path = folder / "rendered.yaml"
    path.write_text(yaml.safe_dump(rules))
    return str(path)


def test_without_changes_the_rules_are_those_of_the_folder() -> None:
    assert rules_of(PLAIN) == yaml.safe_load(RULES.read_text())


def test_promtool_finds_nothing(tmp_path: Path) -> None:
    tool("promtool", "check", "rules", "--lint=all", "--lint-fatal", written(tmp_path, rules_of(PLAIN)))


@pytest.mark.e2e
def test_the_rendered_rules_do_what_the_shipped_ones_do(tmp_path: Path) -> None:
    rules = written(tmp_path, rules_of(PLAIN))
    run_promtool(tmp_path, [as_test(case) for case in CASES], rules, "2m")


def test_single_alerts_are_fitted_and_all_others_stay(tmp_path: Path) -> None:
    values = values_of("monitoring")
    rules = rules_of(values)
    tool("promtool", "check", "rules", "--lint=all", "--lint-fatal", written(tmp_path, rules))
    expected = by_name(deepcopy(yaml.safe_load(RULES.read_text())))
    del expected["TritonCanaryWatchdog"]
    for rule in expected.values():
        rule["labels"]["team"] = "inference"
        rule["annotations"]["runbook_url"] = f"https://git.example.com/triton-canary/docs/runbooks/{rule['alert']}.md"
        rule["annotations"]["dashboard_url"] = "https://grafana.example.com" + rule["annotations"]["dashboard_url"]
    expected["TritonCanaryProbeFailing"]["for"] = "30m"
    expected["TritonCanaryProbeFailing"]["labels"]["severity"] = "warning"
    expected["TritonCanaryHighErrorRatio"]["expr"] = "triton_canary:error_ratio:rate30m > 0.05"
    assert by_name(rules) == expected


def test_a_group_without_rules_is_none() -> None:
    slo = {
        name: {"enabled": False}
        for name in ("TritonCanarySloBurnFast", "TritonCanarySloBurnSlow", "TritonCanarySloMissed")
    }
    names = [group["name"] for group in rules_of({"prometheusRule": {"enabled": True, "alerts": slo}})["groups"]]
    assert "triton-canary-slo" not in names
    assert "triton-canary-probes" in names


def boards_of(documents: list[Document]) -> dict[str, str]:
    found = [each for each in documents if "grafana_dashboard" in each["metadata"].get("labels", {})]
    return {name: text for each in found for name, text in each["data"].items()}


def test_the_boards_are_those_of_the_folder_to_the_byte() -> None:
    boards = boards_of(render(PLAIN))
    assert boards == {f"triton-canary-{path.stem}.json": path.read_text() for path in BOARDS.glob("*.json")}
    assert all(len(text.encode()) < 2**20 for text in boards.values())


def test_the_boards_go_where_the_sidecar_looks() -> None:
    documents = render(values_of("monitoring"))
    boards = [each for each in documents if "grafana_dashboard" in each["metadata"]["labels"]]
    assert len(boards) == len(list(BOARDS.glob("*.json")))
    for board in boards:
        assert board["metadata"]["namespace"] == "monitoring"
        assert board["metadata"]["labels"]["grafana_dashboard"] == "1"
        assert board["metadata"]["annotations"] == {"grafana_folder": "Inference"}


def test_the_chart_has_no_copies_that_could_differ() -> None:
    files = [path for path in (CHART / "files").rglob("*") if not path.is_dir()]
    assert {path.resolve() for path in files} == {RULES, *BOARDS.glob("*.json")}
    assert all(path.is_symlink() for path in files)


@pytest.fixture
def packaged(tmp_path: Path) -> Chart:
    with Chart.load(CHART) as chart:
        return Chart.load(chart.save(tmp_path))


def test_a_packaged_chart_has_them_in_itself(packaged: Chart) -> None:
    manifests = packaged.render(PLAIN, name="rel", namespace="canary")
    texts = [text for path, text in manifests.items() if path.endswith(("dashboards.yaml", "prometheusrule.yaml"))]
    documents = [each for text in texts for each in yaml.safe_load_all(text) if each is not None]
    assert len(boards_of(documents)) == 5
    assert {"groups": one(documents, "PrometheusRule")["spec"]["groups"]} == yaml.safe_load(RULES.read_text())
