"""What good files give, and that no text gives anything but settings or errors."""

from __future__ import annotations

import copy
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from exporter.config import Settings, build_probes, load
from exporter.config.reference import pages
from exporter.core.errors import ConfigError
from exporter.core.units import NS

GOOD = Path(__file__).parent / "good"
PAGE = Path(__file__).parents[2] / "docs" / "configuration.md"
FULL = yaml.safe_load((GOOD / "full.yaml").read_text())

DUMPER = getattr(yaml, "CSafeDumper", yaml.SafeDumper)


def load_text(tmp_path: Path, text: str, environ: dict[str, str] | None = None) -> Settings:
    path = tmp_path / "canary.yaml"
    path.write_text(text)
    return load(path, environ or {})


def problems_of(tmp_path: Path, text: str, environ: dict[str, str] | None = None) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        load_text(tmp_path, text, environ)
    return [problem.replace(str(tmp_path / "canary.yaml"), "canary.yaml") for problem in caught.value.problems]


def test_the_sections_about_the_daemon() -> None:
    full = load(GOOD / "full.yaml", {})
    assert str(full.archive_directory) == "/srv/canary-archive"
    assert (full.archive.enabled, full.archive.max_age_ns, full.archive.max_size_bytes) == (
        True,
        30 * 86_400 * NS,
        500 * 2**20,
    )
    assert (full.web.host, full.web.port) == ("::", 9787)
    assert full.limits.model_dump() == {
        "concurrent_sweeps": 2,
        "histogram_buckets_per_decade": 10,
        "max_series": 10_000,
        "sweeps_per_worker": 50,
        "group_requests_per_hour": 10_000_000,
        "group_tokens_per_hour": 3_000_000,
        "group_duty_ratio": 0.5,
        "max_discovered": 100,
        "shutdown_timeout_ns": 15 * NS,
    }
    assert (full.log.level, full.log.format) == ("debug", "json")


def test_their_defaults() -> None:
    minimal = load(GOOD / "minimal.yaml", {})
    assert str(minimal.archive_directory) == "/var/lib/triton-canary/archive"
    assert (minimal.archive.enabled, minimal.archive.max_age_ns, minimal.archive.max_size_bytes) == (
        True,
        90 * 86_400 * NS,
        2**30,
    )
    assert (minimal.web.host, minimal.web.port) == ("127.0.0.1", 9787)
    assert minimal.limits.model_dump() == {
        "concurrent_sweeps": 1,
        "histogram_buckets_per_decade": 10,
        "max_series": 20_000,
        "sweeps_per_worker": 100,
        "group_requests_per_hour": 10_000_000,
        "group_tokens_per_hour": 3_000_000,
        "group_duty_ratio": 0.5,
        "max_discovered": 100,
        "shutdown_timeout_ns": 10 * NS,
    }
    assert (minimal.log.level, minimal.log.format) == ("info", "logfmt")


@pytest.mark.parametrize(
    ("defaults", "probe", "levels"),
    [
        ("{concurrency: 4}", "", ["4"]),
        ("{concurrency: 4}", "load: {concurrency: [1, 2]}", ["1", "2"]),
        ("{concurrency: 4}", "load: {request_rate: 100}", ["100"]),
        ("{request_rate: 4}", "load: {concurrency: 2}", ["2"]),
        ("{request_rate: 4, distribution: poisson, seed: 3, workers: 2}", "load: {concurrency: 2}", ["2"]),
        ("{request_rate: 4, distribution: poisson, seed: 3}", "load: {request_rate: 2}", ["2"]),
    ],
)
def test_a_probe_chooses_otherwise_than_the_defaults(
    tmp_path: Path, defaults: str, probe: str, levels: list[str]
) -> None:
    text = f"""
targets: [{{name: t, kind: triton, url: "http://localhost"}}]
defaults: {{load: {defaults}, schedule: {{cron: "0 3 * * *", jitter: 1s}}, slo: {{name: s, latency: 1s}}}}
probes:
  - name: p
    target: t
    model: m
    schedule: {{every: 1m}}
    slo: null
    {probe}
"""
    (found,) = build_probes(load_text(tmp_path, text))
    assert [level.label for level in found.levels] == levels
    assert (found.schedule.interval_ns, found.schedule.cron, found.schedule.jitter_ns) == (60 * NS, "", NS)
    assert found.slo is None


@pytest.mark.parametrize(
    ("content", "more", "problem"),
    [
        ("0\nx\n", "", "found '{file}': {file}:2: found 'x': must be milliseconds after the start, as 1500 or 0.25"),
        ("0\n9000\n", ", stop: {max_duration: 9s}", "its last request, at 9s, comes after stop.max_duration, 9s"),
        (
            "0\n1\n2\n",
            ", stop: {max_requests: 3}",
            "its 3 requests, with the first to warm up, are above stop.max_requests, 3",
        ),
    ],
)
def test_a_schedule_that_cannot_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: str, more: str, problem: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "night.txt").write_text(content)
    text = f"""
targets: [{{name: t, kind: triton, url: "http://localhost"}}]
probes: [{{name: p, target: t, model: m, schedule: {{every: 1h}}, load: {{schedule_file: night.txt}}{more}}}]
"""
    expected = problem.replace("{file}", "night.txt")
    assert problems_of(tmp_path, text) == [f"canary.yaml:3: probes[0] (p).load.schedule_file: {expected}"]


