"""What the tests of service kinds share: one request, as a level would send it, and its response read back."""

from __future__ import annotations

import asyncio
from typing import Any

from exporter.core.facts import ModelFacts
from exporter.core.outcome import Outcome
from exporter.core.probe import Probe
from exporter.core.target import Target
from exporter.core.units import NS
from exporter.services.base import Service, Tensors
from exporter.transport.call import Call
from tests.waiting import PATIENCE_SECONDS

TIMEOUT_NS = 5 * NS


async def facts_of(service: Service, target: Target, probe: Probe) -> ModelFacts:
    """What preflight finds. Raises PreflightError."""
    control = service.control(target, TIMEOUT_NS)
    try:
        return await control.preflight(probe.model, probe.version, probe.composing_models, probe.input)
    finally:
        await control.close()


async def response_to(service: Service, probe: Probe, facts: ModelFacts, inputs: Tensors) -> Any:
    """The outputs, or where there are none the outcome and its text."""
    (request,) = service.encode(probe, facts, [inputs], "sweep")
    ended: asyncio.Future[Call] = asyncio.get_running_loop().create_future()
    channel = service.channel(probe.target, ended.set_result, keep_responses=True)
    try:
        channel.send(Call(0), request)
        async with asyncio.timeout(PATIENCE_SECONDS):
            call = await ended
    finally:
        await channel.close()
    if call.outcome is not Outcome.OK:
        return call.outcome, call.text
    assert call.response is not None
    (outputs,) = service.decode_response(facts, call.response)
    return outputs
