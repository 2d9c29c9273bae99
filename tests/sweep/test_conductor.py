"""Every way that a sweep can end, with a worker that follows a script."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext
from dataclasses import replace

import pytest

from exporter.core.errors import PreflightError, WorkerLostError
from exporter.core.facts import ModelFacts
from exporter.core.limits import Load
from exporter.core.outcome import Outcome, Reason, SkipReason, SweepStatus
from exporter.core.probe import (
    MAX_SEARCH_LEVELS,
    Distribution,
    InputOptions,
    LoadLevel,
    MeasurementOptions,
    Mode,
    Probe,
    PromptOptions,
    Search,
    SearchKind,
    SequenceOptions,
    StopRules,
)
from exporter.core.result import LevelVerdict, Measurement, SweepResult, WindowCounts, WindowSummary
from exporter.core.units import MS, NS
from exporter.core.window import ConnectionTimes, LevelEnd, Window
from exporter.engine.plan import LevelEvent, LevelPlan, LevelStarted, Worker
from exporter.sweep import conductor
from exporter.sweep.conductor import Sweep
from exporter.sweep.stability import Stability
from exporter.sweep.watcher import Watcher
from tests.builders import concurrency, make_columns, make_facts, make_probe, make_target, make_window

Script = Callable[[LevelPlan, int], LevelEvent | Exception | None]
"""What the worker reports as the n-th window of a level; None: it waits for ever."""


class ScriptedWorker:
    """A worker whose every window is given by the test."""

    def __init__(self, script: Script, *, preflight: Exception | None = None) -> None:
        self.script = script
        self.preflight_error = preflight
        self.facts = make_facts()
        self.plans: list[LevelPlan] = []
        self.calls: list[str] = []
        self.sent = 0
        self.asked = self.tokens = 0
        self.version = ""
        self._stopped = False

    async def preflight(self, probe: Probe) -> ModelFacts:
        if self.preflight_error:
            raise self.preflight_error
        return self.facts

    async def run_level(self, plan: LevelPlan) -> AsyncGenerator[LevelEvent, None]:
        self.plans.append(plan)
        self._stopped = False
        connect_ns = 1000 * len(self.plans)
        yield LevelStarted(ConnectionTimes(connect_ns=connect_ns))
        before, sent = self.sent, 0
        while not self._stopped:
            event = self.script(plan, sent)
            if event is None:
                await asyncio.Event().wait()
            if isinstance(event, Exception):
                raise event
            assert event is not None
            self.sent = before + (event.sent if isinstance(event, LevelEnd) else sent + 1)
            yield event
            if isinstance(event, LevelEnd):
                return
            sent += 1
            await asyncio.sleep(0)  # as between the messages of a real worker: what was begun meanwhile gets its turn
        # What was in flight when the level was stopped comes late: counted, never measured.
        self.sent = before + sent + 1
        yield make_window(sent, [1.0], warm_up=True)
        yield LevelEnd(Reason.NONE, "", sent + 1)

    async def served_version(self, probe: Probe) -> str:
        return self.version or self.facts.version

    async def stop_level(self) -> None:
        self._stopped = True
        self.calls.append("stop_level")

    async def silence(self) -> None:
        """It sends nothing of its own accord."""

    async def end_sweep(self) -> None:
        self.calls.append("end_sweep")

    async def kill(self) -> None:
        self.calls.append("kill")


class RecordingSink:
    def __init__(self) -> None:
        self.events: list[str] = []
        self.counts: list[WindowCounts] = []
        self.result: SweepResult | None = None

    def sweep_started(self, probe: Probe, started_unix_s: float) -> None:
        self.events.append("started")

    def window_ended(self, probe: Probe, counts: WindowCounts) -> None:
        self.events.append(f"window {counts.level.label}")
        self.counts.append(counts)

    def sweep_ended(self, result: SweepResult) -> None:
        self.events.append("ended")
        self.result = result

    def sweep_skipped(self, probe: Probe, reason: SkipReason) -> None:
        raise AssertionError("a sweep never skips itself")


def steady(plan: LevelPlan, index: int) -> Window:
    return make_window(index, [2.0, 4.0])


async def sweep(worker: ScriptedWorker, probe: Probe) -> tuple[SweepResult, RecordingSink]:
    sink = RecordingSink()
    result = await Sweep(probe, [sink]).run(lambda: nullcontext(worker))
    assert sink.result is result
    return result, sink


async def test_a_good_sweep() -> None:
    worker = ScriptedWorker(steady)
    result, sink = await sweep(worker, make_probe(levels=(concurrency(1), concurrency(2))))
    assert (result.status, result.reason, result.usable) == (SweepStatus.OK, Reason.NONE, True)
    assert [m.level.label for m in result.measurements] == ["1", "2"]
    assert [m.windows_run for m in result.measurements] == [3, 3]
    assert result.connection.connect_ns == 1000  # the first level's
    assert result.facts == make_facts()
    # Three windows of two, and one late request, a level.
    assert result.outcomes == {Outcome.OK: 14}
    assert sink.events == ["started", *["window 1"] * 4, *["window 2"] * 4, "ended"]
    assert worker.calls == ["stop_level", "stop_level", "end_sweep"]


async def test_an_unstable_level_does_not_end_the_sweep() -> None:
    def script(plan: LevelPlan, index: int) -> Window:
        return make_window(index, [1.0 * (index + 1)] if plan.level.label == "1" else [1.0])

    probe = make_probe(
        levels=(concurrency(1), concurrency(2)), measurement=MeasurementOptions(window_ns=NS, max_windows=5)
    )
    result, _ = await sweep(ScriptedWorker(script), probe)
    assert (result.status, result.reason, result.usable) == (SweepStatus.UNSTABLE, Reason.UNSTABLE, True)
    assert [(m.stable, m.windows_run) for m in result.measurements] == [(False, 5), (True, 3)]
    assert (
        result.reason_text
        == "level 1: the last 3 of 5 windows differ by 67 %, more than the 10 % allowed and chance explain"
    )


async def test_preflight_fails() -> None:
    error = PreflightError(Reason.MODEL_UNKNOWN, "model 'addsub' is not known")
    worker = ScriptedWorker(steady, preflight=error)
    result, sink = await sweep(worker, make_probe())
    assert (result.status, result.reason, result.usable) == (SweepStatus.FAILED, Reason.MODEL_UNKNOWN, False)
    assert result.reason_text == "model 'addsub' is not known"
    assert sink.events == ["started", "ended"]
    assert worker.calls == ["end_sweep"]


GRPC = make_target(scheme="grpc", port=8001)


@pytest.mark.parametrize(
    ("facts", "probe", "text"),
    [
        (
            make_facts(decoupled=True),
            make_probe(),
            "model 'addsub' is decoupled (any number of responses to a request): "
            "use the server's gRPC endpoint, and set streaming: true",
        ),
        (
            make_facts(decoupled=True),
            make_probe(target=GRPC),
            "model 'addsub' is decoupled (any number of responses to a request): set streaming: true",
        ),
        (
            make_facts(),
            make_probe(streaming=True),
            "streaming needs a gRPC endpoint; http://127.0.0.1:8000 is not one",
        ),
        (
            make_facts(sequence=True),
            make_probe(target=GRPC, streaming=True, levels=(LoadLevel(Mode.PERIODIC, 8.0, "2:8:3"),)),
            "model 'addsub' takes sequences, and periodic concurrency sends single requests",
        ),
    ],
)
async def test_what_cannot_be_measured_so_gets_no_load(facts: ModelFacts, probe: Probe, text: str) -> None:
    worker = ScriptedWorker(steady)
    worker.facts = facts
    result, _ = await sweep(worker, probe)
    assert (result.status, result.reason, result.facts) == (SweepStatus.FAILED, Reason.UNSUPPORTED, facts)
    assert result.reason_text == text
    assert worker.plans == []


async def test_a_sequence_model_is_sent_sequences() -> None:
    worker = ScriptedWorker(steady)
    worker.facts = make_facts(sequence=True)
    result, _ = await sweep(worker, make_probe())
    assert result.status is SweepStatus.OK
    assert [plan.probe.sequences for plan in worker.plans] == [SequenceOptions()]
    # No more than there are calls, with which they are ended.
    narrow = make_probe(stop=StopRules(max_in_flight=2), levels=(LoadLevel(Mode.REQUEST_RATE, 10.0, "10"),))
    await sweep(worker, narrow)
    assert worker.plans[-1].probe.sequences == SequenceOptions(count=2)
    own = SequenceOptions(length=5)
    await sweep(worker, make_probe(sequences=own))
    assert worker.plans[-1].probe.sequences is own
    batched, _ = await sweep(worker, make_probe(input=InputOptions(batch_size=2)))
    assert batched.reason_text == (
        "model 'addsub' takes sequences, whose requests are batched by the server: input.batch_size must be 1, and is 2"
    )


@pytest.mark.parametrize(
    ("reason", "status", "usable"),
    [
        (Reason.ERROR_RATIO, SweepStatus.ABORTED, False),
        (Reason.REQUEST_BUDGET, SweepStatus.ABORTED, True),
        (Reason.TIME_BUDGET, SweepStatus.ABORTED, True),
        (Reason.UNREACHABLE, SweepStatus.FAILED, False),
    ],
)
async def test_a_stop_rule_ends_the_sweep_with_what_was_measured(
    reason: Reason, status: SweepStatus, usable: bool
) -> None:
    def script(plan: LevelPlan, index: int) -> LevelEvent:
        return LevelEnd(reason, "that was it", 5) if index else steady(plan, index)

    worker = ScriptedWorker(script)
    result, _ = await sweep(worker, make_probe(levels=(concurrency(1), concurrency(2))))
    assert (result.status, result.reason, result.usable) == (status, reason, usable)
    assert result.reason_text == "level 1: that was it"
    assert len(worker.plans) == 1
    assert [m.windows_run for m in result.measurements] == [1]


async def test_a_level_without_an_ok_request_ends_the_sweep() -> None:
    def script(plan: LevelPlan, index: int) -> Window:
        return make_window(index, columns=make_columns([5.0], outcomes=[Outcome.SERVER_ERROR]))

    options = MeasurementOptions(window_ns=NS, max_windows=2, stability_windows=2)
    worker = ScriptedWorker(script)
    result, _ = await sweep(worker, make_probe(levels=(concurrency(1), concurrency(2)), measurement=options))
    assert (result.status, result.reason) == (SweepStatus.FAILED, Reason.NO_VALID_REQUESTS)
    assert result.reason_text == "level 1: no request was ok (2 server_error)"
    assert len(worker.plans) == 1


async def test_a_level_without_an_ok_request_states_why_the_last_one_failed() -> None:
    """Of the windows that had one: the last is cut short by the level's end."""
    texts = ["timeout: no response within 60 s", ""]

    def script(plan: LevelPlan, index: int) -> Window:
        columns = make_columns([5.0], outcomes=[Outcome.TIMEOUT])
        return replace(make_window(index, columns=columns), error_text=texts[index])

    options = MeasurementOptions(window_ns=NS, max_windows=2, stability_windows=2)
    result, _ = await sweep(ScriptedWorker(script), make_probe(measurement=options))
    assert result.reason_text == "level 1: no request was ok (2 timeout; last: timeout: no response within 60 s)"


