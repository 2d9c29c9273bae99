"""Responses compared with what is expected: counted in the window in which they came, and outside the timed path."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from exporter.core.errors import InputError
from exporter.core.facts import TensorSpec
from exporter.core.outcome import Outcome, Reason
from exporter.core.probe import Validation
from exporter.core.window import Checked, LevelEnd, Window
from exporter.engine import checker as checker_module
from exporter.engine.checker import Checker
from exporter.engine.plan import LevelPlan, MemberEvent
from exporter.payload import Step
from exporter.transport.call import Response
from exporter.worker.data import Data
from tests.builders import concurrency, make_facts
from tests.engine.fakes import FakeService, always, make_plan
from tests.engine.levels import events_of


def floats(*values: float) -> Any:
    return np.array(values, np.float32)


def steps(*expected: float, inputs: Sequence[float] = ()) -> list[Step]:
    """Steps whose responses the fake service makes from their inputs."""
    return [
        Step({"INPUT0": floats(value)}, ({"OUTPUT0": floats(wanted)},), f"step {index}")
        for index, (value, wanted) in enumerate(zip(inputs or expected, expected, strict=True))
    ]


async def run(plan: LevelPlan, service: FakeService, given: list[Step], windows: int = 3) -> list[MemberEvent]:
    encoded = service.encode(plan.probe, plan.facts, [step.inputs for step in given], "s")
    return await events_of(plan, service, encoded, stop_at=windows, steps=given)


def counted(events: list[MemberEvent]) -> tuple[Counter[Outcome], Checked]:
    """The outcomes in the windows, and the checks, both of all windows together."""
    windows = [event for event in events if isinstance(event, Window)]
    codes = Counter(Outcome(code) for window in windows for code in window.columns.outcome.tolist())
    checked = Checked()
    for window in windows:
        assert window.checked is not None
        wrong = int((window.columns.outcome == Outcome.WRONG_OUTPUT).sum())
        assert window.checked.wrong == wrong
        checked += window.checked
    return codes, checked


@pytest.mark.parametrize("calls", [1, 4])
async def test_right_responses(calls: int) -> None:
    service = FakeService(script=always(delay_ms=1.0))
    outcomes, checked = counted(await run(make_plan(concurrency(calls)), service, steps(1, 2, 3)))
    assert set(outcomes) == {Outcome.OK}
    assert checked.responses == outcomes[Outcome.OK]
    assert checked.difference == ""


async def test_each_wrong_response_is_counted_in_its_window_and_the_first_difference_is_reported() -> None:
    service = FakeService(script=always(delay_ms=1.0))
    given = steps(1, 2, 30, inputs=(1, 2, 3))
    events = await run(make_plan(max_error_ratio=1.0), service, given)
    outcomes, checked = counted(events)
    assert checked.wrong == outcomes[Outcome.WRONG_OUTPUT]
    assert abs(outcomes[Outcome.WRONG_OUTPUT] - sum(outcomes.values()) / 3) <= 1
    assert checked.difference == "step 2: tensor 'OUTPUT0', index [0]: expected 30.0, got 3.0"
    assert checked.error is not None
    assert checked.error.absolute == 27.0
    texts = {event.error_text for event in events if isinstance(event, Window)}
    assert f"wrong_output: {checked.difference}" in texts


async def test_wrong_responses_end_a_level_as_errors_do() -> None:
    service = FakeService(script=always(delay_ms=1.0))
    events = await run(make_plan(), service, steps(10, inputs=(1,)), windows=1000)
    end = events[-1]
    assert isinstance(end, LevelEnd)
    assert end.reason is Reason.ERROR_RATIO
    assert end.text.endswith("last: wrong_output: step 0: tensor 'OUTPUT0', index [0]: expected 10.0, got 1.0")


async def test_failed_requests_are_not_checked() -> None:
    service = FakeService(script=always(Outcome.SERVER_ERROR, 1.0))
    outcomes, checked = counted(await run(make_plan(max_error_ratio=1.0), service, steps(1)))
    assert set(outcomes) == {Outcome.SERVER_ERROR}
    assert checked.responses == 0


async def test_a_response_that_cannot_be_read_is_wrong() -> None:
    service = FakeService(script=always(delay_ms=1.0), broken_responses=True)
    outcomes, checked = counted(await run(make_plan(max_error_ratio=1.0), service, steps(1)))
    assert set(outcomes) == {Outcome.WRONG_OUTPUT}
    assert checked.difference == "step 0: a response that is none"


async def test_nothing_is_kept_where_nothing_is_expected() -> None:
    events = await run(make_plan(), FakeService(), [Step({"INPUT0": floats(1)})])
    assert {event.checked for event in events if isinstance(event, Window)} == {None}


# --- the checker alone -----------------------------------------------------------------------------------------------


def make_checker(given: list[Step], wrong: list[tuple[int, str]]) -> Checker:
    return Checker(
        given,
        service=FakeService(),
        facts=make_facts(),
        rules=Validation(),
        on_checked=lambda row, text: wrong.append((row, text)) if text else None,
    )


def response(*values: float) -> Response:
    return Response([floats(value).tobytes() for value in values])


async def test_what_does_not_find_space_is_not_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checker_module, "MAX_WAITING", 3)
    checker = make_checker(steps(1), [])
    for row in range(5):
        checker.put_aside(0, response(1), row)
    taken = checker.take()
    assert (taken.responses, taken.unchecked, checker.due) == (3, 2, 5)
    checker.put_aside(0, response(1), 0)
    assert checker.take().responses == 1
    monkeypatch.setattr(checker_module, "MAX_WAITING_BYTES", 8)
    for row in range(5):
        checker.put_aside(0, response(1), row)
    assert checker.take().responses == 2
    checker.close()


async def test_rows_and_responses_that_change() -> None:
    wrong: list[tuple[int, str]] = []
    checker = make_checker(steps(1), wrong)
    for row, value in enumerate([1, 2, 1, 2, 3]):
        checker.put_aside(0, response(value), row)
    checked = checker.take()
    assert [row for row, _ in wrong] == [1, 3, 4]
    assert (checked.responses, checked.wrong) == (5, 3)
    checker.close()


async def test_the_loop_gets_to_them_by_itself() -> None:
    wrong: list[tuple[int, str]] = []
    checker = make_checker(steps(1), wrong)
    checker.put_aside(0, response(2), 7)
    while not wrong:
        await asyncio.sleep(0.001)
    assert wrong == [(7, "step 0: tensor 'OUTPUT0', index [0]: expected 1.0, got 2.0")]
    checker.close()


async def test_several_responses_to_one_request() -> None:
    step = Step({}, ({"OUTPUT0": floats(1)}, {"OUTPUT0": floats(2)}))
    wrong: list[tuple[int, str]] = []
    checker = make_checker([step], wrong)
    for row, responses in enumerate([(1, 2), (1, 3), (1,)]):
        checker.put_aside(0, response(*responses), row)
    checker.take()
    assert wrong == [
        (1, "response 1, tensor 'OUTPUT0', index [0]: expected 2.0, got 3.0"),
        (2, "expected 2 responses, got 1"),
    ]
    checker.close()


# --- a reference model -----------------------------------------------------------------------------------------------


def reference_plan(**changes: Any) -> LevelPlan:
    plan = make_plan()
    facts = make_facts(inputs=(TensorSpec("INPUT0", "FP32", (1,)),), outputs=(TensorSpec("OUTPUT0", "FP32", (1,)),))
    return replace(plan, facts=replace(facts, **changes), probe=replace(plan.probe, validation=Validation("ref", "2")))


async def test_a_reference_model_is_asked_once_for_each_request_of_a_sweep() -> None:
    service, plan, data = FakeService(), reference_plan(), Data()
    control = service.control(plan.probe.target, 0)
    (step,) = (await data.requests(plan, control)).steps
    assert step.expected[0]["OUTPUT0"].tolist() == step.inputs["INPUT0"].tolist()
    assert (await data.requests(plan, control)).steps == [step]
    assert service.inferred == [("ref", "2")]
    assert service.infer_timeout_ns == plan.probe.measurement.request_timeout_ns


async def test_a_decoupled_model_is_not_compared_with_a_reference() -> None:
    service = FakeService()
    plan = reference_plan(decoupled=True)
    with pytest.raises(InputError, match=r"^validation\.reference_model: model 'addsub' is decoupled"):
        await Data().requests(plan, service.control(plan.probe.target, 0))
    assert service.inferred == []


async def test_a_reference_model_without_the_output() -> None:
    service = FakeService()
    plan = reference_plan(outputs=(TensorSpec("OTHER", "FP32", (1,)),))
    with pytest.raises(InputError, match="reference model 'ref' has no output 'OTHER'"):
        await Data().requests(plan, service.control(plan.probe.target, 0))
