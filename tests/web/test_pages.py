"""The pages as HTML: what a reader finds on them, and that nothing from outside becomes markup."""

from __future__ import annotations

import re
from dataclasses import replace
from html.parser import HTMLParser
from typing import Any

import httpx
import pytest

from exporter.core.limits import Load
from exporter.core.outcome import Reason, SkipReason, SweepStatus
from exporter.core.probe import InputOptions, Signal
from exporter.core.result import LevelVerdict, SignalVerdict, Withheld
from exporter.core.target import Header
from exporter.core.units import MS, NS
from exporter.metrics.page import MetricsPage
from exporter.state.history import History
from exporter.state.probe_state import Board
from exporter.web.app import WebSources, create_app
from exporter.web.status import conclude
from tests.builders import concurrency, make_facts, make_probe, make_target
from tests.metrics.results import Clock, make_exporter_facts, make_measurement, make_result, make_summary
from tests.web.fleet import NAMES, NOW, Fleet

EVIL = "<script>alert('1')</script>\"&{{ 7*7 }}"
VOID = {"meta", "link", "br", "input"}


class Reader(HTMLParser):
    """Checks that tags nest and ids are unique, and collects what the page shows."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.texts: list[str] = []
        self.attributes: list[tuple[str, str]] = []
        self.rows: list[list[str]] = []
        self.feed(html)
        self.close()
        assert self.open == []
        ids = [value for name, value in self.attributes if name == "id"]
        assert len(ids) == len(set(ids))
        self.rows = [[" ".join(cell.split()) for cell in row] for row in self.rows]

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes.extend((name, value or "") for name, value in attrs)
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

    def row(self, name: str) -> list[str]:
        return next(row for row in self.rows if row and row[0].startswith(name))


class Site:
    """The application, asked without a socket."""

    def __init__(self, sources: WebSources) -> None:
        self._app = create_app(sources)

    async def get(self, path: str, **headers: str) -> httpx.Response:
        transport = httpx.ASGITransport(self._app)
        async with httpx.AsyncClient(transport=transport, base_url="http://canary") as client:
            return await client.get(path, headers={"Accept-Encoding": "", **headers})

    async def read(self, path: str) -> Reader:
        response = await self.get(path)
        assert response.status_code == 200
        return Reader(response.text)


@pytest.fixture(scope="module")
def fleet() -> Fleet:
    return Fleet()


@pytest.fixture(scope="module")
def site(fleet: Fleet) -> Site:
    return Site(fleet.sources())


def site_of(*views: tuple[Any, Any], **facts: Any) -> Site:
    """Over probes, each with its last result or None."""
    clock = Clock(NOW)
    board, history = Board(None, clock, monotonic=Clock(0.0)), History(conclude, now=clock)
    board.configure([probe for probe, _ in views])
    for _, result in views:
        if result is not None:
            board.sweep_ended(result)
            history.sweep_ended(result)
    reported = make_exporter_facts(**facts)
    page = MetricsPage(board, reported, max_series=1000)
    return Site(WebSources(board, page, reported, healthy=lambda: True, ready=lambda: True, now=clock, day=history.day))


async def test_a_regression_is_above_an_unstable_probe_with_what_changed(site: Site) -> None:
    page = await site.read("/")
    names = [row[0].split(" ")[0] for row in page.rows if len(row) == 10][1:]
    assert [re.split("concurrency", name)[0] for name in names] == [
        "tts-german",
        "asr-streaming",
        "ranker",
        "bert-qa",
        "resnet50",
        "ocr-invoice",
        "whisper-large",
    ]
    row = page.row("asr-streaming")
    assert row[1] == "▲ regressed"
    assert re.fullmatch(r"5\.\d\d ms \+4\d % page", row[2])
    assert re.fullmatch(r"1\d\.\d ms \+\d\d % warn", row[3])
    why = next(row[0] for row in page.rows if len(row) == 1 and "latency p50" in row[0])
    assert re.fullmatch(
        r"concurrency 1: latency p50 4.00 ms → 5.\d\d ms \(page\), latency p99 8.20 ms → 1\d.\d ms \(warn\), "
        r"began 6 h ago, most of all in compute infer; also at concurrency 4, concurrency 16",
        why,
    )


async def test_a_regression_whose_last_sweep_was_not_judged_still_has_its_figures() -> None:
    probe = make_probe()
    withheld = SignalVerdict(
        Signal.LATENCY_P50, 3.0 * MS, None, tiers={"page": True}, withheld="busy", reason=Withheld.CLIENT_LIMITED
    )
    verdict = LevelVerdict(concurrency(1), (withheld,))
    page = await site_of((probe, make_result(probe, verdicts=(verdict,)))).read("/")
    assert ["concurrency 1: latency p50 3.00 ms → 4.00 ms (page)"] in page.rows


async def test_a_row_of_a_failing_probe_keeps_its_last_figures_and_gives_the_reason(site: Site) -> None:
    page = await site.read("/")
    row = page.row("tts-german")
    assert (row[0], row[1]) == ("tts-german concurrency 4 (+2)triton-c · tts_german v3", "✕ failed")
    assert row[8:] == ["57 s ago 22:14:20", "in 90 s 22:16:47"]
    why = page.rows[page.rows.index(row) + 1][0]
    assert why == (
        "unreachable: http://triton-c.ml.svc:8000/v2/health/ready: connection refused (10.0.3.17) "
        "· figures from 6 min ago"
    )


async def test_the_objective_and_its_burn_rate(site: Site) -> None:
    page = await site.read("/")
    assert page.row("ranker")[7] == "missed burn 2.25×"  # 90 of 4000 requests in each sweep, 1 % are allowed
    assert page.row("asr-streaming")[7] == "–"
    (why,) = page.rows[page.rows.index(page.row("ranker")) + 1]
    assert re.fullmatch(r"concurrency 4: p99 9\d.\d ms, 60.0 ms is the objective", why)
    assert page.row("whisper-large")[9] == "paused"


async def test_tiles_count_and_select(site: Site) -> None:
    html = (await site.get("/")).text
    tiles = re.findall(r'class="tile (\w+)" href="([^"]*)"[^>]*><b>(\d+)</b>', html)
    assert [(look, int(count)) for look, _, count in tiles] == [
        ("failing", 1),
        ("regressed", 1),
        ("objective_missed", 1),
        ("unstable", 1),
        ("zero", 0),
        ("ok", 3),
        ("running", 1),
        ("paused", 1),
    ]
    assert "<title>(1 failing, 1 regressed, 1 objective missed) Triton Canary</title>" in html
    chosen = await site.read(tiles[5][1].removeprefix("."))
    assert [row[0].split(" ")[0] for row in chosen.rows if len(row) == 10][1:] == [
        "resnet50",
        "ocr-invoice",
        "whisper-large",
    ]


@pytest.mark.parametrize(
    ("query", "names"),
    [
        ("q=TTS", ["tts-german"]),
        ("q=triton-b+rank", ["ranker"]),
        ("target=triton-a&sort=name", ["ocr-invoice", "resnet50"]),
        ("state=paused", ["whisper-large"]),
        ("state=running", ["ocr-invoice"]),
        ("sort=name", sorted(NAMES)),
        ("sort=p99&state=ok", ["resnet50", "whisper-large", "ocr-invoice"]),
        ("sort=errors&target=triton-b", ["ranker", "asr-streaming"]),
        ("q=nothing", []),
    ],
)
async def test_filters_and_orders_without_a_script(query: str, names: list[str], site: Site) -> None:
    page = await site.read(f"/?{query}")
    assert [row[0].split(" ")[0] for row in page.rows if len(row) == 10][1:] == names
    assert ("No probe matches. " in page.texts) == (not names)


async def test_a_filter_with_unknown_values_selects_all(site: Site) -> None:
    page = await site.read("/?state=bogus&sort=%3Cscript%3E&x=1")
    assert len([row for row in page.rows if len(row) == 10]) == 1 + len(NAMES)


async def test_the_page_of_a_probe(site: Site) -> None:
    page = await site.read("/probes/asr-streaming")
    assert page.row("concurrency 16")[1:3] == ["1,071", "13.8 ms +44 % page"]
    text = " ".join(" ".join(page.texts).split())
    for heading in ("Levels", "Load curve", "Last 24 hours", "Judged, and withheld", "Recent sweeps", "Actions"):
        assert heading in text
    assert "page: regressed; bad in 16 of the last 18 sweeps, 14 make a regression; bad above +25 %" in text
    assert "not judged by any tier" in text
    links = [value for name, value in page.attributes if name == "href"]
    assert "../runbooks/TritonCanaryRegressionPage" in links
    assert any(link.startswith("https://grafana.example/d/triton-canary-model?var-target=triton-b&") for link in links)
    recent = [row for row in page.rows if len(row) == 4]
    assert len(recent) == 21
    assert recent[1][1:] == ["▲ regressed", "31.0 s", recent[1][3]]
    assert re.fullmatch(r"concurrency 1: latency p50 \+4\d %", recent[1][3])


async def test_why_a_verdict_is_withheld(site: Site) -> None:
    text = " ".join((await site.read("/probes/bert-qa")).texts)
    assert "withheld: the last windows differ by 31\u00a0%, so that no verdict can be given" in text


async def test_the_charts_of_a_day(site: Site) -> None:
    html = (await site.get("/probes/bert-qa")).text
    labels = re.findall(r'<div class="chart"><svg role="img" aria-label="([^"]*)"', html)
    assert len(labels) == 4
    assert re.fullmatch(
        r"concurrency 4: p50 1\d\.\d ms, p95 \d\d\.\d ms, p99 \d\d\.\d ms; 1 of 288 sweeps failed", labels[2]
    )
    assert html.count('class="hit"') == 3 * 288
    assert re.search(
        r"Load curve: concurrency 1: \d\d\.\d/s, p50 10\.\d ms, p99 2\d\.\d ms; concurrency 4: ", labels[0]
    )


async def test_a_probe_without_a_sweep_or_a_history() -> None:
    site = site_of((make_probe(), None))
    page = await site.read("/")
    assert page.row("addsub")[1:] == [
        *("… never", "–", "–", "no sweeps yet", "–", "–", "–", "never", page.row("addsub")[9])
    ]
    text = " ".join((await site.read("/probes/addsub")).texts)
    assert "No sweep in the last 24 hours." in text
    assert "Load curve" not in text


async def test_marks_of_a_level_and_a_pause() -> None:
    probe = make_probe()
    measured = make_measurement(
        stable=False,
        client_limited=True,
        unsent_ratio=0.175,
        modes_ns=(0.021 * NS, 0.041 * NS),
        server_note="the metrics page http://h:8002/metrics cannot be read: responded 404",
    )
    skipped = Load(12_345, 151_200_000_000)
    site = site_of(
        (probe, make_result(probe, measurements=(measured,))),
        pause=lambda _probe: "in maintenance",
        load=lambda _probe: skipped,
    )
    text = " ".join(" ".join((await site.read("/probes/addsub")).texts).split())
    assert (
        "concurrency 1 unstable client-limited 17.5 % unsent bimodal: 21.0 ms or 41.0 ms the metrics page http://h:8002/metrics"
        in text
    )
    assert "Paused: in maintenance" in text
    assert "12,345 requests, 4.2 % of the time" in text


async def test_a_reason_that_repeats_the_state_is_not_given_twice() -> None:
    probe = make_probe()
    result = make_result(probe, SweepStatus.UNSTABLE, reason=Reason.UNSTABLE, reason_text="spread 1.3")
    page = await site_of((probe, result)).read("/")
    assert ["spread 1.3"] in page.rows


async def test_everything_from_outside_is_escaped() -> None:
    probe = make_probe(name=EVIL, model=EVIL, target=make_target(name=EVIL))
    result = make_result(probe, SweepStatus.FAILED, reason_text=EVIL, facts=make_facts(version=EVIL))
    site = site_of((probe, result), version=EVIL, config_notices=lambda: [EVIL])
    quoted = "%3Cscript%3Ealert('1')%3C%2Fscript%3E%22%26%7B%7B%207*7%20%7D%7D"
    for path in ("/", f"/?q={quoted}", f"/probes/{quoted}"):
        response = await site.get(path)
        page = Reader(response.text)
        assert page.tags.count("script") == 1  # our own
        assert "49" not in response.text.replace("49 s", "")
        assert EVIL in page.texts or any(EVIL in text for text in page.texts)


@pytest.mark.parametrize("name", ["a/b", "a b?c#d", "..", "ä/%2F"])
async def test_a_probe_of_any_name_has_a_page_and_its_links_lead_to_the_root(name: str) -> None:
    site = site_of((make_probe(name=name), None))
    page = await site.read("/")
    link = next(value for key, value in page.attributes if key == "href" and "probes/" in value)
    response = await site.get(str(httpx.URL("http://canary/").join(link).raw_path, "ascii"))
    assert response.status_code == 200
    style = re.search(r'href="([^"]*static/style.css[^"]*)"', response.text)
    assert style is not None
    assert str(response.url.join(style[1])).startswith("http://canary/static/style.css")


async def test_the_effective_configuration_has_no_secrets() -> None:
    headers = (Header("X-Team", value="geheim"), Header("Authorization", env="TOKEN", prefix="Bearer "))
    probe = make_probe(
        target=make_target(headers=headers),
        levels=(concurrency(1), concurrency(8)),
        input=InputOptions(string_data="geheim", parameters=(("key", "geheim"),)),
    )
    html = (await site_of((probe, make_result(probe))).get("/probes/addsub")).text
    text = "".join(Reader(html).texts)
    assert "geheim" not in html
    assert "Authorization: env TOKEN" in text
    assert "levels: [concurrency 1, concurrency 8]" in text
    assert "request_timeout: 10s" in text
    assert "interval: 1m" in text


async def test_only_our_own_script_and_no_inline_style(site: Site) -> None:
    for path in ("/", "/probes/asr-streaming"):
        html = (await site.get(path)).text
        page = Reader(html)
        assert "style" not in page.tags
        assert not [name for name, _ in page.attributes if name == "style" or name.startswith("on")]
        assert re.findall(r"<script[^>]*>([^<]*)", html) == [""]


async def test_pages_are_packed_for_who_takes_it(site: Site) -> None:
    plain = await site.get("/")
    packed = await site.get("/", **{"Accept-Encoding": "br, gzip"})
    assert packed.headers["content-encoding"] == "gzip"
    assert "content-encoding" not in (await site.get("/", **{"Accept-Encoding": "gzip;q=0"})).headers
    assert packed.text == plain.text
    assert int(packed.headers["content-length"]) < len(plain.content) / 4


async def test_many_probes_come_page_by_page() -> None:
    fleet = Fleet(430, days=False)
    site, names = Site(fleet.sources()), []
    for number, query in enumerate(("/?sort=name", "/?sort=name&page=2", "/?sort=name&page=3")):
        html = (await site.get(query)).text
        links = dict(re.findall(r'rel="(prev|next)" href="([^"]*)"', html))
        back = {"prev": "./?sort=name" + ("&amp;page=2" if number == 2 else "")} if number else {}
        assert links == back | ({"next": f"./?sort=name&amp;page={number + 2}"} if number < 2 else {})
        rows = re.findall(r'<th scope="row"><a href="./probes/([^"]*)"', html)
        assert f"{200 * number + 1} to {200 * number + len(rows)} of 430" in Reader(html).texts
        names += rows
    assert names == sorted(probe.name for probe in fleet.probes)
    # Tiles and targets are of all probes, wherever the reader is.
    assert sum(int(count) for count in re.findall(r"<b>(\d+)</b>", (await site.get("/?page=3")).text)[:6]) == 430
    assert "Show the first page" in (await site.read("/?page=4")).texts
    for unknown in ("0", "-1", "x", "9" * 30, "١"):
        assert "1 to 200 of 430" in (await site.read(f"/?page={unknown}")).texts
    assert "rel=" not in (await site.get("/?q=resnet")).text.partition("<table")[2]


async def test_a_new_sweep_and_a_changed_configuration_are_on_the_next_page() -> None:
    """What is kept of the last page must not hide them."""
    fleet = Fleet(3, days=False)
    site = Site(fleet.sources())
    first = (await site.read("/")).row("resnet50")
    faster = make_measurement(concurrency(4), latency=make_summary(1.0))
    fleet.board.sweep_ended(make_result(fleet.probes[0], measurements=(faster,), started_unix_s=NOW - 10))
    second = (await site.read("/")).row("resnet50")
    assert (first[2], second[2]) != (second[2], first[2])
    assert second[2] == "1.00 ms"
    fleet.probes[0] = replace(fleet.probes[0], levels=(concurrency(1),))
    fleet.board.configure(fleet.probes)
    assert (await site.read("/")).row("resnet50")[2] == "–"


@pytest.mark.parametrize(("ready", "text"), [(True, "0.1.0"), (False, "0.1.0, not ready")])
async def test_without_probes(ready: bool, text: str) -> None:
    board, reported = Board(None), make_exporter_facts()
    page = MetricsPage(board, reported, max_series=1000)
    site = Site(WebSources(board, page, reported, healthy=lambda: True, ready=lambda: ready))
    reader = await site.read("/")
    assert "No probes are configured." in reader.texts
    assert text in reader.texts


async def test_skips_are_on_the_page_of_the_probe() -> None:
    fleet = Fleet(7, days=False)
    text = " ".join(" ".join((await Site(fleet.sources()).read("/probes/bert-qa")).texts).split())
    assert f"Skipped 1 {SkipReason.OVERLAP.value}" in text


async def test_an_unknown_probe_is_a_404(site: Site) -> None:
    assert (await site.get("/probes/nothing")).status_code == 404
