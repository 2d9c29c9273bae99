"""Exporter health: is the daemon itself well, does it keep its schedule, what does it cost."""

from __future__ import annotations

from dashboards.generate.board import Board, change_annotations
from dashboards.generate.panels import GREEN, ORANGE, RED, Column, lines, number, rows
from dashboards.generate.queries import JOB, Query, metric

INSTANCE = "{{instance}}"


def board() -> Board:
    it = Board(
        "triton-canary-exporter", "Triton Canary / Exporter health", "The daemon itself: schedule, cost, errors."
    )
    it.annotations = change_annotations(JOB)
    _now(it)
    _schedule(it)
    _page(it)
    _process(it)
    return it


def _of_ours(expr: str) -> str:
    """Of our exporters alone: "All" jobs are all that Prometheus has."""
    return f"{expr} and on (job, instance) {_own('build_info')}"


def _own(name: str) -> str:
    return metric(f"exporter_{name}", JOB)


def _now(it: Board) -> None:
    up = f"up{{{JOB}}} and on (job, instance) count by (job, instance) (last_over_time({_own('build_info')}[1d]))"
    yes = {"1": ("ok", GREEN), "0": ("failed", RED)}
    scraped = {"1": ("up", GREEN), "0": ("down", RED)}
    now = rows(
        "Exporters",
        "Every daemon that Prometheus knew in the last day: whether it responds, how long it runs, what it serves.",
        {"job": "Job", "instance": "Instance"},
        Column(f"min by (job, instance) ({up})", "Scraped", "none", words=scraped),
        Column(
            f"time() - max by (job, instance) ({_of_ours(f'process_start_time_seconds{{{JOB}}}')})", "Running for", "s"
        ),
        Column(f"max by (job, instance) ({_own('probes')})", "Probes", "none"),
        Column(f"min by (job, instance) ({_own('config_last_reload_successful')})", "Last reload", "none", words=yes),
        Column(
            f"time() - max by (job, instance) ({_own('config_last_reload_success_timestamp_seconds')})",
            "Configuration age",
            "s",
        ),
        Column(
            f"time() - max by (job, instance) ({_own('scheduler_last_tick_timestamp_seconds')})",
            "Scheduler's last tick",
            "s",
            ((None, GREEN), (60, RED)),
        ),
        width=16,
    )
    versions = rows(
        "Versions",
        "The version and the hash of the configuration of each daemon: they should agree across shards.",
        {"instance": "Instance", "version": "Version", "hash": "Configuration"},
        Column(
            f"max by (instance, version, hash) ({_own('build_info')} * on (job, instance) group_left (hash)"
            f" max by (job, instance, hash) ({_own('config_info')}))",
            "",
        ),
        width=8,
    )
    it.row("Now", (6, [now, versions]))


def _schedule(it: Board) -> None:
    duration, interval = metric("sweep_duration_seconds", JOB), metric("interval_seconds", JOB)
    share = lines(
        "Sweep time as part of the interval",
        "The time of the last sweep over its probe's interval, by target: near 1 a server is under test all the time, "
        "above it sweeps are skipped. Sweeps on one server wait for each other, so their parts are added up.",
        "percentunit",
        Query(f"sum by (instance, target) ({duration} / ({interval} > 0))", "{{target}}"),
        width=8,
    )
    sweeps = lines(
        "Sweeps in the last hour",
        "Finished sweeps of the hour before each moment, by status; unstable ones have figures, failed ones have none.",
        "short",
        Query(f"sum by (status) (increase({metric('sweeps_total', JOB)}[1h]))", "{{status}}"),
        width=8,
        stacked=True,
        colors={"ok": "green", "unstable": "yellow", "aborted": "orange", "failed": "red"},
    )
    skipped = lines(
        "Skipped in the last hour",
        "Sweeps of the hour before each moment that were due and did not run, by reason.",
        "short",
        Query(f"sum by (reason) (increase({metric('sweeps_skipped_total', JOB)}[1h]))", "{{reason}}"),
        width=8,
        maximum=1,
    )
    loop = lines(
        "Delay of the load client's loop",
        "Largest delay of the load client's event loop in the last finished sweeps, by target: over a millisecond or "
        "so the daemon lacks cpu, and its figures are marked.",
        "s",
        Query(f"max by (target) ({metric('client_loop_lag_seconds', JOB)})", "{{target}}"),
        width=8,
    )
    workers = lines(
        "Worker processes",
        "Load workers alive, and workers replaced in the hour before each moment.",
        "short",
        Query(f"sum by (instance) ({_own('workers')})", "alive on {{instance}}"),
        Query(
            # Absent before the first replacement: 0 while the daemon is there.
            f"sum by (instance) (increase({_own('worker_restarts_total')}[1h]))"
            f" or 0 * sum by (instance) ({_own('workers')})",
            "replaced on {{instance}}",
        ),
        width=8,
    )
    sources = lines(
        "Servers' metrics pages",
        "1 while the target's own metrics page could be read in the last sweep.",
        "none",
        Query(f"min by (target) ({metric('server_metrics_up', JOB)})", "{{target}}"),
        width=8,
        maximum=1,
    )
    it.row("Sweeps", (8, [share, sweeps, skipped]), (8, [loop, workers, sources]))


