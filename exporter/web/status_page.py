"""The status page as HTML: no scripts, no inline styles, everything from outside escaped.

Pure: text in, text out. It must not know where the statuses come from.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape

from exporter.schedule.ledger import HOUR_NS
from exporter.web import humanize as words
from exporter.web.status import OBJECTIVE_MISSED, REGRESSED, LevelStatus, ProbeStatus, is_failing

REFRESH_SECONDS = 10
_PERCENTILES = ("50", "95", "99")
_LEVEL_COLUMNS = 4 + len(_PERCENTILES)
_UNSENT_SHOWN = 0.001
_SEPARATOR = " · "
_NO_FIGURES = '<span class="soft">no figures</span>'

_PARTS: Mapping[str, tuple[str, ...]] = {
    "client": ("client_send", "client_receive"),
    "network": ("network",),
    "overhead": ("server_overhead",),
    "queue": ("queue",),
    "compute": ("compute_input", "compute_infer", "compute_output", "composing"),
    "cache": ("cache_hit", "cache_miss"),
}
"""The parts of a bar, in the order of a request's way, and the components that each holds."""

_PART_WORDS = {"overhead": "server overhead"}


@dataclass(frozen=True, slots=True)
class PageFacts:
    """What the page says beside the probes."""

    version: str
    ready: bool
    now_unix_s: float
    archive_error: str = ""
    config_notices: Sequence[str] = ()
    data_error: str = ""


def status_page(statuses: Sequence[ProbeStatus], facts: PageFacts) -> str:
    """The whole page. Probes with a problem come first, else in their order."""
    ordered = sorted(statuses, key=_severity)
    rows = "".join(_probe_rows(status, facts.now_unix_s) for status in ordered)
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="refresh" content="{REFRESH_SECONDS}">
<title>{_title(statuses)}</title>
<link rel="stylesheet" href="style.css?v={escape(facts.version)}">
<link rel="icon" href="data:,">
</head>
<body>
<header><h1>Triton Canary</h1><span class="soft">version {escape(facts.version)}{"" if facts.ready else ", not ready"}\
</span><nav><a href="metrics">Metrics</a><a href="api/status">Status as JSON</a>\
<a href="config">Configuration</a></nav></header>
{_notices(facts)}<div class="tiles">{_tiles(statuses)}</div>
<div class="legend"><span>Breakdown of the mean latency:</span>{_legend()}</div>
{_table(rows) if rows else '<p class="soft">No probes are configured.</p>'}
<footer><span>Refreshes every {REFRESH_SECONDS} s. Latencies are of requests that succeeded.</span></footer>
</body>
</html>
"""


def _notices(facts: PageFacts) -> str:
    archive = [f"The archive is not written: {facts.archive_error}"] if facts.archive_error else []
    data = [f"State, pauses and baselines are not kept: {facts.data_error}"] if facts.data_error else []
    return "".join(f'<p class="notice">{escape(text)}</p>' for text in [*facts.config_notices, *data, *archive])


_ORDER = {REGRESSED: 1, OBJECTIVE_MISSED: 2, "unstable": 3}
"""After the failing ones."""


def _severity(status: ProbeStatus) -> int:
    if is_failing(status):
        return 0
    return _ORDER.get(status.state, len(_ORDER) + 1)


def _counts(statuses: Sequence[ProbeStatus]) -> dict[str, int]:
    failing = sum(map(is_failing, statuses))
    by_state = {state: sum(status.state == state for status in statuses) for state in ("ok", *_ORDER)}
    waiting = len(statuses) - failing - sum(by_state.values())
    shown = {state.replace("_", " "): n for state, n in by_state.items() if n or state in ("ok", "unstable")}
    return {**shown, "failing": failing, "no result yet": waiting}


def _title(statuses: Sequence[ProbeStatus]) -> str:
    failing = _counts(statuses)["failing"]
    return f"({failing} failing) Triton Canary" if failing else "Triton Canary"


def _tiles(statuses: Sequence[ProbeStatus]) -> str:
    counts = _counts(statuses) | {"running now": sum(status.running for status in statuses)}
    tiles = []
    for what, count in counts.items():
        look = "running" if what == "running now" else what.replace(" ", "-")
        tiles.append(f'<div class="tile {look if count else "zero"}"><b>{count}</b>{what}</div>')
    return "".join(tiles)


def _table(rows: str) -> str:
    percentiles = "".join(f'<th class="number">p{percentile}</th>' for percentile in _PERCENTILES)
    return (
        '<div class="scroll"><table><thead><tr><th>Probe</th><th>State</th><th>Load</th>'
        f'<th class="number">Inferences/s</th>{percentiles}<th class="number">Errors</th><th>Breakdown</th>'
        '<th>Last run</th><th>Next run</th><th>Skipped</th><th class="number">Load, last hour</th></tr></thead>'
        f"{rows}</table></div>"
    )


def _probe_rows(status: ProbeStatus, now_unix_s: float) -> str:
    """A probe's reason and its levels, one row each, with what belongs to the probe as a whole spanning them."""
    rows = [*_why_cells(status), *(_level_cells(level) for level in status.levels)]
    over = f' rowspan="{len(rows)}"' if len(rows) > 1 else ""
    where = _SEPARATOR.join(escape(text) for text in (status.target, _model_text(status)))
    first = (
        f'<th{over} scope="row">{escape(status.name)}<br><span class="soft">{where}</span></th>'
        f'<td{over} class="when">{_badges(status)}</td>'
    )
    last = (
        f'<td{over} class="when">{_ago(status.age_seconds)}</td>'
        f'<td{over} class="when">{_next_text(status, now_unix_s)}</td>'
        f'<td{over} class="when">{_skips(status)}</td>'
        f'<td{over} class="number">{_load(status)}</td>'
    )
    stale = " stale" if is_failing(status) and status.levels else ""
    more = "".join(f"<tr>{cells}</tr>" for cells in rows[1:])
    return f'<tbody class="{_look(status)}{stale}"><tr>{first}{rows[0]}{last}</tr>{more}</tbody>\n'


