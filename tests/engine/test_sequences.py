"""Sequences: whatever becomes of the requests, each is sent in order, and each that was begun is ended."""

from __future__ import annotations

import itertools
import random
from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.core.outcome import Outcome
from exporter.core.probe import SequenceOptions
from exporter.engine.sequences import MAX_ID, Sequences, Turn

ONE_STEP = ((0,),)


def lengths(options: SequenceOptions, streams: tuple[tuple[int, ...], ...]) -> list[int]:
    sequences = Sequences(options, streams, 1, 7)
    found = []
    for _ in range(400):
        turns = [sequences.take(0)]
        while not turns[-1].place.end:
            sequences.ended(turns[-1], Outcome.OK, was_sent=True)
            turns.append(sequences.take(0))
        sequences.ended(turns[-1], Outcome.OK, was_sent=True)
        assert [turn.place.start for turn in turns] == [True] + [False] * (len(turns) - 1)
        assert len({turn.place.sequence_id for turn in turns}) == 1
        found.append(len(turns))
    return found


@pytest.mark.parametrize(
    ("length", "variation", "low", "high"),
    [
        (1, 0.0, 1, 1),
        (5, 0.0, 5, 5),
        (20, 0.2, 16, 24),
        (4, 0.2, 4, 4),
        (1, 1.0, 1, 2),
        (3, 1.0, 1, 6),
        (0, 0.2, 16, 24),
    ],
)
def test_lengths(length: int, variation: float, low: int, high: int) -> None:
    options = SequenceOptions(length=length, length_variation_ratio=variation)
    found = lengths(options, ONE_STEP)
    assert (min(found), max(found)) == (low, high)
    assert found == lengths(options, ONE_STEP)


@pytest.mark.parametrize(
    ("length", "expected"), [(0, [[0, 1, 2], [3, 4], [0, 1, 2]]), (4, [[0, 1, 2, 0], [3, 4, 3, 4], [0, 1, 2, 0]])]
)
def test_each_sequence_takes_the_next_stream(length: int, expected: list[list[int]]) -> None:
    """Without a length a sequence is as long as its stream; with one it begins its stream again."""
    options = SequenceOptions(length=length, length_variation_ratio=0.0)
    sequences = Sequences(options, ((0, 1, 2), (3, 4)), 1, 0)
    for steps in expected:
        found = []
        for _ in steps:
            turn = sequences.take(0)
            sequences.ended(turn, Outcome.OK, was_sent=True)
            found.append(turn.step)
        assert found == steps
        assert turn.place.end


def test_ids_come_from_the_range_and_none_is_there_twice() -> None:
    sequences = Sequences(
        SequenceOptions(length=2, length_variation_ratio=0.0, start_id=10, id_range=3), ONE_STEP, 3, 0
    )
    first = [sequences.take(slot) for slot in range(3)]
    assert [turn.place.sequence_id for turn in first] == [10, 11, 12]
    for turn in (first[1], sequences.take(1)):
        sequences.ended(turn, Outcome.OK, was_sent=True)
    # All but 11 are still in use.
    assert sequences.take(1).place.sequence_id == 11


def test_ids_begin_at_random() -> None:
    found = {Sequences(SequenceOptions(), ONE_STEP, 1, 0).take(0).place.sequence_id for _ in range(20)}
    assert len(found) == 20
    assert all(1 <= number <= MAX_ID for number in found)


def test_slots_take_turns() -> None:
    sequences = Sequences(SequenceOptions(length=9, serial=True), ONE_STEP, 3, 0)
    turns = []
    for expected in (0, 1, 2):
        slot = sequences.ready()
        assert slot == expected
        turns.append(sequences.take(slot))
    assert sequences.ready() is None
    sequences.ended(turns[1], Outcome.OK, was_sent=True)
    assert sequences.ready() == 1


def test_a_sequence_that_is_not_serial_has_several_in_flight_but_for_its_ends() -> None:
    sequences = Sequences(SequenceOptions(length=4, length_variation_ratio=0.0), ONE_STEP, 1, 0)
    first = sequences.take(0)
    assert sequences.ready() is None
    sequences.ended(first, Outcome.OK, was_sent=True)
    middle = []
    for _ in range(2):
        assert sequences.ready() == 0
        middle.append(sequences.take(0))
    assert sequences.ready() is None
    sequences.ended(middle[1], Outcome.OK, was_sent=True)
    assert sequences.ready() is None
    sequences.ended(middle[0], Outcome.OK, was_sent=True)
    assert sequences.ready() == 0
    assert sequences.take(0).place.end


