"""`check-config --live`: asks every target of the configuration what a sweep would ask before its load. No inference
request is sent.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial

from exporter.commands.check_config.verdicts import BATCHING_ADVICE, verdict_warnings
from exporter.config import Settings, build_probes
from exporter.core.errors import InputError, PreflightError, WorkerLostError
from exporter.core.facts import ModelFacts, TensorSpec
from exporter.core.probe import Probe
from exporter.core.units import NS
from exporter.logs import COMMAND_FORMAT
from exporter.payload import make_dataset
from exporter.server.metrics import PageReader
from exporter.sweep.preflight import meets_in_batches, refuse_unsupported
from exporter.worker.lender import lender
from exporter.worker.local import LocalWorker
from exporter.worker.pool import WorkerPool

_AT_ONCE = 4
_MARGIN_SECONDS = 20.0
"""On top of a target's own connect time-out, for a worker that does not respond."""
_SHOWN_TENSORS = 4


@dataclass(frozen=True, slots=True)
class LiveReport:
    """What came of it: one line per probe and finding, and whether all is well."""

    lines: tuple[str, ...]
    ok: bool


def check_live(settings: Settings) -> LiveReport:
    """Asks for each probe, several at a time. Patterns are left out: the daemon discovers what they stand for."""
    discovering = {target.name for target in settings.targets if target.discover is not None}
    patterns = {probe.name for probe in settings.probes if probe.models is not None or probe.target in discovering}
    probes = [probe for probe in build_probes(settings) if probe.name not in patterns]
    with _without_warnings():
        found = asyncio.run(_ask_all(probes))
        pages = asyncio.run(_read_pages(probes))
    lines = [line for _, entry in found for line in entry] + [line for _, line in pages]
    lines += [f"probe {name}: not asked: it is a pattern, whose probes are discovered" for name in sorted(patterns)]
    return LiveReport(tuple(lines), all(ok for ok, _ in found) and all(ok for ok, _ in pages))


@contextlib.contextmanager
def _without_warnings() -> Iterator[None]:
    """What a preflight warns of is no finding of this command."""
    logger = logging.getLogger("exporter")
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(before)


async def _ask_all(probes: Sequence[Probe]) -> list[tuple[bool, list[str]]]:
    pool = WorkerPool(min(_AT_ONCE, max(len(probes), 1)), spawn=partial(LocalWorker.spawn, log_format=COMMAND_FORMAT))
    try:
        return list(await asyncio.gather(*(_ask(pool, probe) for probe in probes)))
    finally:
        await pool.close()


async def _ask(pool: WorkerPool, probe: Probe) -> tuple[bool, list[str]]:
    """Preflight, and whether the input can be made."""
    head = f"probe {probe.name}: "
    limit_seconds = probe.target.connect_timeout_ns / NS + _MARGIN_SECONDS
    try:
        async with lender(replace(probe, workers=1), pool)() as worker, asyncio.timeout(limit_seconds):
            facts = await worker.preflight(probe)
            refuse_unsupported(probe, facts)
        inputs = await asyncio.to_thread(_inputs, facts, probe)
    except PreflightError as error:
        return False, [f"{head}failed, {error.reason}: {line}" for line in (error.problems or (str(error),))]
    except InputError as error:
        return False, [f"{head}failed, bad_input: {line}" for line in error.lines]
    except (WorkerLostError, TimeoutError) as error:
        return False, [f"{head}failed: {error or f'no response within {limit_seconds:g} s'}"]
    ready = f"{head}ok, {_server(facts)}; model {_model(facts)} is ready; {inputs}"
    return True, [ready, *_judged(probe), *batching_lines(probe, facts)]


def _inputs(facts: ModelFacts, probe: Probe) -> str:
    """Raises InputError."""
    if facts.takes_prompts:
        return "prompts are generated" if probe.input.source != "files" else "prompts come from files"
    steps = len(make_dataset(facts, probe.input).steps)
    shown = ", ".join(map(_tensor, facts.inputs[:_SHOWN_TENSORS]))
    more = ", …" if len(facts.inputs) > _SHOWN_TENSORS else ""
    source = f"{steps} step(s) from files" if probe.input.source == "files" else probe.input.source
    return f"input {shown}{more} ({source})"


def _tensor(spec: TensorSpec) -> str:
    return f"{spec.name} {spec.datatype}[{','.join(map(str, spec.shape))}]"


def _server(facts: ModelFacts) -> str:
    return " ".join(part for part in (facts.server_name, facts.server_version) if part) or "the server responds"


def _model(facts: ModelFacts) -> str:
    return f"{facts.name} version {facts.version}" if facts.version else facts.name


def _judged(probe: Probe) -> list[str]:
    """Which signals the daemon can judge, and which it never can."""
    if not probe.baseline.enabled:
        return [f"probe {probe.name}: nothing is judged: baseline.enabled is false"]
    signals = dict.fromkeys(signal.value for tier in probe.baseline.tiers for signal in tier.signals)
    never = verdict_warnings(probe)
    judged = [signal for signal in signals if not any(f": {signal} can never" in text for text in never)]
    return [f"probe {probe.name}: can be judged: {', '.join(judged) or 'nothing'}", *never]


def batching_lines(probe: Probe, facts: ModelFacts) -> list[str]:
    """What to do where a closed loop has two values."""
    if not meets_in_batches(probe, facts):
        return []
    return [
        f"probe {probe.name}: model {probe.model} has dynamic batching: requests of a closed loop meet in one batch or "
        f"alternate, by chance, and so its figures have two values; {BATCHING_ADVICE}"
    ]


async def _read_pages(probes: Sequence[Probe]) -> list[tuple[bool, str]]:
    """Each metrics page once."""
    first = {probe.target.metrics_url: probe for probe in reversed(probes) if probe.target.metrics_url}
    return list(await asyncio.gather(*(asyncio.to_thread(_read_page, url, first[url]) for url in first)))


def _read_page(url: str, probe: Probe) -> tuple[bool, str]:
    reader = PageReader(probe.target, probe.model, probe.version)
    try:
        reading = reader.read()
    finally:
        reader.close()
    if reading.error:
        return False, f"metrics page {url}: failed: {reading.error}"
    figures = len(reading.gauges) + len(reading.counters)
    if not figures and not reading.gpus:
        return False, f"metrics page {url}: failed: it has no figures of model {probe.model} or of a GPU"
    gpus = f" and {len(reading.gpus)} GPU(s)" if reading.gpus else ""
    return True, f"metrics page {url}: ok, {figures} figures of model {probe.model}{gpus}"
