"""Input files, request parameters and validation as a user writes them; what check-config reports about input files."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest

from exporter import cli
from exporter.config import build_probes, load
from exporter.config.inputs import parse_parameter, parse_paths
from exporter.core.probe import InputOptions, Probe, Validation
from exporter.payload.input_files import find_input_files

HEAD = """
targets: [{name: t, kind: triton, url: 'http://localhost:8000'}]
probes:
  - name: p
    target: t
    model: m
    schedule: {every: 5m}
    load: {concurrency: 1}
"""


def configure(tmp_path: Path, *lines: str) -> Path:
    path = tmp_path / "canary.yaml"
    path.write_text(HEAD + "".join(f"    {line}\n" for line in lines))
    return path


def probe_of(tmp_path: Path, *lines: str) -> Probe:
    (probe,) = build_probes(load(configure(tmp_path, *lines), {}))
    return probe


def data_file(tmp_path: Path, text: str, name: str = "data.json") -> str:
    path = tmp_path / name
    path.write_text(text)
    return str(path)


def test_keys_become_options(tmp_path: Path) -> None:
    file = data_file(tmp_path, "{}")
    probe = probe_of(
        tmp_path,
        f"input: {{source: files, paths: [{json.dumps(file)}], format: json, output_format: json,",
        "  parameters: {b: true, a: -1, d: 0.5, c: text}}",
        "validation: {reference_model: r, reference_version: 2, absolute: 0.5}",
    )
    assert probe.input == InputOptions(
        source="files",
        paths=(file,),
        files_digest=find_input_files([file]).digest,
        format="json",
        output_format="json",
        parameters=(("a", -1), ("b", True), ("c", "text"), ("d", 0.5)),
    )
    assert [type(value) for _, value in probe.input.parameters] == [int, bool, str, float]
    assert probe.validation == Validation("r", "2", absolute=0.5)
    assert probe_of(tmp_path, "input: {string_data: abc}").input == InputOptions(string_data="abc")


def test_the_configuration_hash_covers_what_is_in_the_files(tmp_path: Path) -> None:
    file = data_file(tmp_path, "1")
    line = f"input: {{source: files, paths: [{json.dumps(file)}]}}"
    before = probe_of(tmp_path, line)
    assert probe_of(tmp_path, line).config_hash == before.config_hash
    data_file(tmp_path, "12")
    assert probe_of(tmp_path, line).config_hash != before.config_hash


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        (2**63, "must fit into 64 bits"),
        (-(2**63) - 1, "must fit into 64 bits"),
        (math.nan, "must be a finite number"),
        (math.inf, "must be a finite number"),
        (None, "must be text, a number, true or false"),
    ],
)
def test_parameters_that_are_none(given: Any, problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        parse_parameter(given)


def test_no_paths() -> None:
    assert parse_paths([]) is None


def test_check_config_finds_what_needs_no_model(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first, second = data_file(tmp_path, '{"data": []}', "a.json"), data_file(tmp_path, "{", "b.json")
    path = configure(tmp_path, f"input: {{source: files, paths: {json.dumps([first, second])}}}")
    assert cli.run(["check-config", str(path)]) == 1
    assert capsys.readouterr().err.splitlines() == [
        f"{first}: data: expected at least one step, found none",
        f"{second}:1: is not JSON: Missing a name for object member (column 2)",
    ]
    data_file(tmp_path, '{"data": [{"X": [1]}]}', "a.json")
    data_file(tmp_path, '{"data": [{"X": [1]}]}', "b.json")
    assert cli.run(["check-config", str(path)]) == 0


def test_check_config_finds_responses_that_are_never_read(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = data_file(tmp_path, '{"data": [{"X": [1]}], "validation_data": [{"Y": [1]}]}', "a.json")
    for shared, status in (("none", 0), ("system", 1)):
        path = configure(tmp_path, f"input: {{source: files, paths: {json.dumps([data])}, shared_memory: {shared}}}")
        assert cli.run(["check-config", str(path)]) == status
    problem = "has expected responses, which input.shared_memory keeps from being seen"
    assert capsys.readouterr().err == f"{data}: 'validation_data': {problem}\n"
