"""Prompts that are sent without a sweep: the calls of one channel, one after the other."""

from __future__ import annotations

import asyncio

from exporter.core.facts import ModelFacts
from exporter.core.outcome import Outcome
from exporter.core.probe import Probe
from exporter.payload import make_dataset
from exporter.services.base import Service, Tensors
from exporter.services.openai.control import PROMPT_INPUTS
from exporter.transport.call import Call
from tests.builders import make_facts
from tests.waiting import PATIENCE_SECONDS

FACTS = make_facts(inputs=PROMPT_INPUTS, max_batch_size=0, takes_prompts=True)


def steps_of(probe: Probe, facts: ModelFacts = FACTS) -> list[Tensors]:
    return [step.inputs for step in make_dataset(facts, probe.input).steps]


async def calls_of(service: Service, probe: Probe, count: int = 1, give_up_s: float | None = None) -> list[Call]:
    """Sends so many requests, each once the one before has ended; `give_up_s` is their time-out."""
    requests = service.encode(probe, FACTS, steps_of(probe), "s1")
    ended: asyncio.Queue[Call] = asyncio.Queue()
    channel = service.channel(probe.target, ended.put_nowait, streaming=probe.streaming)
    calls = []
    try:
        for number in range(count):
            call = Call(number)
            channel.send(call, requests[number % len(requests)])
            if give_up_s is not None:
                asyncio.get_running_loop().call_later(give_up_s, channel.give_up, call, Outcome.TIMEOUT)
            async with asyncio.timeout(PATIENCE_SECONDS):
                calls.append(await ended.get())
    finally:
        await channel.close()
    return calls