def _model_text(status: ProbeStatus) -> str:
    return f"{status.model} v{status.version}" if status.version else status.model


def _look(status: ProbeStatus) -> str:
    return "failing" if is_failing(status) else status.state.replace("_", "-")


def _badges(status: ProbeStatus) -> str:
    parts = [f'<span class="badge {_look(status)}">{escape(status.state.replace("_", " "))}</span>']
    if status.running and status.state != "running":
        parts.append('<span class="badge running">running</span>')
    if status.pause:
        parts.append(f'<span class="badge" title="{escape(status.pause)}">paused</span>')
    return " ".join(parts)


def _why_cells(status: ProbeStatus) -> list[str]:
    """The reason across the columns of a level; none where there are levels and nothing to say of them."""
    reason = status.reason.replace("_", " ")
    why = ": ".join(escape(text) for text in ("" if reason == status.state else reason, status.reason_text) if text)
    if is_failing(status) and status.results_age_seconds is not None:
        why += f' <span class="soft">(figures from {words.span(status.results_age_seconds)} ago)</span>'
    if not why and status.levels:
        return []
    return [f'<td class="why" colspan="{_LEVEL_COLUMNS}">{why or _NO_FIGURES}</td>']


def _level_cells(level: LevelStatus) -> str:
    marks = [
        text for text, holds in (("unstable", not level.stable), ("client-limited", level.client_limited)) if holds
    ]
    if level.unsent_ratio >= _UNSENT_SHOWN:
        marks.append(f"{words.ratio(level.unsent_ratio)} unsent")
    if level.bimodal is not None:
        marks.append("bimodal: {} or {}".format(*(words.seconds(value) for value in level.bimodal)))
    load = f"{level.mode.replace('_', ' ')} {level.level}"
    mark = "".join(f' <span class="mark">{text}</span>' for text in marks)
    if level.regression:
        mark += f'<br><span class="mark">{escape(level.regression)}</span>'
    if level.no_verdict:
        mark += f'<br><span class="soft">no verdict: {escape(level.no_verdict)}</span>'
    percentiles = "".join(
        f'<td class="number">{words.seconds(level.percentiles.get(percentile))}</td>' for percentile in _PERCENTILES
    )
    bad = " bad" if level.error_ratio else ""
    return (
        f'<td class="level">{escape(load)}{mark}</td><td class="number">{words.per_second(level.throughput)}</td>'
        f'{percentiles}<td class="number{bad}">{words.ratio(level.error_ratio)}</td><td>{_bar(level.breakdown)}</td>'
    )


def _bar(breakdown: Mapping[str, float]) -> str:
    """A stacked bar, its figures in its title."""
    parts = {part: sum(breakdown.get(name, 0.0) for name in names) for part, names in _PARTS.items()}
    total = sum(parts.values())
    if total <= 0:
        return ""
    rects, at = [], 0.0
    for part, value in parts.items():
        if value > 0:
            width = 100 * value / total
            rects.append(f'<rect class="{part}" x="{at:.2f}" width="{width:.2f}" height="1"/>')
            at += width
    text = ", ".join(f"{_PART_WORDS.get(part, part)} {words.seconds(v)}" for part, v in parts.items() if v > 0)
    return (
        f'<svg class="bar" viewBox="0 0 100 1" preserveAspectRatio="none" role="img" aria-label="{text}">'
        f"<title>{text}</title>{''.join(rects)}</svg>"
    )


def _legend() -> str:
    return "".join(
        f'<span><svg viewBox="0 0 1 1" aria-hidden="true"><rect class="{part}" width="1" height="1"/></svg>'
        f"{_PART_WORDS.get(part, part)}</span>"
        for part in _PARTS
    )


def _ago(age_seconds: float | None) -> str:
    return words.span(age_seconds) + ("" if age_seconds is None else " ago")


def _next_text(status: ProbeStatus, now_unix_s: float) -> str:
    return "paused" if status.pause else words.until(status.next_run_unix_s, now_unix_s)


def _skips(status: ProbeStatus) -> str:
    total = sum(status.skipped.values())
    if not total or status.last_skip is None:
        return '<span class="soft">none</span>'
    each = ", ".join(f"{reason.value} {count}" for reason, count in status.skipped.items() if count)
    return f'<span title="{escape(each)}">{total}, last: {escape(status.last_skip.value)}</span>'


def _load(status: ProbeStatus) -> str:
    """Requests, and the part of the time that its sweeps took."""
    if not status.load.requests and not status.load.duration_ns:
        return '<span class="soft">none</span>'
    return f"{status.load.requests:,} requests<br>{words.ratio(status.load.duration_ns / HOUR_NS)} of the time"
