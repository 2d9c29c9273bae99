"""Model detail: one probe's load curve, where its time goes, and whether its figures can be trusted."""

from __future__ import annotations

from typing import Final

from dashboards.generate.board import Board, change_annotations, level_annotations
from dashboards.generate.panels import (
    COMPONENT_COLORS,
    GREEN,
    ORANGE,
    PERCENTILE_COLORS,
    RED,
    TIMES,
    YELLOW,
    Column,
    Panel,
    bars,
    curve,
    lines,
    number,
    rows,
    states,
)
from dashboards.generate.queries import LEVEL, PROBE, Query, metric

SHOWN: Final = f'{LEVEL}, percentile=~"50|90|99|99.9"'
KNOWN: Final = "triton_canary_interval_seconds"
LEVEL_TITLE = "Load level"
LEVEL_VALUE: Final = Query(f"max by (level) ({metric('level_value', PROBE)})")
GPU = "{{gpu}}"


def board() -> Board:
    it = Board(
        "triton-canary-model", "Triton Canary / Model detail", "One probe: how fast, where the time goes, and why."
    )
    fleet = 'job=~"$job", instance=~"$instance"'
    it.many("target", "Target", f"label_values({KNOWN}{{{fleet}}}, target)")
    it.many("model", "Model", f'label_values({KNOWN}{{{fleet}, target=~"$target"}}, model)')
    it.one("probe", "Probe", f'label_values({KNOWN}{{{fleet}, target=~"$target", model=~"$model"}}, probe)')
    it.one("level", "Level", f"label_values(triton_canary_level_value{{{PROBE}}}, level)", numeric=True)
    it.annotations = [*change_annotations(PROBE), *level_annotations(LEVEL)]
    _now(it)
    _load_curve(it)
    _latency(it)
    _objective(it)
    _server(it)
    _special(it)
    _trust(it)
    _regression(it)
    _gpu(it)
    return it


def _now(it: Board) -> None:
    p99 = metric("latency_seconds", LEVEL, percentile="99")
    up = {"1": ("OK", GREEN), "0": ("failing", RED)}
    met = {"1": ("met", GREEN), "0": ("missed", RED)}
    figures = [
        number(
            "State",
            "Whether the last sweep got usable data.",
            "none",
            Query(f"min({metric('up', PROBE)})"),
            width=4,
            words=up,
        ),
        number(
            "p99 at level $level",
            "The last finished sweep's p99, sent to last byte, at the chosen level.",
            "s",
            Query(f"max({p99})"),
            width=4,
        ),
        number(
            "Most inferences",
            "Throughput of the best level of the last finished sweep.",
            "suffix:inf/s",
            Query(f"max({metric('throughput_inferences_per_second', PROBE)})"),
            width=4,
            decimals=1,
        ),
        number(
            "Highest level within limit",
            "The highest level of those run that kept the latency threshold, or the objective's. 0: none did.",
            "none",
            Query(f"max({metric('max_level_within_threshold', PROBE)})"),
            width=4,
            limits=((None, RED), (0.001, GREEN)),
        ),
        number(
            "Objective",
            "Whether the objective's levels kept it in the last sweep.",
            "none",
            Query(f"min({metric('slo_met', PROBE)})"),
            width=4,
            words=met,
        ),
        number(
            "Age of the figures",
            "Time since the last sweep with usable data.",
            "s",
            Query(f"time() - max({metric('last_success_timestamp_seconds', PROBE)} > 0)"),
            width=4,
            decimals=0,
        ),
    ]
    it.row("Now", (4, figures), (4, [_what_is_served()]))


def _what_is_served() -> Panel:
    return rows(
        "What is served",
        "The server's description of the model, and how it is probed.",
        {
            "target": "Target",
            "model": "Model",
            "version": "Version",
            "backend": "Backend",
            "platform": "Platform",
            "batch_size": "Batch size",
            "protocol": "Protocol",
            "url": "Address",
        },
        Column(
            "max by (target, model, version, backend, platform, batch_size, protocol, url)"
            f" ({metric('probe_info', PROBE)})",
            "",
        ),
    )


