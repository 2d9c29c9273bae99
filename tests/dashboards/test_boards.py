"""The committed dashboards: equal to the code, sound by the rules of Grafana's dashboard-linter and by ours."""

from __future__ import annotations

import re
from typing import Any

import promql_parser
import pytest

from dashboards.generate.board import TAG
from dashboards.generate.boards import BOARDS, FOLDER, as_json
from exporter.metrics.families import PAGE_ORDER
from tests.dashboards.boards import DOCUMENTS, panels_of
from tests.dashboards.promql import ANY, calls, filled, nodes, selectors

_PANELS = {f"{name}-{panel['title']}": panel for name in BOARDS for panel in panels_of(name)}
PANELS = [pytest.param(panel, id=name) for name, panel in _PANELS.items()]
TARGETS = [
    pytest.param(target, id=f"{name}-{target['refId']}")
    for name, panel in _PANELS.items()
    for target in panel["targets"]
]
ANNOTATIONS = [
    pytest.param(annotation, id=f"{name}-{annotation['name']}")
    for name, document in DOCUMENTS.items()
    for annotation in document["annotations"]["list"]
]
TEMPLATED = {"type": "prometheus", "uid": "${datasource}"}
UNITS = {
    *("none", "short", "s", "percentunit", "bytes", "reqps", "watt", "joule", "celsius"),
    *("suffix:×", "suffix:inf/s", "suffix:/s", "suffix:tok/s"),
}


@pytest.mark.parametrize("name", BOARDS)
def test_the_json_is_what_the_code_makes(name: str) -> None:
    assert (FOLDER / f"{name}.json").read_text() == as_json(name), "run `python -m dashboards.generate`"


@pytest.mark.parametrize("name", BOARDS)
def test_no_other_json_lies_there(name: str) -> None:
    assert {path.stem for path in FOLDER.glob("*.json")} == set(BOARDS)


# --- boards ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", BOARDS)
def test_a_board_can_be_found_and_not_edited(name: str) -> None:
    board = DOCUMENTS[name]
    assert board["editable"] is False
    assert "id" not in board
    assert board["uid"] == f"{TAG}-{name}"
    assert len(board["uid"]) <= 40
    assert board["title"].startswith("Triton Canary / ")
    assert board["description"]
    assert board["tags"] == [TAG]


@pytest.mark.parametrize("name", BOARDS)
def test_a_board_links_to_the_others_with_its_variables_and_time(name: str) -> None:
    (link,) = DOCUMENTS[name]["links"]
    assert (link["type"], link["tags"], link["includeVars"], link["keepTime"]) == ("dashboards", [TAG], True, True)


def test_a_probe_in_the_fleet_opens_its_details() -> None:
    overrides = _PANELS["overview-Probes"]["fieldConfig"]["overrides"]
    (url,) = (
        link["url"]
        for override in overrides
        for change in override["properties"]
        if change["id"] == "links"
        for link in change["value"]
    )
    board, _, parameters = url.partition("?")
    assert board == f"/d/{DOCUMENTS['model']['uid']}"
    known = {variable["name"] for variable in DOCUMENTS["model"]["templating"]["list"]}
    assert set(re.findall(r"var-(\w+)=", parameters)) == {"target", "model", "probe"} <= known
    assert set(re.findall(r"\$\{(\w+):queryparam\}", parameters)) == {"datasource", "job", "instance"} <= known


@pytest.mark.parametrize("name", BOARDS)
def test_panels_do_not_overlap_and_leave_no_hole(name: str) -> None:
    taken: set[tuple[int, int]] = set()
    for panel in DOCUMENTS[name]["panels"]:
        place = panel["gridPos"]
        cells = {(place["x"] + x, place["y"] + y) for x in range(place["w"]) for y in range(place["h"])}
        assert not cells & taken, panel["title"]
        taken |= cells
    bottom = max(y for _, y in taken) + 1
    assert taken == {(x, y) for x in range(24) for y in range(bottom)}


# --- variables -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", BOARDS)
def test_the_datasource_is_a_variable(name: str) -> None:
    (variable,) = (entry for entry in DOCUMENTS[name]["templating"]["list"] if entry["type"] == "datasource")
    assert (variable["name"], variable["label"], variable["query"]) == ("datasource", "Data source", "prometheus")


@pytest.mark.parametrize("name", BOARDS)
def test_job_and_instance_are_variables(name: str) -> None:
    variables = {entry["name"]: entry for entry in DOCUMENTS[name]["templating"]["list"]}
    for wanted in ("job", "instance"):
        variable = variables[wanted]
        assert (variable["label"], variable["multi"], variable["allValue"]) == (wanted.capitalize(), True, ".+")
        assert variable["includeAll"] is True


