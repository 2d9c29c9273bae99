"""Which requests count in which figure."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.analysis import windows
from exporter.analysis.window_counts import count_window
from exporter.core.outcome import Outcome
from exporter.core.probe import LoadLevel, Mode, Slo
from exporter.core.result import duration_buckets
from exporter.core.units import MS, NS
from exporter.core.window import RecordColumns
from tests.builders import concurrency, make_columns, make_probe, make_window

OK, TIMEOUT, SERVER_ERROR, CANCELLED = Outcome.OK, Outcome.TIMEOUT, Outcome.SERVER_ERROR, Outcome.CANCELLED


def test_latency_holds_ok_requests_only() -> None:
    columns = make_columns([1, 2, 3], outcomes=[OK, SERVER_ERROR, OK])
    assert windows.latencies_ns(columns).tolist() == [1 * MS, 3 * MS]


def test_response_time_starts_at_the_intended_moment_and_counts_timeouts_at_their_limit() -> None:
    columns = make_columns([1, 700, 3], outcomes=[OK, TIMEOUT, SERVER_ERROR], lag_ms=5)
    times = windows.response_times_ns(columns, request_timeout_ns=100 * MS)
    assert times.tolist() == [6 * MS, 105 * MS]


def test_send_lag_is_of_all_that_was_sent() -> None:
    columns = make_columns([1, 1], outcomes=[OK, Outcome.CONNECT_ERROR], lag_ms=2)
    columns.sent_ns[1] = 0
    assert windows.send_lags_ns(columns).tolist() == [2 * MS]


def test_outcomes_are_counted_and_added() -> None:
    one = windows.outcome_counts(make_columns([1, 1, 1], outcomes=[OK, OK, TIMEOUT]))
    assert one == {OK: 2, TIMEOUT: 1}
    assert windows.add_outcomes([one, {OK: 3}, {}]) == {OK: 5, TIMEOUT: 1}


def test_throughput_is_inferences_per_second() -> None:
    assert windows.throughput(50, 4, NS // 2) == 400.0
    assert windows.throughput(50, 4, 0) == 0.0


def test_a_window_in_figures() -> None:
    columns = make_columns([2, 4, 6, 9], outcomes=[OK, OK, OK, SERVER_ERROR])
    summary = windows.summarise_window(make_window(7, columns=columns, unsent=3), make_probe(), 1000.5)
    assert (summary.index, summary.start_unix_s, summary.duration_ns) == (7, 1000.5, NS)
    assert (summary.sent, summary.unsent, summary.throughput) == (4, 3, 3.0)
    assert summary.outcomes == {OK: 3, SERVER_ERROR: 1}
    assert summary.latency is not None
    assert summary.latency.mean_ns == 4 * MS


@pytest.mark.parametrize(("latency_ms", "bucket"), [(0.5, 0), (0.5001, 1), (1, 1), (60_000, 43), (60_001, 44)])
def test_a_bucket_holds_its_upper_bound(latency_ms: float, bucket: int) -> None:
    counts = count_window(make_window(latencies_ms=[latency_ms]), concurrency(1), make_probe())
    assert [i for i, count in enumerate(counts.bucket_counts) if count] == [bucket]
    assert counts.duration_sum_ns == round(latency_ms * MS)


def test_a_median_by_buckets_is_close() -> None:
    """As histogram_quantile makes it, half way into the bucket that holds a steady latency."""
    bounds = np.array(duration_buckets(10))
    index = int(np.searchsorted(bounds, 0.0215))
    assert (bounds[index - 1] + bounds[index]) / 2 == pytest.approx(0.0215, rel=0.05)
    assert set(duration_buckets(3)) < set(bounds) < set(duration_buckets(20)) < set(duration_buckets(40))


@pytest.mark.parametrize(("per_decade", "most"), [(3, 0.76), (10, 0.141), (20, 0.072), (40, 0.036)])
def test_how_far_off_a_steady_median_by_buckets_is_at_most(per_decade: int, most: float) -> None:
    """The table of docs/measuring.md: half a step, where the latency is just above its bucket's lower bound."""
    bounds = np.array(duration_buckets(per_decade))
    inside = bounds[(bounds >= 0.001) & (bounds <= 10)]
    assert np.max((inside[1:] + inside[:-1]) / 2 / inside[:-1]) - 1 < most


