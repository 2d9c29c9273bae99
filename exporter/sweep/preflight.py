"""Decides before any load, from the server's description of the model, whether the probe can be measured."""

from __future__ import annotations

from dataclasses import replace

from exporter.core.errors import PreflightError
from exporter.core.facts import ModelFacts
from exporter.core.outcome import Reason
from exporter.core.probe import Mode, Probe, SequenceOptions, at_level
from exporter.core.target import Resolve
from exporter.engine.plan import Worker


class Pins:
    """The pinned addresses of targets whose name is resolved once per daemon lifetime, in each pool and each place from
    which it is measured: networks differ. Kept here, because workers come and go. An address that no preflight reached
    is not pinned."""

    def __init__(self) -> None:
        self._addresses: dict[tuple[str, str, str, int], str] = {}

    async def preflight(self, worker: Worker, probe: Probe) -> ModelFacts:
        """Runs the preflight at the pinned address, if there is one. Raises PreflightError."""
        target = probe.target
        if target.resolve is not Resolve.PIN:
            return await worker.preflight(probe)
        name = probe.pool, probe.place, target.host, target.port
        pinned = self._addresses.get(name, "")
        facts = await worker.preflight(replace(probe, target=replace(target, address=pinned)))
        if facts.address:
            self._addresses[name] = facts.address
        return facts


def refuse_unsupported(probe: Probe, facts: ModelFacts) -> None:
    """Raises PreflightError for unsupported combinations: all their requests would fail and look like server errors."""
    if probe.streaming and not probe.target.can_stream:
        raise PreflightError(Reason.UNSUPPORTED, f"streaming needs a gRPC endpoint; {probe.target.url} is not one")
    if facts.decoupled and not probe.streaming:
        fix = (
            "set streaming: true"
            if probe.target.can_stream
            else "use the server's gRPC endpoint, and set streaming: true"
        )
        text = f"model '{probe.model}' is decoupled (any number of responses to a request): {fix}"
        raise PreflightError(Reason.UNSUPPORTED, text)
    if facts.sequence and any(level.mode is Mode.PERIODIC for level in probe.levels):
        text = f"model '{probe.model}' takes sequences, and periodic concurrency sends single requests"
        raise PreflightError(Reason.UNSUPPORTED, text)
    largest = max((at_level(probe, level).input.batch_size for level in probe.levels), default=1)
    if facts.sequence and largest > 1:
        text = (
            f"model '{probe.model}' takes sequences, whose requests are batched by the server: "
            f"input.batch_size must be 1, and is {largest}"
        )
        raise PreflightError(Reason.UNSUPPORTED, text)


def measures_the_cache(probe: Probe, facts: ModelFacts) -> bool:
    """Whether the server would serve all requests after the first from its response cache: generated input repeats one
    request."""
    return facts.response_cache and probe.input.source in ("random", "zero")


def meets_in_batches(probe: Probe, facts: ModelFacts) -> bool:
    """Whether the few requests in flight of a closed loop may meet in one batch, or alternate, by chance. The figures
    then have two values, a factor of two apart; a request rate gives one."""
    closed = [level for level in probe.levels if level.mode is Mode.CONCURRENCY and not level.think_ns]
    return facts.dynamic_batching and any(level.value > 1 for level in closed) and probe.baseline.enabled


def as_model_needs(probe: Probe, facts: ModelFacts) -> Probe:
    """The probe with implied options: a sequence model gets sequences, at most as many at once as may be in flight.
    (Other models only if configured: a model that calls sequence models in its own code does not report it.)"""
    if facts.sequence and probe.sequences is None:
        options = SequenceOptions()
        return replace(probe, sequences=replace(options, count=min(options.count, probe.stop.max_in_flight)))
    return probe
