from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.core.outcome import Outcome, Reason
from exporter.core.probe import StopRules
from exporter.core.units import NS
from exporter.engine.guard import Guard, QueueGuard, Stop

E, OK = Outcome.SERVER_ERROR, Outcome.OK


def guard(ratio: float = 0.1, at_least: int = 20, requests: int = 100) -> Guard:
    return Guard(StopRules(max_error_ratio=ratio, error_min_requests=at_least), requests, 3 * NS)


def test_grants_exactly_the_budget() -> None:
    it = guard(requests=3)
    assert [it.send() for _ in range(3)] == [None] * 3
    stop = Stop(Reason.REQUEST_BUDGET, "all 3 allowed requests were sent")
    assert [it.send(), it.send()] == [stop, stop]
    assert it.sent == 3


@pytest.mark.parametrize(
    ("ratio", "at_least", "outcomes", "stops_at"),
    [
        (0.1, 5, [OK] * 10, None),
        (0.1, 5, [E] * 4, None),  # not judged yet
        (0.1, 5, [E] * 5, 5),
        (0.4, 5, [E, E, OK, OK, OK], None),  # 2 of 5 is the limit, not more than it
        (0.3, 5, [E, E, OK, OK, OK], 5),  # an ok response is the one at which judging begins
        (0.0, 1, [OK, OK, E], 3),
        (1.0, 1, [E] * 5, None),  # all may fail
        (0.1, 3, [Outcome.CANCELLED] * 5, None),  # neither responses nor errors
        (0.5, 2, [Outcome.CANCELLED, E, Outcome.CANCELLED, E], 4),
        (0.5, 4, [Outcome.TIMEOUT, Outcome.OVERLOAD, Outcome.CONNECT_ERROR, OK], 4),
    ],
)
def test_error_ratio(ratio: float, at_least: int, outcomes: list[Outcome], stops_at: int | None) -> None:
    it = guard(ratio, at_least)
    verdicts = [it.ended(outcome, "") for outcome in outcomes]
    stopped = [number for number, verdict in enumerate(verdicts, 1) if verdict is not None]
    assert (stopped[0] if stopped else None) == stops_at


@pytest.mark.parametrize(("ratio", "failures", "stops"), [(0.1, 4, False), (0.1, 5, True), (1.0, 50, False)])
def test_a_server_that_dies_after_many_good_responses(ratio: float, failures: int, stops: bool) -> None:
    it = guard(ratio, at_least=5)
    for _ in range(1000):
        assert it.ended(OK, "") is None
    verdicts = [it.ended(Outcome.CONNECT_ERROR, "refused") for _ in range(failures)]
    stop = Stop(Reason.ERROR_RATIO, "5 requests failed in a row; last: connect_error: refused")
    assert verdicts == [None] * (failures - 1) + [stop if stops else None]


def test_an_ok_response_ends_the_row() -> None:
    it = guard(0.9, at_least=3)
    outcomes = [OK] * 40 + [E, E, OK] * 5
    assert [it.ended(outcome, "") for outcome in outcomes] == [None] * len(outcomes)


def test_error_ratio_text() -> None:
    it = guard()
    for _ in range(13):
        assert it.ended(OK, "") is None
    for _ in range(6):
        assert it.ended(Outcome.OVERLOAD, "busy") is None
    assert it.ended(Outcome.OVERLOAD, "503 Service Unavailable") == Stop(
        Reason.ERROR_RATIO,
        "7 of 20 requests failed (35 %: 7 overload), more than the 10 % allowed; "
        "last: overload: 503 Service Unavailable",
    )


def test_what_failed_is_reported_where_a_good_response_decides() -> None:
    it = guard()
    for outcome in [Outcome.TIMEOUT] * 2 + [Outcome.SERVER_ERROR] * 12 + [OK] * 5:
        assert it.ended(outcome, "500 boom") is None
    assert it.ended(OK, "") == Stop(
        Reason.ERROR_RATIO,
        "14 of 20 requests failed (70 %: 12 server_error, 2 timeout), more than the 10 % allowed; "
        "last: server_error: 500 boom",
    )


def test_wrong_responses_are_counted_among_those_checked() -> None:
    """One of four is wrong; half of the responses were not looked at, and do not count as good."""
    it = guard(ratio=0.2)
    for _ in range(80):
        assert it.ended(OK, "") is None
    verdicts = [it.checked("was 2" if number % 4 == 0 else "", 80) for number in range(1, 41)]
    stop = Stop(
        Reason.ERROR_RATIO,
        "5 of 20 responses checked were wrong (25 %), more than the 20 % allowed; last: wrong_output: was 2",
    )
    assert verdicts[:20] == [None] * 19 + [stop]


def test_a_few_checks_contain_no_information_of_the_others() -> None:
    it = guard()
    for _ in range(40):
        assert it.ended(OK, "") is None
    assert [it.checked("was 2", 40) for _ in range(5)] == [None] * 4 + [
        Stop(
            Reason.ERROR_RATIO,
            "5 of 5 responses checked were wrong (100 %), more than the 10 % allowed; last: wrong_output: was 2",
        )
    ]


