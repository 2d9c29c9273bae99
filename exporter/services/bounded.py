"""What any kind's control plane reports, within bounds, before anything else sees it: names, versions, counts.

A kind need not think of it: `BoundedControl` wraps each. Facts that a sweep cannot do without, and that are
beyond a bound, fail it; a server's mere descriptions are cut, or left out.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

from exporter.core.bounds import BATCH_SIZES, DIMENSIONS, READY_MODELS, TENSOR_NAME, TENSORS, VERSIONS
from exporter.core.errors import PreflightError
from exporter.core.facts import ModelFacts, ModelStatistics, ServerSnapshot, TensorSpec
from exporter.core.outcome import Reason
from exporter.core.probe import DEFAULT_INPUT, InputOptions
from exporter.core.redaction import redacted
from exporter.core.target import Target
from exporter.core.untrusted_text import clean_name, clean_text, is_clean_name
from exporter.logs import fields
from exporter.services.base import NO_RESPONSE, Control, Tensors, TraceSettings
from exporter.services.diagnosis import explained

_MAX_DIMENSION = 2**63 - 1

_log = logging.getLogger(__name__)


class BeyondBoundsError(ValueError):
    """A response is readable, and beyond one of our own bounds."""


class BoundedControl:
    """A `Control` (services.base) before another."""

    def __init__(self, control: Control, target: Target) -> None:
        self._control = control
        self._target = target

    async def preflight(
        self, model: str, version: str, composing: Sequence[str] = (), options: InputOptions = DEFAULT_INPUT
    ) -> ModelFacts:
        try:
            with self._reading():
                return bounded_facts(await self._control.preflight(model, version, composing, options))
        except PreflightError as error:
            raise await explained(self._target, error) from error

    async def infer(self, facts: ModelFacts, model: str, version: str, inputs: Tensors, timeout_ns: int) -> Tensors:
        return await self._control.infer(facts, model, version, inputs, timeout_ns)

    async def snapshot(self, facts: ModelFacts) -> ServerSnapshot | None:
        try:
            with self._reading():
                found = await self._control.snapshot(facts)
                return None if found is None else bounded_snapshot(found)
        except PreflightError:
            return None

    async def served_version(self, model: str) -> str:
        with self._reading():
            return clean_name(await self._control.served_version(model))

    async def ready_models(self) -> tuple[str, ...]:
        try:
            with self._reading():
                return bounded_models(await self._control.ready_models())
        except PreflightError as error:
            raise await explained(self._target, error) from error

    async def trace_settings(self, model: str, names: Iterable[str]) -> TraceSettings:
        with self._reading():
            return await self._control.trace_settings(model, names)

    async def set_trace(self, model: str, settings: TraceSettings) -> None:
        await self._control.set_trace(model, settings)

    async def close(self) -> None:
        await self._control.close()

    @contextlib.contextmanager
    def _reading(self) -> Iterator[None]:
        """What a kind did not think of in a response: it fails the sweep, not the worker. The log has where it was."""
        try:
            yield
        except NO_RESPONSE as error:
            url = self._target.url
            if not isinstance(error, BeyondBoundsError):  # its text is complete
                _log.warning("a response could not be read", extra=fields(url=url), exc_info=True)
            text = f"{url} sent a response that cannot be used: {clean_text(str(error)) or type(error).__name__}"
            raise PreflightError(Reason.PROTOCOL, text) from error


def bounded_facts(facts: ModelFacts) -> ModelFacts:
    """The facts, with names that are safe anywhere. Raises BeyondBoundsError where tensors are beyond a bound:
    they are sent back as they are."""
    for kind, specs in (("inputs", facts.inputs), ("outputs", facts.outputs)):
        if len(specs) > TENSORS:
            raise BeyondBoundsError(f"has {len(specs)} {kind}, at most {TENSORS} are taken")
        for spec in specs:
            _check_tensor(spec)
    return replace(
        facts,
        # Its name is the one that was asked for, or else another model's that responded.
        name=clean_name(facts.name),
        version=_description(facts.version),
        platform=_description(facts.platform),
        backend=_description(facts.backend),
        server_name=_description(facts.server_name),
        server_version=_description(facts.server_version),
        composing=tuple(key for key in facts.composing if is_clean_name(key.name)),
    )


def _description(text: str) -> str:
    """A server can repeat our own token anywhere."""
    return clean_name(redacted(text))


def _check_tensor(spec: TensorSpec) -> None:
    if not is_clean_name(spec.name, TENSOR_NAME):
        shown = clean_text(spec.name, 60)
        raise BeyondBoundsError(
            f"has a tensor with a name of {len(spec.name)} characters, or with unprintable ones: {shown}"
        )
    if len(spec.shape) > DIMENSIONS:
        raise BeyondBoundsError(
            f"has a tensor of {len(spec.shape)} dimensions, at most {DIMENSIONS} are taken: {spec.name}"
        )
    if any(not -1 <= size <= _MAX_DIMENSION for size in spec.shape):
        raise BeyondBoundsError(f"has a tensor with a dimension that cannot be: {spec.name}")
    if len(spec.datatype) > _DATATYPE or not spec.datatype.isprintable():
        raise BeyondBoundsError(f"has a tensor with a datatype that cannot be: {spec.name}")


_DATATYPE = 32


def bounded_snapshot(snapshot: ServerSnapshot) -> ServerSnapshot:
    """The statistics; of very many versions the first."""
    return replace(snapshot, models=tuple(map(_bounded_statistics, snapshot.models[:VERSIONS])))


def _bounded_statistics(found: ModelStatistics) -> ModelStatistics:
    if is_clean_name(found.name) and is_clean_name(found.version) and len(found.batches) <= BATCH_SIZES:
        return found
    return replace(
        found,
        name=clean_name(found.name),
        version=clean_name(found.version),
        batches=found.batches[:BATCH_SIZES],
    )


def bounded_models(names: Sequence[str]) -> tuple[str, ...]:
    """The models that can be measured: their names become those of probes, and labels."""
    kept = tuple(name for name in names if is_clean_name(name))[:READY_MODELS]
    if len(kept) < len(names):
        _log.warning("models are left out of a repository index", extra=fields(kept=len(kept), of=len(names)))
    return kept
