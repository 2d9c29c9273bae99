"""What kinds of servers share that have nothing of Triton's extensions: no sequences, no shared memory, no settings.

A configuration that asks for one of these is refused before it comes here, by the table of `core.kinds`; programs that
do without one are refused here by the same.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from exporter.core.errors import InputError, PreflightError
from exporter.core.facts import ModelFacts, ServerSnapshot, TensorSpec
from exporter.core.kinds import NO_SUCH, refusal
from exporter.core.outcome import Reason
from exporter.core.probe import InputOptions, Probe
from exporter.core.target import Target
from exporter.server.page_snapshots import PageSnapshots
from exporter.services.base import Dialogue, Placer, SharedRequests, Tensors, TraceSettings
from exporter.services.channel_factory import connections
from exporter.transport.call import EncodedRequest


class PlainService:
    """The part of a `Service` (services.base) that is the same for all of them."""

    async def check_shared_memory(self, probe: Probe) -> None:
        raise unsupported(probe.target, "input.shared_memory", probe.input.shared_memory)

    async def share(
        self, probe: Probe, facts: ModelFacts, steps: Sequence[Tensors], sweep_id: str, places: int
    ) -> SharedRequests:
        raise unsupported(probe.target, "input.shared_memory", probe.input.shared_memory)

    def placer(self, target: Target, requests: Sequence[EncodedRequest]) -> Placer:
        raise InputError(str(unsupported(target, "load.sequences")))

    def dialogues(self, probe: Probe, steps: Sequence[Tensors], sweep_id: str) -> Callable[[], Dialogue]:
        raise InputError(str(unsupported(probe.target, "load.session_concurrency")))

    def connections(self, target: Target, in_flight: int) -> int:
        return connections(target, in_flight)


class PlainControl:
    """The same of a `Control`. Such servers report statistics on their metrics page alone, if at all."""

    def __init__(self, target: Target, timeout_ns: int) -> None:
        self._target = target
        self._timeout_ns = timeout_ns
        self._page = PageSnapshots(target)

    async def snapshot(self, facts: ModelFacts) -> ServerSnapshot | None:
        """The metrics page, where the target names it."""
        return await self._page.snapshot(facts)

    async def close(self) -> None:
        self._page.close()

    async def infer(self, facts: ModelFacts, model: str, version: str, inputs: Tensors, timeout_ns: int) -> Tensors:
        raise unsupported(self._target, "validation.reference_model")

    async def served_version(self, model: str) -> str:
        return ""

    async def ready_models(self) -> tuple[str, ...]:
        raise unsupported(self._target, "models")

    async def trace_settings(self, model: str, names: Iterable[str]) -> TraceSettings:
        raise unsupported(self._target, "server_settings")

    async def set_trace(self, model: str, settings: TraceSettings) -> None:
        raise unsupported(self._target, "server_settings")


def unsupported(target: Target, key: str, given: str = "") -> PreflightError:
    """What a target's kind lacks, by the key with which a configuration asks for it."""
    problem = refusal(target.kind, key, given) or NO_SUCH.format(kind=target.kind)
    return PreflightError(Reason.UNSUPPORTED, f"target {target.name}: {key}: {problem}")


def model_inputs(model: str, reported: Sequence[TensorSpec], options: InputOptions) -> tuple[TensorSpec, ...]:
    """The inputs of a model: those that `input.datatypes` names, with the shapes of `input.shapes` or else the
    server's; without it those that the server reported. Raises PreflightError where neither is enough."""
    if not options.datatypes:
        if not reported:
            text = f"the server does not report the inputs of model {model!r}: give input.datatypes and input.shapes"
            raise PreflightError(Reason.BAD_INPUT, text)
        return tuple(reported)
    shapes = {spec.name: spec.shape for spec in reported} | dict(options.shapes)
    for name, _ in options.datatypes:
        if name not in shapes:
            text = f"input {name!r} of model {model!r}: the server does not report its shape: set it in input.shapes"
            raise PreflightError(Reason.BAD_INPUT, text)
    return tuple(TensorSpec(name, datatype, shapes[name]) for name, datatype in options.datatypes)
