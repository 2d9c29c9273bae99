"""Sequences in the engine: however a level ends, those that it began are ended, within its budgets."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from exporter.core.outcome import Outcome, Reason
from exporter.core.probe import LoadLevel, Mode, SequenceOptions
from exporter.core.units import MS
from tests.builders import concurrency
from tests.engine.fakes import FakeService, Reply, Script, always, make_plan, request_rate
from tests.engine.test_level import Run, run_level

DEFAULT = SequenceOptions()


async def run(
    level: LoadLevel, script: Script, options: SequenceOptions = DEFAULT, *, stop_after: int = 3, **plan: Any
) -> Run:
    whole = make_plan(level, **plan)
    whole = replace(whole, probe=replace(whole.probe, sequences=options))
    service = FakeService(script)
    outcome = await run_level(whole, service, stop_after=stop_after, streams=[range(2)])
    assert outcome.end.sent == len(service.sent_ns) == len(outcome.rows)
    return outcome


def check_all_ended(run: Run, number_of_sequences: int) -> None:
    """In the order sent: a start, what follows it, an end; never more sequences at a time than there are slots."""
    under_way: set[int] = set()
    for body in run.service.bodies:
        _, sequence, start, end = json.loads(body)
        assert (sequence not in under_way) == start
        under_way.add(sequence)
        assert len(under_way) <= number_of_sequences
        if end:
            under_way.discard(sequence)
    assert under_way == set()


LEVELS = [
    (concurrency(3), 3),
    (request_rate(1000), 4),
    (LoadLevel(Mode.STREAMS, 3.0, "3", step_interval_ns=2 * MS), 3),
]


def slowly_failing(number: int) -> Reply:
    return Reply(Outcome.SERVER_ERROR if number % 7 == 6 else Outcome.OK, 0.5)


@pytest.mark.parametrize(("level", "slots"), LEVELS)
@pytest.mark.parametrize(
    ("script", "plan", "reason"),
    [
        (always(delay_ms=0.5), {}, Reason.NONE),
        (always(delay_ms=0.5), {"max_requests": 50}, Reason.REQUEST_BUDGET),
        (always(delay_ms=0.5), {"max_duration_ms": 50}, Reason.TIME_BUDGET),
        (slowly_failing, {}, Reason.ERROR_RATIO),
        (lambda number: Reply(delay_ms=None if number % 10 == 9 else 0.5), {"timeout_ms": 5}, Reason.ERROR_RATIO),
    ],
)
async def test_all_sequences_are_ended(
    level: LoadLevel, slots: int, script: Callable[[int], Reply], plan: dict[str, Any], reason: Reason
) -> None:
    stop_after = 1000 if reason is not Reason.NONE else 3
    found = await run(level, script, SequenceOptions(length=30), stop_after=stop_after, max_error_ratio=0.05, **plan)
    assert found.end.reason is reason
    assert found.end.sent <= plan.get("max_requests", 1_000_000)
    check_all_ended(found, slots)


async def test_more_sequences_than_calls_are_ended_in_rounds() -> None:
    options = SequenceOptions(count=5, length=1000)
    found = await run(request_rate(1000), always(delay_ms=0.5), options, max_in_flight=2)
    assert found.service.most_at_server <= 2
    check_all_ended(found, 5)
    ends = [json.loads(body)[3] for body in found.service.bodies]
    assert sum(ends) == sum(ends[-5:]) == 5


async def test_ends_are_in_the_columns() -> None:
    found = await run(concurrency(2), always(delay_ms=0.5), SequenceOptions(length=3, length_variation_ratio=0.0))
    ends = sum(json.loads(body)[3] for body in found.service.bodies)
    assert int(found.rows.sequence_end.sum()) == ends >= len(found.rows) // 3
    assert {json.loads(body)[0] for body in found.service.bodies} == {0, 1}


async def test_a_conflict_begins_a_new_sequence() -> None:
    found = await run(
        concurrency(1),
        lambda number: Reply(Outcome.CLIENT_ERROR, 0.2, "conflict") if number % 5 == 4 else Reply(delay_ms=0.2),
        max_error_ratio=1.0,
    )
    places = [json.loads(body) for body in found.service.bodies]
    assert set(found.outcomes) == {Outcome.OK, Outcome.SEQUENCE_CONFLICT}
    assert [start for _, _, start, _ in places[5::5]] == [True] * len(places[5::5])


async def test_what_finds_no_sequence_free_waits() -> None:
    found = await run(request_rate(2000), always(delay_ms=5), SequenceOptions(count=1, serial=True), stop_after=3)
    assert found.service.most_at_server == 1
    assert sum(window.backlog_growth for window in found.windows) > 50