@pytest.mark.parametrize("name", BOARDS)
def test_query_variables_are_sound(name: str) -> None:
    known: set[str] = set()
    for variable in DOCUMENTS[name]["templating"]["list"]:
        if variable["type"] == "query":
            assert variable["datasource"] == TEMPLATED
            assert variable["refresh"] == 2, "on a change of the time range"
            found = re.fullmatch(r"label_values\((.+), (\w+)\)", variable["query"])
            assert found is not None, variable["query"]
            (selector,) = selectors(filled(found[1]))
            assert selector.name.startswith("triton_canary_")
            # A variable may only use those before it.
            assert set(re.findall(r"\$(\w+)", found[1])) <= known
        known.add(variable["name"])


@pytest.mark.parametrize("name", BOARDS)
def test_every_variable_is_used(name: str) -> None:
    text = (FOLDER / f"{name}.json").read_text()
    for variable in DOCUMENTS[name]["templating"]["list"]:
        assert re.search(rf"\$\{{?{variable['name']}\b", text), variable["name"]


# --- panels ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("panel", PANELS)
def test_a_panel_describes_itself(panel: dict[str, Any]) -> None:
    assert panel["title"]
    assert panel["description"].endswith(".")
    assert panel["datasource"] == TEMPLATED
    assert panel["fieldConfig"]["defaults"]["unit"] in UNITS


@pytest.mark.parametrize("panel", PANELS)
def test_a_panel_has_queries_with_letters(panel: dict[str, Any]) -> None:
    assert [target["refId"] for target in panel["targets"]] == list("ABCDEFGHIJKL"[: len(panel["targets"])])
    assert panel["targets"]
    for target in panel["targets"]:
        assert target["datasource"] == TEMPLATED


@pytest.mark.parametrize("panel", PANELS)
def test_columns_and_overrides_are_of_the_panel(panel: dict[str, Any]) -> None:
    """A heading that an override names must be one that the transformations make."""
    for step in panel["transformations"]:
        if step["id"] == "organize":
            made = set(step["options"]["renameByName"].values())
            named = {override["matcher"]["options"] for override in panel["fieldConfig"]["overrides"]}
            assert named - made <= {"p95", "p99.9"}


# --- queries ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("target", TARGETS)
def test_a_query_is_promql_of_this_job_and_instance(target: dict[str, Any]) -> None:
    """In every selector, not only in one of the query's."""
    found = selectors(filled(target["expr"], _marked()))
    assert found or target["expr"] == ""
    for selector in found:
        matchers = {matcher.name: (str(matcher.op), matcher.value) for matcher in selector.matchers.matchers}
        assert matchers["job"] == ("MatchOp.Re", "JOB"), selector.name
        assert matchers["instance"] == ("MatchOp.Re", "INSTANCE"), selector.name


@pytest.mark.parametrize("target", TARGETS)
def test_counters_are_only_used_as_rates(target: dict[str, Any]) -> None:
    expr = filled(target["expr"])
    inside = {
        selector.name
        for call in calls(expr)
        if call.func.name in ("rate", "increase")
        for selector in selectors(call.args[0].prettify())
    }
    counters = {selector.name for selector in selectors(expr) if selector.name.endswith("_total")}
    assert counters <= inside
    assert inside <= counters
    for text in re.findall(r"\brate\((?:[^()]|\([^()]*\))*\)", target["expr"]):
        assert text.endswith("[$__rate_interval])")
    assert "irate(" not in expr


@pytest.mark.parametrize("target", [*TARGETS, *ANNOTATIONS])
def test_joins_name_their_labels(target: dict[str, Any]) -> None:
    assert "ignoring" not in target["expr"]
    for node in nodes(filled(target["expr"])):
        if isinstance(node, promql_parser.BinaryExpr) and node.modifier and node.modifier.matching:
            assert node.modifier.matching.labels


@pytest.mark.parametrize("target", [*TARGETS, *ANNOTATIONS])
def test_its_metrics_are_of_the_contract(target: dict[str, Any]) -> None:
    ours = {name for family in PAGE_ORDER for name in family.sample_names}
    for selector in selectors(filled(target["expr"])):
        name = selector.name
        if name.startswith("triton_canary_") and not name.startswith("triton_canary_exporter_"):
            assert name in ours, name


# --- annotations -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("annotation", ANNOTATIONS)
def test_an_annotation_is_sound(annotation: dict[str, Any]) -> None:
    assert annotation["datasource"] == TEMPLATED
    assert annotation["enable"] is True
    used = set(re.findall(r"\{\{(\w+)\}\}", annotation["textFormat"]))
    for selector in selectors(filled(annotation["expr"], _marked())):
        matchers = {matcher.name: matcher.value for matcher in selector.matchers.matchers}
        assert (matchers["job"], matchers["instance"]) == ("JOB", "INSTANCE")
    by = re.search(r"max by \(([\w, ]+)\)", annotation["expr"])
    assert by is not None
    assert used <= set(by[1].split(", "))


@pytest.mark.parametrize("name", BOARDS)
def test_changes_of_version_and_configuration_are_marked(name: str) -> None:
    names = {annotation["name"] for annotation in DOCUMENTS[name]["annotations"]["list"]}
    assert {"Served version changed", "Probe changed", "Model configuration changed"} <= names


def _marked() -> dict[str, str]:
    return {**ANY, "job": "JOB", "instance": "INSTANCE"}