async def test_budgets_are_handed_from_level_to_level() -> None:
    worker = ScriptedWorker(steady)
    probe = make_probe(levels=(concurrency(1), concurrency(2), concurrency(4)), stop=StopRules(max_requests=8))
    result, _ = await sweep(worker, probe)
    assert [plan.max_requests for plan in worker.plans] == [8, 4]
    assert (result.reason, result.usable) == (Reason.REQUEST_BUDGET, True)
    assert result.reason_text == "all 8 requests were used up before level 4"
    assert all(0 < plan.max_duration_ns <= probe.stop.max_duration_ns for plan in worker.plans)


async def test_the_worker_is_lost() -> None:
    def script(plan: LevelPlan, index: int) -> LevelEvent | Exception:
        if index < 2:
            return steady(plan, index)
        return WorkerLostError(Reason.WORKER_CRASH, "worker ended by signal 9")

    result, _ = await sweep(ScriptedWorker(script), make_probe())
    assert (result.status, result.reason) == (SweepStatus.ABORTED, Reason.WORKER_CRASH)
    assert result.outcomes == {Outcome.OK: 4}


def renewed(worker: ScriptedWorker, at_level: str) -> None:
    """The model gets a new version while this level runs."""

    def script(plan: LevelPlan, index: int) -> Window:
        if plan.level.label == at_level and index == 1:
            worker.version = "2"
        return steady(plan, index)

    worker.script = script


