"""Every way that a sweep can end, with a worker that follows a script."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext

import pytest

from exporter.errors import PreflightError, WorkerLostError
from exporter.load.protocol import LevelEvent, LevelPlan, LevelStarted, Worker
from exporter.model import (
    ConnectionTimes,
    LevelEnd,
    ModelFacts,
    Outcome,
    Reason,
    SkipReason,
    SweepResult,
    SweepStatus,
    Window,
    WindowCounts,
)
from exporter.probe import NS, InputOptions, LoadLevel, MeasurementOptions, Mode, Probe, SequenceOptions, StopRules
from exporter.sweep import conductor
from exporter.sweep.conductor import Sweep
from tests.builders import concurrency, make_columns, make_facts, make_probe, make_target, make_window

Script = Callable[[LevelPlan, int], LevelEvent | Exception | None]
"""What the worker tells as the n-th window of a level; None: it waits for ever."""


class ScriptedWorker:
    """A worker whose every window is given by the test."""

    def __init__(self, script: Script, *, preflight: Exception | None = None) -> None:
        self.script = script
        self.preflight_error = preflight
        self.facts = make_facts()
        self.plans: list[LevelPlan] = []
        self.calls: list[str] = []
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
        sent = 0
        while not self._stopped:
            event = self.script(plan, sent)
            if event is None:
                await asyncio.Event().wait()
            if isinstance(event, Exception):
                raise event
            assert event is not None
            yield event
            if isinstance(event, LevelEnd):
                return
            sent += 1
        # What was in flight when the level was stopped comes late: counted, never measured.
        yield make_window(sent, [1.0], warm_up=True)
        yield LevelEnd(Reason.NONE, "", sent + 1)

    async def stop_level(self) -> None:
        self._stopped = True
        self.calls.append("stop_level")

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
    assert result.reason_text == "level 1: the last 3 of 5 windows differ by 67 %, more than the 10 % allowed"


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
            "model 'addsub' is decoupled (any number of answers to a request): "
            "take the server's gRPC door, and say streaming: true",
        ),
        (
            make_facts(decoupled=True),
            make_probe(target=GRPC),
            "model 'addsub' is decoupled (any number of answers to a request): say streaming: true",
        ),
        (make_facts(), make_probe(streaming=True), "streaming needs a gRPC door, and http://127.0.0.1:8000 is none"),
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
    assert result.reason_text == "level 1: no request was ok (2 server_error, 1 ok)"
    assert len(worker.plans) == 1


async def test_budgets_are_handed_from_level_to_level() -> None:
    worker = ScriptedWorker(steady)
    probe = make_probe(levels=(concurrency(1), concurrency(2), concurrency(4)), stop=StopRules(max_requests=8))
    result, _ = await sweep(worker, probe)
    assert [plan.max_requests for plan in worker.plans] == [8, 4]
    assert (result.reason, result.usable) == (Reason.REQUEST_BUDGET, True)
    assert result.reason_text == "all 8 requests spent before level 4"
    assert all(0 < plan.max_duration_ns <= probe.stop.max_duration_ns for plan in worker.plans)


async def test_the_worker_is_lost() -> None:
    def script(plan: LevelPlan, index: int) -> LevelEvent | Exception:
        if index < 2:
            return steady(plan, index)
        return WorkerLostError(Reason.WORKER_CRASH, "worker ended by signal 9")

    result, _ = await sweep(ScriptedWorker(script), make_probe())
    assert (result.status, result.reason) == (SweepStatus.ABORTED, Reason.WORKER_CRASH)
    assert result.outcomes == {Outcome.OK: 4}


async def test_a_worker_that_says_nothing_is_killed_at_the_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
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


@pytest.mark.parametrize(("cache", "source", "lines"), [(True, "random", 1), (True, "files", 0), (False, "zero", 0)])
async def test_input_that_would_only_measure_the_cache_is_said(
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
