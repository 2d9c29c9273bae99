"""The status page as HTML: what a reader finds on it, and that nothing from outside becomes markup."""

from __future__ import annotations

import re
from dataclasses import replace
from html.parser import HTMLParser

import pytest

from exporter.core.limits import Load
from exporter.core.outcome import Reason, SkipReason, SweepStatus
from exporter.core.units import NS
from exporter.state.probe_state import ProbeView
from exporter.web.status import ProbeStatus, probe_status
from exporter.web.status_page import PageFacts, status_page
from tests.builders import concurrency, make_facts, make_probe, make_target
from tests.metrics.results import make_measurement, make_result

NOW = 1_700_000_042.0
FACTS = PageFacts("0.1.0", ready=True, now_unix_s=NOW)
EVIL = "<script>alert('1')</script>\"&"
VOID = {"meta", "link", "br"}


class Reader(HTMLParser):
    """Checks that tags nest, and collects what the page says."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.texts: list[str] = []
        self.attributes: set[str] = set()
        self.rows: list[list[str]] = []
        self.feed(html)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes.update(name for name, _ in attrs)
        if tag not in VOID:
            self.open.append(tag)
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.append(data)
        if {"td", "th"} & set(self.open) and "title" not in self.open:
            self.rows[-1][-1] += data


def reported(status: SweepStatus | None = None, name: str = "addsub", **changes: object) -> ProbeStatus:
    probe = make_probe(name=name, levels=(concurrency(1), concurrency(4)))
    view = ProbeView(probe)
    if status is not None:
        result = make_result(probe, status, facts=make_facts(version="3"))
        usable = result if result.usable else None
        view = ProbeView(probe, result=result, measured=usable, facts=result.facts, last_run_unix_s=1_700_000_012.0)
    return replace(probe_status(view, NOW, NOW + 18), **changes)  # type: ignore[arg-type]


def test_the_rows_of_a_probe() -> None:
    skipped = dict.fromkeys(SkipReason, 0) | {SkipReason.BUDGET: 2}
    load = Load(12_345, 151_200_000_000)
    page = Reader(
        status_page([reported(SweepStatus.OK, skipped=skipped, last_skip=SkipReason.BUDGET, load=load)], FACTS)
    )
    headings, first, second = page.rows
    assert headings == [
        "Probe",
        "State",
        "Load",
        "Inferences/s",
        "p50",
        "p95",
        "p99",
        "Errors",
        "Breakdown",
        "Last run",
        "Next run",
        "Skipped",
        "Load, last hour",
    ]
    figures = ["333", "4.00 ms", "12.0 ms", "16.0 ms", "0.1 %", ""]
    assert first == [
        "addsubtriton-http · addsub v3",
        "ok",
        "concurrency 1",
        *figures,
        "30 s ago",
        "in 18 s",
        "2, last: budget",
        "12,345 requests4.2 % of the time",
    ]
    assert second == ["concurrency 4", *figures]


def test_a_probe_without_figures() -> None:
    page = Reader(status_page([reported()], FACTS))
    assert page.rows[1] == ["addsubtriton-http · addsub", "never", "no figures", "never", "in 18 s", "none", "none"]


def test_a_failing_probe_says_why_and_how_old_its_figures_are() -> None:
    failing = reported(SweepStatus.FAILED)
    assert Reader(status_page([failing], FACTS)).rows[1][2] == "unreachable: connection refused"
    older = replace(failing, levels=reported(SweepStatus.OK).levels, results_age_seconds=180.0)
    rows = Reader(status_page([older], FACTS)).rows
    assert rows[1][2] == "unreachable: connection refused (figures from 3 min ago)"
    assert rows[2][0] == "concurrency 1"


def test_a_reason_that_repeats_the_state_is_not_said_twice() -> None:
    unstable = reported(SweepStatus.UNSTABLE, reason=Reason.UNSTABLE.value, reason_text="spread 1.3")
    assert Reader(status_page([unstable], FACTS)).rows[1][1:3] == ["unstable", "spread 1.3"]


def test_marks_of_a_level_and_of_a_probe() -> None:
    measured = make_measurement(
        stable=False, client_limited=True, unsent_ratio=0.175, modes_ns=(0.021 * NS, 0.041 * NS)
    )
    probe = make_probe()
    view = ProbeView(
        probe,
        result=make_result(probe),
        measured=make_result(probe, measurements=(measured,)),
        running_since_unix_s=1.0,
    )
    html = status_page([probe_status(view, NOW, None, pause="in maintenance")], FACTS)
    assert '<span class="badge" title="in maintenance">paused</span>' in html
    page = Reader(html)
    assert page.rows[1][1:3] == [
        "ok running paused",
        "concurrency 1 unstable client-limited 17.5 % unsent bimodal: 21.0 ms or 41.0 ms",
    ]
    assert page.rows[1][-3] == "paused"


def test_the_summary_counts_and_problems_come_first() -> None:
    statuses = [
        reported(SweepStatus.OK, name="a"),
        reported(None, name="b"),
        reported(SweepStatus.UNSTABLE, name="c"),
        reported(SweepStatus.ABORTED, name="d", running=True),
        reported(SweepStatus.FAILED, name="e"),
    ]
    html = status_page(statuses, FACTS)
    tiles = dict(reversed(tile) for tile in re.findall(r"<b>(\d+)</b>([a-z ]+)</div>", html))
    assert tiles == {"ok": "1", "unstable": "1", "failing": "2", "no result yet": "1", "running now": "1"}
    assert "<title>(2 failing) Triton Canary</title>" in html
    names = [row[0][0] for row in Reader(html).rows[1:] if len(row) > 7 or "triton-http" in row[0]]
    assert names == ["d", "e", "c", "a", "b"]


def test_the_bar_shows_the_parts_of_the_mean() -> None:
    html = status_page([reported(SweepStatus.OK)], FACTS)
    bar = re.search(r'<svg class="bar".*?</svg>', html)
    assert bar is not None
    rects = re.findall(r'<rect class="(\w+)" x="([\d.]+)" width="([\d.]+)"', bar.group())
    assert rects == [
        ("client", "0.00", "5.00"),
        ("network", "5.00", "10.00"),
        ("overhead", "15.00", "5.00"),
        ("queue", "20.00", "20.00"),
        ("compute", "40.00", "60.00"),
    ]
    assert "queue 1.00 ms, compute 3.00 ms" in bar.group()


def test_everything_from_outside_is_escaped() -> None:
    probe = make_probe(name=EVIL, model=EVIL, target=make_target(name=EVIL), levels=())
    result = make_result(probe, SweepStatus.FAILED, reason_text=EVIL, facts=make_facts(version=EVIL))
    view = ProbeView(probe, result=result, facts=result.facts)
    html = status_page([probe_status(view, NOW, None)], replace(FACTS, version=EVIL))
    page = Reader(html)
    assert "script" not in page.tags
    assert page.rows[1][0] == f"{EVIL}{EVIL} · {EVIL} v{EVIL}"
    assert page.rows[1][2] == f"unreachable: {EVIL}"


def test_the_page_needs_no_script_and_no_inline_style() -> None:
    page = Reader(status_page([reported(SweepStatus.OK), reported(SweepStatus.FAILED)], FACTS))
    assert not {"script", "style"} & set(page.tags)
    assert not {name for name in page.attributes if name == "style" or name.startswith("on")}


@pytest.mark.parametrize(("ready", "text"), [(True, "version 0.1.0"), (False, "version 0.1.0, not ready")])
def test_without_probes(ready: bool, text: str) -> None:
    page = Reader(status_page([], replace(FACTS, ready=ready)))
    assert "No probes are configured." in page.texts
    assert text in page.texts
