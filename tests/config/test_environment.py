"""The environment over the file."""

from __future__ import annotations

from pathlib import Path

import pytest

from exporter.config import Settings, load
from exporter.config.environment import read_environment
from exporter.core.errors import ConfigError
from exporter.core.units import NS

GOOD = Path(__file__).parent / "good"
PROBE = '{"name": "p", "target": "t", "model": "m", "load": {"concurrency": 1}, "schedule": {"every": "1m"}}'


def load_with(**variables: str) -> Settings:
    return load(GOOD / "minimal.yaml", {f"TRITON_CANARY_{name}": value for name, value in variables.items()})


def problems_with(**variables: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        load_with(**variables)
    return caught.value.problems


def test_it_goes_over_the_file() -> None:
    found = load_with(
        WEB__LISTEN="[::]:9000",
        LIMITS__CONCURRENT_SWEEPS="3",
        ARCHIVE__ENABLED="false",
        ARCHIVE__MAX_SIZE="10MiB",
        DATA_DIRECTORY="/data",
        DEFAULTS__MEASUREMENT__WINDOW="250ms",
        DEFAULTS__LABELS="{team: speech}",
    )
    assert (found.web.host, found.web.port) == ("::", 9000)
    assert (found.limits.concurrent_sweeps, found.limits.max_series) == (3, 20_000)
    assert (found.archive.enabled, found.archive.max_size_bytes) == (False, 10 * 2**20)
    assert str(found.archive_directory) == "/data/archive"
    assert found.probes[0].measurement.window_ns == NS // 4
    assert found.probes[0].labels == {"team": "speech"}


def test_lists_are_given_whole() -> None:
    found = load_with(TARGETS='[{"name": "t", "kind": "triton", "url": "grpc://h"}]', PROBES=f"[{PROBE}]")
    assert [target.url and target.url.scheme for target in found.targets] == ["grpc"]
    assert [probe.name for probe in found.probes] == ["p"]


@pytest.mark.parametrize(
    "name",
    [
        "TRITON_CANARY_SERVICE_HOST",
        "TRITON_CANARY_SERVICE_PORT_METRICS",
        "TRITON_CANARY_PORT",
        "TRITON_CANARY_PORT_9787_TCP_ADDR",
        "TRITON_CANARY_METRICS_SERVICE_PORT",
        "TRITON_CANARY_CACHE",
        "TRITON_CANARYX",
    ],
)
def test_what_is_no_setting_is_left_alone(name: str) -> None:
    assert load(GOOD / "minimal.yaml", {name: "tcp://10.0.0.1:9787"}).web.port == 9787


def test_a_variable_that_holds_a_headers_secret_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "canary.yaml"
    path.write_text(
        'targets: [{name: t, kind: triton, url: "http://h", headers: {Authorization: {env: TRITON_CANARY_TOKEN}}}]\n'
    )
    assert (
        load(path, {"TRITON_CANARY_TOKEN": "hunter2"}).targets[0].headers["Authorization"].env == "TRITON_CANARY_TOKEN"
    )


@pytest.mark.parametrize(
    ("variables", "problem"),
    [
        ({"WEB__LISTN": ":1"}, "TRITON_CANARY_WEB__LISTN: web.listn: unknown key; did you mean 'listen'?"),
        ({"WEBB__LISTEN": ":1"}, "TRITON_CANARY_WEBB__LISTEN: webb: unknown key; did you mean 'web'?"),
        ({"DEFAULTS__UNIT__NAME": "u"}, "TRITON_CANARY_DEFAULTS__UNIT__NAME: defaults.unit.per_inference: is required"),
        ({"WEB": ":1"}, "TRITON_CANARY_WEB: web: found ':1': must be a mapping of keys"),
        ({"WEB": "{listen: 5}"}, "TRITON_CANARY_WEB: web.listen: found 5: must be text; put it in quotes"),
        (
            {"LIMITS__CONCURRENT_SWEEPS": "many"},
            "TRITON_CANARY_LIMITS__CONCURRENT_SWEEPS: limits.concurrent_sweeps: found 'many': must be a whole number",
        ),
        (
            {"DEFAULTS__MEASUREMENT__WINDOW": "5"},
            "TRITON_CANARY_DEFAULTS__MEASUREMENT__WINDOW: defaults.measurement.window: "
            "found 5: a duration needs a unit; write '5s'",
        ),
        (
            {"PROBES": f"[{PROBE.replace('1m', '1')}]"},
            "TRITON_CANARY_PROBES: probes[0] (p).schedule.every: found '1': "
            "must be a duration with its unit, as '500ms', '5s', '2m', '1h30m' or '90d'",
        ),
        (
            {"TARGETS__0__URL": "http://h"},
            "TRITON_CANARY_TARGETS__0__URL: 'targets' is a list; give it whole, as JSON, in TRITON_CANARY_TARGETS",
        ),
        (
            {"LOG": "{level: info}", "LOG__LEVEL": "debug"},
            "TRITON_CANARY_LOG__LEVEL: another variable gives a part of this path, or the whole, otherwise",
        ),
    ],
)
def test_errors_name_the_variable(variables: dict[str, str], problem: str) -> None:
    assert problem in problems_with(**variables)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("TARGETS", '[{name: t, headers: {Authorization: "Bearer s3cr3t'),
        ("TARGETS", '[{"name": "t", "url": "http://h", "headers": {"X": ["s3cr3t"]}}]'),
        ("PROBES", '[{"name": "p", "input": {"string_data": ["s3cr3t"]}}]'),
        ("DEFAULTS__INPUT", '{string_data: "s3cr3t'),
        ("DEFAULTS__INPUT__PARAMETERS", "s3cr3t"),
        ("WEB", '{"api_token": "s3cr3t'),
        ("WEB__API_TOKEN", "s3cr3t"),
        ("LOG__LEVEL", "-----BEGIN PRIVATE KEY-----\\ns3cr3t"),
        ("TARGETS__0__HEADERS__X", "s3cr3t"),
        ("SECRET", "s3cr3t"),
    ],
)
def test_no_error_shows_a_value_that_may_be_secret(name: str, value: str) -> None:
    problems = problems_with(**{name: value})
    assert any(f"TRITON_CANARY_{name}" in problem for problem in problems)
    assert not any("s3cr3t" in problem for problem in problems)


def test_values_are_read_as_in_the_file() -> None:
    texts = {"A": "5", "B": " 5s ", "C": "", "D": "[1, x]", "E": "[::]:5", "F": "true", "G": "null", "H": "{a"}
    environ = {f"TRITON_CANARY_{name}": text for name, text in texts.items()}
    found = read_environment(environ, "abcdefgh", ()).values
    assert found == {"a": 5, "b": "5s", "c": "", "d": [1, "x"], "e": "[::]:5", "f": True, "g": None, "h": "{a"}
