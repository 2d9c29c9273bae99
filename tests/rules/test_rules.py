"""The rule files: linted by promtool, each alert fires when it should and only then, has its words and its page."""

from __future__ import annotations

import re
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from exporter.config.quantities import parse_duration
from tests.programs import need

ROOT = Path(__file__).parents[2]
RULES = ROOT / "dashboards" / "rules"
FILES = sorted(RULES.glob("*.rules.yaml"))
ALERTS = [
    rule
    for file in FILES
    for group in yaml.safe_load(file.read_text())["groups"]
    for rule in group["rules"]
    if "alert" in rule
]
NAMES = [alert["alert"] for alert in ALERTS]
WITHOUT_INSTANCE = (
    *("TritonCanaryAbsent", "TritonCanaryWatchdog", "TritonCanaryProbeInTwoExporters", "TritonCanaryRollingRegression"),
    *("TritonCanaryNoActiveDaemon", "TritonCanaryTwoActiveDaemons"),
)

P = 'job="triton-canary",instance="i",target="t",probe="p",model="m"'
OTHER = P.replace('probe="p"', 'probe="q"')
L = f'{P},mode="concurrency",level="1"'
DAY = 24 * 60


def tool(name: str, *arguments: str) -> None:
    """Runs one of Prometheus's tools, which must be content."""
    need(name)
    done = subprocess.run([name, *arguments], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-6000:]


# --- form ------------------------------------------------------------------------------------------------------------


def test_the_dead_mans_switch_hears_of_it_every_minute() -> None:
    """Alertmanager repeats a notification at the first `group_interval` after `repeat_interval`."""
    (route,) = (
        route
        for route in yaml.safe_load((RULES / "alertmanager.example.yaml").read_text())["route"]["routes"]
        if "TritonCanaryWatchdog" in route["matchers"][0]
    )
    assert route["group_interval"] == "1m"
    assert parse_duration(route["repeat_interval"]) < parse_duration(route["group_interval"])


def test_promtool_finds_nothing() -> None:
    tool("promtool", "check", "rules", "--lint=all", "--lint-fatal", *map(str, FILES))


def test_the_example_for_alertmanager_is_right_and_names_our_alerts() -> None:
    path = RULES / "alertmanager.example.yaml"
    tool("amtool", "check-config", str(path))
    matchers = re.findall(r'alertname=(~?)"([^"]+)"', path.read_text())
    assert matchers
    for is_pattern, text in matchers:
        assert any(re.fullmatch(text, name) if is_pattern else text == name for name in NAMES), text


@pytest.mark.parametrize("alert", ALERTS, ids=NAMES)
def test_every_alert_has_its_words_and_its_page(alert: dict[str, Any]) -> None:
    assert alert["labels"]["severity"] in ("critical", "warning", "info", "none")
    annotations = alert["annotations"]
    more = {"status_url"} if alert["alert"].startswith("TritonCanaryRegression") else set()
    assert set(annotations) == {"summary", "description", "runbook_url", "dashboard_url"} | more
    from_daemon = f"http://{{{{ $labels.instance }}}}/runbooks/{alert['alert']}"
    file = f"docs/runbooks/{alert['alert']}.md"
    # Where no daemon is named, or none responses, it is the file in the repository.
    expected = file if alert["alert"] in WITHOUT_INSTANCE else from_daemon
    assert annotations["runbook_url"] == expected
    page = (ROOT / file).read_text()
    assert page.startswith(f"# {alert['alert']}\n")
    for part in ("What it means", "Where to look", "What to do"):
        assert f"## {part}\n" in page
    for link in re.findall(r"\]\(([^)#]+)", page):
        assert (ROOT / "docs" / "runbooks" / link).exists(), link


def test_every_page_has_its_alert() -> None:
    assert {path.stem for path in (ROOT / "docs" / "runbooks").glob("*.md")} - {"index"} == set(NAMES)


def test_joins_state_on_what() -> None:
    """`ignoring`, and a bare operator between two vectors, join nothing once a rule lost job or instance."""
    for file in FILES:
        for group in yaml.safe_load(file.read_text())["groups"]:
            for rule in group["rules"]:
                assert "ignoring" not in rule["expr"]
                for join in re.findall(r"\b(?:and|unless|or|group_left|group_right)\b(?! on| \()", rule["expr"]):
                    raise AssertionError((rule, join))


