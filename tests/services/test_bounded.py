"""What any kind reports is within its bounds before a sweep, a label or the daemon sees it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from exporter.core.bounds import BATCH_SIZES, DIMENSIONS, NAME, READY_MODELS, TENSOR_NAME, TENSORS, VERSIONS
from exporter.core.errors import PreflightError
from exporter.core.facts import BatchStat, ModelKey, ModelStatistics, ServerSnapshot, TensorSpec
from exporter.services.bounded import BoundedControl, bounded_facts, bounded_models, bounded_snapshot
from tests.builders import make_facts, make_target

TENSOR = TensorSpec("T", "FP32", (4,))


@pytest.mark.parametrize("name", ["version", "platform", "backend", "server_name", "server_version"])
@pytest.mark.parametrize("value", ["x" * (8 << 20), "a\x1b[2Jb", "1.0\ud800"], ids=["long", "harmful", "surrogate"])
def test_names_can_be_anywhere(name: str, value: str) -> None:
    bounded = getattr(bounded_facts(make_facts(**{name: value})), name)
    assert 0 < len(bounded) <= NAME
    assert bounded.isprintable()
    bounded.encode()


@pytest.mark.parametrize(
    ("inputs", "text"),
    [
        ((TENSOR,) * (TENSORS + 1), "has 1001 inputs, at most 1000 are taken"),
        ((replace(TENSOR, name="x" * (TENSOR_NAME + 1)),), "a name of 513 characters"),
        ((replace(TENSOR, name="a\x1bb"),), "or with unprintable ones: a b"),
        ((replace(TENSOR, shape=(1,) * (DIMENSIONS + 1)),), "a tensor of 33 dimensions, at most 32 are taken"),
        ((replace(TENSOR, shape=(-2,)),), "a dimension that cannot be"),
        ((replace(TENSOR, shape=(2**63,)),), "a dimension that cannot be"),
        ((replace(TENSOR, datatype="x" * 33),), "a datatype that cannot be"),
    ],
)
def test_tensors_that_cannot_be_sent_fail_the_sweep(inputs: tuple[TensorSpec, ...], text: str) -> None:
    for facts in (make_facts(inputs=inputs), make_facts(outputs=inputs)):
        with pytest.raises(ValueError, match=text.replace("inputs", "(in|out)puts")):
            bounded_facts(facts)


class Facts:
    """A control of which only the facts are read."""

    def __init__(self, facts: object) -> None:
        self.facts = facts

    async def preflight(self, *_: object) -> object:
        return self.facts


@pytest.mark.parametrize(
    ("facts", "traceback"),
    [(make_facts(inputs=(replace(TENSOR, name="a\x1bb"),)), False), (None, True)],
    ids=["beyond a bound", "what no one thought of"],
)
async def test_only_what_no_one_thought_of_is_logged_with_its_place(
    facts: object, traceback: bool, caplog: pytest.LogCaptureFixture
) -> None:
    target = replace(make_target(), host="127.0.0.1", port=9)
    with pytest.raises(PreflightError, match="sent a response that cannot be used"):
        await BoundedControl(Facts(facts), target).preflight("m", "")  # type: ignore[arg-type]
    assert any(record.exc_info for record in caplog.records) is traceback


def test_what_is_within_the_bounds_stays_as_it_is() -> None:
    inputs = (replace(TENSOR, name="x" * TENSOR_NAME, shape=(-1,) * DIMENSIONS),) * TENSORS
    facts = make_facts(inputs=inputs, version="v" * NAME, composing=(ModelKey("part", "1"),))
    assert bounded_facts(facts) == facts


def test_composing_models_with_names_that_are_none_are_left_out() -> None:
    assert bounded_facts(make_facts(composing=(ModelKey("a"), ModelKey("b" * 200), ModelKey("c\n")))).composing == (
        ModelKey("a"),
    )


def test_statistics() -> None:
    batches = tuple(BatchStat(size, 1, 1) for size in range(BATCH_SIZES + 5))
    models = tuple(ModelStatistics("m" * 500, f"{number}\x00", batches=batches) for number in range(VERSIONS + 5))
    bounded = bounded_snapshot(ServerSnapshot(1, 2, models))
    assert len(bounded.models) == VERSIONS
    assert {len(model.batches) for model in bounded.models} == {BATCH_SIZES}
    assert {len(model.name) for model in bounded.models} == {NAME}
    assert all(model.version.isprintable() for model in bounded.models)


def test_models_of_an_index() -> None:
    assert bounded_models(("a", "b" * 129, "c\x1b", "")) == ("a",)
    assert len(bounded_models([str(number) for number in range(READY_MODELS + 1)])) == READY_MODELS
