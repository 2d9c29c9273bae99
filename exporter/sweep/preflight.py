"""Can this probe be measured on this model at all? Decided before any load, from what the server said of the model."""

from __future__ import annotations

from dataclasses import replace

from exporter.errors import PreflightError
from exporter.load.protocol import Worker
from exporter.model import ModelFacts, Reason
from exporter.probe import Probe, Resolve


class Pins:
    """The addresses of the targets whose name is resolved once for the daemon's life. Kept here and not in the
    workers, which come and go. What a preflight never reached is not pinned."""

    def __init__(self) -> None:
        self._addresses: dict[tuple[str, int], str] = {}

    async def preflight(self, worker: Worker, probe: Probe) -> ModelFacts:
        """Asks the server, at the address that is pinned, if one is. Raises PreflightError."""
        target = probe.target
        if target.resolve is not Resolve.PIN:
            return await worker.preflight(probe)
        pinned = self._addresses.get((target.host, target.port), "")
        facts = await worker.preflight(replace(probe, target=replace(target, address=pinned)))
        if facts.address:
            self._addresses[target.host, target.port] = facts.address
        return facts


def refuse_unsupported(probe: Probe, facts: ModelFacts) -> None:
    """Raises PreflightError for a model whose protocol this version does not speak: its every request would fail, and
    look like the server's fault."""
    if facts.decoupled:
        text = f"model '{probe.model}' is decoupled (many answers to a request): this needs a stream, not yet supported"
        raise PreflightError(Reason.UNSUPPORTED, text)
    if facts.sequence:
        text = f"model '{probe.model}' takes sequences of requests with an id, which is not yet supported"
        raise PreflightError(Reason.UNSUPPORTED, text)