@pytest.mark.parametrize(
    ("position", "outcome", "was_sent", "then"),
    [
        ("start", Outcome.TIMEOUT, True, "end"),  # the server may have begun it
        ("start", Outcome.SERVER_ERROR, True, "end"),
        ("start", Outcome.CONNECT_ERROR, True, "end"),
        ("start", Outcome.CONNECT_ERROR, False, "start"),
        ("start", Outcome.TIMEOUT, False, "start"),
        ("start", Outcome.CLIENT_ERROR, True, "start"),
        ("start", Outcome.OVERLOAD, True, "start"),
        ("middle", Outcome.TIMEOUT, True, "end"),
        ("middle", Outcome.CONNECT_ERROR, False, "end"),
        ("middle", Outcome.SEQUENCE_CONFLICT, True, "start"),  # the server knows nothing of it
        ("middle", Outcome.WRONG_OUTPUT, True, "middle"),
        ("end", Outcome.TIMEOUT, True, "start"),
        ("end", Outcome.SERVER_ERROR, True, "start"),
        ("end", Outcome.OVERLOAD, True, "end"),  # turned away: it must be reported again
        ("end", Outcome.CONNECT_ERROR, False, "end"),
    ],
)
def test_what_follows_a_failure(position: str, outcome: Outcome, was_sent: bool, then: str) -> None:
    sequences = Sequences(SequenceOptions(length=4, length_variation_ratio=0.0), ONE_STEP, 1, 0)
    for _ in range({"start": 0, "middle": 1, "end": 3}[position]):
        sequences.ended(sequences.take(0), Outcome.OK, was_sent=True)
    failed = sequences.take(0)
    sequences.ended(failed, outcome, was_sent=was_sent)
    following = sequences.take(0)
    place = following.place
    assert (place.start, place.end) == (then == "start", then == "end")
    assert (place.sequence_id == failed.place.sequence_id) == (then != "start")


@dataclass
class StrictServer:
    """Keeps the sequences that it was informed of, as Triton's batcher does."""

    known: set[int] = field(default_factory=set)

    def take(self, turn: Turn) -> bool:
        """False: a conflict."""
        place = turn.place
        if place.start:
            assert place.sequence_id not in self.known
            self.known.add(place.sequence_id)
        elif place.sequence_id not in self.known:
            return False
        if place.end:
            self.known.discard(place.sequence_id)
        return True


@given(st.integers(0, 2**32), st.integers(1, 5), st.booleans(), st.integers(1, 6))
def test_every_sequence_that_was_begun_is_ended(seed: int, slots: int, serial: bool, length: int) -> None:
    """Any mixture of responses, in any order, in which a request that fails may have reached the server or not."""
    rng = random.Random(seed)
    options = SequenceOptions(length=length, length_variation_ratio=0.5, start_id=1, id_range=slots, serial=serial)
    sequences, server, in_flight = Sequences(options, ONE_STEP, slots, seed), StrictServer(), list[Turn]()

    def end(turn: Turn, *, fails: float) -> None:
        outcome, was_sent = Outcome.OK, True
        dice = rng.random()
        if dice < fails / 3:
            outcome, was_sent = Outcome.CONNECT_ERROR, False
        elif dice < fails * 2 / 3:
            outcome = Outcome.OVERLOAD
        elif not server.take(turn):
            outcome = Outcome.SEQUENCE_CONFLICT
        elif dice < fails:
            outcome = Outcome.TIMEOUT
        sequences.ended(turn, outcome, was_sent=was_sent)

    for _ in range(60):
        slot = sequences.ready() if rng.random() < 0.7 else None
        if slot is not None:
            in_flight.append(sequences.take(slot))
            assert sum(turn.slot == slot for turn in in_flight) == 1 or not serial
        elif in_flight:
            end(in_flight.pop(rng.randrange(len(in_flight))), fails=0.3)
    for turn in in_flight:
        end(turn, fails=0.3)
    for turn in sequences.close():
        assert turn.place.end
        end(turn, fails=0.0)
    assert server.known == set()
    assert list(itertools.islice(sequences.close(), 1)) == []