def _page(it: Board) -> None:
    series = lines(
        "Series on the page",
        "Series of probes and targets, and those left out to keep limits.max_series.",
        "short",
        Query(f"sum by (instance) ({_own('series')})", INSTANCE),
        Query(f"sum by (instance) ({_own('series_dropped')})", "dropped on {{instance}}"),
        width=6,
    )
    scrape = lines(
        "Time of a scrape",
        "As Prometheus measured it.",
        "s",
        Query(f"max by (instance) ({_of_ours(f'scrape_duration_seconds{{{JOB}}}')})", INSTANCE),
        width=6,
    )
    archive = lines(
        "Archive",
        "Rows written to the CSV archive, and writes that failed, per second.",
        "suffix:/s",
        Query(f"sum by (instance) (rate({_own('archive_rows_total')}[$__rate_interval]))", "rows on {{instance}}"),
        Query(
            f"sum by (instance) (rate({_own('archive_write_errors_total')}[$__rate_interval]))",
            "errors on {{instance}}",
        ),
        width=6,
    )
    size = lines(
        "Size of the archive",
        "Bytes that the archive holds.",
        "bytes",
        Query(f"max by (instance) ({_own('archive_bytes')})", INSTANCE),
        width=6,
    )
    it.row("Page and archive", (7, [series, scrape, archive, size]))


def _process(it: Board) -> None:
    expiry = metric("certificate_expiry_timestamp_seconds", JOB)
    cpu = lines(
        "Cpu",
        "Cores used by the daemon's own process; the load workers' are with each level.",
        "short",
        Query(
            f"sum by (instance) ({_of_ours(f'rate(process_cpu_seconds_total{{{JOB}}}[$__rate_interval])')})", INSTANCE
        ),
        width=6,
    )
    memory = lines(
        "Memory",
        "Resident memory of the daemon's own process.",
        "bytes",
        Query(f"max by (instance) ({_of_ours(f'process_resident_memory_bytes{{{JOB}}}')})", INSTANCE),
        width=6,
    )
    faults = lines(
        "Errors in the last hour",
        "What failed while the page or the state file was made, and jumps of the wall clock, in the hour before each "
        "moment.",
        "short",
        Query(f"sum by (collector) (increase({_own('collector_errors_total')}[1h]))", "{{collector}}"),
        Query(f"sum(increase({_own('clock_jumps_total')}[1h]))", "clock jumps"),
        width=6,
        maximum=1,
    )
    certificates = number(
        "Next certificate to expire",
        "Time until the first of the targets' leaf certificates expires. Empty where no target uses TLS.",
        "s",
        Query(f"min({expiry}) - time()"),
        width=6,
        limits=((None, RED), (7 * 86400, ORANGE), (21 * 86400, GREEN)),
    )
    it.row("Process", (7, [cpu, memory, faults, certificates]))
