"""The metrics page as a scraper gets it: golden, parsed, linted, compressed, filtered, and never failing."""

from __future__ import annotations

import asyncio
import gzip
import os
import re
import subprocess
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text

from exporter.core.probe import Probe
from exporter.metrics import collector as prometheus
from exporter.metrics import families as f
from exporter.metrics.exporter_metrics import COLLECTORS
from exporter.metrics.exposition import Format
from exporter.metrics.families import PAGE_ORDER
from exporter.metrics.page import MetricsPage, Rendered, negotiate
from exporter.state.probe_state import Board, ProbeView
from tests.builders import concurrency, make_probe, make_target
from tests.metrics.results import Clock, make_counts, make_exporter_facts, make_result
from tests.metrics.scenario import HOSTILE, closed_loop, hostile, make_scenario, open_loop
from tests.programs import need

OF_REPLICAS = {f.REPLICAS, f.REPLICAS_UP, f.REPLICAS_LATENCY, f.REPLICAS_OUTLIER}
"""There are none in the scenario; they have tests of their own."""
GOLDEN = Path(__file__).parent.parent / "golden" / "metrics.txt"
OPENMETRICS = "application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5"
Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]
MakePage = Callable[..., MetricsPage]


@pytest.fixture
async def make_page() -> AsyncIterator[MakePage]:
    pages: list[MetricsPage] = []

    def make(board: Board, max_series: int = 100_000, **facts: object) -> MetricsPage:
        pages.append(MetricsPage(board, make_exporter_facts(**facts), max_series))
        return pages[-1]

    yield make
    for page in pages:
        page.close()


async def text_of(page: MetricsPage, accept: str | None = None, names: Sequence[str] = ()) -> str:
    return (await page.render(accept, None, names)).body.decode()


def samples_of(text: str) -> Samples:
    """All samples by name and labels; a second one of the same series is an error. Of Prometheus' or OpenMetrics'
    format, by its end."""
    parse = parse_openmetrics if text.endswith("# EOF\n") else parse_text
    found: Samples = {}
    for family in parse(text):
        for sample in family.samples:
            key = (sample.name, frozenset(sample.labels.items()))
            assert key not in found
            found[key] = sample.value
    return found


def without_runtime(text: str) -> str:
    """The page less what changes from run to run."""
    return re.sub(r"^(# (HELP|TYPE) )?(process|python)_.*\n", "", text, flags=re.MULTILINE)


def stable_samples(text: str) -> Samples:
    return samples_of(without_runtime(text))


async def test_the_whole_page_is_the_golden_one(make_page: MakePage) -> None:
    text = without_runtime(await text_of(make_page(make_scenario())))
    if os.environ.get("UPDATE_GOLDEN") == "1":
        GOLDEN.write_text(text, encoding="utf-8")
    assert text == GOLDEN.read_text(encoding="utf-8")


async def test_before_the_first_gate_there_is_only_that_none_runs(make_page: MakePage) -> None:
    page = make_page(make_scenario(), last_gate=lambda: None, gates_running=lambda: 2)
    samples = samples_of(await text_of(page))
    found = {key: value for key, value in samples.items() if "_gate" in key[0]}
    assert found == {("triton_canary_exporter_gates_running", frozenset()): 2.0}


async def test_the_scenario_has_every_family(make_page: MakePage) -> None:
    text = await text_of(make_page(make_scenario()))
    for family in set(PAGE_ORDER) - OF_REPLICAS:
        assert text.count(f"# TYPE {family.name}{'_total' if family.kind == 'counter' else ''} {family.kind}\n") == 1


async def test_both_formats_report_the_same(make_page: MakePage) -> None:
    page = make_page(make_scenario())
    text, openmetrics = await text_of(page), await text_of(page, OPENMETRICS)
    assert stable_samples(text) == stable_samples(openmetrics)
    assert openmetrics.endswith("# EOF\n")
    assert "# TYPE triton_canary_requests counter\n" in openmetrics
    assert "_created" not in text + openmetrics
    assert "NaN" not in text


async def test_promtool_has_no_findings(make_page: MakePage) -> None:
    need("promtool")
    body = (await make_page(make_scenario()).render(None, None, ())).body
    command = ["promtool", "check", "metrics"]
    checked = await asyncio.to_thread(subprocess.run, command, input=body, capture_output=True, check=False)
    assert (checked.returncode, checked.stdout, checked.stderr) == (0, b"", b"")