def test_steps_with_their_moments_are_one_workers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "night.json").write_text('{"data": [{"timestamp": 0}]}')
    text = """
targets: [{name: t, kind: triton, url: "http://localhost"}]
probes: [{name: p, target: t, model: m, schedule: {every: 1h}, load: {schedule_file: night.json, workers: 2}}]
"""
    assert problems_of(tmp_path, text) == [
        "canary.yaml:3: probes[0] (p).load.workers: found 2: the steps of schedule_file have their moments in one "
        "worker; give 1"
    ]


def test_a_file_that_can_name_no_level(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / " .txt").write_text("1\n")
    text = """
targets: [{name: t, kind: triton, url: "http://localhost"}]
probes: [{name: p, target: t, model: m, schedule: {every: 1h}, load: {intervals_file: " .txt"}}]
"""
    (problem,) = problems_of(tmp_path, text)
    assert "the file's name, less its ending, names the level: must be at most 128 printable" in problem


def test_nothing_to_measure_is_allowed(tmp_path: Path) -> None:
    assert build_probes(load_text(tmp_path, "targets: []\n")) == ()


def test_anchors_and_merge_keys(tmp_path: Path) -> None:
    text = """
targets: [{name: t, kind: triton, url: "http://localhost"}]
probes:
  - &first {name: p, target: t, model: m, schedule: {every: 1m}, load: {concurrency: 1}}
  - {<<: *first, name: q, load: {concurrency: 2}}
"""
    first, second = build_probes(load_text(tmp_path, text))
    assert (second.name, second.model, second.levels[0].label) == ("q", "m", "2")
    assert second.schedule == first.schedule


def test_an_error_behind_an_alias_names_the_line_where_it_is(tmp_path: Path) -> None:
    text = """
targets: [{name: t, kind: triton, url: "http://localhost"}]
probes:
  - &first {name: p, target: t, model: m, schedule: {every: 1m},
            load: {concurrency: 0}}
"""
    assert problems_of(tmp_path, text) == [
        "canary.yaml:5: probes[0] (p).load.concurrency: found 0: a concurrency must be a whole number from 1 to 65536"
    ]


def test_no_secret_is_shown(tmp_path: Path) -> None:
    text = """
targets:
  - {name: t, kind: triton, url: "http://localhost", headers: {X-Route: hunter2}}
"""
    assert "hunter2" not in repr(load_text(tmp_path, text))


def test_settings_are_frozen() -> None:
    with pytest.raises(ValueError, match="frozen"):
        load(GOOD / "minimal.yaml", {}).web.listen = ":1"


def test_the_pages_hold_the_reference_and_the_examples() -> None:
    for name, text in pages().items():
        assert (PAGE.parent / name).read_text() == text, "after a change of the models: make reference"
    page = PAGE.read_text()
    blocks = re.findall(r"```yaml\n(.*?)```", page, re.DOTALL)
    assert (GOOD / "minimal.yaml").read_text() in blocks
    assert (GOOD / "full.yaml").read_text() in blocks


# --- any text at all ------------------------------------------------------------------------------------------------

SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=8),
    st.sampled_from(["5s", "10%", "1:8:1", "1GiB", "http://localhost", "*/5 * * * *", "http://[", "::", "1e400"]),
    st.dates(),
    st.binary(max_size=3),
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=5,
)


def _paths(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    keys = value.keys() if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ()
    return [path, *(found for key in keys for found in _paths(value[key], (*path, key)))]


def _gives_settings_or_errors(path: Path, text: str) -> None:
    path.write_text(text, "utf-8", errors="surrogatepass")
    try:
        build_probes(load(path, {}))
        problems = [f"{path}: none"]
    except ConfigError as error:
        problems = error.problems
    assert problems
    assert all(problem.startswith(str(path)) and "\n" not in problem for problem in problems)


@given(text=st.text() | st.text(alphabet="abc:-{}[]&*!|>'\"#%@,?~<\n\t 01"))
@settings(max_examples=200, deadline=None)
def test_any_text(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    _gives_settings_or_errors(tmp_path_factory.getbasetemp() / "any.yaml", text)


@given(data=st.data(), value=VALUES)
@settings(max_examples=150, deadline=None)
def test_any_value_anywhere(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject, value: Any) -> None:
    document = copy.deepcopy(FULL)
    path = data.draw(st.sampled_from(_paths(document)[1:]))
    inner = document
    for key in path[:-1]:
        inner = inner[key]
    if isinstance(inner, dict) and data.draw(st.booleans()):
        inner[data.draw(st.text(max_size=5))] = value
    else:
        inner[path[-1]] = value
    _gives_settings_or_errors(tmp_path_factory.getbasetemp() / "any.yaml", yaml.dump(document, Dumper=DUMPER))


def test_a_text_that_would_break_the_parser_by_depth(tmp_path: Path) -> None:
    assert problems_of(tmp_path, "[" * 300_000) == ["canary.yaml:1: is nested more than 50 deep"]
