"""What each form of a gate's report holds."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ET
from dataclasses import replace

import pytest

from exporter.core.rollout import (
    DEFAULT_MARGINS,
    ErrorResult,
    FigureResult,
    GateOptions,
    GateResult,
    GateSide,
    GateVerdict,
)
from exporter.core.units import NS
from exporter.rollout.report import (
    SCHEMA,
    headline,
    json_document,
    json_report,
    junit_report,
    markdown_report,
    text_report,
)

P99, THROUGHPUT = DEFAULT_MARGINS
WORSE = FigureResult(P99, GateVerdict.WORSE, 15, "worse by more than 10 %", 0.010, 0.0152, 1.52, 1.41, 1.6)
OPEN = FigureResult(THROUGHPUT, GateVerdict.UNDECIDED, 15, "both are possible", 99.0, 98.0, 0.99, None, None)
RESULT = GateResult(
    id="a1",
    verdict=GateVerdict.WORSE,
    text="",
    stable=GateSide("old|1", "a", "grpc://a:8001", "resnet", "1"),
    candidate=GateSide("new", "b", "grpc://b:8001", "resnet", "2"),
    options=GateOptions(),
    figures=(WORSE, OPEN),
    errors=ErrorResult(GateVerdict.EQUIVALENT, 0.001, "0 of 900 requests failed: at most 0.1 %", 0, 900, 1, 1000),
    pairs=15,
    started_unix_s=1000.5,
    duration_ns=75 * NS,
    level="4",
    component="queue",
    components_ns={"queue": 4.9e6, "network": -0.2e6, "client_send": 100.0},
    outputs="equal in 20 requests",
)
UNDECIDED = replace(RESULT, verdict=GateVerdict.UNDECIDED, figures=(OPEN,), component="", text="ended after 60 pairs")


def test_the_headline_gives_the_reason() -> None:
    assert headline(RESULT) == "worse: p99: worse by more than 10 %; queue grew most"
    assert headline(UNDECIDED) == "undecided: throughput: both are possible; ended after 60 pairs"
    wrong = replace(RESULT, outputs="3 of 20 outputs are wrong: x", outputs_wrong=True, figures=(), component="")
    assert headline(wrong) == "worse: outputs: 3 of 20 outputs are wrong: x"
    fine = replace(RESULT, verdict=GateVerdict.EQUIVALENT, figures=(), component="")
    assert headline(fine) == "equivalent"


def test_text() -> None:
    assert text_report(RESULT).splitlines() == [
        "worse: p99: worse by more than 10 %; queue grew most",
        "",
        "stable     old|1: resnet at grpc://a:8001, version 1",
        "candidate  new: resnet at grpc://b:8001, version 2",
        "",
        "figure      stable     candidate  ratio  interval        margin  verdict",
        "p99         10 ms      15.2 ms    1.520  1.410 to 1.600  10 %    worse       worse by more than 10 %",
        "throughput  99/s       98/s       0.990  ? to ?          5 %     undecided   both are possible",
        "errors      1 of 1000  0 of 900                          0.1 %   equivalent  "
        "0 of 900 requests failed: at most 0.1 %",
        "",
        "15 pairs of 2s windows in 75 s, at level 4",
        "outputs: equal in 20 requests",
        "mean latency changed by: queue +4.9 ms, network -0.2 ms",
    ]


def test_markdown_is_one_table_whatever_names_hold() -> None:
    lines = markdown_report(RESULT).splitlines()
    assert lines[0] == "**Rollout gate: worse: p99: worse by more than 10 %; queue grew most**"
    assert lines[2] == "- Stable: old\\|1: resnet at grpc://a:8001, version 1"
    table = [line for line in lines if line.startswith("|")]
    assert len(table) == 5
    assert {line.count("|") for line in table} == {9}
    assert lines[-1] == "- mean latency changed by: queue +4.9 ms, network -0.2 ms"


def test_json() -> None:
    document = json.loads(json_report(RESULT))
    assert (document["schema"], document["version"], document["id"]) == (SCHEMA, 1, "a1")
    assert (document["verdict"], document["passed"], document["running"]) == ("worse", False, False)
    assert document["figures"][0] == {
        "figure": "p99",
        "margin": 0.1,
        "verdict": "worse",
        "pairs": 15,
        "stable": 0.010,
        "candidate": 0.0152,
        "ratio": 1.52,
        "low": 1.41,
        "high": 1.6,
        "text": "worse by more than 10 %",
    }
    assert document["errors"]["ratio"] == 0.0
    assert (document["component"], document["components_seconds"]["queue"]) == ("queue", 0.0049)
    assert document["options"]["margins"] == ["p99=10%", "throughput=5%"]
    assert (document["options"]["window"], document["options"]["max_duration"]) == ("2s", "15m")
    assert document["duration_seconds"] == 75.0


@pytest.mark.parametrize("verdict", list(GateVerdict))
def test_only_better_and_equivalent_pass_and_nothing_that_runs(verdict: GateVerdict) -> None:
    result = replace(RESULT, verdict=verdict)
    passes = verdict in (GateVerdict.BETTER, GateVerdict.EQUIVALENT)
    assert json_document(result)["passed"] is passes
    assert json_document(result, running=True)["passed"] is False


@pytest.mark.parametrize(("undecided_fails", "failures", "skipped"), [(True, 2, 0), (False, 1, 1)])
def test_junit(undecided_fails: bool, failures: int, skipped: int) -> None:
    suite = ET.fromstring(junit_report(RESULT, undecided_fails=undecided_fails))
    assert suite.attrib == {
        "name": "triton-canary gate",
        "time": "75.000",
        "tests": "3",
        "failures": str(failures),
        "skipped": str(skipped),
    }
    cases = {case.get("name"): [child.tag for child in case] for case in suite.iter("testcase")}
    assert cases == {"p99": ["failure"], "throughput": ["failure" if undecided_fails else "skipped"], "errors": []}
    failure = suite.find("testcase/failure")
    assert failure is not None
    assert failure.get("message") == "worse by more than 10 %"
