"""`triton-canary changes`: when a level of the archive changed."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest

from exporter.archive.columns import LEVEL_COLUMNS
from exporter.archive.rows import iso_time
from exporter.cli import run as run_cli

BEGIN = 1_767_571_200.0
DAY = 86_400.0
TIMES = BEGIN + np.arange(14 * 288) * 300.0


def series(step: float, at_day: float, noise: float = 0.03, night: float = 0.0) -> list[float]:
    random = np.random.default_rng(4)
    logs = random.normal(0, noise, len(TIMES)) + np.where(TIMES % DAY < 3600, night, 0.0)
    return list(np.exp(logs + np.where(BEGIN + at_day * DAY <= TIMES, np.log(step), 0.0)) * 20e6)


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    with (tmp_path / "2026-01-05.levels.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, LEVEL_COLUMNS)
        writer.writeheader()
        for at, value in zip(TIMES, series(1.2, 9.5), strict=True):
            row = dict.fromkeys(LEVEL_COLUMNS, "") | {"time": iso_time(at), "target": "t", "probe": "asr"}
            writer.writerow(row | {"mode": "concurrency", "level": "4", "p50_ns": f"{value:.0f}"})
        writer.writerow(dict.fromkeys(LEVEL_COLUMNS, "") | {"time": iso_time(BEGIN), "target": "t", "probe": "asr"})
    return tmp_path


def test_the_command(archive: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_cli(["changes", str(archive)]) == 0
    first, change = capsys.readouterr().out.splitlines()
    assert first == "t / asr, concurrency 4 (4032 sweeps):"
    assert change.startswith("  2026-01-14 ")
    assert change.endswith("ms -> 24 ms") or "+20" in change or "+19" in change
    assert run_cli(["changes", str(archive), "--json", "--least", "50"]) == 0
    (level,) = json.loads(capsys.readouterr().out)
    assert (level["probe"], level["sweeps"], level["changes"]) == ("asr", 4032, [])


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (["nowhere"], "nowhere"),
        ([".", "--probe", "tts"], "no level with figures"),
        ([".", "--since", "yesterday"], "yesterday"),
        ([".", "--timezone", "Europe/Berlim"], "zone"),
    ],
)
def test_what_cannot_be_done(
    archive: Path,
    arguments: list[str],
    problem: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(archive)
    assert run_cli(["changes", *arguments]) == 3
    assert problem in capsys.readouterr().err
