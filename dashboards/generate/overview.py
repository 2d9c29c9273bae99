"""Fleet overview: which model on which target is slow or failing, and since when."""

from __future__ import annotations

from dashboards.generate.board import Board, change_annotations
from dashboards.generate.panels import GREEN, ORANGE, RED, TIMES, YELLOW, Column, Panel, lines, number, rows, states
from dashboards.generate.queries import BY_PROBE, FLEET, JOB, Query, lightest, metric

MODEL_BOARD = (
    "/d/triton-canary-model?${datasource:queryparam}&${job:queryparam}&${instance:queryparam}"
    "&var-target=${__data.fields.Target}&var-model=${__data.fields.Model}&var-probe=${__data.fields.Probe}"
    "&${__url_time_range}"
)
NONE_IS_GOOD = ((None, GREEN), (1, RED))
UP = {"1": ("OK", GREEN), "0": ("failing", RED)}
YES = {"1": ("yes", GREEN), "0": ("no", YELLOW)}
SERIES = "{{target}} · {{probe}}"


def board() -> Board:
    it = Board(
        "triton-canary-overview", "Triton Canary / Fleet overview", "Every probe: is it well, how fast, since when."
    )
    it.many(
        "target", "Target", 'label_values(triton_canary_interval_seconds{job=~"$job", instance=~"$instance"}, target)'
    )
    it.many(
        "model",
        "Model",
        'label_values(triton_canary_interval_seconds{job=~"$job", instance=~"$instance", target=~"$target"}, model)',
    )
    it.annotations = change_annotations(FLEET)
    _now(it)
    _over_time(it)
    _load(it)
    _gate(it)
    return it


def _now(it: Board) -> None:
    last = metric("last_success_timestamp_seconds", FLEET)
    stale = f"(time() - {last} > 3 * {metric('interval_seconds', FLEET)}) and {last} > 0"
    worse = f"count by ({BY_PROBE}) ({metric('regression', FLEET)} == 1)"
    counts = [
        number(
            "Healthy",
            "Probes whose last sweep got usable data.",
            "none",
            Query(f"count({metric('up', FLEET)} == 1) or vector(0)"),
            width=4,
            limits=((None, RED), (1, GREEN)),
        ),
        number(
            "Failing",
            "Probes whose last sweep failed: the server could not be reached, was not ready, or was wrong too often.",
            "none",
            Query(f"count({metric('up', FLEET)} == 0) or vector(0)"),
            width=4,
            limits=NONE_IS_GOOD,
        ),
        number(
            "Stale",
            "Probes without usable data for over three of their intervals: their figures are gone from the page.",
            "none",
            Query(f"count({stale}) or vector(0)"),
            width=4,
            limits=NONE_IS_GOOD,
        ),
        number(
            "Regressed",
            "Probes for which the daemon's verdict against the pinned baseline holds now, in any tier.",
            "none",
            Query(f"count({worse}) or vector(0)"),
            width=4,
            limits=NONE_IS_GOOD,
        ),
        number(
            "Objectives missed",
            "Levels of a service level objective that the last sweep found over the threshold.",
            "none",
            Query(f"count({metric('slo_met', FLEET)} == 0) or vector(0)"),
            width=4,
            limits=NONE_IS_GOOD,
        ),
        number(
            "Load by the canary",
            "Inferences per second that the daemon itself asks of all servers, warm-up included.",
            "suffix:inf/s",
            Query(f"sum(rate({metric('inferences_total', FLEET)}[$__rate_interval]))"),
            width=4,
            decimals=1,
        ),
    ]
    it.row("Now", (4, counts), (9, [_table()]))


def _table() -> Panel:
    by = "target, probe, model"
    p99 = lightest(metric("latency_seconds", FLEET, percentile="99"))
    ratio = metric("baseline_ratio", FLEET, signal="latency_p50")
    last = metric("last_success_timestamp_seconds", FLEET)
    return rows(
        "Probes",
        "The last finished sweep of every probe. Latency is of the lightest level, throughput of the best; errors, "
        "stability and the ratio to the pinned baseline are of the worst level. A click on a probe opens its details.",
        {"target": "Target", "probe": "Probe", "model": "Model"},
        Column(f"min by ({by}) ({metric('up', FLEET)})", "State", "none", words=UP),
        Column(f"max by ({by}) ({p99})", "p99, lightest level", "s"),
        Column(f"max by ({by}) ({metric('throughput_inferences_per_second', FLEET)})", "Most inf/s", "short"),
        Column(
            f"max by ({by}) ({metric('error_ratio', FLEET)})", "Errors", "percentunit", ((None, GREEN), (0.01, RED))
        ),
        Column(f"min by ({by}) ({metric('stable', FLEET)})", "Stable", "none", words=YES),
        Column(f"max by ({by}) ({ratio})", "p50 / baseline", TIMES, ((None, GREEN), (1.15, ORANGE), (1.3, RED))),
        Column(f"time() - max by ({by}) ({last} > 0)", "Age", "s"),
        Column(f"max by ({by}) ({metric('interval_seconds', FLEET)})", "Interval", "s"),
        links={"Probe": ("Details of this probe", MODEL_BOARD)},
    )


