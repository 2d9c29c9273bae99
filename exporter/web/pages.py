"""The pages as HTML, from reports and templates. Templates escape all they are given.

Pure but for the files of the package, which are read once. It must not know HTTP.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import urlencode

import yaml
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from exporter.state.day_ring import Day
from exporter.web import charts
from exporter.web import humanize as words
from exporter.web.report import LevelReport, OverviewReport, ProbeDetail, ProbeReport, SweepReport, VerdictReport
from exporter.web.selection import MARKS, ROWS_PER_PAGE, SORTS, STATES, Selection, group_of

REFRESH_SECONDS = 10
_HERE = Path(__file__).parent
STYLE_SHEET = (_HERE / "static" / "style.css").read_bytes()
SCRIPT = (_HERE / "static" / "page.js").read_bytes()
_UNSENT_SHOWN = 0.001

_ICONS = {
    "failing": "✕",
    "regressed": "▲",
    "objective_missed": "◆",
    "unstable": "≈",
    "ok": "✓",
    "no_result": "…",
    "running": "▶",
    "paused": "‖",
}
_SORT_WORDS = {
    "severity": "worst first",
    "name": "name",
    "p99": "highest p99",
    "change": "change against the baseline",
    "errors": "errors",
    "last_run": "last run",
}
ACTIONS = (
    ("sweep-now", "Sweep now"),
    ("pause", "Pause"),
    ("resume", "Resume"),
    ("pin-preview", "Preview pin"),
    ("pin", "Pin"),
)


def overview_page(
    report: OverviewReport,
    chosen: Selection,
    probes: Sequence[ProbeReport],
    selected: int,
    sparks: Mapping[str, Markup],
) -> str:
    """The overview: `report` has the probes of this page, out of so many selected ones; `probes` are all, `sparks` the
    charts of this page by name."""
    return _TEMPLATES.get_template("overview.html").render(
        root="./",
        version=report.version,
        ready=report.ready,
        refresh=REFRESH_SECONDS,
        title=_title(report.counts),
        report=report,
        chosen=chosen,
        total=len(probes),
        selected=selected,
        targets=sorted({probe.target for probe in probes}),
        sparks=sparks,
    )


def probe_page(
    detail: ProbeDetail, day: Day, *, now_unix_s: float, version: str, ready: bool, notices: Sequence[str], root: str
) -> str:
    """One probe's page. `root` leads from it to the daemon's root."""
    levels = detail.probe.levels
    days = [(level.label, charts.day_chart(day, level.key, level.label, now_unix_s)) for level in levels]
    percentiles = {name for level in levels for name in level.percentiles} - {"50", "99"}
    return _TEMPLATES.get_template("probe.html").render(
        root=root,
        version=version,
        ready=ready,
        refresh=REFRESH_SECONDS,
        detail=detail,
        notices=notices,
        now=now_unix_s,
        curve=charts.load_curve(levels),
        days=[(label, chart) for label, chart in days if chart],
        lower_percentiles=sorted((name for name in percentiles if float(name) < 99), key=float),
        higher_percentiles=sorted((name for name in percentiles if float(name) > 99), key=float),
        configuration=yaml.safe_dump(
            dict(detail.configuration), sort_keys=False, allow_unicode=True, width=110, default_flow_style=None
        ),
        action=root + detail.probe.links.page,
    )


def runbook_page(name: str, html: str, *, version: str) -> str:
    """A runbook; `html` was made from a file of the package."""
    return _TEMPLATES.get_template("runbook.html").render(
        root="../",
        version=version,
        ready=True,
        refresh=0,
        name=name,
        text=Markup(html),  # noqa: S704 - the package's own
    )


def done_page(name: str, lines: Sequence[str], *, ok: bool, version: str, root: str, action: str) -> str:
    """What an action did, or why not."""
    return _TEMPLATES.get_template("done.html").render(
        root=root, version=version, ready=True, refresh=0, name=name, lines=lines, ok=ok, action=action
    )


def _title(counts: Mapping[str, int]) -> str:
    loud = [f"{counts[state]} {_words(state)}" for state in STATES[:3] if counts[state]]
    return f"({', '.join(loud)}) Triton Canary" if loud else "Triton Canary"


def _words(name: str) -> str:
    return "no result yet" if name == "no_result" else name.replace("_", " ")


def _why(probe: ProbeReport, now_unix_s: float) -> str:
    """What is wrong, in a sentence; empty for a probe that is well."""
    reason = "" if probe.reason == probe.state else _words(probe.reason)
    of_sweep = ": ".join(filter(None, (reason, probe.reason_text))) if probe.state != "ok" else ""
    regressed = [level for level in probe.levels if any(verdict.holding for verdict in level.verdicts)]
    reported = _regression(regressed[0], now_unix_s) if regressed else ""
    if others := [level.label for level in regressed[1:]]:
        reported += f"; also at {', '.join(others)}"
    missed = _missed(probe) if probe.state == "objective_missed" else ""
    return "; ".join(filter(None, (of_sweep, reported, missed)))


def _regression(level: LevelReport, now_unix_s: float) -> str:
    """Before and after of each signal that regressed, since when, and where the time went."""
    holding = [verdict for verdict in level.verdicts if verdict.holding]
    signals = [
        f"{_words(verdict.signal)} {_figure(verdict, verdict.baseline)} → {_figure(verdict, _now(level, verdict))} "
        f"({verdict.holding})"
        for verdict in holding
    ]
    began = min((verdict.began_unix_s for verdict in holding if verdict.began_unix_s), default=None)
    since = [f"began {words.relative(began, now_unix_s)}"] if began else []
    part = [f"most of all in {level.slowest_part}"] if level.slowest_part else []
    return f"{level.label}: {', '.join([*signals, *since, *part])}"


def _now(level: LevelReport, verdict: VerdictReport) -> float | None:
    """What was compared; where the last sweep was not, what it measured: a regression that holds stays."""
    if verdict.now is not None:
        return verdict.now
    return (
        level.throughput
        if verdict.signal == "throughput"
        else level.percentiles.get(verdict.signal.rpartition("_p")[2])
    )


def _missed(probe: ProbeReport) -> str:
    """By how much the objective is missed, at each of its levels."""
    slo = probe.slo
    if slo is None:
        return ""
    name = f"{slo.percentile:g}"
    slow = [
        f"{level.label}: p{name} {words.seconds(level.percentiles[name])}"
        for level in probe.levels
        if level.level in slo.levels and level.percentiles.get(name, 0.0) > slo.latency_seconds
    ]
    return f"{', '.join(slow)}, {words.seconds(slo.latency_seconds)} is the objective" if slow else ""


def _reason(sweep: SweepReport) -> str:
    reason = "" if sweep.reason == sweep.state else _words(sweep.reason)
    return ": ".join(filter(None, (reason, sweep.reason_text)))


def _marks(level: LevelReport) -> list[str]:
    marks = [
        text for text, holds in (("unstable", not level.stable), ("client-limited", level.client_limited)) if holds
    ]
    if level.unsent_ratio >= _UNSENT_SHOWN:
        marks.append(f"{words.ratio(level.unsent_ratio)} unsent")
    if level.bimodal is not None:
        marks.append("bimodal: {} or {}".format(*(words.seconds(value) for value in level.bimodal)))
    if level.server_note:
        marks.append(level.server_note)
    return marks


def _figure(verdict: VerdictReport, value: float | None) -> str:
    """In the signal's unit."""
    if verdict.signal == "throughput" and value is not None:
        return f"{words.per_second(value)}/s"
    return words.seconds(value)