async def test_hostile_labels_come_back_as_they_were(make_page: MakePage) -> None:
    page = make_page(make_scenario())
    wanted = {"target": "triton-http", "probe": HOSTILE, "model": HOSTILE}
    for accept in (None, OPENMETRICS):
        samples = samples_of(await text_of(page, accept))
        assert samples["triton_canary_interval_seconds", frozenset(wanted.items())] == 60.0


async def test_no_secret_of_a_url_is_reported(make_page: MakePage) -> None:
    text = await text_of(make_page(make_scenario()))
    assert "secret" not in text
    assert 'metrics_instance="triton.example:8002"' in text


@pytest.mark.parametrize(
    ("accept", "page_format"),
    [
        (None, Format.TEXT),
        ("*/*", Format.TEXT),
        ("text/html", Format.TEXT),
        ("text/plain;version=1.0.0", Format.TEXT),
        ("application/openmetrics-text", Format.OPENMETRICS),
        ("application/openmetrics-text; version=1.0.0; charset=utf-8", Format.OPENMETRICS),
        ("application/openmetrics-text;version=0.0.1", Format.TEXT),
        (OPENMETRICS, Format.OPENMETRICS),
    ],
)
async def test_negotiation(accept: str | None, page_format: Format, make_page: MakePage) -> None:
    assert negotiate(accept) is page_format
    rendered = await make_page(make_scenario()).render(accept, None, ())
    assert (
        rendered.content_type
        == {
            Format.TEXT: "text/plain; version=0.0.4; charset=utf-8",
            Format.OPENMETRICS: "application/openmetrics-text; version=1.0.0; charset=utf-8",
        }[page_format]
    )
    assert rendered.body.endswith(b"# EOF\n") is (page_format is Format.OPENMETRICS)


@pytest.mark.parametrize("names", [(), ("triton_canary_up",)], ids=["whole", "selected"])
@pytest.mark.parametrize("accept", [None, OPENMETRICS])
async def test_gzip_holds_the_plain_page(accept: str | None, names: Sequence[str], make_page: MakePage) -> None:
    page = make_page(make_scenario())
    for _ in range(2):
        plain = await page.render(accept, "br, identity", names)
        packed = await page.render(accept, "br, gzip;q=0.8", names)
        assert (plain.content_encoding, packed.content_encoding) == (None, "gzip")
        assert len(packed.body) < len(plain.body)
        assert without_runtime(gzip.decompress(packed.body).decode()) == without_runtime(plain.body.decode())


async def test_what_is_made_again_is_what_would_be_made_from_nothing(make_page: MakePage) -> None:
    clock = Clock(0.0)
    board = make_scenario(clock)
    page = make_page(board)
    first = closed_loop()
    changes: list[Callable[[], object]] = [
        lambda: board.window_ended(first, make_counts()),
        lambda: board.sweep_started(hostile(), 1.0),
        lambda: board.sweep_ended(make_result(hostile())),
        lambda: board.configure((hostile(), first)),
        lambda: setattr(clock, "at_s", 181.0),
        lambda: board.configure((first, make_probe(name="new"), open_loop())),
        lambda: board.configure(()),
    ]
    for change in changes:
        before = await page.render(None, "gzip", ())
        change()
        for accept in (None, OPENMETRICS):
            rendered = await page.render(accept, "gzip", ())
            fresh = await make_page(board).render(accept, None, ())
            assert gzip.decompress(rendered.body) != gzip.decompress(before.body)
            assert without_runtime(unpacked(rendered)) == without_runtime(unpacked(fresh))


def unpacked(rendered: Rendered) -> str:
    return (gzip.decompress(rendered.body) if rendered.content_encoding else rendered.body).decode()