def _load_curve(it: Board) -> None:
    percentiles = [
        Query(f"max by (level) ({metric('latency_seconds', PROBE, percentile=value)})", f"p{value}")
        for value in ("50", "90", "99")
    ]
    throughput = f"max by (level) ({metric('throughput_inferences_per_second', PROBE)})"
    latency = curve(
        "Latency against load",
        "Percentiles of the last finished sweep over its levels: concurrency, or requests asked per second.",
        "s",
        LEVEL_VALUE,
        LEVEL_TITLE,
        *percentiles,
        colors=PERCENTILE_COLORS,
    )
    served = curve(
        "Throughput against load",
        "Inferences per second of the last finished sweep over its levels. Where it stops rising, more load only "
        "makes a longer queue.",
        "suffix:inf/s",
        LEVEL_VALUE,
        LEVEL_TITLE,
        Query(throughput, "Throughput"),
        colors={"Throughput": "blue"},
    )
    knee = curve(
        "Latency against throughput",
        "What each further inference per second costs in latency: the knee of this line is what the model can bear.",
        "s",
        Query(throughput),
        "Throughput",
        *percentiles,
        x_unit="suffix:inf/s",
        colors=PERCENTILE_COLORS,
    )
    it.row("Load curve of the last finished sweep", (9, [latency, served, knee]))


def _latency(it: Board) -> None:
    component = f"max by (component) ({metric('latency_breakdown_seconds', LEVEL)})"
    parts = f"max by (level, component) ({metric('latency_breakdown_seconds', PROBE)})"
    percentiles = lines(
        "Percentiles at level $level",
        "Sent to last byte of the requests that went well, at the chosen level. Exact, not from buckets.",
        "s",
        Query(
            f"max by (percentile) ({metric('latency_seconds', SHOWN)})",
            "p{{percentile}}",
        ),
        colors=PERCENTILE_COLORS,
    )
    breakdown = lines(
        "Where the time goes at level $level",
        "The mean latency by component; they add up to it. Blue is ours and the network's, orange waiting in the "
        "server's queue, green the model's work.",
        "s",
        Query(component, "{{component}}"),
        stacked=True,
        colors=COMPONENT_COLORS,
    )
    by_level = bars(
        "Where the time goes, by level",
        "The mean latency of the last finished sweep by component, for each level.",
        "s",
        Query(parts),
        along="level",
        by="component",
        stacked=True,
        colors=COMPONENT_COLORS,
    )
    throughput = lines(
        "Throughput by level",
        "Inferences per second of each level.",
        "suffix:inf/s",
        Query(f"max by (level) ({metric('throughput_inferences_per_second', PROBE)})", "level {{level}}"),
    )
    it.row("Latency and throughput", (9, [percentiles, breakdown]), (9, [by_level, throughput]))


def _objective(it: Board) -> None:
    budget = f"(1 - max by (slo) ({metric('slo_objective_ratio', PROBE)}))"

    def bad(hours: str) -> str:
        names = ("slo_bad_requests_total", "slo_requests_total")
        of, all_of = (f"sum by (slo) (increase({metric(name, PROBE)}[{hours}]))" for name in names)
        return f"{of} / on (slo) ({all_of} > 0)"

    objective = number(
        "Requests that are to be good",
        "The objective: the part of requests that are to be ok within the threshold. The rest is the error budget.",
        "percentunit",
        Query(f"max({metric('slo_objective_ratio', PROBE)})"),
        width=4,
    )
    left = number(
        "Error budget left",
        "Of the last 30 days, or of as many as Prometheus keeps. Below 0 the objective was missed.",
        "percentunit",
        Query(f"min(1 - {bad('30d')} / on (slo) {budget})"),
        width=4,
        limits=((None, RED), (0.0, ORANGE), (0.25, GREEN)),
    )
    burn = lines(
        "Pace at which the error budget is spent",
        "The part of bad requests over the part that may be bad: 1 spends the budget in 30 days, 6 in 5 days (a "
        "ticket), 14.4 in 2 days (a page).",
        TIMES,
        Query(f"{bad('1h')} / on (slo) {budget}", "last hour"),
        Query(f"{bad('6h')} / on (slo) {budget}", "last 6 hours"),
        Query(f"{bad('1d')} / on (slo) {budget}", "last day"),
        width=8,
        maximum=1,
        colors={"last hour": "orange", "last 6 hours": "yellow", "last day": "green"},
    )
    part = lines(
        "Bad requests and what may be bad",
        "Requests at the objective's levels that were not ok within its threshold, or not sent, in the last hour; "
        "dashed the part that may be.",
        "percentunit",
        Query(bad("1h"), "bad"),
        Query(budget, "may be bad"),
        width=8,
        colors={"bad": "red", "may be bad": "text"},
        dashed=("may be bad",),
    )
    it.row("Objective", (6, [objective, left, burn, part]))


