"""The sender of streams before servers of known delays, in virtual time: every figure is exact."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import pytest

from exporter.analysis.streams import stream_figures
from exporter.analysis.windows import response_times_ns
from exporter.core.outcome import Outcome
from exporter.core.probe import LoadLevel, Mode, OverloadPolicy, Search, SearchKind
from exporter.core.units import MS, NS
from exporter.engine.streams import starts_ns
from exporter.sweep.search import visits
from tests.engine.virtual_streams import Fate, VirtualStreams, one_worker

INTERVAL = 300 * MS


def level(streams: int) -> LoadLevel:
    return LoadLevel(Mode.STREAMS, float(streams), str(streams), step_interval_ns=INTERVAL)


@dataclass(frozen=True)
class Step:
    """What the oracle has of one."""

    stream: int
    deadline_ns: int
    sent_ns: int
    last_ns: int


def oracle(streams: int, service_ns: int, until_ns: int, length: int) -> list[Step]:
    """The same streams before one worker, by the definition alone: always the step that is ready first. Made of none of
    the engine's code but the starts."""
    deadline = starts_ns(streams, INTERVAL, 0, 1)
    ready, left = list(deadline), [length] * streams
    free = 0
    steps: list[Step] = []
    while True:
        stream = min(range(streams), key=ready.__getitem__)
        sent = ready[stream]
        free = max(free, sent) + service_ns
        if sent > until_ns:
            return [step for step in steps if step.last_ns <= until_ns]
        steps.append(Step(stream, deadline[stream], sent, free))
        left[stream] -= 1
        following = deadline[stream] + INTERVAL
        if not left[stream]:
            left[stream] = length
            while following < free:
                following += INTERVAL
        deadline[stream], ready[stream] = following, max(following, free)


@pytest.mark.parametrize("service_ms", [1, 4, 4.7, 6, 20, 350])
def test_every_step_is_sent_and_answered_as_the_oracle_has_it(
    monkeypatch: pytest.MonkeyPatch, service_ms: float
) -> None:
    """From a server that is idle to one that can't carry a single stream."""
    service_ns, until_ns = round(service_ms * MS) + 7, 12 * NS  # no divisor of the interval: nothing ties
    virtual = VirtualStreams(one_worker(service_ns), 64, INTERVAL, length=5)
    virtual.run(monkeypatch, until_ns)
    found = [Step(row.stream, row.deadline_ns, row.sent_ns, row.last_ns) for row in virtual.rows]
    assert found == sorted(oracle(64, service_ns, until_ns, 5), key=lambda step: step.last_ns)
    assert len(found) > 30


def test_final_latency_is_exact(monkeypatch: pytest.MonkeyPatch) -> None:
    """Steps take 20 ms, the last of a sequence 90 ms, and that of stream 2 takes 700 ms: longer than two intervals."""
    counts = [0] * 3

    def server(stream: int, sent_ns: int) -> Fate:
        counts[stream] += 1
        last = counts[stream] % 4 == 0
        return Fate(sent_ns + (700 if last and stream == 2 else 90 if last else 20) * MS)

    virtual = VirtualStreams(server, 3, INTERVAL)
    virtual.run(monkeypatch, 60 * NS)
    figures = stream_figures(virtual.columns(), level(3), (50.0, 99.0))
    assert figures.final_latency is not None
    finals = sorted(row.last_ns - row.deadline_ns for row in virtual.rows if row.end)
    assert set(finals) == {90 * MS, 700 * MS}
    assert (figures.final_latency.min_ns, figures.final_latency.max_ns) == (90 * MS, 700 * MS)
    assert figures.final_latency.at(50.0) == 90 * MS
    assert figures.final_latency.at(99.0) == 700 * MS
    # Only the slow stream is behind, and only with its last steps; it begins again at the deadline after that.
    slow = [row for row in virtual.rows if row.stream == 2]
    assert figures.late == sum(row.end for row in slow)
    assert figures.streams - figures.on_time == figures.late
    begins = {row.deadline_ns % INTERVAL for row in slow}
    assert len(begins) == 1
    ends = [row.deadline_ns for row in slow if row.end]
    assert {later - early for early, later in itertools.pairwise(ends)} == {6 * INTERVAL}