async def test_a_model_whose_version_changes_leaves_no_figures_of_the_old_one() -> None:
    worker = ScriptedWorker(steady)
    renewed(worker, at_level="2")
    result, sink = await sweep(worker, make_probe(levels=(concurrency(1), concurrency(2), concurrency(4))))
    assert (result.status, result.reason, result.usable) == (SweepStatus.ABORTED, Reason.MODEL_CHANGED, False)
    assert result.reason_text.startswith("level 2: the model changed from version 1 to 2 during the sweep")
    # The first level was measured before: those figures are the old version's.
    assert [m.level.label for m in result.measurements] == ["1"]
    assert result.facts is not None
    assert result.facts.version == "1"
    assert [plan.level.label for plan in worker.plans] == ["1", "2"]
    assert sink.events[-1] == "ended"


async def test_so_does_one_whose_level_ended_for_another_reason() -> None:
    def script(plan: LevelPlan, index: int) -> LevelEvent:
        worker.version = "2"
        return steady(plan, index) if index < 2 else LevelEnd(Reason.ERROR_RATIO, "many failed", 4)

    worker = ScriptedWorker(script)
    result, _ = await sweep(worker, make_probe())
    assert (result.reason, result.measurements) == (Reason.MODEL_CHANGED, ())


async def test_a_version_that_the_probe_sets_or_no_server_reports_is_not_requested() -> None:
    for facts in (make_facts(asked_version="1"), make_facts(version="")):
        worker = ScriptedWorker(steady)
        worker.facts = facts
        renewed(worker, at_level="1")
        result, _ = await sweep(worker, make_probe())
        assert (result.reason, len(result.measurements)) == (Reason.NONE, 1)