# --- behaviour -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Case:
    """Series by minute, and whether the alert fires at that minute, how many times."""

    alert: str
    series: dict[str, str]
    fires: int
    minute: int = 60
    id: str = ""


def series(name: str, values: str, labels: str = P, more: str = "") -> dict[str, str]:
    """One series; `values` as promtool writes them."""
    return {f"{name}{{{labels}{',' + more if more else ''}}}": values}


CANARY = "triton_canary_"
FOREVER = "x400"
STARTED = series("process_start_time_seconds", f"0{FOREVER}", 'job="triton-canary",instance="i"')
INTERVAL = series(f"{CANARY}interval_seconds", f"300{FOREVER}")
HOURLY = series(f"{CANARY}interval_seconds", f"3600{FOREVER}")
DAILY = series(f"{CANARY}interval_seconds", f"86400{FOREVER}")
INFO = series(f"{CANARY}probe_info", f"1{FOREVER}", P, 'version="2"')


def regression(tier: str, values: str) -> dict[str, str]:
    return series(f"{CANARY}regression", values, L, f'signal="latency_p50",tier="{tier}"')


def requests(bad: int) -> dict[str, str]:
    """100 requests a minute, so many of them bad."""
    return {
        **series(f"{CANARY}requests_total", f"0+{100 - bad}{FOREVER}", P, 'outcome="ok"'),
        **series(f"{CANARY}requests_total", f"0+{bad}{FOREVER}", P, 'outcome="timeout"'),
        **series(f"{CANARY}requests_total", f"0+50{FOREVER}", P, 'outcome="cancelled"'),
    }


def slo(bad: int, objective: float = 0.99) -> dict[str, str]:
    return {
        **series(f"{CANARY}slo_objective_ratio", f"{objective}{FOREVER}", P, 'slo="s"'),
        **series(f"{CANARY}slo_requests_total", f"0+100{FOREVER}", P, 'slo="s"'),
        **series(f"{CANARY}slo_bad_requests_total", f"0+{bad}{FOREVER}", P, 'slo="s"'),
    }


def gauge(name: str, value: float, labels: str = P) -> dict[str, str]:
    return series(f"{CANARY}{name}", f"{value}{FOREVER}", labels)


def counter(name: str, by: int, more: str = "") -> dict[str, str]:
    return series(f"{CANARY}{name}", f"0+{by}{FOREVER}", P, more)


def skipped(values: str, reason: str = "overlap") -> dict[str, str]:
    return series(f"{CANARY}sweeps_skipped_total", values, P, f'reason="{reason}"')


def lease(instance: str, held: int, shard: str = "0/2") -> dict[str, str]:
    """What one daemon of a pair exports."""
    labels = f'job="triton-canary",instance="{instance}",lease="canary",shard="{shard}"'
    return series(f"{CANARY}exporter_lease_held", f"{held}{FOREVER}", labels)


UP = 'job="triton-canary",instance="i"'


def withheld(values: str, reason: str = "few_requests") -> dict[str, str]:
    """The series of a signal without a verdict."""
    return series(f"{CANARY}verdict_withheld", values, f'{L},signal="latency_p99",reason="{reason}"')


def swept(reason: str, times: int) -> dict[str, str]:
    """So many sweeps that ended for this reason, one every five minutes after the first hour."""
    values = f"0x60 {' '.join(f'{number}x4' for number in range(1, times))} {times}{FOREVER}"
    return series(f"{CANARY}sweeps_total", values, P, f'status="aborted",reason="{reason}"')


