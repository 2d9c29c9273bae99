"""Percentiles by what a server's histograms counted between two readings of its page."""

from __future__ import annotations

from bisect import bisect_left

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from exporter.core.result import ServerPercentile
from exporter.server.figures import server_metrics
from exporter.server.histograms import percentiles
from exporter.server.metrics import MAX_COUNTERS, parse_page

FIRST = "nv_inference_first_response_histogram_ms_bucket"
QUEUE = "vllm:request_queue_time_seconds_bucket"


def page(family: str, counts: dict[str, float], label: str = 'model="m",version="1"') -> str:
    return "".join(f'{family}{{{label},le="{bound}"}} {count}\n' for bound, count in counts.items())


def test_what_counted_before_the_windows_is_in_no_percentile() -> None:
    """100 slow responses came before; of the 200 in between 100 were within 100 ms, 199 within 500, and 1 above."""
    before = page(FIRST, {"100": 0, "500": 0, "+Inf": 100})
    after = page(FIRST, {"100": 100, "500": 199, "+Inf": 300})
    found = server_metrics([parse_page(before, 0, "m"), parse_page(after, 10, "m")])
    assert found is not None
    p50, p90, p95, p99 = found.percentiles["first_response"]
    assert (p50.low_seconds, p50.high_seconds, p90.percentile) == (0.0, 0.1, 90.0)
    assert p50.seconds == pytest.approx(0.1)
    assert p90.seconds == pytest.approx(0.1 + 0.4 * 80 / 99)
    assert (p95.low_seconds, p99.high_seconds) == (0.1, 0.5)


def test_above_the_last_bound_only_that_is_known() -> None:
    text = page(QUEUE, {"0.1": 10, "+Inf": 1000}, 'model_name="m"')
    empty = page(QUEUE, {"0.1": 0, "+Inf": 0}, 'model_name="m"')
    found = server_metrics([parse_page(empty, 0, "m"), parse_page(text, 10, "m")])
    assert found is not None
    assert found.percentiles["queue"][-1] == ServerPercentile(99.0, None, 0.1, None)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ({"100": 5, "+Inf": 5}, {"100": 5, "+Inf": 5}),  # nothing came
        ({"100": 5, "+Inf": 5}, {"100": 0, "+Inf": 1}),  # the server was restarted
        ({"100": 0}, {"100": 5}),  # not whole
        ({"100": 0, "+Inf": 0}, {"100": 9, "+Inf": 5}),  # a count that falls from bound to bound
        ({"NaN": 0, "-1": 0, "x": 0, "+Inf": 0}, {"NaN": 1, "-1": 1, "x": 1, "+Inf": 1}),
    ],
)
def test_what_is_no_histogram_gives_none(before: dict[str, float], after: dict[str, float]) -> None:
    found = server_metrics([parse_page(page(FIRST, before), 0, "m"), parse_page(page(FIRST, after), 10, "m")])
    assert found is not None
    assert found.percentiles == {}


def test_other_models_and_versions() -> None:
    """Versions are summed; another model's are none of ours."""
    text = page(FIRST, {"1": 1, "+Inf": 1}) + page(FIRST, {"1": 2, "+Inf": 3}, 'model="m",version="2"')
    text += page(FIRST, {"1": 50, "+Inf": 50}, 'model="other",version="1"')
    counters = parse_page(text, 0, "m").counters
    assert counters == {"first_responses_within_0.001_seconds": 3.0, "first_responses_within_inf_seconds": 4.0}


def test_a_page_of_nothing_but_bounds_is_bounded() -> None:
    text = page(FIRST, {str(number): 1 for number in range(1500)})
    assert len(parse_page(text, 0, "m").counters) == MAX_COUNTERS


@example([2.0, 6.0], [1.1317089317994427, 5.362924982854192])
@given(
    st.lists(st.floats(0, 20), min_size=1, max_size=200),
    st.lists(st.floats(0.001, 10), min_size=1, max_size=12, unique=True),
)
def test_the_percentile_is_within_its_bounds(seconds: list[float], bounds: list[float]) -> None:
    """Of any observations and any buckets: the true percentile (nearest rank) is between the bounds, and so is the
    interpolated one."""
    edges = sorted(float(format(bound, ".10g")) for bound in bounds)
    moved = {f"queue_within_{edge:.10g}_seconds": float(sum(s <= edge for s in seconds)) for edge in edges}
    moved["queue_within_inf_seconds"] = float(len(seconds))
    ordered = sorted(seconds)
    for each in percentiles(moved)["queue"]:
        rank = bisect_left(range(1, len(ordered) + 1), each.percentile / 100 * len(ordered))
        true = ordered[rank]
        assert each.low_seconds <= true
        if each.high_seconds is None:
            assert each.seconds is None
        else:
            assert true <= each.high_seconds
            assert each.low_seconds <= (each.seconds or 0.0) <= each.high_seconds
