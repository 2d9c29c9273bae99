"""Figures in tokens, from rows whose moments are known."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.analysis.tokens import keeps_token_limits, per_output_tokens_ns, token_figures
from exporter.analysis.window_counts import count_window, good_requests
from exporter.core.outcome import Outcome
from exporter.core.probe import Slo
from exporter.core.result import TokenFigures, TokenSource
from exporter.core.units import MS, NS
from exporter.core.window import RecordColumns
from tests.builders import concurrency, make_columns, make_probe, make_target, make_window

START = 10 * NS
PERCENTILES = (50.0, 99.0)

Request = dict[str, Any]


def columns_of(*requests: Request) -> RecordColumns:
    """Rows of requests, each with the moments of its `events` in milliseconds after it was sent, and its tokens; its
    stream opens at `opened`, by default with its first event."""
    rows: list[Request] = [
        {"events": [], "opened": None, "prompt": -1, "output": -1, "cached": -1, "early": 0} | r for r in requests
    ]
    base = make_columns(
        [max([*row["events"], 1]) for row in rows], outcomes=[r.get("outcome", Outcome.OK) for r in rows]
    )
    base.responses[:] = [len(row["events"]) for row in rows]
    base.first_ns[:] = [START + round((row["events"] or [0])[0] * MS) for row in rows]
    opened = [(row["opened"] if row["opened"] is not None else (row["events"] or [None])[0]) for row in rows]
    moments = [START + round(event * MS) for row in rows for event in row["events"]]
    return replace(
        base,
        response_ns=np.array(moments, np.int64),
        opened_ns=np.array([0 if at is None else START + round(at * MS) for at in opened], np.int64),
        prompt_tokens=np.array([row["prompt"] for row in rows], np.int64),
        output_tokens=np.array([row["output"] for row in rows], np.int64),
        cached_tokens=np.array([row["cached"] for row in rows], np.int64),
        early_ends=np.array([row["early"] for row in rows], np.int64),
    )


def figures_of(*requests: Request, seconds: float = 2.0) -> TokenFigures:
    found = token_figures(columns_of(*requests), round(seconds * NS), PERCENTILES)
    assert found is not None
    return found


def test_each_figure_by_its_definition() -> None:
    found = figures_of(
        {"opened": 5, "events": [40, 50, 70], "prompt": 10, "output": 4, "cached": 2},
        {"opened": 5, "events": [60, 61], "prompt": 20, "output": 2, "cached": 0, "early": 1},
    )
    assert (found.stream_open, found.first_token, found.per_output_token, found.inter_token) != (None,) * 4
    assert found.stream_open
    assert (found.stream_open.min_ns, found.stream_open.max_ns) == (5 * MS, 5 * MS)
    assert found.first_token
    assert (found.first_token.min_ns, found.first_token.max_ns) == (40 * MS, 60 * MS)
    # (70 - 40) / (4 - 1), though there are three events; and 1 / 1.
    assert found.per_output_token
    assert (found.per_output_token.min_ns, found.per_output_token.max_ns) == (MS, 10 * MS)
    assert found.inter_token
    assert (found.inter_token.count, found.inter_token.min_ns, found.inter_token.max_ns) == (3, MS, 20 * MS)
    assert (found.prompt_tokens, found.output_tokens, found.cached_tokens, found.chunks) == (30, 6, 2, 5)
    assert (found.output_tokens_per_second, found.early_ends, found.requests) == (3.0, 1, 2)
    assert found.source is TokenSource.COUNTED
    assert found.cached_ratio == pytest.approx(2 / 30)


def test_what_not_counted_is_absent() -> None:
    found = figures_of({"events": [40, 50], "prompt": 10, "output": 2}, {"events": [40, 50]})
    assert found.source is TokenSource.CHUNKS
    assert (found.output_tokens, found.prompt_tokens, found.output_tokens_per_second) == (None, None, None)
    assert found.chunks == 4
    assert found.per_output_token
    assert found.per_output_token.count == 1
    assert found.first_token
    assert found.first_token.count == 2


def test_one_event_has_no_pace() -> None:
    found = figures_of({"events": [40], "output": 9}, {"events": [40, 50], "output": 1})
    assert (found.per_output_token, found.output_tokens) == (None, 10)


def test_failed_requests_are_in_no_figure_but_are_paid_for() -> None:
    requests: list[Request] = [
        {"events": [40, 50], "prompt": 10, "output": 2},
        {"events": [1], "prompt": 10, "output": 5, "outcome": Outcome.SERVER_ERROR},
        {"events": [1, 2, 3], "outcome": Outcome.TIMEOUT},
    ]
    found = figures_of(*requests)
    assert (found.requests, found.output_tokens, found.chunks) == (1, 2, 2)
    assert found.inter_token
    assert (found.inter_token.count, found.inter_token.max_ns) == (1, 10 * MS)
    probe = make_probe(target=make_target(kind="openai"))
    counts = count_window(make_window(columns=columns_of(*requests)), concurrency(1), probe).tokens
    assert counts is not None
    assert (counts.prompt, counts.output) == (20, 7)
    assert (sum(counts.first_token_buckets), counts.first_token_sum_ns) == (1, 40 * MS)
    assert (sum(counts.per_output_token_buckets), counts.per_output_token_sum_ns) == (1, 10 * MS)
    warm_up = count_window(make_window(columns=columns_of(*requests), warm_up=True), concurrency(1), probe).tokens
    assert warm_up is not None
    assert (warm_up.prompt, sum(warm_up.first_token_buckets)) == (20, 0)


def test_responses_that_are_no_stream_have_tokens_alone() -> None:
    columns = columns_of({"prompt": 10, "output": 4}, {"prompt": 10, "output": 2})
    found = token_figures(columns, 2 * NS, PERCENTILES)
    assert found is not None
    assert (found.stream_open, found.first_token, found.per_output_token, found.inter_token) == (None,) * 4
    assert (found.output_tokens_per_second, found.chunks) == (3.0, None)


def test_other_targets_have_none() -> None:
    assert token_figures(make_columns([1, 2]), NS, PERCENTILES) is None
    assert count_window(make_window(), concurrency(1), make_probe()).tokens is None


GOOD: Request = {"events": [40, 50, 60], "output": 3}


@pytest.mark.parametrize(
    ("request_", "kept"),
    [
        (GOOD, True),
        (GOOD | {"events": [51, 55, 60]}, False),
        (GOOD | {"events": [40, 50, 61]}, False),
        (GOOD | {"events": [40, 41, 59.5]}, False),
        (GOOD | {"output": 2}, False),
        (GOOD | {"events": [40], "output": 1}, True),
        (GOOD | {"events": [40], "output": 5}, False),
        ({"events": [40, 50, 60]}, False),
        (GOOD | {"outcome": Outcome.TIMEOUT}, False),
    ],
    ids=["all", "ttft", "pace", "gap", "pace of two", "one token", "one event", "not counted", "failed"],
)
def test_a_request_is_good_if_it_keeps_every_limit(request_: Request, kept: bool) -> None:
    slo = Slo("chat", 0, 99.0, ("1",), 0.0, first_token_ns=50 * MS, per_output_token_ns=10 * MS, inter_token_ns=15 * MS)
    columns = columns_of({"events": [1, 2], "output": 2}, request_)
    assert good_requests(columns, concurrency(1), slo) == 1 + kept
    assert good_requests(columns, concurrency(1), replace(slo, latency_ns=MS)) == 0


def test_without_limits_on_tokens_all_keep_them() -> None:
    slo = Slo("fast", 20 * MS, 99.0, ("1",))
    assert keeps_token_limits(make_columns([1, 2]), slo).tolist() == [True, True]
    assert keeps_token_limits(make_columns([1, 2]), replace(slo, first_token_ns=1)).tolist() == [False, False]


@given(
    st.lists(
        st.tuples(st.lists(st.integers(1, 1000), min_size=1, max_size=6), st.integers(-1, 9), st.booleans()),
        min_size=1,
        max_size=12,
    )
)
def test_any_rows_give_what_they_give_one_by_one(rows: list[tuple[list[int], int, bool]]) -> None:
    requests: list[Request] = [
        {"events": sorted(events), "output": output, "outcome": Outcome.OK if ok else Outcome.TIMEOUT}
        for events, output, ok in rows
    ]
    paces = per_output_tokens_ns(columns_of(*requests)).tolist()
    expected = [
        (events[-1] - events[0]) * MS / (output - 1)
        for (events, output, ok) in ((sorted(e), o, k) for e, o, k in rows)
        if ok and output > 1 and len(events) > 1
    ]
    assert paces == pytest.approx(expected)
    found = token_figures(columns_of(*requests), NS, PERCENTILES)
    gaps = [b - a for events, _, ok in rows if ok for a, b in zip(sorted(events), sorted(events)[1:], strict=False)]
    assert found is not None
    assert (found.inter_token.count if found.inter_token else 0) == len(gaps)
    assert found.inter_token is None or found.inter_token.mean_ns == pytest.approx(np.mean(gaps) * MS)
