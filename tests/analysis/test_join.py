"""The breakdown adds up, and foreign requests are what is left beyond the windows' edges."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.analysis.join import breakdown, foreign_ratio, foreign_requests
from exporter.model import DurationStat, ModelStatistics


def server(count: int, request: int, queue: int, infer: int, *, hit: int = 0, fail: int = 0) -> ModelStatistics:
    """Statistics of `count` requests with these nanoseconds each."""
    return ModelStatistics(
        name="m",
        version="1",
        success=DurationStat(count, count * request),
        fail=DurationStat(fail, 0),
        queue=DurationStat(count, count * queue),
        compute_infer=DurationStat(count, count * infer),
        cache_hit=DurationStat(count if hit else 0, count * hit),
    )


def test_where_the_mean_went() -> None:
    parts = breakdown(1000.0, 30.0, 10.0, server(5, 800, 200, 500))
    assert parts.components_ns == {
        "client_send": 30.0,
        "client_receive": 10.0,
        "queue": 200.0,
        "compute_input": 0.0,
        "compute_infer": 500.0,
        "compute_output": 0.0,
        "server_overhead": 100.0,
        "network": 160.0,
    }
    assert parts.negative_remainder_ns == 0.0


def test_cache_components_are_there_only_with_a_cache() -> None:
    assert "cache_hit" not in breakdown(1000.0, 0, 0, server(5, 800, 1, 1)).components_ns
    assert breakdown(1000.0, 0, 0, server(5, 800, 1, 1, hit=7)).components_ns["cache_hit"] == 7.0


def test_without_server_figures_only_the_clients_parts_are_given() -> None:
    assert breakdown(1000.0, 30.0, 10.0, None).components_ns == {"client_send": 30.0, "client_receive": 10.0}
    assert breakdown(1000.0, 30.0, 10.0, server(0, 0, 0, 0)).components_ns == {
        "client_send": 30.0,
        "client_receive": 10.0,
    }


def test_a_server_that_claims_more_than_the_client_saw_leaves_a_negative_remainder() -> None:
    parts = breakdown(1000.0, 0.0, 0.0, server(5, 1200, 200, 900))
    assert parts.components_ns["network"] == 0.0
    assert parts.negative_remainder_ns == 200.0


nanoseconds = st.integers(0, 10**9)


@given(nanoseconds, nanoseconds, nanoseconds, nanoseconds, nanoseconds, nanoseconds, st.integers(1, 1000))
def test_the_parts_add_up_to_the_mean_and_the_negative_remainder(
    mean: int, send: int, receive: int, request: int, queue: int, infer: int, count: int
) -> None:
    parts = breakdown(float(mean), float(send), float(receive), server(count, request, queue, infer))
    assert sum(parts.components_ns.values()) == pytest.approx(mean + parts.negative_remainder_ns, abs=1e-3)
    assert min(parts.components_ns.values()) >= 0.0


@pytest.mark.parametrize(
    ("count", "fail", "ours", "concurrency", "foreign"),
    [
        (100, 0, 100, 4, 0),
        (104, 0, 100, 4, 0),  # the edge: as many as were in flight
        (105, 0, 100, 4, 5),
        (100, 20, 100, 4, 20),  # a foreign request that failed is foreign too
        (90, 0, 100, 4, 0),  # ours that the server has not counted yet
    ],
)
def test_foreign_requests(count: int, fail: int, ours: int, concurrency: int, foreign: int) -> None:
    assert foreign_requests(server(count, 1, 0, 0, fail=fail), ours, concurrency) == foreign


def test_foreign_ratio() -> None:
    assert foreign_ratio(server(80, 1, 0, 0, fail=20), 25) == 0.25
    assert foreign_ratio(server(0, 0, 0, 0), 0) == 0.0