CASES = [
    Case("ExporterDown", series("up", f"0{FOREVER}", UP), 1),
    Case("ExporterDown", series("up", f"1{FOREVER}", UP), 0),
    Case("ExporterDown", series("up", f"0{FOREVER}", 'job="node",instance="i"'), 0, id="another client"),
    Case("ExporterDown", series("up", f"1x50 0{FOREVER}", UP), 1, id="for ten minutes"),
    Case("ExporterDown", series("up", f"1x56 0{FOREVER}", UP), 0, id="for three minutes"),
    Case("Absent", series("up", f"0{FOREVER}", UP), 1),
    Case("Absent", gauge("exporter_build_info", 1, UP), 0),
    Case("Absent", series("up", f"0{FOREVER}", UP), 0, minute=14, id="prometheus has just started"),
    Case("Watchdog", {}, 1, minute=0),
    Case("ReloadFailed", gauge("exporter_config_last_reload_successful", 0, UP), 1),
    Case("ReloadFailed", gauge("exporter_config_last_reload_successful", 1, UP), 0),
    Case("ArchiveErrors", counter("exporter_archive_write_errors_total", 1), 1),
    Case("ArchiveErrors", counter("exporter_archive_write_errors_total", 0), 0),
    Case("CollectorErrors", counter("exporter_collector_errors_total", 1, 'collector="baselines"'), 1),
    Case("CollectorErrors", counter("exporter_collector_errors_total", 0, 'collector="baselines"'), 0),
    Case("ResultsDropped", gauge("results_dropped", 1), 1),
    Case("ResultsDropped", gauge("results_dropped", 0), 0),
    Case("SweepsSkipped", INTERVAL | skipped("0+1x400"), 1, minute=400),
    Case("SweepsSkipped", INTERVAL | skipped("0+1x400", "paused"), 0, minute=400, id="on purpose"),
    # Twelve of the 72 sweeps that were due, every 5 minutes, in 6 hours; then eighteen.
    Case("SweepsSkipped", INTERVAL | skipped(f"0x60 1+1x11 12{FOREVER}"), 0, minute=300, id="a sixth"),
    Case("SweepsSkipped", INTERVAL | skipped(f"0x60 1+1x17 18{FOREVER}"), 1, minute=300, id="a quarter"),
    Case("SweepsSkipped", DAILY | skipped(f"0x60 1{FOREVER}"), 1, minute=120, id="the only one of the day"),
    Case("SweepsSkipped", HOURLY | skipped(f"0x60 1{FOREVER}"), 0, minute=120, id="one of six"),
    Case("ProbeInTwoExporters", INTERVAL | gauge("interval_seconds", 300, P.replace('"i"', '"j"')), 1),
    Case("ProbeInTwoExporters", INTERVAL | gauge("interval_seconds", 300, OTHER), 0, id="two probes"),
    Case("NoActiveDaemon", lease("i", 0) | lease("j", 0), 1),
    Case("NoActiveDaemon", lease("i", 0) | lease("j", 1), 0, id="one measures"),
    Case("NoActiveDaemon", lease("i", 1) | lease("j", 0) | lease("k", 0, "1/2"), 1, id="another shard"),
    Case("TwoActiveDaemons", lease("i", 1) | lease("j", 1), 1),
    Case("TwoActiveDaemons", lease("i", 1) | lease("j", 0), 0, id="one measures"),
    Case("TwoActiveDaemons", lease("i", 1) | lease("j", 1, "1/2"), 0, id="of two shards"),
    Case("ProbeFailing", gauge("up", 0) | series(f"{CANARY}up", f"1{FOREVER}", OTHER), 1),
    Case("ProbeFailing", series(f"{CANARY}up", f"1x55 0{FOREVER}"), 0, id="one sweep"),
    Case("Stale", INTERVAL | gauge("last_success_timestamp_seconds", 1200), 1),
    Case("Stale", INTERVAL | gauge("last_success_timestamp_seconds", 3000), 0),
    Case("Stale", INTERVAL | gauge("last_success_timestamp_seconds", 0), 0, id="never"),
    Case("Stale", INTERVAL | gauge("last_success_timestamp_seconds", 1200) | gauge("paused", 1), 0, id="paused"),
    Case("Stale", INTERVAL | gauge("last_success_timestamp_seconds", 1200) | gauge("paused", 0), 1, id="not paused"),
    Case("NeverSucceeded", INTERVAL | STARTED | gauge("last_success_timestamp_seconds", 0), 1),
    Case("NeverSucceeded", INTERVAL | STARTED | gauge("last_success_timestamp_seconds", 0), 0, minute=20, id="early"),
    Case("NeverSucceeded", INTERVAL | STARTED | gauge("last_success_timestamp_seconds", 60), 0),
    Case("HighErrorRatio", requests(2), 1),
    Case("HighErrorRatio", requests(1), 0),
    Case("HighErrorRatio", counter("requests_total", 0, 'outcome="ok"'), 0, id="no requests"),
    Case("Unstable", gauge("stable", 0, L), 1),
    Case("Unstable", gauge("stable", 1, L), 0),
    Case("ClientLimited", gauge("client_limited", 1, L), 1),
    Case("ClientLimited", gauge("client_limited", 0, L), 0),
    Case("ForeignTraffic", gauge("server_foreign_requests_ratio", 0.2, L), 1),
    Case("ForeignTraffic", gauge("server_foreign_requests_ratio", 0.04, L), 0),
    Case("ServerMetricsMissing", gauge("server_metrics_up", 0, f'{UP},target="t"'), 1),
    Case("ServerMetricsMissing", gauge("server_metrics_up", 1, f'{UP},target="t"'), 0),
    Case("CertificateExpiring", gauge("certificate_expiry_timestamp_seconds", 13 * 86_400, f'{UP},target="t"'), 1, 61),
    Case("CertificateExpiring", gauge("certificate_expiry_timestamp_seconds", 15 * 86_400, f'{UP},target="t"'), 0, 61),
    Case("GpuThrottled", gauge("gpu_throttled_ratio", 0.5, f'{L},gpu="0",source="nvml",reason="thermal"'), 1),
    Case("GpuThrottled", gauge("gpu_throttled_ratio", 0.05, f'{L},gpu="0",source="nvml",reason="thermal"'), 0),
    *(Case(f"Regression{tier.title()}", regression(tier, f"1{FOREVER}"), 1) for tier in ("page", "warn", "slow")),
    *(Case(f"Regression{tier.title()}", regression(tier, f"0{FOREVER}"), 0) for tier in ("page", "warn", "slow")),
    Case("RegressionPage", regression("warn", f"1{FOREVER}"), 0, id="another tier"),
    Case("RegressionPage", regression("page", f"1x50 _x9 1{FOREVER}"), 1, 55, id="through a restart"),
    Case("RegressionPage", regression("page", f"1x50 stale _{FOREVER}"), 0, 70, id="gone"),
    Case("RegressionPage", regression("page", f"1x50 0{FOREVER}"), 0, 52, id="over at once"),
    Case("NewVersionSlower", INFO | gauge("baseline_version_ratio", 1.3, f'{L},signal="latency_p50"'), 1),
    Case("NewVersionSlower", INFO | gauge("baseline_version_ratio", 1.05, f'{L},signal="latency_p50"'), 0),
    Case("NewVersionSlower", INFO | gauge("baseline_version_ratio", 1.3, f'{L},signal="throughput"'), 0, id="faster"),
    Case("TokensNotCounted", gauge("output_chunks_per_second", 50, L), 1, 80),
    Case("TokensNotCounted", gauge("output_chunks_per_second", 50, L), 0, 50, id="not for an hour yet"),
    Case(
        "TokensNotCounted",
        gauge("output_chunks_per_second", 50, L) | gauge("output_tokens_per_second", 60, L),
        0,
        80,
        id="counted",
    ),
    Case("PromptCacheMeasured", gauge("prompt_cached_ratio", 0.6, L) | gauge("prompt_cache_allowed", 0), 1, 80),
    Case("PromptCacheMeasured", gauge("prompt_cached_ratio", 0.4, L) | gauge("prompt_cache_allowed", 0), 0, 80),
    Case(
        "PromptCacheMeasured",
        gauge("prompt_cached_ratio", 0.9, L) | gauge("prompt_cache_allowed", 1),
        0,
        80,
        id="on purpose",
    ),
    Case(
        "PromptCacheMeasured",
        gauge("prompt_cached_ratio", 0.9, f'{P},mode="sessions",level="1"'),
        0,
        80,
        id="a session has its history cached",
    ),
    Case("OutputEndsEarly", gauge("early_end_ratio", 0.2, L), 1, 80),
    Case("OutputEndsEarly", gauge("early_end_ratio", 0.05, L), 0, 80),
    Case("TokenBudget", INTERVAL | swept("token_budget", 4), 1, 240),
    Case("TokenBudget", INTERVAL | swept("token_budget", 1), 0, 240, id="one sweep"),
    Case("TokenBudget", INTERVAL | swept("time_budget", 4), 0, 240, id="another budget"),
    Case("SloBurnFast", slo(20), 1),
    Case("SloBurnFast", slo(10), 0),
    Case("SloBurnSlow", slo(10), 1, 6 * 60),
    Case("SloBurnSlow", slo(5), 0, 6 * 60),
    # A budget of 5 %: what would spend one of 1 % in a day is within it.
    Case("SloBurnFast", slo(70, 0.95), 0, id="another objective"),
    Case("SloBurnFast", slo(75, 0.95), 1, id="another objective, missed"),
    Case("SloBurnFast", slo(95, 0.8), 1, id="a budget that no pace could spend so fast"),
    Case("SloMissed", slo(6, 0.95), 1, 6 * 60),
    Case("SloMissed", slo(4, 0.95), 0, 6 * 60),
    Case("Unsent", gauge("unsent_ratio", 0.02, L), 1),
    Case("Unsent", gauge("unsent_ratio", 0.005, L), 0),
]


