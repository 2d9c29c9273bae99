from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from exporter.core.outcome import Outcome
from exporter.core.window import RecordColumns
from exporter.engine.recorder import DetailRecorder, Recorder, TokenRecorder
from exporter.storage.account import Account
from exporter.transport.call import Call


def call(number: int) -> Call:
    it = Call(0)
    it.intended_ns, it.sent_ns, it.send_done_ns, it.first_ns, it.last_ns = (number * 10 + k for k in range(5))
    it.responses, it.bytes_out, it.bytes_in = number, 5_000_000_000 + number, number
    it.outcome = Outcome(number % len(Outcome))
    return it


def test_keeps_every_column() -> None:
    recorder = Recorder(lambda _: None)
    recorder.record(call(7))
    columns = recorder.drain()
    assert columns.intended_ns.tolist() == [70]
    assert columns.sent_ns.tolist() == [71]
    assert columns.send_done_ns.tolist() == [72]
    assert columns.first_ns.tolist() == [73]
    assert columns.last_ns.tolist() == [74]
    assert columns.responses.tolist() == [7]
    assert columns.outcome.tolist() == [Outcome.OVERLOAD]
    assert columns.bytes_out.tolist() == [5_000_000_007]
    assert columns.bytes_in.tolist() == [7]
    assert [array.dtype for array in (columns.last_ns, columns.responses, columns.outcome)] == [
        np.dtype(kind) for kind in (np.int64, np.uint32, np.uint8)
    ]


@given(st.lists(st.integers(0, 25), max_size=6), st.integers(1, 10))
def test_every_row_is_drained_once_and_in_order(batches: list[int], chunk_rows: int) -> None:
    recorder = Recorder(lambda _: None, chunk_rows=chunk_rows)
    number = 0
    for batch in batches:
        expected = list(range(number, number + batch))
        for row in expected:
            recorder.record(call(row))
        number += batch
        assert len(recorder) == batch
        columns = recorder.drain()
        assert columns.bytes_in.tolist() == expected
        assert [row // 10 for row in columns.last_ns.tolist()] == expected
    assert len(recorder) == 0


def test_states_when_it_is_full_and_continues() -> None:
    full: list[int] = []
    recorder = Recorder(full.append, max_rows=20, chunk_rows=10)
    for number in range(45):
        recorder.record(call(number))
    assert full == [20, 30, 40]
    assert len(recorder.drain()) == 45
    for number in range(19):
        recorder.record(call(number))
    assert full == [20, 30, 40]


@given(st.lists(st.tuples(st.integers(0, 30), st.integers(0, 30)), max_size=6), st.integers(1, 10))
def test_states_when_as_many_rows_are_held_as_were_asked_for(steps: list[tuple[int, int]], chunk_rows: int) -> None:
    reported: list[int] = []
    recorder = Recorder(reported.append, chunk_rows=chunk_rows)
    for mark, rows in steps:
        reported.clear()
        recorder.notify_at(mark)
        for number in range(rows):
            recorder.record(call(number))
        assert reported == ([mark] if 0 < mark <= rows else [])
        assert recorder.drain().bytes_in.tolist() == list(range(rows))


def test_it_can_be_asked_while_rows_are_held_and_again_after_a_drain() -> None:
    reported: list[int] = []
    recorder = Recorder(reported.append)
    for mark, rows in ((0, 5), (3, 1), (8, 4), (0, 3)):
        recorder.notify_at(mark)
        for number in range(rows):
            recorder.record(call(number))
    assert reported == [8]  # 3 was behind when it was asked for
    recorder.notify_at(2)
    for _ in range(2):
        recorder.drain()
        recorder.record(call(1))
        recorder.record(call(2))
    assert reported == [8, 2, 2]


def test_details_are_kept_beside_the_columns() -> None:
    reported: list[int] = []
    recorder = DetailRecorder(reported.append, max_rows=6, chunk_rows=2)
    for number, stamps in enumerate([[1, 2, 3], [], [4], [5, 6]]):
        it = call(number)
        it.response_ns, it.responses = stamps, len(stamps)
        it.sequence_id, it.sequence_end = 100 + number, number % 2 == 1
        recorder.record(it)
    columns = recorder.drain()
    assert columns.response_ns.tolist() == [1, 2, 3, 4, 5, 6]
    assert columns.responses.tolist() == [3, 0, 1, 2]
    assert columns.sequence_ids.tolist() == [100, 101, 102, 103]
    assert columns.sequence_end.tolist() == [0, 1, 0, 1]
    assert columns.intended_ns.tolist() == [0, 10, 20, 30]
    assert 6 in reported
    assert (len(recorder), len(recorder.drain().response_ns)) == (0, 0)
    both = RecordColumns.concatenate([columns, columns])
    assert both.response_ns.tolist() == [1, 2, 3, 4, 5, 6] * 2


def test_tokens_are_kept_and_counted_against_their_budget() -> None:
    """Uncounted tokens cost their events."""
    spent: list[int] = []
    account = Account()
    account.note("a sweep")
    recorder = TokenRecorder(lambda _: None, 50, lambda: spent.append(len(recorder)), account.tokens_cell)
    for prompt, output, responses in ((10, 5, 5), (10, 5, 3), (-1, -1, 20), (-1, 0, 9), (1, 0, 1)):
        it = call(responses)
        it.response_ns = list(range(responses))
        it.opened_ns, it.prompt_tokens, it.output_tokens, it.cached_tokens, it.early_end = 1, prompt, output, 2, True
        recorder.record(it)
    assert spent == [5]
    assert (account.tokens, account.tokens_since_note) == (51, 51)
    columns = recorder.drain()
    assert (columns.prompt_tokens.tolist(), columns.output_tokens.tolist()) == ([10, 10, -1, -1, 1], [5, 5, -1, 0, 0])
    assert (columns.opened_ns.tolist(), columns.cached_tokens.tolist()) == ([1] * 5, [2] * 5)
    assert (columns.early_ends.tolist(), len(columns.response_ns)) == ([1] * 5, 38)
    assert len(recorder.drain().prompt_tokens) == 0
