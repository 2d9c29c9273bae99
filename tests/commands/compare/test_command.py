"""The command `compare` over real files of both kinds, from the command line to the exit status."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from exporter.archive.columns import LEVELS, WINDOWS
from exporter.archive.rows import level_rows, window_rows
from exporter.cli import run
from exporter.commands.analyze.report.result_json import json_text
from exporter.commands.compare.command import CompareOptions, run_compare
from exporter.core.errors import ConfigError
from exporter.core.probe import LoadLevel
from exporter.core.result import LatencySummary, Measurement, PercentileValue, SweepResult, WindowSummary
from exporter.core.units import MS, NS
from tests.builders import concurrency, make_facts, make_probe
from tests.metrics.results import make_measurement, make_result, rate

SINGLE = ("--min-sweeps=1",)
NOON = datetime(2025, 11, 21, 12, tzinfo=UTC).timestamp()


def summary(p95_ms: float) -> LatencySummary:
    values = tuple(PercentileValue(p, round(p95_ms * p / 95 * MS), None, None) for p in (50.0, 95.0, 99.0, 97.5))
    return LatencySummary(10_000, p95_ms * MS, 0.0, 0, 1, values)


def measured(level: LoadLevel, throughputs: Sequence[float], p95_ms: float = 10.0, **changes: Any) -> Measurement:
    """A level whose windows had these throughputs, but for one before them that was not judged."""
    windows = tuple(
        WindowSummary(index, NOON, NS, 10, 0, {}, throughput, summary(p95_ms), judged=index > 0)
        for index, throughput in enumerate([1.0, *throughputs])
    )
    mean = sum(throughputs) / len(throughputs)
    return make_measurement(level, throughput=mean, latency=summary(p95_ms), window_summaries=windows, **changes)


def sweep(
    *measurements: Measurement, at_s: float = NOON, name: str = "onnx", sweep_id: str = "", config: str = ""
) -> SweepResult:
    probe = make_probe(name=name, levels=tuple(m.level for m in measurements), config_hash="p1")
    return make_result(
        probe,
        id=sweep_id or f"{name}-{at_s}",
        started_unix_s=at_s,
        facts=make_facts(config_hash=config),
        measurements=measurements,
    )


def save_archive(folder: Path, *sweeps: SweepResult) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for table, rows in ((LEVELS, level_rows), (WINDOWS, window_rows)):
        content = b"".join(table.encode(rows(each)) for each in sweeps)
        (folder / f"2025-11-21.{table.name}.csv").write_bytes(table.header + content)
    return folder


def save_result(path: Path, result: SweepResult) -> Path:
    path.write_text(json_text(result))
    return path


def plain(text: str) -> str:
    """Without the blanks that align a table."""
    return re.sub(" +", " ", text)


SLOW = (100.0, 101.0, 99.0)
FAST = (176.0, 177.0, 175.0)


@pytest.fixture(params=["archive", "result"])
def two(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[Path, Path]]:
    """The same two measurements as archives and as results: throughput 1.76 times, p95 0.5 times."""
    slow = sweep(measured(concurrency(1), SLOW), measured(concurrency(2), SLOW), name="model")
    fast = sweep(measured(concurrency(1), FAST, 5.0), measured(concurrency(4), FAST), name="model")
    if request.param == "archive":
        yield save_archive(tmp_path / "onnx", slow), save_archive(tmp_path / "tensorrt", fast)
    else:
        yield save_result(tmp_path / "onnx.json", slow), save_result(tmp_path / "tensorrt.json", fast)


def test_words_table_and_status(two: tuple[Path, Path], capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    markdown = tmp_path / "pr.md"
    assert (
        run(["compare", *map(str, two), *SINGLE, "--percentile=95", "--percentile=97.5", "--markdown", str(markdown)])
        == 0
    )
    out = capsys.readouterr().out
    assert out.splitlines() == [
        "tensorrt is not worse than onnx, within a tolerance of 5 %.",
        "",
        "| load          | figure        |     onnx | tensorrt | ratio | 95 % interval  |        |",
        "| ------------- | ------------- | -------: | -------: | ----: | -------------- | ------ |",
        "| concurrency 1 | inferences/s  |      100 |      176 | 1.760 | 1.724 to 1.796 | better |",
        "| concurrency 1 | p95 latency   |    10 ms |     5 ms | 0.500 | 0.500 to 0.500 | better |",
        "| concurrency 1 | p97.5 latency | 10.26 ms | 5.132 ms | 0.500 | 0.500 to 0.500 | better |",
        "",
        "Not compared: concurrency 2 (only onnx), concurrency 4 (only tensorrt)",
    ]
    text = markdown.read_text()
    assert text.startswith("- tensorrt is not worse than onnx, within a tolerance of 5 %.\n\n| load ")
    assert text.endswith("| better |\n\n- Not compared: concurrency 2 (only onnx), concurrency 4 (only tensorrt)\n")


def test_a_reader_that_closes_the_pipe_is_no_error(two: tuple[Path, Path]) -> None:
    command = [sys.executable, "-m", "exporter", "compare", *map(str, two), *SINGLE]
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run(command, stdout=writing, stderr=subprocess.PIPE, text=True, check=False)
    os.close(writing)
    assert (done.returncode, done.stderr) == (0, "")


def test_worse_has_a_status_of_its_own(two: tuple[Path, Path], capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["compare", *map(str, reversed(two))]) == 0, "one sweep a side is too few to report it"
    assert run(["compare", *map(str, reversed(two)), *SINGLE]) == 5
    assert "onnx is worse than tensorrt, beyond a tolerance of 5 %." in capsys.readouterr().out
    assert run(["compare", *map(str, reversed(two)), *SINGLE, "--tolerance=50%", "--percentile=50"]) == 5
    assert run(["compare", *map(str, reversed(two)), *SINGLE, "--tolerance=44", "--percentile=99.9"]) == 0
    assert run(["compare", *map(str, two), "--level=2"]) == 3, "one of them has it not"


def test_a_side_that_sent_no_response_is_worse(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    silent = measured(concurrency(1), (0.0, 0.0), stable=False)
    silent = replace(silent, latency=None, window_summaries=())
    sides = {"a": sweep(measured(concurrency(1), SLOW)), "b": sweep(silent)}
    archives = [save_archive(tmp_path / name, result) for name, result in sides.items()]
    results = [save_result(tmp_path / f"{name}.json", result) for name, result in sides.items()]
    for paths in (archives, results):
        assert run(["compare", *map(str, paths)]) == 5
        lines = plain(capsys.readouterr().out).splitlines()
        assert lines[0] == "b is worse than a, beyond a tolerance of 5 %."
        assert lines[-1] == "| concurrency 1 (not stable) | any ok request | yes | no | | | worse |"
        assert run(["compare", *map(str, reversed(paths))]) == 0
        out = plain(capsys.readouterr().out)
        assert out.startswith("a is not worse than b")
        assert "| no | yes | | | better |" in out
        assert run(["compare", str(paths[1]), str(paths[1])]) == 4
        out = plain(capsys.readouterr().out)
        assert "| no | no |" in out
        assert "No figure of " in out


@pytest.mark.parametrize(
    ("second", "conclusion"),
    [
        (SLOW, "b is not worse than a, within a tolerance of 5 %."),
        ((80.0, 120.0, 100.0), "No figure of b is shown to be worse than that of a beyond 5 %; 1 of 2 is undecided"),
        ((60.0, 120.0, 90.0), "No figure of b is shown to be worse than that of a beyond 5 %; 1 of 2 is undecided"),
        ((50.0, 51.0, 49.0), "b is worse than a, beyond a tolerance of 5 %."),
    ],
)
def test_what_is_unclear_is_not_reported_as_not_worse(tmp_path: Path, second: Sequence[float], conclusion: str) -> None:
    paths = [
        save_result(tmp_path / f"{name}.json", sweep(measured(concurrency(1), values)))
        for name, values in (("a", SLOW), ("b", second))
    ]
    response = run_compare(CompareOptions(tuple(paths), percentiles=(50.0,), min_sweeps=1))
    [verdict] = response.verdicts
    assert verdict.startswith(conclusion)
    assert response.worse == conclusion.startswith("b is worse")


def test_a_ratio_is_no_percentile(two: tuple[Path, Path], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        run(["compare", *map(str, two), "--percentile=0.95"])
    assert "did you mean 95?" in capsys.readouterr().err


def test_each_percentile_is_compared_unless_some_are_asked_for(two: tuple[Path, Path]) -> None:
    rows = run_compare(CompareOptions(two, levels=("1",))).table[3:]
    assert [row.split(" | ")[1].split()[0] for row in rows] == ["p50", "p95", "p97.5", "p99"]


def test_nothing_in_common(tmp_path: Path) -> None:
    paths = [
        save_result(tmp_path / f"{level.label}.json", sweep(measured(level, SLOW)))
        for level in map(concurrency, (1, 2))
    ]
    assert run(["compare", *map(str, paths)]) == 4


def test_two_probes_of_one_archive_and_several_sides(tmp_path: Path) -> None:
    archive = save_archive(
        tmp_path / "all",
        sweep(measured(rate(50), SLOW), name="a"),
        sweep(measured(rate(50), FAST), name="b"),
        sweep(measured(rate(50), SLOW), name="c"),
    )
    response = run_compare(CompareOptions((archive,), probes=("a", "b", "c"), percentiles=()))
    assert [plain(row) for row in response.table] == [
        "| side | load | figure | a | compared | ratio | 95 % interval | |",
        "| ---- | --------------- | ------------ | --: | -------: | ----: | -------------- | ------- |",
        "| b | request rate 50 | inferences/s | 100 | 176 | 1.760 | 1.724 to 1.796 | unclear |",
        "| c | request rate 50 | inferences/s | 100 | 100 | 1.000 | 0.978 to 1.023 | same |",
    ]
    assert len(response.verdicts) == 2


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("..2025-11-20", "2025-11-21.."),
        ("2025-11-19..2025-11-20T13:00", "2025-11-21T11:59..2025-11-21T12:01"),
        ("0a", "0b"),
        ("0a0a0a", "2025-11-21.."),
    ],
)
def test_before_and_after(tmp_path: Path, before: str, after: str) -> None:
    archive = save_archive(
        tmp_path,
        sweep(measured(concurrency(1), SLOW), at_s=NOON - 86400, config="0a0a0a"),
        sweep(measured(concurrency(1), FAST), at_s=NOON, config="0b0b0b"),
    )
    response = run_compare(CompareOptions((archive,), before=before, after=after, percentiles=()))
    assert plain(response.table[0]).startswith("| load | figure | before | after |")
    assert "| 100 | 176 | 1.760 | 1.724 to 1.796 |" in plain(response.table[2])


def test_several_targets_are_reported_apart_and_unstable_levels_flagged(tmp_path: Path) -> None:
    first = sweep(measured(concurrency(1), SLOW), measured(concurrency(2), (100.0, 100.5), stable=False), name="a")
    second = sweep(measured(concurrency(1), SLOW), name="b")
    paths = [save_archive(tmp_path / name, first, second) for name in ("x", "y")]
    rows = [plain(row) for row in run_compare(CompareOptions(tuple(paths), percentiles=())).table[2:]]
    assert rows[0].startswith("| a, concurrency 1 | inferences/s | 100 | 100 | 1.000 | 0.978 to 1.023 |")
    assert rows[1].startswith("| a, concurrency 2 (not stable) |")
    assert rows[2].startswith("| b, concurrency 1 |")


def test_one_window_gives_no_interval(tmp_path: Path) -> None:
    paths = [
        save_result(tmp_path / f"{name}.json", sweep(measured(concurrency(1), values)))
        for name, values in (("a", (100.0,)), ("b", (150.0,)))
    ]
    response = run_compare(CompareOptions(tuple(paths), percentiles=(50.0,), min_sweeps=1))
    assert "| 100 | 150 | 1.500 | too few windows | better |" in plain(response.as_text)


def test_an_archive_that_is_being_written(tmp_path: Path) -> None:
    """A torn last row counts as not there, and a windows' file is enough to name the pair."""
    archive = save_archive(tmp_path / "a", sweep(measured(concurrency(1), SLOW)))
    for file in archive.iterdir():
        file.write_bytes(file.read_bytes() + b"1,2025-11-21T12:00")
    [windows] = archive.glob("*.windows.csv")
    response = run_compare(CompareOptions((windows, archive), percentiles=()))
    assert "| 1.000 | 0.978 to 1.023 |" in plain(response.as_text)


