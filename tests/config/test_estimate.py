"""What a configuration will cost."""

from __future__ import annotations

from pathlib import Path

import pytest

from exporter.config import check_report, estimate, load
from exporter.core.units import NS

GOOD = Path(__file__).parent / "good"


def config(tmp_path: Path, *probes: str, more: str = "") -> Path:
    path = tmp_path / "canary.yaml"
    head = "targets: [{name: t, kind: triton, url: 'http://h'}, {name: g, kind: triton, url: 'grpc://h'}]\n"
    body = [
        f"  - {{name: p{n}, model: m, {{target: t, {p}}}".replace("{target", "target") for n, p in enumerate(probes)
    ]
    path.write_text(head + "probes:\n" + "\n".join(body) + f"\n{more}\n")
    return path


ONE = "schedule: {every: 5m}, load: {concurrency: 1}, baseline: {enabled: false}"
RATE = "schedule: {every: 5m}, load: {request_rate: 10}"
SEARCH = "schedule: {every: 5m}, baseline: {enabled: false}, measurement: {latency_threshold: 50ms}"


@pytest.mark.parametrize(
    ("probe", "series"),
    [
        (ONE, 33 + 51),
        (ONE.replace("false", "true"), 33 + 51 + 31),
        (f"{ONE}, histogram: false", 33 + 51 - 19),
        ("schedule: {every: 5m}, load: {concurrency: [1, 2, 4]}, baseline: {enabled: false}", 33 + 3 * 51),
        ("schedule: {every: 5m}, load: {request_rate: 100}, baseline: {enabled: false}", 33 + 66),
        (f"{ONE}, unit: {{name: u, per_inference: 2}}", 33 + 51 + 1),
        (f"{ONE}, measurement: {{latency_threshold: 1s}}", 33 + 51 + 1),
        (f"{SEARCH}, load: {{search: binary, concurrency: '1:64'}}", 33 + 2 * 51 + 1),
        (f"{ONE}, slo: {{name: s, latency: 1s}}", 33 + 51 + 3 + 0 + 1),
        (f"{ONE}, measurement: {{percentiles: [10, 20, 30, 40, 50, 60, 99]}}", 33 + 51 + 2),
    ],
)
def test_series(tmp_path: Path, probe: str, series: int) -> None:
    assert estimate(load(config(tmp_path, probe), {})).series == series


@pytest.mark.parametrize(
    ("probe", "typical_s", "worst_s", "interval_s"),
    [
        (ONE, 1 + 15, 1 + 50, 300),
        ("schedule: {every: 5m}, load: {concurrency: [1, 2, 4]}", 1 + 45, 1 + 150, 300),
        ("schedule: {every: 5m}, load: {concurrency: [1, 2]}, measurement: {repeats: 3}", 1 + 90, 300, 300),
        (f"{ONE}, measurement: {{warm_up: 5s}}", 21, 56, 300),
        # Count windows take 12 windows of time at most; of a closed loop nobody knows how long they typically take.
        (f"{ONE}, measurement: {{window_mode: count}}", 16, 300, 300),
        (f"{RATE}, measurement: {{window_mode: count, warm_up_requests: 10}}", 1 + 1 + 15, 300, 300),
        (f"{RATE}, measurement: {{request_count: 100, warm_up_requests: 20}}", 13, 13, 300),
        (f"{ONE}, measurement: {{request_count: 100}}", 6, 6, 300),
        # A search visits 8, 2 + log2 of 7, and as many levels as there is time for.
        (f"{SEARCH}, load: {{search: linear, concurrency: '1:8'}}", 1 + 8 * 15, 300, 300),
        (f"{SEARCH}, load: {{search: binary, concurrency: '1:8'}}", 1 + 5 * 15, 1 + 5 * 50, 300),
        (f"{SEARCH}, load: {{search: linear, concurrency: '1:0'}}", 300, 300, 300),
        (f"{ONE}, measurement: {{window: 1s, stability_windows: 2, max_windows: 4}}", 3, 5, 300),
        (f"{ONE}, stop: {{max_duration: 20s}}", 16, 20, 300),
        ("schedule: {cron: '0,10 3 * * *'}, load: {concurrency: 1}", 16, 51, 600),
    ],
)
def test_times(tmp_path: Path, probe: str, typical_s: int, worst_s: int, interval_s: int) -> None:
    (entry,) = estimate(load(config(tmp_path, probe), {})).probes
    assert (entry.typical_ns, entry.worst_ns, entry.interval_ns) == (typical_s * NS, worst_s * NS, interval_s * NS)


