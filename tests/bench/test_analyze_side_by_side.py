"""Reading reports in perf_analyzer's layout, and what counts as off between two of them."""

from __future__ import annotations

import itertools
import sys
from pathlib import Path

import pytest

from bench.analyze_side_by_side import Finding, Run, cases, compare, differences, is_off, rows, run_tool, verdict
from bench.models import delayed_models
from bench.printed_report import forms, parse_levels
from bench.programs import BenchError
from tests.commands.analyze.report.perf_analyzer_output import HEADERS, PLAIN, VERBOSE_P95

RATE = PLAIN.replace("Request concurrency: 1\n", "Request Rate: 110 inference requests per second\n")


def run(text: str, header: str = "plain") -> Run:
    return Run(text, HEADERS[header])


def test_figures_of_a_recorded_report() -> None:
    [level] = parse_levels(PLAIN)
    assert level.load == "1"
    assert level.figures == {
        "throughput": 85.2522,
        "avg": 11774,
        "p50": 11516,
        "p90": 12752,
        "p95": 12987,
        "p99": 14717,
        "server request": 11088,
        "server queue": 112,
        "server input": 34,
        "server infer": 10647,
        "server output": 289,
    }
    [verbose] = parse_levels(VERBOSE_P95)
    assert (verbose.figures["throughput"], verbose.figures["p95"], "avg" in verbose.figures) == (83.8143, 12902, False)


def test_a_level_that_was_only_begun_has_no_figures() -> None:
    assert [level.load for level in parse_levels("Request concurrency: 4\n" + RATE)] == ["110"]
    assert parse_levels("Failed to obtain stable measurement.\n") == []


def test_forms_are_the_lines_without_their_numbers() -> None:
    assert forms("    p95 latency: 12902 usec\n1.5e+06 infer/sec") == ["    p95 latency: # usec", "# infer/sec"]
    assert forms(PLAIN) == forms(PLAIN.replace("85.2522", "1e+06").replace("11774", "9"))
    assert forms(PLAIN) != forms(PLAIN.replace("  Client: ", "  Client:"))


def test_equal_reports() -> None:
    pair = (run(PLAIN), run(PLAIN))
    found = compare([pair])
    assert (differences(*pair), len(found), is_off([pair])) == ([], 11, False)
    [row] = rows(cases()[0], 1, found)
    assert row[1:] == ["1", "1", "1.0000", "1.000 1.000 1.000 1.000", "1.000", "", "ok"]


def test_columns_of_our_own_come_after_perf_analyzers() -> None:
    ours = Run(PLAIN, f"{HEADERS['plain']},Foreign Requests (ratio)")
    assert differences(run(PLAIN), ours) == []
    assert len(differences(ours, run(PLAIN))) == 1
    assert len(differences(run(PLAIN), Run(PLAIN, f"{HEADERS['plain']}x"))) == 1


def test_what_is_off_is_named() -> None:
    """Throughput 3 % off, p99 by more than 5 % and 200 us, the server's output part by more than 5 % and 50 us."""
    ours = PLAIN.replace("85.2522", "87.9").replace("14717", "15600").replace("output 289", "output 340")
    ours = ours.replace("  Client: ", "  Client:") + "[WARNING] Not stable\n"
    pair = (run(PLAIN), run(ours, "rate"))
    found, problems = compare([pair]), differences(*pair)
    assert [finding.figure for finding in found if not finding.holds] == ["throughput", "p99", "server output"]
    [row] = rows(cases()[0], 1, found)
    assert row[-1] == "throughput 85.2522 / 87.9, p99 14717 / 15600, server output 289 / 340"
    assert "-  Client: " in problems
    assert "+[WARNING] Not stable" in problems
    assert problems[-1].startswith("CSV header Concurrency,")


def test_levels_of_one_tool_alone() -> None:
    pair = (run(PLAIN), run(RATE))
    assert compare([pair]) == []
    assert "-Request concurrency: #" in differences(*pair)


