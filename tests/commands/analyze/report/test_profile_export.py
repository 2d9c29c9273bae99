"""The profile export: perf_analyzer's schema, valid JSON whatever the tensors hold, and what becomes of a bad disk."""

from __future__ import annotations

import errno
import json
from collections.abc import AsyncGenerator
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from exporter.commands.analyze.report.profile_export import ProfileExport, tensor_value
from exporter.core.errors import ConfigError, WorkerLostError
from exporter.core.facts import ModelFacts, TensorSpec
from exporter.core.outcome import Outcome, Reason
from exporter.core.probe import InputOptions, LoadLevel, Mode, Probe
from exporter.core.units import MS, NS
from exporter.core.window import ConnectionTimes, LevelEnd
from exporter.engine.plan import LevelEvent, LevelPlan, LevelStarted
from exporter.sweep.conductor import Sweep
from tests.builders import concurrency, make_columns, make_facts, make_probe, make_window
from tests.metrics.results import rate

AHEAD_NS = 1_700_000_000 * NS
FACTS = make_facts(inputs=(TensorSpec("INPUT0", "INT32", (2,)),))


class FakeWorker:
    """Plays a level's events."""

    def __init__(self, events: list[LevelEvent], lost: WorkerLostError | None = None) -> None:
        self.events = events
        self.lost = lost
        self.calls: list[str] = []
        self.sent = 0
        self.asked = self.tokens = 0

    async def preflight(self, probe: Probe) -> ModelFacts:
        self.calls.append("preflight")
        return FACTS

    async def run_level(self, plan: LevelPlan) -> AsyncGenerator[LevelEvent, None]:
        for event in self.events:
            yield event
        if self.lost:
            raise self.lost

    async def served_version(self, probe: Probe) -> str:
        return FACTS.version

    async def silence(self) -> None:
        """It sends nothing."""

    async def stop_level(self) -> None:
        self.calls.append("stop")

    async def end_sweep(self) -> None:
        self.calls.append("end")

    async def kill(self) -> None:
        self.calls.append("kill")


def export(path: Path, *levels: LoadLevel, facts: ModelFacts = FACTS, **changes: Any) -> dict[str, Any]:
    """The document of levels with one window each."""
    file = ProfileExport(path, AHEAD_NS)
    for level in levels:
        file.level_started(LevelPlan("s", make_probe(**changes), facts, level, 100, NS))
        file.window_measured(make_window())
        file.level_ended()
    file.close()
    document: dict[str, Any] = json.loads(path.read_text())
    return document


async def test_a_sweep_of_two_levels(tmp_path: Path) -> None:
    """Times of the wall clock, contiguous windows, ok requests in the order of their end, warm-up left out."""
    outcomes = [Outcome.OK, Outcome.TIMEOUT, Outcome.OK]
    events: list[LevelEvent] = [
        LevelStarted(ConnectionTimes()),
        make_window(0, warm_up=True),
        make_window(1, columns=make_columns([1.0, 500.0, 2.5], outcomes=outcomes, start_ns=11 * NS)),
        make_window(2, columns=make_columns([3.0], start_ns=12 * NS)),
        LevelEnd(Reason.NONE, "", 5),
    ]
    path = tmp_path / "export.json"
    file = ProfileExport(path, AHEAD_NS)
    inner = FakeWorker(events)
    probe = make_probe(levels=(concurrency(2), rate(50)))
    result = await Sweep(probe, [], watchers=[file]).run(lambda: nullcontext(inner))
    assert [measurement.windows_run for measurement in result.measurements] == [2, 2]
    file.close()

    assert inner.calls == ["preflight", "end"]
    document = json.loads(path.read_text())
    assert {key: document[key] for key in ("service_kind", "endpoint")} == {"service_kind": "triton", "endpoint": ""}
    first, second = document["experiments"]
    assert first["experiment"] == {"mode": "concurrency", "value": 2}
    assert second["experiment"] == {"mode": "request_rate", "value": 50.0}
    wall = [AHEAD_NS + second * NS for second in (11, 12, 13)]
    assert first["window_boundaries"] == wall
    assert first["failed_requests"] == {"timeout": 1}
    assert [(each["timestamp"], each["response_timestamps"]) for each in first["requests"]] == [
        (wall[0], [wall[0] + MS]),
        (wall[0], [wall[0] + 2_500_000]),
        (wall[1], [wall[1] + 3 * MS]),
    ]
    assert list(first["requests"][0]) == ["timestamp", "request_inputs", "response_timestamps", "response_outputs"]
    assert first["requests"][0]["response_outputs"] == [{}]
    assert len(first["requests"][0]["request_inputs"]["INPUT0"]) == 2


async def test_a_level_that_is_left_early_is_whole_json(tmp_path: Path) -> None:
    path = tmp_path / "export.json"
    file = ProfileExport(path, AHEAD_NS)
    worker = FakeWorker([make_window(0)], WorkerLostError(Reason.WORKER_CRASH, "gone"))
    result = await Sweep(make_probe(), [], watchers=[file]).run(lambda: nullcontext(worker))
    assert result.reason is Reason.WORKER_CRASH
    file.close()
    [experiment] = json.loads(path.read_text())["experiments"]
    assert len(experiment["requests"]) == 1
    assert "failed_requests" not in experiment