async def test_only_what_changed_is_made_again(make_page: MakePage, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[str] = []

    def watch(name: str) -> None:
        original = getattr(prometheus, name)

        def watched(view: ProbeView, *rest: object) -> object:
            made.append(f"{name} {view.probe.name}")
            return original(view, *rest)

        monkeypatch.setattr(prometheus, name, watched)

    watch("state_blocks")
    watch("level_blocks")
    a, b = make_probe(name="a"), make_probe(name="b")
    due = {"a": 1.0, "b": 1.0}
    board = Board(None)
    board.configure((a, b))
    page = make_page(board, next_run=lambda probe: due[probe.name])
    steps: list[tuple[Callable[[], object], list[str]]] = [
        (lambda: None, ["level_blocks a", "state_blocks a", "level_blocks b", "state_blocks b"]),
        (lambda: None, []),
        (lambda: board.window_ended(b, make_counts()), ["state_blocks b"]),
        (lambda: board.sweep_ended(make_result(a)), ["level_blocks a", "state_blocks a"]),
        (lambda: due.update(b=2.0), ["state_blocks b"]),
    ]
    for change, expected in steps:
        made.clear()
        change()
        await page.render(None, "gzip", ())
        await page.render(OPENMETRICS, None, ())
        assert made == expected


async def test_a_removed_probe_is_gone_from_the_next_page(make_page: MakePage) -> None:
    board = make_scenario()
    page = make_page(board)
    assert 'probe="stream"' in await text_of(page)
    board.configure((closed_loop(),))
    text = await text_of(page)
    assert 'probe="stream"' not in text
    assert "triton-grpc" not in text
    assert 'probe="addsub"' in text


async def test_expired_results_are_gone_and_the_state_stays(make_page: MakePage) -> None:
    clock = Clock(0.0)
    page = make_page(make_scenario(clock))
    await text_of(page)
    clock.at_s = 181.0
    names = {name for name, labels in samples_of(await text_of(page)) if ("probe", "addsub") in labels}
    assert not {name for name in names if "latency" in name or "slo_met" in name or "sweep_duration" in name}
    assert {"triton_canary_up", "triton_canary_requests_total", "triton_canary_probe_info"} < names
    clock.at_s = 901.0
    assert "certificate_expiry" not in await text_of(page)


async def test_selecting_by_sample_names(make_page: MakePage) -> None:
    page = make_page(make_scenario())
    names = [
        "triton_canary_up",
        "triton_canary_inferences_total",
        "triton_canary_request_duration_seconds_bucket",
        "triton_canary_exporter_collector_errors_total",
        "triton_canary_requests",  # a family, no sample: selects nothing
        "python_info",
        "no_such_thing",
    ]
    for accept in (None, OPENMETRICS):
        whole, chosen = samples_of(await text_of(page, accept)), samples_of(await text_of(page, accept, names))
        assert chosen == {key: value for key, value in whole.items() if key[0] in names}
        assert {name for name, _ in chosen} == {*names[:4], "python_info"}
    assert await text_of(page, None, ["no_such_thing"]) == ""


async def test_past_the_limit_the_level_results_of_the_last_probes_are_left_out(make_page: MakePage) -> None:
    probes = [make_probe(name=name, histogram=False, levels=(concurrency(1),)) for name in "abc"]
    clock = Clock(0.0)
    board = Board(None, monotonic=clock)
    board.configure(probes)
    free = make_page(board)
    empty = series(await text_of(free))
    for probe in probes:
        board.sweep_ended(make_result(probe))
    full = series(await text_of(free))
    per_level = (full - empty - 3) // 3  # each probe also got `up`, `sweep_duration_seconds`
    page = make_page(board, max_series=round(full) + 35)
    assert dropped(await text_of(page)) == {"a": 0, "b": 0, "c": 1}
    text = await text_of(page)
    assert levels_of(text) == {"a", "b"}
    assert samples_of(text)["triton_canary_exporter_series_dropped", frozenset()] >= per_level - 1
    # What an earlier probe gives back for a while does not bring a later one in.
    clock.at_s = 100.0
    board.sweep_ended(make_result(probes[2]))
    clock.at_s = 200.0
    text = await text_of(page)
    assert dropped(text) == {"a": 0, "b": 0, "c": 1}
    assert levels_of(text) == set()
    for limit in range(round(empty), round(full) + 200):  # where the states of all have capacity, and no level has
        tight = dropped(await text_of(make_page(board, max_series=limit)))
        if len(tight) == 3:
            break
    assert tight == {"a": 1, "b": 1, "c": 1}


async def test_the_limit_is_of_the_whole_page(make_page: MakePage) -> None:
    probes = [make_probe(name=f"p{number}", target=make_target(name=f"t{number}")) for number in range(100)]
    board = Board(None)
    board.configure(probes)
    for probe in probes:
        board.sweep_ended(make_result(probe))
    sources = {f"models of t{number}": (True, 1) for number in range(3000)}
    groups = {f"g{number}": {"requests": 0.5, "duty": 0.5} for number in range(3000)}
    page = make_page(board, max_series=1000, discovery=lambda: sources, budgets_used=lambda: groups)
    text = await text_of(page)
    lines = [line for line in text.splitlines() if not line.startswith("#")]
    assert 900 <= len(lines) <= 1000
    samples = samples_of(text)
    kept = len(lines) - series(text)
    assert kept <= 520  # of the daemon itself
    assert ("triton_canary_exporter_scheduler_last_tick_timestamp_seconds", frozenset()) in samples
    every = series(await text_of(make_page(board)))
    assert samples["triton_canary_exporter_series_dropped", frozenset()] == every - series(text)
    up = [dict(labels)["probe"] for name, labels in samples if name == "triton_canary_up"]
    assert up == [f"p{number}" for number in range(len(up))]
    assert 0 < len(up) < 100


async def test_long_lines_count_as_several(make_page: MakePage) -> None:
    probes = [
        make_probe(name=f"p{number}", model="m" * 10_000, histogram=False, levels=(concurrency(1),))
        for number in range(20)
    ]
    board = Board(None)
    board.configure(probes)
    for probe in probes:
        board.sweep_ended(make_result(probe))
    assert len(await text_of(make_page(board))) > 10_000_000
    text = await text_of(make_page(board, max_series=2000))
    assert len(text.encode()) <= 2000 * 512 + 100_000
    assert samples_of(text)["triton_canary_exporter_series_dropped", frozenset()] > 0


def series(text: str) -> float:
    return samples_of(text)["triton_canary_exporter_series", frozenset()]


def dropped(text: str) -> dict[str, float]:
    samples = samples_of(text).items()
    return {dict(labels)["probe"]: v for (name, labels), v in samples if name == "triton_canary_results_dropped"}


def levels_of(text: str) -> set[str]:
    return {dict(labels)["probe"] for name, labels in samples_of(text) if name == "triton_canary_stable"}


async def test_the_series_counted_are_the_series_on_the_page(make_page: MakePage) -> None:
    samples = samples_of(await text_of(make_page(make_scenario())))
    own = [name for name, _ in samples if not re.match("(process|python|triton_canary_exporter)_", name)]
    assert samples["triton_canary_exporter_series", frozenset()] == len(own)


def fail(*_: object) -> int:
    raise RuntimeError("not today")


@pytest.mark.parametrize(
    ("fact", "collector", "gone"),
    [
        ("archive_rows", "archive", "triton_canary_exporter_archive_bytes"),
        ("workers", "workers", "triton_canary_exporter_workers"),
        ("config_hash", "config", "triton_canary_exporter_probes"),
        ("clock_jumps", "scheduler", "triton_canary_exporter_clock_jumps_total"),
        ("pause", "scheduler", "triton_canary_paused"),
    ],
)
async def test_a_failing_collector_costs_its_own_metrics_and_is_counted(
    fact: str, collector: str, gone: str, make_page: MakePage, caplog: pytest.LogCaptureFixture
) -> None:
    page = make_page(make_scenario(), **{fact: fail})
    samples = samples_of(await text_of(page))
    errors = {dict(labels)["collector"]: v for (name, labels), v in samples.items() if "collector_errors" in name}
    assert list(errors) == list(COLLECTORS)
    assert errors.pop(collector) >= 1
    assert set(errors.values()) == {0.0}
    assert gone not in {name for name, _ in samples}
    assert "triton_canary_up" in {name for name, _ in samples}
    assert "RuntimeError: not today" in caplog.text


@pytest.mark.parametrize("bad", [make_probe(name="bad \ud800"), make_probe(name="bad", levels=None)])
async def test_a_probe_that_cannot_be_rendered_costs_its_own_samples(
    bad: Probe, make_page: MakePage, caplog: pytest.LogCaptureFixture
) -> None:
    good = make_probe(name="good")
    board = Board(None)
    board.configure((good, make_probe(name=bad.name)))
    board.sweep_ended(make_result(make_probe(name=bad.name)))
    view = board.probes()[1]
    object.__setattr__(view, "probe", bad)
    page = make_page(board)
    for _ in range(2):
        samples = samples_of(await text_of(page))
        assert ("triton_canary_interval_seconds", frozenset(p("good").items())) in samples
        errors = samples["triton_canary_exporter_collector_errors_total", frozenset({("collector", "probes")})]
        assert errors >= 1
    assert caplog.text.count("no samples can be made of the") == errors


def p(probe: str) -> dict[str, str]:
    return {"target": "triton-http", "probe": probe, "model": "addsub"}