async def test_what_was_sent_in_a_window_that_never_came_is_counted() -> None:
    class Killed(ScriptedWorker):
        """Sends more in the window in which it is lost, and yet more until it is silent."""

        async def silence(self) -> None:
            self.sent += 20

    def script(plan: LevelPlan, index: int) -> LevelEvent | Exception:
        if index < 2:
            return steady(plan, index)
        worker.sent += 300
        return WorkerLostError(Reason.WORKER_CRASH, "worker ended by signal 9")

    worker = Killed(script)
    result, sink = await sweep(worker, make_probe())
    assert worker.sent == 322
    assert result.sent == 322
    assert result.outcomes == {Outcome.OK: 4, Outcome.CANCELLED: 318}
    assert [counts.outcomes for counts in sink.counts][-1] == {Outcome.CANCELLED: 318}
    assert sink.counts[-1].bucket_counts == (0,) * len(sink.counts[0].bucket_counts)
    assert sink.events[-1] == "ended"


async def test_requests_to_a_reference_model_count_and_are_no_lost_ones() -> None:
    def script(plan: LevelPlan, index: int) -> LevelEvent | Exception:
        if index < 2:
            return steady(plan, index)
        worker.sent += 30
        worker.asked += 30
        return WorkerLostError(Reason.WORKER_CRASH, "worker ended by signal 9")

    worker = ScriptedWorker(script)
    worker.asked = 7  # of a sweep before
    result, _ = await sweep(worker, make_probe())
    assert result.sent == worker.sent == 32
    assert result.outcomes == {Outcome.OK: 4}, "two windows of two, which the script counts as one"


async def test_so_is_that_of_a_cancelled_sweep_and_of_a_worker_that_had_a_life_before() -> None:
    sink = RecordingSink()
    worker = ScriptedWorker(lambda plan, index: steady(plan, index) if index == 0 else None)
    worker.sent = 1000
    task = asyncio.create_task(Sweep(make_probe(), [sink]).run(lambda: nullcontext(worker)))
    while len(sink.events) < 2:
        await asyncio.sleep(0.01)
    worker.sent += 50
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert sink.result is not None
    assert sink.result.sent == worker.sent - 1000 > 50


async def test_the_worker_holds_the_limit_of_windows_itself() -> None:
    worker = ScriptedWorker(steady)
    await sweep(worker, make_probe(measurement=MeasurementOptions(window_ns=NS, max_windows=7)))
    assert worker.plans[0].max_windows == 7
    counted = ScriptedWorker(lambda plan, index: steady(plan, index) if index < 3 else LevelEnd(Reason.NONE, "", 6))
    await sweep(counted, make_probe(measurement=MeasurementOptions(window_ns=NS, max_windows=7, request_count=6)))
    assert counted.plans[0].max_windows == 0


async def test_a_sweep_does_not_wait_behind_what_hangs_in_asyncios_own_pool() -> None:
    go = threading.Event()
    loop = asyncio.get_running_loop()
    loop.set_default_executor(ThreadPoolExecutor(1))
    stuck = loop.run_in_executor(None, go.wait)
    try:
        async with asyncio.timeout(10):
            result, _ = await sweep(ScriptedWorker(steady), make_probe())
        assert result.usable
    finally:
        go.set()
        await stuck