LONG_CASES = [
    Case("NotJudged", withheld("1x200"), 1, 26 * 60),
    Case("NotJudged", withheld("1x200"), 0, 24 * 60, id="the first day"),
    Case("NotJudged", withheld("1x70 stale _x4 1x200"), 0, 26 * 60, id="judged at noon"),
    Case("NotJudged", withheld("1x70 stale", "no_baseline") | withheld("_x70 1x200"), 1, 26 * 60, id="two reasons"),
]
"""A sample every ten minutes."""


def test_every_alert_is_tried_both_ways() -> None:
    shown = {name.removeprefix("TritonCanary") for name in NAMES} - {"RollingRegression"}
    assert {case.alert for case in [*CASES, *LONG_CASES] if case.fires} == shown
    assert {case.alert for case in [*CASES, *LONG_CASES] if not case.fires} == shown - {"Watchdog"}


def run_promtool(folder: Path, tests: list[dict[str, Any]], rules: str, interval: str = "1m") -> None:
    path = folder / "tests.yaml"
    content = {"rule_files": [str(RULES / rules)], "evaluation_interval": interval, "tests": tests}
    path.write_text(yaml.safe_dump(content))
    tool("promtool", "test", "rules", str(path))


def as_test(case: Case) -> dict[str, Any]:
    name = f"TritonCanary{case.alert}"
    fires = [{"labels": "{}", "value": case.fires}] if case.fires else []
    expression = f'count(ALERTS{{alertname="{name}",alertstate="firing"}})'
    return {
        "name": f"{name}, {case.id or ('fires' if case.fires else 'silent')}",
        "interval": "1m",
        "input_series": [{"series": key, "values": values} for key, values in case.series.items()],
        "promql_expr_test": [{"expr": expression, "eval_time": f"{case.minute}m", "exp_samples": fires}],
    }


