"""Guards that are switched off are warned of, once for all probes that share them; the defaults are not."""

from __future__ import annotations

from pathlib import Path

import pytest

from exporter.commands.check_config.guards import guard_warnings
from exporter.config import build_probes, load


def warnings(folder: Path, stop: str, more: str = "", metrics: str = "") -> list[str]:
    path = folder / "canary.yaml"
    path.write_text(
        f"targets: [{{name: t, url: 'http://h'{metrics}}}]\n"
        f"defaults: {{schedule: {{every: 1h}}, load: {{concurrency: 1}}, stop: {{{stop}}}}}\n"
        "probes: [{name: a, target: t, model: m}, {name: b, target: t, model: n, stop: {max_latency: 1s}}]\n" + more
    )
    settings = load(path, {})
    return guard_warnings(settings, build_probes(settings))


@pytest.mark.parametrize(
    ("stop", "more", "expected"),
    [
        ("", "", []),
        ("max_latency: 0s", "", ["probe a: stop.max_latency is 0s: "]),
        ("max_error_ratio: 100%", "", ["probes a, b: stop.max_error_ratio is 100%: "]),
        ("max_error_ratio: 99%", "", []),
        ("on_overload: count", "", ["probes a, b: stop.on_overload is count: "]),
        ("max_requests: 1000000000", "", ["probes a, b: stop.max_requests is 1000000000: "]),
        ("pending_growth: 0", "", []),
        ("", "limits: {group_requests_per_hour: 0, group_duty: 100%}", ["limits.group_requests", "limits.group_duty"]),
    ],
)
def test_what_is_off(tmp_path: Path, stop: str, more: str, expected: list[str]) -> None:
    found = warnings(tmp_path, stop, more)
    assert len(found) == len(expected)
    for line, begin in zip(found, expected, strict=True):
        assert line.startswith(begin)


def test_a_growing_queue_is_seen_where_there_is_a_page(tmp_path: Path) -> None:
    [line] = warnings(tmp_path, "pending_growth: 0", metrics=", metrics_url: 'http://h:8002/metrics'")
    assert line.startswith("probes a, b: stop.pending_growth is 0: ")
