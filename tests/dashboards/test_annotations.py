"""The annotations' expressions, by promtool on made-up series: a change is one mark, a restart is none."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import yaml

from dashboards.generate.board import change_annotations, changed, level_annotations
from tests.programs import need

INFO = 'triton_canary_probe_info{version!=""}'
BY = "job, instance, target, probe, model"
PROBE = {"job": "j", "instance": "i", "target": "t", "probe": "p", "model": "m"}


def series(version: str, values: str) -> dict[str, str]:
    labels = ", ".join(f'{name}="{value}"' for name, value in {**PROBE, "version": version}.items())
    return {"series": f"triton_canary_probe_info{{{labels}}}", "values": values}


CASES: dict[str, tuple[list[dict[str, str]], dict[int, str]]] = {
    # the series, and the minutes at which there is a mark with its version
    "as ever": ([series("1", "1x40")], {}),
    "a new version": ([series("1", "1x19 stale"), series("2", "_x20 1x20")], {20: "2"}),
    "the first known version": ([series("", "1x4 stale"), series("1", "_x5 1x30")], {}),
    "a restart": ([series("1", "1x19 stale _x4 1x20")], {}),
    "a restart with a change": ([series("1", "1x10 stale"), series("2", "_x14 1x20")], {14: "2"}),
    "a roll-back": ([series("1", "1x9 stale _x19 1x10"), series("2", "_x10 1x19 stale")], {10: "2", 30: "1"}),
}


def test_a_change_is_one_mark(tmp_path: Path) -> None:
    need("promtool")
    tests = [
        {"name": name, "interval": "1m", "input_series": given, "promql_expr_test": checks(marks)}
        for name, (given, marks) in CASES.items()
    ]
    path = tmp_path / "test.yaml"
    path.write_text(yaml.safe_dump({"tests": tests}))
    done = subprocess.run(["promtool", "test", "rules", str(path)], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_change_point_is_marked_where_it_was(tmp_path: Path) -> None:
    """In milliseconds: Grafana takes the value as the mark's time."""
    need("promtool")
    labels = ", ".join(f'{name}="{value}"' for name, value in {**PROBE, "mode": "concurrency", "level": "4"}.items())
    name = "triton_canary_change_"
    given = [
        {"series": f"{name}timestamp_seconds{{{labels}}}", "values": "1700000000x9 1700090000x9"},
        {"series": f"{name}ratio{{{labels}}}", "values": "1.2x9 0.8x9"},
    ]
    slower, faster = level_annotations('job="j"')
    wanted = [(slower, 5, 1.7e12), (slower, 15, None), (faster, 5, None), (faster, 15, 1_700_090_000_000.0)]
    checks = [
        {
            "expr": annotation.expr,
            "eval_time": f"{minute}m",
            "exp_samples": [] if value is None else [{"labels": f"{{{labels}}}", "value": value}],
        }
        for annotation, minute, value in wanted
    ]
    path = tmp_path / "test.yaml"
    path.write_text(yaml.safe_dump({"tests": [{"interval": "1m", "input_series": given, "promql_expr_test": checks}]}))
    done = subprocess.run(["promtool", "test", "rules", str(path)], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert slower.document()["useValueForTime"] is True


def test_a_gate_is_marked_where_it_ended(tmp_path: Path) -> None:
    need("promtool")
    sides = 'job="j", instance="i", stable="old", candidate="new"'
    name = "triton_canary_exporter_gate_"
    given = [
        {"series": f"{name}end_timestamp_seconds{{{sides}}}", "values": "1700000000x9 1700090000x9"},
        {"series": f'{name}verdict{{{sides}, verdict="worse"}}', "values": "1x9 0x9"},
        {"series": f'{name}verdict{{{sides}, verdict="better"}}', "values": "0x9 1x9"},
    ]
    (annotation,) = (each for each in change_annotations('job="j"') if each.name == "Rollout gate ended")
    expr = annotation.expr.replace("$job", ".+").replace("$instance", ".+")
    checks = [
        {
            "expr": expr,
            "eval_time": f"{minute}m",
            "exp_samples": [{"labels": f'{{{sides}, verdict="{verdict}"}}', "value": value}],
        }
        for minute, verdict, value in ((5, "worse", 1.7e12), (15, "better", 1_700_090_000_000.0))
    ]
    path = tmp_path / "test.yaml"
    path.write_text(yaml.safe_dump({"tests": [{"interval": "1m", "input_series": given, "promql_expr_test": checks}]}))
    done = subprocess.run(["promtool", "test", "rules", str(path)], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert annotation.value_is_time


def checks(marks: dict[int, str]) -> list[dict[str, Any]]:
    """What the expression gives in each of 40 minutes: nothing but the marks."""
    labels = ", ".join(f'{name}="{value}"' for name, value in PROBE.items())
    return [
        {
            "expr": changed(INFO, BY, "version"),
            "eval_time": f"{minute}m",
            "exp_samples": [{"labels": f'{{{labels}, version="{marks[minute]}"}}', "value": 1}]
            if minute in marks
            else [],
        }
        for minute in range(40)
    ]