def test_alerts_fire_when_they_should_and_only_then(tmp_path: Path) -> None:
    run_promtool(tmp_path, [as_test(case) for case in CASES], "triton-canary.rules.yaml", "2m")


def regression_rules(folder: Path) -> Path:
    """The rules of regressions alone: days of all of them take long."""
    groups = yaml.safe_load((RULES / "triton-canary.rules.yaml").read_text())["groups"]
    rules = folder / "regressions.yaml"
    rules.write_text(yaml.safe_dump({"groups": [g for g in groups if g["name"] == "triton-canary-regressions"]}))
    return rules


def test_what_was_not_judged_for_a_day(tmp_path: Path) -> None:
    tests = [as_test(case) | {"interval": "10m"} for case in LONG_CASES]
    run_promtool(tmp_path, tests, str(regression_rules(tmp_path)), "10m")


def test_a_regression_that_stays_fires_on_the_thirtieth_day(tmp_path: Path) -> None:
    """Evaluated every 10 minutes, and without the other rules: a month is long."""
    rules = regression_rules(tmp_path)
    given = regression("page", f"0x6 1x{31 * DAY // 10}")
    times = {0: 0, 2: 1, 30 * 24: 1}
    tests = [as_test(Case("RegressionPage", given, fires, hour * 60)) for hour, fires in times.items()]
    run_promtool(tmp_path, [test | {"interval": "10m"} for test in tests], str(rules), "10m")


