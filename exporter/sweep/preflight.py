"""Can this probe be measured on this model at all? Decided before any load, from what the server said of the model."""

from __future__ import annotations

from exporter.errors import PreflightError
from exporter.model import ModelFacts, Reason
from exporter.probe import Probe


def refuse_unsupported(probe: Probe, facts: ModelFacts) -> None:
    """Raises PreflightError for a model whose protocol this version does not speak: its every request would fail, and
    look like the server's fault."""
    if facts.decoupled:
        text = f"model '{probe.model}' is decoupled (many answers to a request): this needs a stream, not yet supported"
        raise PreflightError(Reason.UNSUPPORTED, text)
    if facts.sequence:
        text = f"model '{probe.model}' takes sequences of requests with an id, which is not yet supported"
        raise PreflightError(Reason.UNSUPPORTED, text)
