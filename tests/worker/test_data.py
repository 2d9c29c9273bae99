"""In which order the steps of a probe's data are sent."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from exporter.core.probe import InputOptions, LoadLevel, Mode, SequenceOptions
from exporter.worker.data import Data
from tests.builders import concurrency
from tests.engine.fakes import FakeService, make_plan

SCHEDULE = LoadLevel(Mode.SCHEDULE, 5.0, "plan")


@pytest.mark.parametrize(
    ("level", "member", "expected"),
    [
        (concurrency(1), 0, [0, 1, 2, 3, 4]),
        (concurrency(1), 1, [2, 3, 4, 0, 1]),
        # The cold request is ahead of the schedule.
        (SCHEDULE, 0, [4, 0, 1, 2, 3]),
    ],
)
async def test_single_requests(tmp_path: Path, level: LoadLevel, member: int, expected: list[int]) -> None:
    assert (await order(tmp_path, level, member, None))[0] == expected


async def test_sequences_begin_where_a_stream_does(tmp_path: Path) -> None:
    found = await order(tmp_path, concurrency(1), 1, SequenceOptions())
    assert found == ([0, 1, 2, 3, 4], [range(3), range(3, 5)])


async def order(
    path: Path, level: LoadLevel, member: int, sequences: SequenceOptions | None
) -> tuple[list[int], list[range]]:
    """The steps by their numbers, and the streams, for this one of two workers."""
    file = path / "data.json"
    steps = [{"INPUT0": [float(number)] * 16, "timestamp": number} for number in range(5)]
    file.write_text(json.dumps({"data": [steps[:3], steps[3:]]}))
    plan = make_plan(level)
    probe = replace(plan.probe, input=InputOptions(source="files", paths=(str(file),)), sequences=sequences)
    plan = replace(plan, probe=probe, member=member, members=2)
    requests = await Data().requests(plan, FakeService().control(probe.target, 0))
    return [int(step.inputs["INPUT0"].flat[0]) for step in requests.steps], requests.streams