async def test_a_worker_that_contains_no_information_is_killed_at_the_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(conductor, "PREFLIGHT_MARGIN_NS", 0)
    worker = ScriptedWorker(lambda plan, index: None)
    result, _ = await sweep(worker, make_probe(stop=StopRules(max_duration_ns=NS // 20)))
    assert (result.status, result.reason) == (SweepStatus.ABORTED, Reason.DEADLINE)
    assert worker.calls == ["kill"]


async def test_no_worker_comes_up() -> None:
    def borrow() -> AbstractAsyncContextManager[ScriptedWorker]:
        raise WorkerLostError(Reason.WORKER_CRASH, "worker was not ready")

    sink = RecordingSink()
    result = await Sweep(make_probe(), [sink]).run(borrow)
    assert (result.status, result.reason, result.reason_text) == (
        SweepStatus.ABORTED,
        Reason.WORKER_CRASH,
        "worker was not ready",
    )
    assert sink.events == ["started", "ended"]


async def test_cancelled_by_shutdown() -> None:
    sink = RecordingSink()
    worker = ScriptedWorker(lambda plan, index: steady(plan, index) if index == 0 else None)
    task = asyncio.create_task(Sweep(make_probe(), [sink]).run(lambda: nullcontext(worker)))
    while len(sink.events) < 2:
        await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert sink.result is not None
    assert (sink.result.status, sink.result.reason) == (SweepStatus.ABORTED, Reason.SHUTDOWN)
    assert sink.result.outcomes == {Outcome.OK: 2}


async def test_every_sweep_has_an_id_of_its_own() -> None:
    ids = {Sweep(make_probe(), []).result(Reason.SHUTDOWN, "").id for _ in range(100)}
    assert len(ids) == 100


@pytest.mark.parametrize(
    ("allowed", "given"),
    [(Load(5, 3600 * NS), [5, 1]), (Load(10**9, 3600 * NS), [8, 4]), (Load(4, 3600 * NS), [4])],
)
async def test_the_budget_of_the_group_is_kept_where_it_is_less(allowed: Load, given: list[int]) -> None:
    worker, sink = ScriptedWorker(steady), RecordingSink()
    probe = make_probe(levels=(concurrency(1), concurrency(2), concurrency(4)), stop=StopRules(max_requests=8))
    result = await Sweep(probe, [sink], allowed=allowed).run(lambda: nullcontext(worker))
    assert [plan.max_requests for plan in worker.plans] == given
    assert all(plan.max_duration_ns <= 300 * NS for plan in worker.plans)
    assert result.sent == 4 * len(given)


@pytest.mark.parametrize(
    ("tokens", "given"),
    [
        (100, [(100, 5), (70, 4)]),  # of 20 tokens each at most
        (59, [(59, 2), (29, 1)]),
        (10**9, [(250_000, 12_500), (249_970, 12_499)]),
        (19, []),
    ],
)
async def test_so_is_its_budget_in_tokens(tokens: int, given: list[tuple[int, int]]) -> None:
    def script(plan: LevelPlan, index: int) -> Window | Exception:
        worker.tokens += 30
        return LevelEnd(Reason.NONE, "", 1)  # type: ignore[return-value]

    worker = ScriptedWorker(script)
    options = InputOptions(prompt=PromptOptions(tokens=10, output_tokens=5))
    probe = make_probe(target=make_target(kind="openai"), levels=(concurrency(1), concurrency(2)), input=options)
    result = await Sweep(probe, [], allowed=Load(10**9, 3600 * NS, tokens)).run(lambda: nullcontext(worker))
    assert [(plan.max_tokens, plan.max_requests) for plan in worker.plans] == given
    assert result.tokens == 30 * len(given)


async def test_what_was_sent_is_known_of_a_lost_worker_too() -> None:
    def script(plan: LevelPlan, index: int) -> Window | Exception:
        return make_window(index) if index < 2 else WorkerLostError(Reason.WORKER_CRASH, "gone")

    result, _ = await sweep(ScriptedWorker(script), make_probe())
    assert (result.reason, result.sent) == (Reason.WORKER_CRASH, 2)


# --- searches and repeats --------------------------------------------------------------------------------------------


def searching(kind: SearchKind, start: int, end: int, step: int = 1, **changes: object) -> Probe:
    levels = tuple(concurrency(value) for value in (start, end) if value)
    options = MeasurementOptions(window_ns=NS, latency_threshold_ns=10 * MS, max_windows=4)
    search = Search(kind, Mode.CONCURRENCY, start, end, step)
    return make_probe(levels=levels, measurement=options, search=search, **changes)


FOUND = "level {} is the highest that kept the threshold"


def two_ms_each(plan: LevelPlan, index: int) -> Window:
    """A server that responds one after the other: the threshold is kept up to a concurrency of 5."""
    return make_window(index, [2.0 * plan.level.value] * 10)


@pytest.mark.parametrize(
    ("probe", "visited", "best", "text"),
    [
        (searching(SearchKind.BINARY, 1, 8), [1, 8, 4, 6, 5], 5, FOUND.format(5)),
        (searching(SearchKind.LINEAR, 1, 8), [1, 2, 3, 4, 5, 6], 5, FOUND.format(5)),
        (searching(SearchKind.LINEAR, 1, 0, 2), [1, 3, 5, 7], 5, FOUND.format(5)),
        (searching(SearchKind.BINARY, 6, 8), [6], None, "no level that was visited kept the threshold"),
        (searching(SearchKind.BINARY, 1, 4), [1, 4], 4, f"{FOUND.format(4)}, and the highest that was visited"),
        (
            searching(SearchKind.LINEAR, 1, 0, stop=StopRules(max_in_flight=3)),
            [1, 2, 3],
            3,
            f"{FOUND.format(3)}, and the highest that was visited",
        ),
    ],
)
async def test_a_search(probe: Probe, visited: list[int], best: int | None, text: str) -> None:
    worker = ScriptedWorker(two_ms_each)
    result, _ = await sweep(worker, probe)
    assert [plan.level for plan in worker.plans] == [concurrency(value) for value in visited]
    assert [measurement.level.value for measurement in result.measurements] == visited
    assert [m.threshold_met for m in result.measurements] == [value <= 5 for value in visited]
    assert (result.best.level.value if result.best else None) == best
    assert (result.status, result.reason_text) == (SweepStatus.OK, text)


async def test_an_unstable_level_ends_a_search_like_one_above_the_threshold() -> None:
    def script(plan: LevelPlan, index: int) -> Window:
        return make_window(index, [(1.0 + index) if plan.level.label == "3" else 2.0])

    result, _ = await sweep(ScriptedWorker(script), searching(SearchKind.LINEAR, 1, 8))
    assert [(m.level.label, m.stable, m.threshold_met) for m in result.measurements] == [
        ("1", True, True),
        ("2", True, True),
        ("3", False, True),
    ]
    assert result.best is not None
    assert result.best.level.label == "2"
    # It might have kept the threshold: the search's result is in doubt, and reports it.
    assert (result.status, result.reason) == (SweepStatus.UNSTABLE, Reason.UNSTABLE)


async def test_a_level_above_the_threshold_need_not_be_stable_and_takes_no_more_windows_than_it_must() -> None:
    def script(plan: LevelPlan, index: int) -> Window:
        return make_window(index, [20.0 * (index + 1)] if plan.level.label == "8" else [2.0])

    result, _ = await sweep(ScriptedWorker(script), searching(SearchKind.BINARY, 7, 8))
    assert [(m.level.label, m.stable, m.windows_run) for m in result.measurements] == [("7", True, 3), ("8", False, 3)]
    assert (result.status, result.reason_text) == (SweepStatus.OK, FOUND.format(7))


@pytest.mark.parametrize("reason", [Reason.LATENCY, Reason.PENDING_QUEUE])
async def test_a_search_continues_below_a_level_that_a_guard_ended(reason: Reason) -> None:
    def script(plan: LevelPlan, index: int) -> Window | LevelEnd:
        return LevelEnd(reason, "too slow", 1) if plan.level.value > 5 else make_window(index, [1.0])

    worker = ScriptedWorker(script)
    result, _ = await sweep(worker, searching(SearchKind.BINARY, 1, 8))
    assert [int(plan.level.value) for plan in worker.plans] == [1, 8, 4, 6, 5]
    assert (result.status, result.reason) == (SweepStatus.OK, Reason.NONE)
    assert result.best is not None
    assert result.best.level.value == 5


@pytest.mark.parametrize("reason", [Reason.LATENCY, Reason.PENDING_QUEUE])
async def test_a_guard_ends_a_sweep_of_levels(reason: Reason) -> None:
    worker = ScriptedWorker(lambda plan, index: LevelEnd(reason, "too slow", 1))
    result, _ = await sweep(worker, make_probe(levels=(concurrency(1), concurrency(2))))
    assert (result.status, result.reason, result.usable) == (SweepStatus.ABORTED, reason, False)
    assert result.reason_text == "level 1: too slow"
    assert len(worker.plans) == 1


async def test_a_search_keeps_to_its_budgets() -> None:
    probe = searching(SearchKind.LINEAR, 1, 0, stop=StopRules(max_requests=80))
    result, _ = await sweep(ScriptedWorker(lambda plan, index: make_window(index, [1.0] * 10)), probe)
    # 31 requests a level: three are begun, as far as the scripted worker knows.
    assert (result.reason, result.usable) == (Reason.REQUEST_BUDGET, True)
    assert result.best is not None


async def test_an_endless_search_ends() -> None:
    worker = ScriptedWorker(lambda plan, index: make_window(index, [1.0]))
    result, _ = await sweep(worker, searching(SearchKind.LINEAR, 1, 0))
    assert len(worker.plans) == len(result.measurements) == MAX_SEARCH_LEVELS
    assert result.reason_text == f"{FOUND.format(MAX_SEARCH_LEVELS)}, and the highest that was visited"


async def test_request_rates_are_searched_as_they_were_declared() -> None:
    declared = tuple(
        LoadLevel(Mode.REQUEST_RATE, value, label, seed=7) for value, label in ((0.5, "0.5"), (2.5, "2.5"))
    )
    options = MeasurementOptions(window_ns=NS, latency_threshold_ns=10 * MS)
    search = Search(SearchKind.BINARY, Mode.REQUEST_RATE, 0.5, 2.5, 0.25)
    worker = ScriptedWorker(lambda plan, index: make_window(index, [8.0 if plan.level.value <= 1 else 12.0] * 3))
    await sweep(worker, make_probe(levels=declared, measurement=options, search=search))
    assert [plan.level.label for plan in worker.plans] == ["0.5", "2.5", "1.5", "1", "1.25"]
    assert worker.plans[0].level is declared[0]
    assert {plan.level.seed for plan in worker.plans} == {7}


async def test_the_whole_sweep_is_repeated() -> None:
    def script(plan: LevelPlan, index: int) -> Window:
        return make_window(index, [2.0 if len(worker.plans) <= 2 else 4.0])

    worker = ScriptedWorker(script)
    options = MeasurementOptions(window_ns=NS, repeats=2)
    result, _ = await sweep(worker, make_probe(levels=(concurrency(1), concurrency(2)), measurement=options))
    assert [plan.level.label for plan in worker.plans] == ["1", "2", "1", "2"]
    assert [m.level.label for m in result.measurements] == ["1", "2"]
    for measurement in result.measurements:
        assert measurement.latency is not None
        assert (measurement.latency.count, measurement.latency.mean_ns) == (6, 3 * MS)
        assert [repeat.latency.mean_ns for repeat in measurement.repeats if repeat.latency] == [2 * MS, 4 * MS]
        assert (measurement.windows_run, measurement.windows_merged, measurement.stable) == (6, 6, True)
    assert result.status is SweepStatus.OK


async def test_sinks_get_the_result_with_its_verdicts() -> None:
    sink, verdict = RecordingSink(), LevelVerdict(concurrency(1), ())

    def judge(result: SweepResult) -> SweepResult:
        assert "ended" not in sink.events
        return replace(result, verdicts=(verdict,))

    result = await Sweep(make_probe(), [sink], judge=judge).run(lambda: nullcontext(ScriptedWorker(steady)))
    assert sink.result is result
    assert result.verdicts == (verdict,)


async def test_an_error_in_the_verdict_costs_the_verdict_alone(caplog: pytest.LogCaptureFixture) -> None:
    def judge(_: SweepResult) -> SweepResult:
        raise RuntimeError("oh")

    sink = RecordingSink()
    result = await Sweep(make_probe(), [sink], judge=judge).run(lambda: nullcontext(ScriptedWorker(steady)))
    assert (sink.result is result, result.status, result.verdicts) == (True, SweepStatus.OK, ())
    assert "no verdict on a sweep" in caplog.text


class RecordingWatcher(Watcher):
    """Writes down what it is reported; `on_window` is called with each window."""

    def __init__(self, on_window: Callable[[], object] = lambda: None) -> None:
        self.events: list[str] = []
        self.on_window = on_window

    def model_known(self, facts: ModelFacts) -> None:
        self.events.append(facts.name)

    def window_judged(self, level: LoadLevel, summary: WindowSummary, verdict: Stability) -> None:
        self.events.append(f"window {summary.index} of {level.label}, stable {verdict.stable}")
        self.on_window()

    def level_ended(self, measurement: Measurement | None) -> None:
        assert measurement is not None
        self.events.append(f"level {measurement.level.label}")


async def test_a_watcher_follows_the_sweep() -> None:
    watcher = RecordingWatcher()
    probe = make_probe(levels=(concurrency(1), concurrency(2)))
    await Sweep(probe, [], watchers=[watcher]).run(lambda: nullcontext(ScriptedWorker(steady)))
    assert watcher.events == ["addsub"] + [
        event
        for label in ("1", "2")
        for event in (
            f"window 0 of {label}, stable False",
            f"window 1 of {label}, stable False",
            f"window 2 of {label}, stable True",
            f"level {label}",
        )
    ]


async def test_an_interrupted_sweep_keeps_what_it_has_measured() -> None:
    worker = ScriptedWorker(steady)
    tasks: list[asyncio.Task[None]] = []

    def interrupt_in_the_second_level() -> None:
        if len(watcher.events) == 6:  # the model, three windows, a level, a window
            tasks.append(asyncio.create_task(sweeping.interrupt()))

    watcher = RecordingWatcher(interrupt_in_the_second_level)
    probe = make_probe(
        levels=(concurrency(1), concurrency(2), concurrency(4)),
        measurement=MeasurementOptions(window_ns=NS, max_windows=5),
    )
    sweeping = Sweep(probe, [], watchers=[watcher])
    result = await sweeping.run(lambda: nullcontext(worker))
    assert (result.status, result.reason) == (SweepStatus.ABORTED, Reason.SHUTDOWN)
    assert result.reason_text == "level 2: interrupted after 1 of 3 windows"
    assert result.measurements[1].reason is Reason.SHUTDOWN
    measured = [(m.level.label, m.stable, m.windows_run) for m in result.measurements]
    assert measured[0] == ("1", True, 3)
    assert measured[1][0] == "2"
    assert measured[1][1:] == (False, 1)
    assert len(worker.plans) == 2


async def test_interrupted_before_the_first_level() -> None:
    worker = ScriptedWorker(steady)
    sweeping = Sweep(make_probe(), [])
    await sweeping.interrupt()
    result = await sweeping.run(lambda: nullcontext(worker))
    assert (result.reason, result.measurements, worker.plans) == (Reason.SHUTDOWN, (), [])


@pytest.mark.parametrize(("cache", "source", "lines"), [(True, "random", 1), (True, "files", 0), (False, "zero", 0)])
async def test_input_that_would_only_measure_the_cache_is_reported(
    caplog: pytest.LogCaptureFixture, cache: bool, source: str, lines: int
) -> None:
    worker = ScriptedWorker(steady)
    worker.facts = make_facts(response_cache=cache)
    await sweep(worker, make_probe(input=InputOptions(source=source)))
    assert caplog.text.count("the model has a response cache") == lines


class LostBorrow:
    """Lends a worker that is lost at once, and then one that is not."""

    def __init__(self, second: ScriptedWorker) -> None:
        self.lost = ScriptedWorker(steady, preflight=WorkerLostError(Reason.WORKER_CRASH, "gone"))
        self.workers = [self.lost, second]

    @asynccontextmanager
    async def __call__(self) -> AsyncIterator[Worker]:
        yield self.workers.pop(0)


@pytest.mark.parametrize(("shared_memory", "cleaned"), [("system", True), ("none", False)])
async def test_what_a_lost_worker_shared_is_removed_by_another(shared_memory: str, cleaned: bool) -> None:
    second = ScriptedWorker(steady)
    probe = make_probe(input=InputOptions(shared_memory=shared_memory))
    result = await Sweep(probe, []).run(LostBorrow(second))
    assert (result.reason, result.reason_text) == (Reason.WORKER_CRASH, "gone")
    assert (second.calls == ["end_sweep"]) == cleaned
    assert second.plans == []


@pytest.mark.parametrize(("shared_memory", "cleaned"), [("system", True), ("none", False)])
async def test_so_is_what_one_that_missed_its_deadline_shared(
    monkeypatch: pytest.MonkeyPatch, shared_memory: str, cleaned: bool
) -> None:
    monkeypatch.setattr(conductor, "PREFLIGHT_MARGIN_NS", NS // 10)
    second = ScriptedWorker(steady)
    borrow = LostBorrow(second)
    borrow.workers[0] = silent = ScriptedWorker(lambda plan, index: None)
    probe = make_probe(input=InputOptions(shared_memory=shared_memory), stop=StopRules(max_duration_ns=NS // 20))
    result = await Sweep(probe, []).run(borrow)
    assert (result.status, result.reason) == (SweepStatus.ABORTED, Reason.DEADLINE)
    assert result.reason_text == "the worker did not end the sweep within 0 s"
    assert silent.calls == ["kill"]
    assert (second.calls == ["end_sweep"]) == cleaned
    assert second.plans == []


async def test_random_arrivals_have_a_seed_of_their_own_in_each_sweep() -> None:
    level = LoadLevel(Mode.REQUEST_RATE, 10.0, "10", Distribution.POISSON)
    seeds = []
    for _ in range(3):
        worker = ScriptedWorker(lambda plan, index: make_window(index, [1.0]))
        result, _ = await sweep(worker, make_probe(levels=(level,)))
        assert worker.plans[0].seed == result.seed
        seeds.append(result.seed)
    assert len(set(seeds)) == 3
    worker = ScriptedWorker(lambda plan, index: make_window(index, [1.0]))
    result, _ = await sweep(worker, make_probe(levels=(replace(level, seed=7),)))
    assert (worker.plans[0].seed, result.seed) == (7, 7)
    result, _ = await sweep(ScriptedWorker(lambda plan, index: make_window(index, [1.0])), make_probe())
    assert result.seed is None