def test_an_export_of_nothing_is_taken_away(tmp_path: Path) -> None:
    """The same command line must work again."""
    path = tmp_path / "export.json"
    for _ in range(2):
        ProfileExport(path, AHEAD_NS).close()
        assert not path.exists()


def test_many_rows_are_written_in_parts(tmp_path: Path) -> None:
    file = ProfileExport(tmp_path / "x.json", 0)
    file.level_started(LevelPlan("s", make_probe(), FACTS, concurrency(1), 100, NS))
    file.window_measured(make_window(columns=make_columns([1.0] * 20_000)))
    file.window_measured(make_window(1, columns=make_columns([1.0], outcomes=[Outcome.TIMEOUT])))
    file.level_ended()
    file.close()
    [experiment] = json.loads((tmp_path / "x.json").read_text())["experiments"]
    assert len(experiment["requests"]) == 20_000
    assert len(experiment["window_boundaries"]) == 3


def test_sequences_and_the_responses_of_streams(tmp_path: Path) -> None:
    outcomes = [Outcome.OK, Outcome.TIMEOUT, Outcome.OK, Outcome.OK]
    columns = replace(
        make_columns([30.0, 20.0, 10.0, 5.0], outcomes=outcomes),
        responses=np.array([2, 1, 0, 1], np.uint32),
        response_ns=np.array([11, 12, 13, 14], np.int64) * NS,
        sequence_ids=np.array([7, 7, 2**62, 9], np.int64),
    )
    file = ProfileExport(tmp_path / "x.json", 0)
    file.level_started(LevelPlan("s", make_probe(), FACTS, concurrency(1), 100, NS))
    file.window_measured(make_window(columns=columns))
    file.level_ended()
    file.close()
    [experiment] = json.loads((tmp_path / "x.json").read_text())["experiments"]
    assert [
        (each["sequence_id"], each["response_timestamps"], each["response_outputs"]) for each in experiment["requests"]
    ] == [(7, [11 * NS, 12 * NS], [{}, {}]), (2**62, [], []), (9, [14 * NS], [{}])]
    assert next(iter(experiment["requests"][0])) == "timestamp"


@pytest.mark.parametrize(
    ("level", "mode", "value"),
    [
        (LoadLevel(Mode.INTERVALS, 85.7, "iv"), "request_rate", 85.0),
        (LoadLevel(Mode.SCHEDULE, 30.0, "plan", duration_ns=2 * NS), "request_rate", 15.0),
        (LoadLevel(Mode.PERIODIC, 4.0, "4:8:2"), "concurrency", 4),
    ],
)
def test_other_loads(tmp_path: Path, level: LoadLevel, mode: str, value: float) -> None:
    [experiment] = export(tmp_path / "x.json", level)["experiments"]
    assert experiment["experiment"] == {"mode": mode, "value": value}


@pytest.mark.parametrize("shape", [(2000,), (-1,)])
def test_inputs_that_are_big_or_can_not_be_made_are_left_out(tmp_path: Path, shape: tuple[int, ...]) -> None:
    facts = make_facts(inputs=(TensorSpec("INPUT0", "FP32", shape),))
    [experiment] = export(tmp_path / "x.json", concurrency(1), facts=facts)["experiments"]
    assert experiment["requests"][0]["request_inputs"] == {}


def test_inputs_from_files_are_left_out(tmp_path: Path) -> None:
    [experiment] = export(tmp_path / "x.json", concurrency(1), input=InputOptions(source="files"))["experiments"]
    assert experiment["requests"][0]["request_inputs"] == {}


@pytest.mark.parametrize(
    ("tensor", "value"),
    [
        (np.array([[1.5, np.nan], [np.inf, -np.inf]], np.float32), [1.5, "NaN", "Infinity", "-Infinity"]),
        (np.array([7], np.int64), 7),
        (np.array([], np.int64), ""),
        (np.array([True, False]), [True, False]),
        (np.array([0.5], np.float16), 0.5),
        (np.array([b"one", b"tw\xff"], np.object_), ["one", "tw�"]),
        (np.array([2**64 - 1], np.uint64), 2**64 - 1),
    ],
)
def test_tensors(tensor: np.ndarray[Any, np.dtype[Any]], value: object) -> None:
    assert tensor_value(tensor) == value
    json.dumps(tensor_value(tensor), allow_nan=False)


def test_an_existing_file_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    path.write_text("precious")
    with pytest.raises(ConfigError, match="exists already"):
        ProfileExport(path)
    assert path.read_text() == "precious"
    with pytest.raises(ConfigError, match="No such file"):
        ProfileExport(tmp_path / "gone" / "x.json")


def test_a_full_disk_is_reported_at_the_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The run continues: no window raises."""
    path = tmp_path / "x.json"
    path.symlink_to("/dev/full")
    really_open = Path.open
    monkeypatch.setattr(Path, "open", lambda self, _mode, **options: really_open(self, "w", **options))
    file = ProfileExport(path)
    file.level_started(LevelPlan("s", make_probe(), FACTS, concurrency(1), 100, NS))
    for index in range(3):
        file.window_measured(make_window(index, columns=make_columns([1.0] * 5000)))
    file.level_ended()
    with pytest.raises(OSError, match=r"x\.json") as error:
        file.close()
    assert error.value.errno == errno.ENOSPC