def test_a_recogniser_at_twice_real_time_falls_behind_and_is_seen_to(monkeypatch: pytest.MonkeyPatch) -> None:
    """One stream of steps that take 600 ms: the k-th response of a sequence comes k * 300 + 300 ms after its
    deadline, and the real-time factor is 2."""
    virtual = VirtualStreams(one_worker(2 * INTERVAL), 1, INTERVAL, length=4)
    virtual.run(monkeypatch, 60 * NS)
    late_ms = [(row.last_ns - row.deadline_ns) // MS for row in virtual.rows]
    assert late_ms[:8] == [600, 900, 1200, 1500] * 2
    figures = stream_figures(virtual.columns(), level(1), (50.0,))
    assert figures.real_time_factor == 2.0
    assert (figures.late, figures.on_time) == (figures.steps, 0)


@pytest.mark.parametrize("service_ms", [6.0, 13.7])
def test_a_search_finds_the_number_of_streams_that_the_oracle_has(
    monkeypatch: pytest.MonkeyPatch, service_ms: float
) -> None:
    """Both searches, by the mean response time of the sender's steps, against trying every number on the oracle."""
    service_ns, until_ns, limit_ns = round(service_ms * MS) + 7, 3 * NS, 20 * MS

    def mean_ns(streams: int) -> float:
        virtual = VirtualStreams(one_worker(service_ns), streams, INTERVAL, length=20)
        virtual.run(monkeypatch, until_ns)
        return float(response_times_ns(virtual.columns(), 10 * NS).mean())

    def oracle_ns(streams: int) -> float:
        steps = oracle(streams, service_ns, until_ns, 20)
        return sum(step.last_ns - step.deadline_ns for step in steps) / len(steps)

    best = max(streams for streams in range(1, 65) if oracle_ns(streams) <= limit_ns)
    assert 1 < best < 64
    for kind in (SearchKind.LINEAR, SearchKind.BINARY):
        values = visits(Search(kind, Mode.STREAMS, 1.0, 64.0, 1.0), 256)
        value, kept = next(values), []
        while True:
            within = mean_ns(int(value)) <= limit_ns
            kept += [int(value)] if within else []
            try:
                value = values.send(within)
            except StopIteration:
                break
        assert max(kept) == best


@pytest.mark.parametrize(
    ("outcome", "policy", "pauses_ms"),
    [
        (Outcome.SERVER_ERROR, OverloadPolicy.BACK_OFF, [0, 0, 0, 0]),
        (Outcome.OVERLOAD, OverloadPolicy.COUNT, [0, 0, 0, 0]),
        (Outcome.OVERLOAD, OverloadPolicy.BACK_OFF, [10, 20, 40, 80, 160, 320, 640, 1000, 1000]),
        (Outcome.CONNECT_ERROR, OverloadPolicy.COUNT, [10, 20, 40, 80, 160, 320, 640, 1000, 1000]),
    ],
)
def test_a_server_that_is_gone_or_overloaded_is_spared(
    monkeypatch: pytest.MonkeyPatch, outcome: Outcome, policy: OverloadPolicy, pauses_ms: list[int]
) -> None:
    """Each step fails after 1 ms. The next one goes at the stream's first deadline after the pause; those in the pause
    are unsent."""
    virtual = VirtualStreams(
        lambda _, sent_ns: Fate(sent_ns + MS, outcome), 1, INTERVAL, on_overload=policy, length=1000
    )
    sender = virtual.run(monkeypatch, 30 * NS)
    (start,) = starts_ns(1, INTERVAL, 0, 1)
    expected, deadline = [], start
    for pause_ms in pauses_ms:
        expected.append(deadline)
        resume = deadline + MS + pause_ms * MS
        deadline += INTERVAL
        while deadline < resume:
            deadline += INTERVAL
    assert [row.sent_ns for row in virtual.rows][: len(expected)] == expected
    due = (virtual.now_ns - start) // INTERVAL + 1
    assert sender.unsent == due - len(virtual.rows) - len(virtual.in_flight)
    assert (sender.unsent > 0) == (pauses_ms[-1] >= 320)


def test_a_budget_in_flight_that_is_full_holds_steps_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """From 1 s to 3 s nothing may go. Then each stream sends one step, that of its last deadline, and no burst."""
    full = (NS, 3 * NS)
    virtual = VirtualStreams(lambda _, sent_ns: Fate(sent_ns + MS), 8, INTERVAL, length=1000, full=full)
    sender = virtual.run(monkeypatch, 4 * NS)
    after = [row for row in virtual.rows if row.sent_ns == full[1]]
    assert len(after) == 8
    assert all(0 <= row.sent_ns - row.deadline_ns < INTERVAL for row in after)
    assert all(row.sent_ns == row.deadline_ns for row in virtual.rows if row not in after)
    due = sum((virtual.now_ns - start) // INTERVAL + 1 for start in starts_ns(8, INTERVAL, 0, 1))
    assert sender.unsent == due - len(virtual.rows) - len(virtual.in_flight) > 0


def test_it_is_warm_once_each_stream_had_a_response(monkeypatch: pytest.MonkeyPatch) -> None:
    virtual = VirtualStreams(lambda _, sent_ns: Fate(sent_ns + MS), 4, INTERVAL, ramp_ns=2 * NS)
    virtual.run(monkeypatch, 5 * NS)
    assert virtual.warm_at_ns == max(starts_ns(4, INTERVAL, 2 * NS, 1)) + MS