def _over_time(it: Board) -> None:
    p99 = lightest(metric("latency_seconds", FLEET, percentile="99"))
    ratio = metric("baseline_ratio", FLEET, signal="latency_p50")
    by = "target, probe"
    state = states(
        "State",
        "Whether the last sweep of each probe got usable data. A skipped sweep changes nothing here.",
        Query(f"min by ({by}) ({metric('up', FLEET)})", SERIES),
        words=UP,
        width=12,
    )
    baseline = lines(
        "Against the pinned baseline",
        "The worst level's p50 over its pinned baseline of this hour of the day; 1 is no change, and p50 is what a "
        "person is woken for. Absent until a baseline is pinned, and where no verdict can be given.",
        TIMES,
        Query(f"max by ({by}) ({ratio})", SERIES),
        minimum=0.8,
        maximum=1.3,
    )
    latency = lines(
        "p99 at the lightest level",
        "The last finished sweep's p99, sent to last byte, at each probe's lightest level: what a user of an idle "
        "server would feel.",
        "s",
        Query(f"max by ({by}) ({p99})", SERIES),
    )
    throughput = lines(
        "Most inferences per second",
        "The last finished sweep's throughput at each probe's best level.",
        "suffix:inf/s",
        Query(f"max by ({by}) ({metric('throughput_inferences_per_second', FLEET)})", SERIES),
    )
    it.row("Over time", (8, [state, baseline]), (9, [latency, throughput]))


def _load(it: Board) -> None:
    outcomes = lines(
        "Requests by outcome",
        "Requests that the daemon sent, warm-up included, by how they ended. Anything but ok is an error, a time-out "
        "or a cancellation.",
        "reqps",
        Query(f"sum by (outcome) (rate({metric('requests_total', FLEET)}[$__rate_interval])) > 0", "{{outcome}}"),
        width=8,
        stacked=True,
        colors={"ok": "green", "cancelled": "text", "timeout": "orange", "overload": "yellow"},
    )
    utilization = lines(
        "GPU utilization",
        "Mean utilization of the servers' GPUs during the last finished sweeps, at the level that used them most.",
        "percentunit",
        Query(f"max by (target, gpu) ({metric('gpu_utilization_ratio', FLEET)})", "{{target}} · {{gpu}}"),
        width=8,
        maximum=1,
    )
    memory = lines(
        "GPU memory used",
        "Most memory used of the servers' GPUs during the last finished sweeps, as part of all.",
        "percentunit",
        Query(
            f"max by (target, gpu) ({metric('gpu_memory_used_bytes', FLEET)})"
            f" / max by (target, gpu) ({metric('gpu_memory_total_bytes', FLEET)} > 0)",
            "{{target}} · {{gpu}}",
        ),
        width=8,
        maximum=1,
    )
    it.row("Load and GPUs", (8, [outcomes, utilization, memory]))


def _gate(it: Board) -> None:
    """The gate that ended last on each daemon."""
    by = "instance, stable, candidate"
    sides = "{{candidate}} against {{stable}}"
    verdict = lines(
        "Verdict of the last gate",
        "The verdict that is 1. Undecided is no pass.",
        "none",
        Query(f"max by (verdict, {by}) ({metric('exporter_gate_verdict', JOB)} == 1)", "{{verdict}}: " + sides),
        width=5,
        maximum=1,
    )
    ratio = lines(
        "Candidate over stable",
        "The ratio of each figure in the last gate; above 1 a latency is slower.",
        TIMES,
        Query(f"max by (figure, {by}) ({metric('exporter_gate_ratio', JOB)})", "{{figure}}: " + sides),
        width=9,
    )
    cost = rows(
        "Last gate",
        "When it ended, and what it took.",
        {"stable": "Stable", "candidate": "Candidate"},
        Column(
            f"time() - max by (stable, candidate) ({metric('exporter_gate_end_timestamp_seconds', JOB)})", "Ago", "s"
        ),
        Column(f"max by (stable, candidate) ({metric('exporter_gate_pairs', JOB)})", "Pairs", "none"),
        Column(f"max by (stable, candidate) ({metric('exporter_gate_duration_seconds', JOB)})", "Took", "s"),
        Column(f"max by (stable, candidate) ({metric('exporter_gate_error_ratio', JOB)})", "Errors", "percentunit"),
        width=10,
    )
    it.row("Rollout gate", (8, [verdict, ratio, cost]))
