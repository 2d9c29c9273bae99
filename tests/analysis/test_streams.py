"""The figures of streams, of rows that were written by hand."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from exporter.analysis.streams import stream_figures
from exporter.core.outcome import Outcome
from exporter.core.probe import LoadLevel, Mode
from exporter.core.units import MS
from exporter.core.window import RecordColumns

LEVEL = LoadLevel(Mode.STREAMS, 2.0, "2", step_interval_ns=300 * MS)
OK, BAD, GIVEN_UP = Outcome.OK, Outcome.SERVER_ERROR, Outcome.CANCELLED


def columns(*rows: tuple[int, int, int, Outcome, int, bool]) -> RecordColumns:
    """Rows of deadline, sent and last in milliseconds, outcome, sequence, and whether it was the sequence's last."""
    found = RecordColumns.empty(len(rows))
    for number, (deadline, sent, last, outcome, _, end) in enumerate(rows):
        found.intended_ns[number] = deadline * MS
        found.sent_ns[number] = sent * MS
        found.last_ns[number] = last * MS
        found.outcome[number] = outcome
        found.sequence_end[number] = end
    return replace(found, sequence_ids=np.array([row[4] for row in rows], np.int64))


def test_what_counts_as_late_and_as_a_stream() -> None:
    figures = stream_figures(
        columns(
            (0, 0, 30, OK, 7, False),
            (300, 300, 600, OK, 7, False),  # as the next one is due: in time
            (600, 600, 901, OK, 7, True),  # a millisecond too late
            (10, 12, 72, OK, 8, False),
            (310, 310, 340, OK, 8, True),
            (50, 50, 60, BAD, 9, False),
            (350, 350, 360, GIVEN_UP, 10, False),
        ),
        LEVEL,
        (50.0,),
    )
    assert (figures.steps, figures.late) == (6, 2)
    assert (figures.streams, figures.on_time) == (3, 1)
    assert figures.late_ratio == pytest.approx(2 / 6)
    assert figures.on_time_ratio == pytest.approx(1 / 3)
    assert figures.final_latency is not None
    assert figures.final_latency.count == 2
    assert (figures.final_latency.min_ns, figures.final_latency.max_ns) == (30 * MS, 301 * MS)
    # (30 + 300 + 301 + 60 + 30) ms of work for five steps of 300 ms.
    assert figures.real_time_factor == pytest.approx(721 / 1500)


def test_without_a_response_there_is_no_figure() -> None:
    figures = stream_figures(columns((0, 0, 5, GIVEN_UP, 1, True)), LEVEL, (50.0,))
    assert figures.final_latency is None
    assert figures.real_time_factor is None
    assert figures.late_ratio is None
    assert figures.on_time_ratio is None
