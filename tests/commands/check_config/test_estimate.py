"""What a configuration will cost."""

from __future__ import annotations

from pathlib import Path

import pytest

from exporter.commands.check_config.command import check_report
from exporter.commands.check_config.estimate import estimate
from exporter.config import load
from exporter.core.units import NS

GOOD = Path(__file__).parents[2] / "config" / "good"


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
    ("changed", "more"),
    [
        (f"{ONE}, unit: {{name: u, per_inference: 2}}", 1),
        (f"{ONE}, measurement: {{latency_threshold: 1s}}", 1),
        # Its requests, threshold and objective, verdict, highest level and goodput.
        (f"{ONE}, slo: {{name: s, latency: 1s}}", 2 + 2 + 1 + 1 + 1),
        (f"{ONE}, histogram: false", -47),
        (f"{ONE}, measurement: {{percentiles: [10, 20, 30, 40, 50, 60, 99]}}", 2),
        # A search has series of its declared levels alone.
        (f"{SEARCH}, load: {{search: binary, concurrency: '1:64'}}", None),
    ],
)
def test_the_series_of_a_probe(tmp_path: Path, changed: str, more: int | None) -> None:
    def series(probe: str) -> int:
        return estimate(load(config(tmp_path, probe), {})).series

    twice = ONE.replace("concurrency: 1", "concurrency: [1, 64]")
    expected = series(ONE) + more if more is not None else series(twice) + 1
    assert series(changed) == expected


def test_a_target_is_counted_once(tmp_path: Path) -> None:
    one, two = (estimate(load(config(tmp_path, *[ONE] * count), {})) for count in (1, 2))
    (of_target,) = {found.series - sum(entry.series for entry in found.probes) for found in (one, two)}
    assert of_target == 1


@pytest.mark.parametrize(
    ("probe", "typical_s", "worst_s", "interval_s"),
    [
        (ONE, 1 + 15, 1 + 50, 300),
        ("schedule: {every: 5m}, load: {concurrency: [1, 2, 4]}", 1 + 45, 1 + 150, 300),
        ("schedule: {every: 5m}, load: {concurrency: [1, 2]}, measurement: {repeats: 3}", 1 + 90, 300, 300),
        (f"{ONE}, measurement: {{warm_up: 5s}}", 21, 56, 300),
        # Count windows take 12 windows of time at most; of a closed loop it is not known how long they typically take.
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
    assert (found.probes[0].typical_ns, found.probes[0].worst_ns) == (41 * NS, 41 * NS)


@pytest.mark.parametrize(
    ("probes", "more", "warnings"),
    [
        ([ONE], "", []),
        (
            ["schedule: {every: 30s}, load: {concurrency: 1}"],
            "",
            [
                "probe p0: a sweep takes 51s at worst, but is due every 30s",
                "group h: its sweeps typically take 53% of the time, above limits.group_duty, 50%: skips",
            ],
        ),
        (
            ["schedule: {every: 10s}, load: {concurrency: 1}"],
            "limits: {concurrent_sweeps: 2}",
            [
                "probe p0: a sweep typically takes 16s, but is due every 10s",
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
                "all sweeps together typically take 107% of the time that limits.concurrent_sweeps, 1, allows",
            ],
        ),
        ([ONE] * 2, "limits: {max_series: 100}", ["about {series} series are above limits.max_series, 100"]),
    ],
)
def test_warnings(tmp_path: Path, probes: list[str], more: str, warnings: list[str]) -> None:
    found = estimate(load(config(tmp_path, *probes, more=more), {}))
    assert list(found.warnings) == [warning.format(series=found.series) for warning in warnings]


def test_the_endpoints_of_one_server_share_its_time(tmp_path: Path) -> None:
    found = estimate(load(config(tmp_path, ONE, ONE), {}))
    assert found.group_utilisation == pytest.approx({"h": 32 / 300})


def test_the_report() -> None:
    settings = load(GOOD / "full.yaml", {})
    found = estimate(settings)
    chunks, nightly = (entry.series for entry in found.probes)
    assert check_report(settings) == (
        "ok: 2 target(s), 2 probe(s)\n"
        "\n"
        "probe        levels  series  sweep  at worst  due every\n"
        f"asr-chunks        8     {chunks}    49s        2m        10m\n"
        f"asr-nightly       2     {nightly}    13s       41s         1d\n"
        "\n"
        "group asr: busy 8.2% of the time\n"
        "all groups: busy 4.1% of the time that limits.concurrent_sweeps, 2, allows\n"
        f"series: at most about {found.series}, of 10000 that limits.max_series allows\n"
        "note: probe asr-chunks: latency_p99 at concurrency 1 can never be judged on a model slower than 300ms: "
        "a sweep has to measure 20 requests, and longer windows do\n"
        "note: probe asr-chunks: several requests in a closed loop. Where the model has dynamic batching (`check-"
        "config --live` reports it) they meet by chance, and figures have two values: for verdicts use "
        "load.request_rate, some 60 % of the inferences per second that the closed loop reaches, or load.think_time"
    )


def test_the_report_leaves_out_what_the_servers_are_asked() -> None:
    settings = load(GOOD / "full.yaml", {})
    whole, live = check_report(settings).splitlines(), check_report(settings, live=True).splitlines()
    assert [line for line in whole if line not in live] == [whole[-1]]
    assert whole[-1].startswith("note: probe asr-chunks: several requests in a closed loop.")


def test_a_target_without_a_probe_takes_no_part(tmp_path: Path) -> None:
    path = config(tmp_path, ONE)
    path.write_text(path.read_text().replace("grpc://h", "grpc://idle", 1))
    found = estimate(load(path, {}))
    assert set(found.group_utilisation) == {"h"}
    assert "no probe uses g: nothing is measured there" in found.notes


def test_the_report_of_nothing(tmp_path: Path) -> None:
    (tmp_path / "canary.yaml").write_text("targets: []\n")
    assert check_report(load(tmp_path / "canary.yaml", {})) == (
        "ok: 0 target(s), 0 probe(s)\n"
        "series: at most about 0, of 20000 that limits.max_series allows\n"
        "warning: there are no probes: nothing will be measured"
    )
