"""The data of one sweep: read once, however many levels it has, and away from the loop, since that may take long."""

from __future__ import annotations

import asyncio
import itertools
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from exporter import logs
from exporter.core.errors import InputError
from exporter.core.probe import InputOptions, Mode, Validation
from exporter.core.units import NS
from exporter.engine.plan import LevelPlan
from exporter.payload import Dataset, Step, make_dataset, round_robin
from exporter.services.base import Control

PROGRESS_GAP_NS = 5 * NS
"""How often a large file that is being read shows how far it is."""

MAX_REFERENCE_REQUESTS = 100
"""A reference model is a user's, too: it is not to be loaded with data of thousands of steps."""

MayAsk = Callable[[], bool]
"""Counts a request to a reference model before it is sent; False where none may go any more."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Requests:
    """What is sent, in its order. `streams` holds the numbers of the steps of each stream, for sequences and
    sessions alone."""

    steps: list[Step]
    streams: list[range]


class Data:
    """The dataset of a sweep's probe."""

    def __init__(self) -> None:
        self._of: InputOptions | None = None
        self._dataset: Dataset | None = None
        self._requests: list[Step] = []

    async def dataset(self, plan: LevelPlan) -> Dataset:
        """The dataset, made at the first call, and again where another level has another input. Raises InputError."""
        if self._of != plan.probe.input:
            self._of, self._dataset, self._requests = plan.probe.input, None, []
        if self._dataset is None:
            self._dataset = await asyncio.to_thread(
                make_dataset, plan.facts, plan.probe.input, _Progress(plan.probe.name)
            )
        return self._dataset

    async def requests(self, plan: LevelPlan, control: Control, may_ask: MayAsk = lambda: True) -> Requests:
        """The steps as requests with their batch. Raises InputError, or PreflightError where a reference model does not
        response. `may_ask` is for each request to one.

        Workers that share a level begin at different ones, evenly spread, so that they do not all send the same; but
        sequences begin where a stream does, and a schedule has its own first request after the cold one.
        """
        dataset = await self.dataset(plan)
        if not self._requests:
            requests = await asyncio.to_thread(round_robin, dataset.steps, plan.facts, plan.probe.input.batch_size)
            validation = plan.probe.validation
            if validation is not None and validation.reference_model:
                requests = await ask_reference(plan, validation, requests, control, may_ask)
            self._requests = requests
        steps = self._requests
        if plan.probe.sequences is not None or plan.level.mode is Mode.SESSIONS:
            return Requests(steps, _numbered(dataset))
        first = plan.member * len(steps) // plan.members if plan.level.mode is not Mode.SCHEDULE else len(steps) - 1
        return Requests(steps[first:] + steps[:first], [])


def _numbered(dataset: Dataset) -> list[range]:
    """The numbers of each stream's steps among those of all. (Sequences have no batches.)"""
    ends = itertools.accumulate(len(stream) for stream in dataset.streams)
    return [range(end - len(stream), end) for stream, end in zip(dataset.streams, ends, strict=True)]


async def ask_reference(
    plan: LevelPlan, validation: Validation, requests: list[Step], control: Control, may_ask: MayAsk = lambda: True
) -> list[Step]:
    """The requests with the responses of the reference model as what is expected. Each is asked once, one after the
    other, and of many only the first `MAX_REFERENCE_REQUESTS`, and for half of the budget at most: the others are not
    validated."""
    if plan.probe.sequences is not None:
        text = "validation.reference_model does not go with sequences, whose responses depend on the requests before"
        raise InputError(text)
    if any(step.expected for step in requests):
        raise InputError("both the data and validation.reference_model set what is expected: keep one of them")
    if plan.facts.decoupled:
        text = f"model {plan.facts.name!r} is decoupled (any number of responses to a request)"
        raise InputError(f"validation.reference_model: {text}, and is asked in a way that has one response")
    outputs = [spec.name for spec in plan.facts.outputs]
    timeout_ns = plan.probe.measurement.request_timeout_ns
    expecting = []
    for step in requests[: min(MAX_REFERENCE_REQUESTS, plan.max_requests // 2)]:
        if not may_ask():
            break
        model, version = validation.reference_model, validation.reference_version
        found = await control.infer(plan.facts, model, version, step.inputs, timeout_ns)
        if lacking := [name for name in outputs if name not in found]:
            raise InputError(f"reference model {model!r} has no output {lacking[0]!r}")
        expecting.append(replace(step, expected=({name: found[name] for name in outputs},)))
    return expecting + requests[len(expecting) :]


class _Progress:
    """Logs now and then how far the reading is."""

    def __init__(self, probe: str) -> None:
        self._probe = probe
        self._reported_ns = time.monotonic_ns()

    def __call__(self, path: Path, read: int, size: int) -> None:
        now_ns = time.monotonic_ns()
        if now_ns - self._reported_ns >= PROGRESS_GAP_NS:
            self._reported_ns = now_ns
            done = logs.fields(probe=self._probe, file=str(path), read_bytes=read, of_bytes=size)
            _log.info("reading input data", extra=done)