@given(st.lists(st.integers(1, 100_000_000_000), max_size=50))
def test_every_ok_request_is_in_one_bucket(latencies_ns: list[int]) -> None:
    window = make_window(columns=make_columns([value / MS for value in latencies_ns]))
    counts = count_window(window, concurrency(1), make_probe())
    bounds = [0, *[round(bound * NS) for bound in duration_buckets(10)], 10**30]
    exact = windows.latencies_ns(window.columns)
    expected = [int(np.count_nonzero((exact > low) & (exact <= high))) for low, high in pairwise(bounds)]
    assert list(counts.bucket_counts) == expected


def test_a_warm_up_window_moves_the_counters_but_neither_histogram_nor_slo() -> None:
    probe = make_probe(slo=Slo("fast", 2 * MS, 95.0, ("1",)))
    counts = count_window(make_window(latencies_ms=[1, 1], warm_up=True), concurrency(1), probe)
    assert counts.outcomes == {OK: 2}
    assert counts.inferences == 2
    assert sum(counts.bucket_counts) == 0
    assert (counts.slo_requests, counts.slo_bad) == (0, 0)


def test_slo_counts_at_its_levels_only_and_every_failure_is_bad() -> None:
    probe = make_probe(slo=Slo("fast", 2 * MS, 95.0, ("1",)))
    window = make_window(columns=make_columns([1, 2, 3, 1, 1], outcomes=[OK, OK, OK, SERVER_ERROR, CANCELLED]))
    named = count_window(window, concurrency(1), probe)
    other = count_window(window, concurrency(2), probe)
    assert (named.slo_requests, named.slo_bad) == (4, 2)
    assert (other.slo_requests, other.slo_bad) == (0, 0)


def test_at_a_rate_the_slo_counts_from_when_a_request_was_due_and_what_was_not_sent() -> None:
    level = LoadLevel(Mode.REQUEST_RATE, 100.0, "1")
    probe = make_probe(slo=Slo("fast", 4 * MS, 95.0, ("1",)))
    window = make_window(columns=make_columns([1, 2, 3], lag_ms=2.0), unsent=5)
    counts = count_window(window, level, probe)
    assert (counts.slo_requests, counts.slo_bad) == (8, 6)
    times = windows.response_times_ns(window.columns, 100 * MS, window.unsent)
    assert times.tolist() == [3 * MS, 4 * MS, 5 * MS, *[100 * MS] * 5]


def test_times_of_single_responses() -> None:
    """Four requests: three responses, a failure after two, none, and one."""
    columns = make_columns([9.0, 9.0, 9.0, 9.0], outcomes=[Outcome.OK, Outcome.TIMEOUT, Outcome.OK, Outcome.OK])
    columns.responses[:] = [3, 2, 0, 1]
    start = int(columns.sent_ns[0])
    columns.first_ns[:] = [start + 10, start + 20, 0, start + 7]
    columns = replace(columns, response_ns=np.array([10, 15, 35, 20, 90, 7]) + start)
    assert windows.first_responses_ns(columns).tolist() == [10, 7]
    assert windows.inter_responses_ns(columns).tolist() == [5, 20]
    assert windows.responses_per_request(columns) == pytest.approx(4 / 3)
    twice = RecordColumns.concatenate([columns, columns])
    assert windows.inter_responses_ns(twice).tolist() == [5, 20, 5, 20]


def test_without_a_stream_nothing_is_known_of_single_responses() -> None:
    assert windows.inter_responses_ns(make_columns([1.0, 2.0])).tolist() == []
    assert windows.inter_responses_ns(RecordColumns.empty()).tolist() == []
    assert windows.first_responses_ns(RecordColumns.empty()).tolist() == []
    assert windows.responses_per_request(make_columns([1.0, 2.0])) == 1.0
    assert windows.responses_per_request(RecordColumns.empty()) is None


def test_ended_sequences() -> None:
    columns = make_columns([1.0, 1.0, 1.0], outcomes=[Outcome.OK, Outcome.OK, Outcome.TIMEOUT])
    columns.sequence_end[:] = [1, 0, 1]
    assert windows.ended_sequences(columns) == 1
