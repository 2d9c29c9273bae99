from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.core.outcome import Reason
from exporter.core.probe import LoadLevel, Mode, SequenceOptions
from exporter.core.units import MS
from exporter.core.window import LevelEnd
from exporter.engine.level_setup import places_in_flight
from exporter.worker.sharing import join_ends, share_plan
from tests.builders import concurrency
from tests.engine.fakes import make_plan, request_rate


@given(st.integers(1, 16), st.integers(1, 300), st.integers(1, 300), st.integers(1, 300))
def test_what_is_counted_adds_up(workers: int, calls: int, max_in_flight: int, max_requests: int) -> None:
    plan = make_plan(concurrency(calls), max_in_flight=max_in_flight, max_requests=max_requests)
    parts = share_plan(plan, workers)
    assert len(parts) == min(workers, calls, max_in_flight, max_requests)
    assert sum(part.level.value for part in parts) == calls
    assert sum(part.probe.stop.max_in_flight for part in parts) == max_in_flight
    assert sum(part.max_requests for part in parts) == max_requests
    assert sum(part.max_tokens for part in parts) == plan.max_tokens
    assert [(part.member, part.members) for part in parts] == [(n, len(parts)) for n in range(len(parts))]
    for counts in ([part.level.value for part in parts], [part.max_requests for part in parts]):
        assert min(counts) >= 1
        assert max(counts) - min(counts) <= 1


@given(st.integers(2, 16), st.integers(0, 100))
def test_the_requests_that_warm_up_add_up(workers: int, warm_up: int) -> None:
    plan = make_plan(concurrency(16))
    measurement = replace(plan.probe.measurement, warm_up_requests=warm_up)
    parts = share_plan(replace(plan, probe=replace(plan.probe, measurement=measurement)), workers)
    assert sum(part.probe.measurement.warm_up_requests for part in parts) == warm_up


@pytest.mark.parametrize(
    ("level", "members"),
    [
        (request_rate(0.5), 4),
        (LoadLevel(Mode.INTERVALS, 0.1, "gaps"), 4),
        (LoadLevel(Mode.SCHEDULE, 3.0, "night"), 3),
        (LoadLevel(Mode.SCHEDULE, 1.0, "night"), 1),
    ],
)
def test_an_open_loop_is_taken_in_turns(level: LoadLevel, members: int) -> None:
    parts = share_plan(make_plan(level), 4)
    assert [part.level for part in parts] == [level] * members


def test_streams_keep_the_level_and_its_starts() -> None:
    """Each worker has every so-many-th of the whole level's streams."""
    level = LoadLevel(Mode.STREAMS, 5.0, "5", step_interval_ns=300 * MS)
    parts = share_plan(make_plan(level), 3)
    assert [part.level for part in parts] == [level] * 3
    assert [places_in_flight(part) for part in parts] == [2, 2, 1]
    assert len(share_plan(make_plan(level), 9)) == 5


def test_the_first_that_had_a_reason_states_why() -> None:
    ends = [LevelEnd(Reason.NONE, "", 5), LevelEnd(Reason.ERROR_RATIO, "bad", 6, 1), LevelEnd(Reason.TLS, "x", 7, 2)]
    assert join_ends(ends, 3) == LevelEnd(Reason.ERROR_RATIO, "one of 3 workers: bad", 18, 3)
    assert join_ends(ends[:1], 3) == ends[0]


def test_sequences_and_their_ids_are_dealt_out_too() -> None:
    plan = make_plan(request_rate(100))
    plan = replace(plan, probe=replace(plan.probe, sequences=SequenceOptions(count=5, start_id=10, id_range=6)))
    parts = [part.probe.sequences for part in share_plan(plan, 3)]
    assert [(part.count, part.start_id, part.id_range) for part in parts if part] == [
        (2, 10, 2),
        (2, 12, 2),
        (1, 14, 2),
    ]
    assert len(share_plan(plan, 9)) == 5
    assert [part.probe.sequences for part in share_plan(make_plan(concurrency(2)), 2)] == [None, None]
