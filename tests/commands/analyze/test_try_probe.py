"""`triton-canary try`: one sweep of a configured probe against the real Triton, its report and exit code."""

from __future__ import annotations

from pathlib import Path

import pytest

from exporter.cli import run
from exporter.commands.analyze.try_probe import allowed_load, find_probe
from exporter.config import load
from exporter.core.errors import ConfigError
from exporter.core.units import NS
from exporter.demo.triton import EmbeddedTriton

TEXT = """
data_directory: {folder}/data
targets:
  - {{name: t, url: "{url}"}}
  - {{name: pattern, url: "http://h", discover: {{dns: true}}}}
defaults:
  schedule: {{every: 10m}}
  load: {{concurrency: [1, 2]}}
  measurement: {{window: 300ms}}
  stop: {{max_requests: {requests}}}
probes:
  - {{name: sum, target: t, model: addsub}}
  - {{name: lost, target: t, model: addsbu}}
  - {{name: found, target: pattern, model: addsub}}
  - {{name: all, target: t, models: all-ready}}
  - {{name: zones, target: t, model: addsub, from: [a, b], load: {{pool: "tcp://dask:8786"}}}}
limits: {{group_requests_per_hour: 5000000, group_duty: 25%}}
"""


def written(folder: Path, url: str = "http://h", requests: int = 100_000) -> Path:
    path = folder / "canary.yaml"
    path.write_text(TEXT.format(folder=folder, url=url, requests=requests))
    return path


def test_a_report_and_nothing_kept(triton: EmbeddedTriton, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = written(tmp_path, triton.http_url)
    assert run(["try", "sum", "--config", str(path)]) in (0, 2), "a busy machine may be unstable"
    out, error = capsys.readouterr()
    assert "Request concurrency: 1\n" in out
    assert "Concurrency: 2, throughput: " in out
    assert error.startswith("triton-canary try: one sweep within the daemon's guards: 100000 requests, ")
    assert error.rstrip().endswith("; nothing was kept")
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["canary.yaml"]


def test_a_report_that_can_not_be_written(
    triton: EmbeddedTriton, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = written(tmp_path, triton.http_url)
    with Path("/dev/full").open("w") as full:
        monkeypatch.setattr("sys.stdout", full)
        assert run(["try", "sum", "--config", str(path)]) in (1, 2), "a busy machine may be unstable"
    assert "triton-canary try: the report: cannot write: No space left on device\n" in capsys.readouterr().err


def test_the_probe_s_own_guards_end_it(
    triton: EmbeddedTriton, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = written(tmp_path, triton.http_url, requests=50)
    assert run(["try", "sum", "--config", str(path)]) in (2, 4)
    assert "request_budget: " in capsys.readouterr().err


def test_a_model_that_is_not_there(triton: EmbeddedTriton, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["try", "lost", "--config", str(written(tmp_path, triton.http_url))]) == 4
    assert "triton-canary try: nothing measured: model_unknown: model 'addsbu' is not known" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("summ", "no probe is named 'summ'; did you mean 'sum'?"),
        ("zzz", "no probe is named 'zzz'; there are sum, lost, found, all, zones/a, zones/b"),
        ("zones", "no probe is named 'zones'; it is measured from several places: choose one of zones/a, zones/b"),
        ("zones/c", "no probe is named 'zones/c'; did you mean 'zones/"),
        ("found", "probe 'found' is a pattern"),
        ("all", "probe 'all' is a pattern"),
    ],
)
def test_which_probe(tmp_path: Path, name: str, text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        find_probe(load(written(tmp_path), {}), name)
    assert str(caught.value).startswith(text)


def test_one_place_of_a_probe(tmp_path: Path) -> None:
    found = find_probe(load(written(tmp_path), {}), "zones/b")
    assert (found.name, found.place, found.pool) == ("zones/b", "b", "tcp://dask:8786")


def test_an_hour_s_budget_of_the_group_is_the_most(tmp_path: Path) -> None:
    allowed = allowed_load(load(written(tmp_path), {}))
    assert (allowed.requests, allowed.duration_ns) == (5_000_000, 900 * NS)
    path = written(tmp_path)
    path.write_text(path.read_text().replace("5000000", "0"))
    assert allowed_load(load(path, {})).requests > 10**15, "0 is no limit"


def test_a_broken_configuration_is_reported_whole(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = written(tmp_path)
    path.write_text(path.read_text().replace("every: 10m", "evry: 10m"))
    assert run(["try", "sum", "--config", str(path)]) == 3
    assert "did you mean 'every'?" in capsys.readouterr().err