def test_failures_and_wrong_responses_add_up() -> None:
    it = guard()
    for number in range(40):
        assert it.ended(E if number % 20 == 0 else OK, "boom") is None
    for _ in range(2):
        assert it.checked("was 2", 38) is None
    stop = it.checked("was 2", 38)
    assert stop is not None
    assert stop.text == (
        f"2 of 40 requests failed (5 %: 2 {E.label}) and 3 of 3 responses checked were wrong (100 %), "
        "more than the 10 % allowed; last: wrong_output: was 2"
    )


def test_time_budget_text() -> None:
    assert guard().out_of_time() == Stop(Reason.TIME_BUDGET, "the level has run for the allowed 3 s")


@given(
    st.lists(st.sampled_from([OK, E, Outcome.CANCELLED]), max_size=60),
    st.floats(0, 1),
    st.integers(1, 30),
)
def test_stops_as_soon_as_the_ratio_is_passed(outcomes: list[Outcome], ratio: float, at_least: int) -> None:
    it = guard(ratio, at_least)
    responses = errors = row = 0
    for outcome in outcomes:
        responses += outcome is not Outcome.CANCELLED
        errors += outcome is E
        row = row + 1 if outcome is E else row if outcome is Outcome.CANCELLED else 0
        passed = ratio < 1 and responses >= at_least and (errors > ratio * responses or row >= at_least)
        if outcome is Outcome.CANCELLED:
            passed = False
        verdict = it.ended(outcome, "")
        assert (verdict is not None) == passed
        if passed:
            return


# --- latency, and the queue ------------------------------------------------------------------------------------------

FAST, SLOW = 1, 10 * NS


@pytest.mark.parametrize(
    ("at_least", "latencies", "stops_at"),
    [
        (3, [SLOW] * 3, 3),
        (3, [2 * NS] * 9, None),  # not above it
        (3, [SLOW, SLOW, FAST] * 2, 5),  # twice as many slow ones as fast
        (3, [SLOW, FAST] * 20, None),
        (3, [FAST] * 1000 + [SLOW] * 3, 1003),  # earlier good responses do not help
        (1, [FAST, SLOW], 2),
    ],
)
def test_latency(at_least: int, latencies: list[int], stops_at: int | None) -> None:
    it = Guard(StopRules(error_min_requests=at_least, max_latency_ns=2 * NS), 10_000, NS)
    verdicts = [it.ended(OK, "", latency_ns) for latency_ns in latencies]
    stopped = [number for number, verdict in enumerate(verdicts, 1) if verdict is not None]
    assert (stopped[0] if stopped else None) == stops_at


def test_latency_text_and_what_is_no_latency() -> None:
    it = Guard(StopRules(error_min_requests=2, max_latency_ns=2 * NS, max_error_ratio=1.0), 100, NS)
    assert [it.ended(Outcome.TIMEOUT, "", SLOW) for _ in range(5)] == [None] * 5  # an error, judged as such
    assert it.ended(OK, "", SLOW) is None
    text = "2 more responses took longer than the 2 s allowed (stop.max_latency) than did not; the last took 12.3 s"
    assert it.ended(OK, "", 12_345_000_000) == Stop(Reason.LATENCY, text)


def test_without_a_limit_every_latency_will_do() -> None:
    it = Guard(StopRules(error_min_requests=1, max_latency_ns=0), 100, NS)
    assert it.ended(OK, "", 3600 * NS) is None


@pytest.mark.parametrize(
    ("pending", "stops_at"),
    [
        ([0, 20, 40, 60], 4),
        ([0, 20, 40, 40, 60, 80, 100], 7),  # once it was stuck
        ([0, 5, 10, 15], None),  # 16 more at least
        ([100, 120, 150, 180], None),  # twice as many at least
        ([100, 120, 150, 180, 200], 5),
        ([0, 100, 0, 100, 0, 100], None),
    ],
)
def test_queue(pending: list[float], stops_at: int | None) -> None:
    it = QueueGuard(3, NS)
    verdicts = [it.read(value, second * NS) for second, value in enumerate(pending)]
    stopped = [number for number, verdict in enumerate(verdicts, 1) if verdict is not None]
    assert (stopped[0] if stopped else None) == stops_at


def test_queue_text_and_readings_at_the_edges_of_windows() -> None:
    it = QueueGuard(2, NS)
    assert [it.read(value, at_ns) for value, at_ns in ((1, 0), (50, NS), (99, NS + 1), (60, 2 * NS))] == [
        None,
        None,
        None,
        Stop(
            Reason.PENDING_QUEUE,
            "the server's queue of the model grew from 1 to 60 waiting requests in 2 readings in a row "
            "(stop.pending_growth)",
        ),
    ]