def _server(it: Board) -> None:
    views = lines(
        "Client against server at level $level",
        "Mean latency as the client saw it, and by the server's own statistics: the gap is network and client. "
        "The server's counts all its clients.",
        "s",
        Query(f"max({metric('latency_mean_seconds', LEVEL)})", "client"),
        Query(f"max({metric('server_request_mean_seconds', LEVEL)})", "server"),
        width=6,
        colors={"client": "blue", "server": "green"},
    )
    batches = lines(
        "Mean batch size",
        "Inferences over executions in the server, by level: above 1 the dynamic batcher puts requests together.",
        "short",
        Query(f"max by (level) ({metric('server_batch_size_mean', PROBE)})", "level {{level}}"),
        width=6,
    )
    pending = lines(
        "Requests waiting in the server",
        "Most requests of the model that waited at once during the last finished sweep, by level.",
        "short",
        Query(f"max by (level) ({metric('server_pending_requests_max', PROBE)})", "level {{level}}"),
        width=6,
    )
    opening = lines(
        "Connecting and the first request",
        "Time to connect, of the TLS handshake, and of the very first request of a sweep. No latency includes them.",
        "s",
        Query(f"max({metric('connect_seconds', PROBE)})", "connect"),
        Query(f"max({metric('tls_handshake_seconds', PROBE)})", "TLS handshake"),
        Query(f"max({metric('cold_first_request_seconds', PROBE)})", "first request"),
        width=6,
    )
    it.row("The server's side", (8, [views, batches, pending, opening]))


def _special(it: Board) -> None:
    response = lines(
        "Response time at level $level (request rates)",
        "From the intended send time to the last byte, time-outs at their limit: what a user feels who doesn't wait "
        "for others. Only for request rates and timing files.",
        "s",
        Query(f"max by (percentile) ({metric('response_time_seconds', SHOWN)})", "p{{percentile}}"),
        width=6,
        colors=PERCENTILE_COLORS,
    )
    unsent = lines(
        "Due and not sent (request rates)",
        "The part of the due requests that could not be sent, of the worst level: the asked rate was not reached.",
        "percentunit",
        Query(f"max by (level) ({metric('unsent_ratio', PROBE)})", "level {{level}}"),
        width=6,
        maximum=0.05,
    )
    streams = lines(
        "Streams: first response and gaps at level $level",
        "p99 of the time to the first response, and between two. Only for models that stream.",
        "s",
        Query(f"max({metric('first_response_seconds', LEVEL, percentile='99')})", "first response"),
        Query(f"max({metric('inter_response_seconds', LEVEL, percentile='99')})", "between two"),
        width=6,
    )
    parts = lines(
        "Parts of an ensemble at level $level",
        "Mean time of a request to each model that this one calls.",
        "s",
        Query(f"max by (composing_model) ({metric('composing_request_mean_seconds', LEVEL)})", "{{composing_model}}"),
        width=6,
    )
    it.row("Request rates, streams, ensembles", (8, [response, unsent, streams, parts]), (8, _real_time()))


def _real_time() -> list[Panel]:
    final = lines(
        "Final latency at level $level (streams)",
        "From the deadline of a sequence's last step to its last response: what a speaker waits for. Only for streams "
        "at the pace of real time.",
        "s",
        Query(
            f"max by (percentile) ({metric('stream_final_latency_seconds', SHOWN)})",
            "p{{percentile}}",
        ),
        width=8,
        colors=PERCENTILE_COLORS,
    )
    late = lines(
        "Behind real time (streams)",
        "By level: the part of the steps that had no response before the next one was due, and of the streams that had "
        "such a step.",
        "percentunit",
        Query(f"max by (level) ({metric('stream_late_steps_ratio', PROBE)})", "steps, level {{level}}"),
        Query(f"1 - max by (level) ({metric('stream_on_time_ratio', PROBE)})", "streams, level {{level}}"),
        width=8,
        maximum=0.05,
    )
    factor = lines(
        "Real-time factor (streams)",
        "What the server takes for a second of stream, by level: above 1 it falls behind however it is paced.",
        TIMES,
        Query(f"max by (level) ({metric('stream_real_time_factor', PROBE)})", "level {{level}}"),
        width=8,
    )
    return [final, late, factor]