def test_a_schedule_takes_its_own_time(tmp_path: Path) -> None:
    (tmp_path / "night.txt").write_text("0\n40000\n")
    probe = f"schedule: {{every: 5m}}, load: {{schedule_file: '{tmp_path}/night.txt'}}"
    found = estimate(load(config(tmp_path, probe), {}))
    assert (found.probes[0].typical_ns, found.probes[0].worst_ns, found.series) == (41 * NS, 41 * NS, 33 + 66 + 31)


@pytest.mark.parametrize(
    ("probes", "more", "warnings"),
    [
        ([ONE], "", []),
        (
            ["schedule: {every: 30s}, load: {concurrency: 1}"],
            "",
            [
                "probe p0: a sweep takes 51s at worst, and is due every 30s",
                "group h: its sweeps typically take 53% of the time, above limits.group_duty, 50%: skips",
            ],
        ),
        (
            ["schedule: {every: 10s}, load: {concurrency: 1}"],
            "limits: {concurrent_sweeps: 2}",
            [
                "probe p0: a sweep typically takes 16s, and is due every 10s",
                "group h: its sweeps typically take 160% of the time; some will be skipped",
            ],
        ),
        (
            [f"{ONE}, stop: {{max_duration: 10s}}"],
            "",
            ["probe p0: a sweep typically takes 16s; stop.max_duration ends it after 10s"],
        ),
        (
            ["schedule: {every: 1m}, load: {concurrency: 1}"] * 4,
            "",
            [
                "group h: its sweeps typically take 107% of the time; some will be skipped",
                "all sweeps together typically take 107% of what limits.concurrent_sweeps, 1, allows",
            ],
        ),
        ([ONE] * 2, "limits: {max_series: 100}", ["about 168 series are above limits.max_series, 100"]),
    ],
)
def test_warnings(tmp_path: Path, probes: list[str], more: str, warnings: list[str]) -> None:
    assert list(estimate(load(config(tmp_path, *probes, more=more), {})).warnings) == warnings


def test_the_doors_of_one_server_share_its_time(tmp_path: Path) -> None:
    found = estimate(load(config(tmp_path, ONE, ONE), {}))
    assert found.group_utilisation == pytest.approx({"h": 32 / 300})


def test_the_report() -> None:
    assert check_report(load(GOOD / "full.yaml", {})) == (
        "ok: 2 target(s), 2 probe(s)\n"
        "\n"
        "probe        levels  series  sweep  at worst  due every\n"
        "asr-chunks        8     550    49s        2m        10m\n"
        "asr-nightly       2     227    13s       41s         1d\n"
        "\n"
        "group asr: busy 8.2% of the time\n"
        "all groups: busy 4.1% of what limits.concurrent_sweeps, 2, allows\n"
        "series: at most about 777, of 10000 that limits.max_series allows\n"
        "note: probe asr-chunks: latency_p99 at concurrency 1 can never be judged on a model slower than 300ms: "
        "a sweep has to measure 20 requests, and longer windows do"
    )


def test_the_report_of_nothing(tmp_path: Path) -> None:
    (tmp_path / "canary.yaml").write_text("targets: []\n")
    assert check_report(load(tmp_path / "canary.yaml", {})) == (
        "ok: 0 target(s), 0 probe(s)\n"
        "series: at most about 0, of 20000 that limits.max_series allows\n"
        "warning: there are no probes: nothing will be measured"
    )
