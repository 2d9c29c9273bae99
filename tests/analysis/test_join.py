"""The breakdown adds up, and foreign requests are what is left beyond the windows' edges."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.analysis.join import breakdown, contradiction, foreign_ratio, foreign_requests, our_share
from exporter.core.facts import DurationStat, ModelStatistics, ServerSnapshot
from exporter.core.outcome import Outcome
from exporter.core.units import MS, NS
from exporter.core.window import Window
from tests.builders import make_columns, make_window


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


def test_what_the_server_does_not_report_is_absent() -> None:
    reported = ModelStatistics("m", "", success=DurationStat(5, 5 * 800), queue=DurationStat(5, 5 * 200))
    assert breakdown(1000.0, 0, 0, reported).components_ns == {
        "client_send": 0,
        "client_receive": 0,
        "queue": 200.0,
        "server_overhead": 600.0,
        "network": 200.0,
    }
    nothing = breakdown(1000.0, 0, 0, ModelStatistics("m", "", success=DurationStat(5, 5 * 800))).components_ns
    assert nothing.keys() == {"client_send", "client_receive", "server_overhead", "network"}


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
    ("count", "fail", "ours", "edge", "foreign"),
    [
        (100, 0, 100, 4, 0),
        (104, 0, 100, 4, 0),  # the edge: as many as were in flight
        (105, 0, 100, 4, 5),
        (100, 20, 100, 4, 20),  # a foreign request that failed is foreign too
        (90, 0, 100, 4, 0),  # ours that the server has not counted yet
    ],
)
def test_foreign_requests(count: int, fail: int, ours: int, edge: int, foreign: int) -> None:
    assert foreign_requests(server(count, 1, 0, 0, fail=fail), ours, edge) == foreign


def test_foreign_ratio() -> None:
    assert foreign_ratio(server(80, 1, 0, 0, fail=20), 25) == 0.25
    assert foreign_ratio(server(0, 0, 0, 0), 0) == 0.0


ENSEMBLE = server(10, 1000, 20, 700)


@pytest.mark.parametrize(
    ("parts", "composing", "overhead"),
    [
        pytest.param((server(10, 400, 30, 300), server(20, 300, 50, 200)), 780.0, 200.0, id="computing and queues"),
        pytest.param((server(10, 900, 500, 300),), 980.0, 0.0, id="branches in parallel: at most what there is"),
        pytest.param((), 700.0, 280.0, id="parts that report nothing"),
    ],
)
def test_an_ensemble_has_one_component_for_its_parts(
    parts: tuple[ModelStatistics, ...], composing: float, overhead: float
) -> None:
    found = breakdown(1500.0, 30.0, 10.0, ENSEMBLE, parts)
    assert found.components_ns == {
        "client_send": 30.0,
        "client_receive": 10.0,
        "queue": 20.0,
        "composing": composing,
        "server_overhead": overhead,
        "network": 460.0,
    }
    assert sum(found.components_ns.values()) == 1500.0


def asked_at(begin_ms: int, end_ms: int) -> ServerSnapshot:
    return ServerSnapshot(begin_ms * MS, end_ms * MS, ())


def measured(before: ServerSnapshot | None, after: ServerSnapshot | None, in_flight: int = 1) -> list[Window]:
    """A window from 0 to 1 s with 100 requests, one ended each 10 ms, the last five of them not ok."""
    columns = make_columns([0.0] * 100, outcomes=[Outcome.OK] * 95 + [Outcome.TIMEOUT] * 5)
    columns.last_ns[:] = [(10 * row + 5) * MS for row in range(100)]
    return [make_window(columns=columns, start_ns=0, end_ns=NS, before=before, after=after, in_flight=in_flight)]


def test_our_share_is_of_the_time_between_the_snapshots() -> None:
    windows = measured(asked_at(10, 30), asked_at(1020, 1060), in_flight=4)
    share = our_share(windows[0].columns, windows)
    assert share is not None
    # Two ended before the first snapshot, about four between the last window and the last snapshot.
    assert (share.requests, share.responded) == (102, 97)
    assert share.edge == 4 + 2 + 6  # in flight; 20 ms and 60 ms of asking at 100/s


def test_requests_that_never_came_to_a_socket_hide_no_foreign_ones() -> None:
    windows = measured(asked_at(0, 0), asked_at(1000, 1000))
    columns = windows[0].columns
    columns.outcome[80:] = Outcome.CONNECT_ERROR
    columns.sent_ns[90:] = 0
    share = our_share(columns, windows)
    assert share is not None
    # Ten connections broke after their request was sent: the server may have counted these.
    assert (share.requests, share.responded) == (90, 80)
    assert foreign_requests(server(100, 1, 0, 0), share.requests, share.edge) == 10


@pytest.mark.parametrize("missing", [(None, asked_at(0, 1)), (asked_at(0, 1), None)])
def test_no_share_without_both_snapshots(missing: tuple[ServerSnapshot | None, ServerSnapshot | None]) -> None:
    windows = measured(*missing)
    assert our_share(windows[0].columns, windows) is None


@pytest.mark.parametrize(("counted", "contradicts"), [(95, False), (94, False), (91, False), (90, True)])
def test_a_server_must_have_counted_what_it_responded(counted: int, contradicts: bool) -> None:
    windows = measured(asked_at(0, 0), asked_at(1000, 1000), in_flight=4)
    share = our_share(windows[0].columns, windows)
    assert share is not None
    text = contradiction(server(counted, 1, 0, 0), share)
    assert bool(text) is contradicts
    assert not contradicts or text.startswith("the server counted 90 requests but responded to 95: ")