def _trust(it: Board) -> None:
    stable = states(
        "Stable",
        "Whether the last windows of each level agreed with each other. Unstable figures are marked here.",
        Query(f"min by (level) ({metric('stable', PROBE)})", "level {{level}}"),
        words={"1": ("stable", GREEN), "0": ("unstable", YELLOW)},
        width=8,
    )
    spread = lines(
        "Spread of the windows",
        "Greatest over least of the judged windows, by level: 1 is all the same.",
        TIMES,
        Query(f"max by (level) ({metric('spread_ratio', PROBE)})", "level {{level}}"),
        width=8,
        minimum=1,
    )
    foreign = lines(
        "Foreign traffic and errors",
        "The part of the server's requests for this model that others sent during a level, which blurs the server's "
        "figures, and the part of ours that failed; each of the worst level.",
        "percentunit",
        Query(f"max({metric('server_foreign_requests_ratio', PROBE)})", "foreign traffic"),
        Query(f"max({metric('error_ratio', PROBE)})", "errors"),
        width=8,
        colors={"foreign traffic": "purple", "errors": "red"},
        maximum=0.05,
    )
    limited = states(
        "Bounded by the client",
        "Levels at which this client, not the server, bounded the figures: too little cpu where the daemon runs.",
        Query(f"max by (level) ({metric('client_limited', PROBE)})", "level {{level}}"),
        words={"0": ("no", GREEN), "1": ("client-limited", ORANGE)},
        width=8,
    )
    cpu = lines(
        "Cpu of the load client",
        "Cpu time over window time of the load client, by level; at 1 a whole core is used up.",
        "percentunit",
        Query(f"max by (level) ({metric('client_cpu_ratio', PROBE)})", "level {{level}}"),
        width=8,
    )
    outcomes = lines(
        "Requests by outcome",
        "Requests of this probe, warm-up included, by how they ended.",
        "reqps",
        Query(f"sum by (outcome) (rate({metric('requests_total', PROBE)}[$__rate_interval])) > 0", "{{outcome}}"),
        width=8,
        stacked=True,
        colors={"ok": "green", "cancelled": "text", "timeout": "orange", "overload": "yellow"},
    )
    it.row("Can the figures be trusted?", (7, [stable, spread, foreign]), (7, [limited, cpu, outcomes]))


def _regression(it: Board) -> None:
    p99, baseline = (
        metric("latency_seconds", LEVEL, percentile="99"),
        metric("baseline_latency_seconds", LEVEL, percentile="99"),
    )
    p50, base50 = (
        metric("latency_seconds", LEVEL, percentile="50"),
        metric("baseline_latency_seconds", LEVEL, percentile="50"),
    )
    against = lines(
        "Against the pinned baseline at level $level",
        "Percentiles now, and dashed their pinned baseline of this hour of the day.",
        "s",
        Query(f"max({p50})", "p50"),
        Query(f"max({base50})", "p50 baseline"),
        Query(f"max({p99})", "p99"),
        Query(f"max({baseline})", "p99 baseline"),
        colors={"p50": "green", "p50 baseline": "dark-green", "p99": "orange", "p99 baseline": "dark-orange"},
        dashed=("p50 baseline", "p99 baseline"),
    )
    verdict = states(
        "Verdict of the daemon",
        "Whether a regression holds, by tier and signal, of the worst level. Absent where no verdict can be given.",
        Query(f"max by (tier, signal) ({metric('regression', PROBE)})", "{{tier}} · {{signal}}"),
        words={"0": ("as ever", GREEN), "1": ("regressed", RED)},
        width=6,
    )
    carries = lines(
        "What carries the regression",
        "How much of the change in the mean latency each component carries, while a regression holds; worst level.",
        "s",
        Query(f"max by (component) ({metric('regression_component_seconds', PROBE)})", "{{component}}"),
        width=6,
        colors=COMPONENT_COLORS,
        minimum=None,
    )
    it.row("Baseline and verdict", (8, [against, verdict, carries]))


def _gpu(it: Board) -> None:
    clock = f"max by (gpu, reason) ({metric('gpu_throttled_ratio', PROBE)})"
    utilization = lines(
        "GPU utilization",
        "Mean over the last finished sweep, at its busiest level.",
        "percentunit",
        Query(f"max by (gpu) ({metric('gpu_utilization_ratio', PROBE)})", GPU),
        width=6,
        maximum=1,
    )
    memory = lines(
        "GPU memory used",
        "Most memory used during the last finished sweep.",
        "bytes",
        Query(f"max by (gpu) ({metric('gpu_memory_used_bytes', PROBE)})", GPU),
        width=6,
    )
    power = lines(
        "GPU power",
        "Mean over the last finished sweep, at its busiest level.",
        "watt",
        Query(f"max by (gpu) ({metric('gpu_power_watts', PROBE)})", GPU),
        width=6,
    )
    energy = lines(
        "Energy per inference",
        "Energy of the server's GPUs by the model's inferences, idle power and other models included, by level.",
        "joule",
        Query(f"max by (level) ({metric('energy_per_inference_joules', PROBE)})", "level {{level}}"),
        width=6,
    )
    temperature = lines(
        "GPU temperature",
        "Highest during the last finished sweep.",
        "celsius",
        Query(f"max by (gpu) ({metric('gpu_temperature_celsius', PROBE)})", GPU),
        width=12,
        minimum=None,
    )
    throttled = lines(
        "GPU clock held down",
        "Part of the readings during the last finished sweep in which a reason held the clock down. No line: none did.",
        "percentunit",
        Query(clock, "{{gpu}} · {{reason}}"),
        maximum=1,
    )
    it.row("GPU", (7, [utilization, memory, power, energy]), (7, [temperature, throttled]))