BEGINNING = {
    "latency_p50": (
        {
            **gauge("baseline_latency_seconds", 0.0055, f'{L},percentile="50"'),
            **gauge("latency_seconds", 0.0104, f'{L},percentile="50"'),
            **gauge("latency_seconds", 0.9, f'{L},percentile="99"'),
        },
        "latency_p50 at concurrency 1: 5.5ms before, 10.4ms now (1.89 times), bad in 3 of the last 4 sweeps.",
    ),
    "time_to_first_token_p50": (
        {
            **gauge("baseline_time_to_first_token_seconds", 0.055, f'{L},percentile="50"'),
            **gauge("time_to_first_token_seconds", 0.104, f'{L},percentile="50"'),
            **gauge("latency_seconds", 0.9, f'{L},percentile="50"'),
        },
        "time_to_first_token_p50 at concurrency 1: 55ms before, 104ms now (1.89 times), bad in 3 of the last 4 sweeps.",
    ),
    "output_tokens_per_second": (
        {
            **gauge("baseline_output_tokens_per_second", 300, L),
            **gauge("output_tokens_per_second", 158.7, L),
        },
        "output_tokens_per_second at concurrency 1: 300/s before, 158.7/s now (1.89 times), bad in 3 of the last 4 "
        "sweeps.",
    ),
    "throughput": (
        {
            **gauge("baseline_throughput_inferences_per_second", 200, L),
            **gauge("throughput_inferences_per_second", 106.4, L),
        },
        "throughput at concurrency 1: 200/s before, 106.4/s now (1.89 times), bad in 3 of the last 4 sweeps.",
    ),
}


@pytest.mark.parametrize("signal", BEGINNING)
def test_the_words_of_a_regression(tmp_path: Path, signal: str) -> None:
    """Before and after in units, the probe's own K of M, and the component wrong."""
    labels = dict(re.findall(r'(\w+)="([^"]*)"', L)) | {"signal": signal, "tier": "page", "severity": "critical"}
    figures, beginning = BEGINNING[signal]
    of = f'{L},signal="{signal}"'
    given = {
        **series(f"{CANARY}regression", "1x60", of, 'tier="page"'),
        **figures,
        **gauge("baseline_ratio", 1.89, of),
        **gauge("regression_sweeps", 3, f'{of},tier="page",counted="bad"'),
        **gauge("regression_sweeps", 4, f'{of},tier="page",counted="judged"'),
        **gauge("regression_sweeps", 24, f'{of},tier="warn",counted="judged"'),
        **gauge("regression_component_seconds", 0.006, f'{L},component="compute_infer"'),
        **gauge("regression_component_seconds", 0.001, f'{L},component="queue"'),
    }
    annotations = {
        "summary": "m on t (probe p) is much slower than it was",
        "description": f"{beginning} The part that grew most is compute_infer: 6ms more.",
        "runbook_url": "http://i/runbooks/TritonCanaryRegressionPage",
        "status_url": "http://i/probes/p",
        "dashboard_url": "/d/triton-canary-model?var-target=t&var-model=m&var-probe=p&var-level=1&from=now-6h&to=now",
    }
    test = {
        "interval": "1m",
        "input_series": [{"series": key, "values": values} for key, values in given.items()],
        "alert_rule_test": [
            {
                "eval_time": "30m",
                "alertname": "TritonCanaryRegressionPage",
                "exp_alerts": [{"exp_labels": labels, "exp_annotations": annotations}],
            }
        ],
    }
    run_promtool(tmp_path, [test], "triton-canary.rules.yaml")


def test_the_rolling_rule_takes_a_regression_in(tmp_path: Path) -> None:
    """Nine days at 10 ms, then 15 ms for ever: it fires, and ends by itself after half of its week and the day."""
    step = 9 * DAY // 5
    given = {
        **series(f"{CANARY}latency_seconds", f"0.01x{step} 0.015x{step}", L, 'percentile="50"'),
        **series(f"{CANARY}stable", f"1x{2 * step}", L),
    }
    firing = 'count(ALERTS{alertname="TritonCanaryRollingRegression",alertstate="firing"})'
    hours = {9 * 24: 0, 9 * 24 + 1: 1, 13 * 24: 1, 14 * 24: 0}
    test = {
        "interval": "5m",
        "input_series": [{"series": key, "values": values} for key, values in given.items()],
        "promql_expr_test": [
            {
                "expr": firing,
                "eval_time": f"{hour}h",
                "exp_samples": [{"labels": "{}", "value": 1}] if fires else [],
            }
            for hour, fires in hours.items()
        ],
    }
    run_promtool(tmp_path, [test], "rolling.example.rules.yaml", "5m")