@pytest.mark.parametrize(
    ("content", "name", "problem"),
    [
        ("{}", "x.json", "neither a result"),
        ("[1]", "x.json", "neither a result"),
        ("nonsense", "x.json", "not a result"),
        ('{"schema": "triton-canary-result", "schema_version": 9}', "x.json", "schema version 9"),
        ('{"schema": "triton-canary-result", "schema_version": 1}', "x.json", "not a result"),
        ("a,b\n1,2\n", "x.levels.csv", "not an archive"),
        ("Concurrency\n1\n", "perf.csv", "--json"),
    ],
)
def test_what_can_not_be_read(tmp_path: Path, content: str, name: str, problem: str) -> None:
    path = tmp_path / name
    path.write_text(content)
    with pytest.raises(ConfigError, match=problem) as error:
        run_compare(CompareOptions((path, path)))
    assert name in str(error.value)


def test_missing_and_empty_places(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"gone\.json: No such file"):
        run_compare(CompareOptions((tmp_path / "gone.json",) * 2))
    with pytest.raises(ConfigError, match="not an archive"):
        run_compare(CompareOptions((tmp_path, tmp_path)))


def test_what_is_there_is_reported_where_nothing_is_selected(tmp_path: Path) -> None:
    archive = save_archive(tmp_path, sweep(measured(concurrency(1), SLOW), config="0a0a"))
    with pytest.raises(ConfigError) as error:
        run_compare(CompareOptions((archive,)))
    assert "two --probe" in str(error.value)
    assert "probes onnx; model configurations 0a0a; probe configurations p1; 2025-11-21T12:00" in str(error.value)
    for request in (
        CompareOptions((archive,), probes=("onnx", "trt")),
        CompareOptions((archive, archive), target="elsewhere"),
        CompareOptions((archive,), before="0a", after="ff"),
    ):
        with pytest.raises(ConfigError, match="no measured level is selected"):
            run_compare(request)
    for request in (CompareOptions((archive,), before="0a"), CompareOptions((archive,), before="x..", after="0a")):
        with pytest.raises(ConfigError, match=r"--after belong together|FROM\.\.TO"):
            run_compare(request)


@pytest.mark.parametrize("option", ["--tolerance=much", "--tolerance=100", "--percentile=0", "--percentile=p95"])
def test_options_that_are_no_figures(option: str) -> None:
    with pytest.raises(SystemExit) as ended:
        run(["compare", "a", "b", option])
    assert ended.value.code == 3


def test_result_files_hold_what_archives_hold(tmp_path: Path) -> None:
    """The two kinds can be compared with each other."""
    result = sweep(measured(concurrency(1), SLOW))
    archive, path = save_archive(tmp_path / "archive", result), save_result(tmp_path / "result.json", result)
    response = run_compare(CompareOptions((archive, path), percentiles=(50.0, 97.5)))
    assert plain(response.as_text).count("| 1.000 |") == 3
    assert json.loads(path.read_text())["measurements"][0]["window_summaries"][0]["judged"] is False
