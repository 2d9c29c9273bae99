"""perf_analyzer's averages: its own worked example, and its rounding."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from exporter.analysis.averages import average_ns, average_us, has_cache, server_averages
from exporter.core.facts import DurationStat, ModelStatistics
from exporter.core.units import US
from tests.builders import make_facts


def test_example_with_a_cache() -> None:
    """perf_analyzer prints combined 181, overhead 719 for request 1000, queue 100, compute 350, hit 7, miss 5."""
    server = ModelStatistics(
        *("m", "1", 50, 50),
        success=DurationStat(100, 100 * 1000 * US),
        queue=DurationStat(100, 100 * 100 * US),
        compute_input=DurationStat(50, 50 * 20 * US),
        compute_infer=DurationStat(50, 50 * 300 * US),
        compute_output=DurationStat(50, 50 * 30 * US),
        cache_hit=DurationStat(50, 50 * 7 * US),
        cache_miss=DurationStat(50, 50 * 5 * US),
    )
    averages = server_averages(server, cache=True)
    assert (averages.compute, averages.combined, averages.overhead) == (350, 181, 719)
    assert server_averages(server, cache=False).overhead == 550


def test_no_requests_and_parts_beyond_the_whole() -> None:
    nothing = server_averages(ModelStatistics("m", "1"), cache=True)
    assert (nothing.request, nothing.combined, nothing.overhead) == (0, 0, 0)
    more = ModelStatistics("m", "1", success=DurationStat(1, 5 * US), queue=DurationStat(1, 9 * US))
    assert server_averages(more, cache=False).overhead == 0


@given(st.integers(0, 10**6), st.integers(0, 10**15))
def test_an_average_is_rounded_down_once(count: int, ns: int) -> None:
    """perf_analyzer divides by count * 1000 at once; rounding to nanoseconds first comes to the same."""
    assert average_us(DurationStat(count, ns)) == (ns // (count * 1000) if count else 0)
    assert average_ns(DurationStat(count, ns)) == (ns // count if count else 0)


def test_a_cache_is_known_from_the_configuration_or_from_the_composing_models() -> None:
    cached = ModelStatistics("a", "1", cache_miss=DurationStat(1, 5))
    assert not has_cache(None, [ModelStatistics("a", "1")])
    assert has_cache(make_facts(), [ModelStatistics("b", "1"), cached])
    assert has_cache(make_facts(response_cache=True), [])