def _verdict_lines(verdict: VerdictReport, now_unix_s: float) -> list[str]:
    """Each tier that holds or is judged, or why none is."""
    reported = []
    for name, tier in verdict.tiers.items():
        of = f"bad in {tier.bad} of the last {tier.of} sweeps, {tier.needed} make a regression" if tier.of else ""
        limit = f"bad above {_change(tier.limit_ratio)}" if tier.limit_ratio else ""
        reported.append(
            f"{name}: {'; '.join(filter(None, ('regressed' if tier.holds else 'no regression', of, limit)))}"
        )
    if verdict.began_unix_s:
        reported.append(f"began {words.relative(verdict.began_unix_s, now_unix_s)}")
    if verdict.withheld_text:
        reported.append(f"withheld: {verdict.withheld_text}")
    return reported or ["not judged by any tier"]


def _change(ratio: float) -> str:
    """A ratio to the baseline as a change: 1.25 is "+25 %"."""
    percent = 100 * (ratio - 1)
    text = f"{percent:+.0f} %" if abs(percent) >= 9.5 else f"{percent:+.1f} %"
    return text.replace("-", "−")


def _burn(rate: float | None) -> str:
    return "–" if rate is None else f"{rate:.2f}×" if rate < 10 else f"{rate:,.0f}×"


def _query(chosen: Selection, state: str, page: int = 1) -> str:
    """The overview with this state in the place of the chosen one."""
    asked = {"q": chosen.text, "state": state, "target": chosen.target}
    asked["sort"] = chosen.sort if chosen.sort != SORTS[0] else ""
    asked["page"] = str(page) if page > 1 else ""
    found = urlencode({name: value for name, value in asked.items() if value})
    return f"?{found}" if found else ""


_BEFORE_UNIT = re.compile(r"(?<=\d) (?=(?:%|(?:µs|ms|s|min|h|d)\b))")


def _keep_units(sentence: str) -> str:
    """A figure and its unit stay on one line, which a phone's width would break."""
    return _BEFORE_UNIT.sub("\u00a0", sentence)


def _make_environment() -> Environment:
    made = Environment(
        loader=FileSystemLoader(_HERE / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters.update(
        seconds=words.seconds,
        per_second=words.per_second,
        ratio=words.ratio,
        span=words.span,
        relative=words.relative,
        clock=words.clock,
        change=_change,
        burn=_burn,
        words=_words,
        keep_units=_keep_units,
        plain=lambda value: f"{value:g}",
        last_word=lambda text: text.rpartition(" ")[2],
        iso=lambda unix_s: datetime.fromtimestamp(unix_s, UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
    )
    made.globals.update(
        icons=_ICONS,
        states=(*STATES, *MARKS),
        tiles=(*STATES, *MARKS),
        sorts=SORTS,
        sort_words=_SORT_WORDS,
        group_of=group_of,
        parts=charts.parts,
        part_names=tuple(charts.PARTS),
        why_of=_why,
        reason_of=_reason,
        marks=_marks,
        figure=_figure,
        verdict_lines=_verdict_lines,
        query=_query,
        rows_per_page=ROWS_PER_PAGE,
        actions=ACTIONS,
        style_hash=hashlib.sha256(STYLE_SHEET).hexdigest()[:8],
        script_hash=hashlib.sha256(SCRIPT).hexdigest()[:8],
        Markup=Markup,
    )
    return made


_TEMPLATES = _make_environment()