def test_of_several_runs_the_medians_count_and_one_without_a_warning_is_enough() -> None:
    def ours(throughput: float, warning: str = "") -> Run:
        return run(PLAIN.replace("85.2522", str(throughput)) + warning)

    pairs = [(run(PLAIN), ours(70.0, "[WARNING] Not stable\n")), (run(PLAIN), ours(85.0)), (run(PLAIN), ours(86.0))]
    assert [is_off(pairs[:count]) for count in (1, 2, 3)] == [True, True, False]
    assert compare(pairs)[0].ours == 85.0


@pytest.mark.parametrize(
    ("figure", "theirs", "ours", "holds"),
    [
        ("throughput", 100.0, 102.0, True),
        ("throughput", 100.0, 97.9, False),
        ("p95", 1000, 1200, True),
        ("p95", 1000, 1201, False),
        ("p95", 10_000, 10_500, True),
        ("server infer", 10_000, 9_499, False),
        ("server input", 30, 79, True),
    ],
)
def test_limits(figure: str, theirs: float, ours: float, holds: bool) -> None:
    assert Finding("1", figure, theirs, ours, (theirs, theirs), (ours, ours)).holds is holds


def test_ratio_where_theirs_is_nothing() -> None:
    assert [Finding("1", "server queue", 0, ours, (0, 0), (ours, ours)).ratio for ours in (0, 9)] == [1.0, 0.0]


def test_what_runs_of_both_overlap_in_is_not_off() -> None:
    def pair(theirs: int, ours: int) -> tuple[Run, Run]:
        return run(PLAIN.replace("14717", str(theirs))), run(
            PLAIN.replace("14717", str(ours)).replace("11516", "12500")
        )

    found = compare([pair(13000, 15900), pair(14717, 16000), pair(16100, 16200)])
    by_figure = {finding.figure: (finding.holds, finding.is_noise, finding.is_off) for finding in found}
    assert by_figure["p99"] == (False, True, False)
    assert by_figure["p50"] == (False, False, True)
    assert by_figure["p95"] == (True, False, False)
    [row] = rows(cases()[0], 3, found)
    assert row[-2:] == ["p99 14717 (13000 to 16100) / 16000 (15900 to 16200)", "p50 11516 / 12500"]
    assert verdict(found) == ("9 of 11 figures are within their limits, 1 more are of runs that overlap, and 1 off")
    apart = compare([pair(13000, 15900), pair(14717, 16000), pair(15800, 16200)])
    assert [finding.figure for finding in apart if finding.is_off] == ["p50", "p99"]


def test_each_pair_of_choices_is_measured() -> None:
    chosen = cases()
    choices = ["delay_ms", "batch", "endpoint", "closed", "judged", "counts"]
    table = [
        (c.delay_ms, c.batch, c.endpoint, c.load[0], c.judged, c.windows[0].startswith("--measurement-mode"))
        for c in chosen
    ]
    assert len(set(table)) == len(chosen) == 24
    for one, two in itertools.combinations(range(len(choices)), 2):
        pairs = {(row[one], row[two]) for row in table}
        assert len(pairs) == len({row[one] for row in table}) * len({row[two] for row in table}), (one, two)


async def test_a_tool_is_run_in_a_folder_and_its_errors_are_reported() -> None:
    writes = "import sys; open('report.csv', 'w').write('A,B\\n1,2\\n'); print('out', *sys.argv[1:])"
    ended = await run_tool([sys.executable, "-c", writes], ["-m", "x"])
    assert (ended.printed, ended.header) == ("out -m x\n", "A,B")
    with pytest.raises(BenchError, match="status 2:\nwhy"):
        await run_tool([sys.executable, "-c", "import sys; sys.stderr.write('why'); sys.exit(2)"], [])
    with pytest.raises(BenchError, match="no CSV file"):
        await run_tool([sys.executable, "-c", "print('nothing')"], [])


def test_models_with_each_delay() -> None:
    with delayed_models((2, 20), instances=4) as folder:
        text = (folder / "delay_20" / "config.pbtxt").read_text()
        assert (folder / "delay_2" / "1" / "model.py").exists()
    assert 'name: "delay_20"' in text
    assert 'value: { string_value: "20" }' in text
    assert "count: 4" in text
    assert "\ndynamic_batching" not in text
    assert isinstance(folder, Path)
