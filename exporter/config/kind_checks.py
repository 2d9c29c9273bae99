"""What must hold between a target's kind and the rest: not every kind of server can do all that a probe can ask.

Pure. What is refused here would fail at each request, or be left out silently. What a kind has and lacks is
in `exporter.core.kinds`; here is how a probe asks for it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Final

from exporter.config.environment import Path
from exporter.config.probe_settings import ProbeSettings, token_requests_of
from exporter.config.target_settings import TargetSettings
from exporter.config.text import shown
from exporter.core.kinds import KINDS, refusal
from exporter.core.probe import Signal

ASKED: Final[Mapping[str, Callable[[ProbeSettings], object]]] = {
    "models": lambda probe: probe.models,
    "streaming": lambda probe: probe.streaming,
    "composing_models": lambda probe: probe.composing_models,
    "load.workers": lambda probe: _unless(probe.load.workers, 1),
    "load.pool": lambda probe: probe.load.pool,
    "load.sequences": lambda probe: probe.load.sequences,
    "load.streams": lambda probe: probe.load.streams,
    "load.session_concurrency": lambda probe: probe.load.session_concurrency,
    "input.batch_size": lambda probe: _unless(probe.input.batch_size, 1),
    "input.format": lambda probe: _unless(probe.input.format, "binary"),
    "input.output_format": lambda probe: _unless(probe.input.output_format, "binary"),
    "input.compression": lambda probe: _unless(probe.input.compression, "none"),
    "input.shared_memory": lambda probe: _unless(probe.input.shared_memory, "none"),
    "input.parameters": lambda probe: probe.input.parameters,
    "input.datatypes": lambda probe: probe.input.datatypes,
    "input.signature": lambda probe: "signature" in probe.input.model_fields_set,
    "input.content_type": lambda probe: probe.input.content_type,
    "input.shapes": lambda probe: probe.input.shapes,
    "input.prompt": lambda probe: "prompt" in probe.input.model_fields_set,
    "input.prompt.endpoint": lambda probe: "endpoint" in probe.input.prompt.model_fields_set,
    "validation": lambda probe: probe.validation,
    "server_settings": lambda probe: probe.server_settings,
    "validation.reference_model": lambda probe: probe.validation and probe.validation.reference_model,
}
"""Keys of a probe that not all kinds have, and what it asks for there, if it does."""


def _unless(given: object, default: object) -> object:
    return None if given == default else given


def _written(key: str) -> Callable[[TargetSettings], object]:
    return lambda target: key in target.model_fields_set


TARGET_ASKED: Final[Mapping[str, Callable[[TargetSettings], object]]] = {
    "url": _written("url"),
    "headers": _written("headers"),
    "tls": _written("tls"),
    "discover": _written("discover"),
    "resolve": _written("resolve"),
    "streams_per_connection": _written("streams_per_connection"),
    "server_directory": lambda target: target.server_directory,
    "model_repository": lambda target: target.model_repository,
}
"""The same of a target's keys, for those that locate its server: behind an endpoint, or in a folder."""
MANAGEMENT_ASKED: Final[Mapping[str, Callable[[TargetSettings], object]]] = {
    "management_url": lambda target: target.management_url,
    "management_headers": lambda target: target.management_headers,
}


def kind_problems(probe: ProbeSettings, kind: str) -> Iterator[tuple[Path, str]]:
    """What the probe asks for that a target of this kind cannot do."""
    for key, asked in ASKED.items():
        given = asked(probe)
        if given and (problem := refusal(kind, key, shown(given))):
            yield tuple(key.split(".")), problem
    # A matrix has in its levels what else is the input's.
    if max(probe.load.batch_size, default=1) > 1:
        largest = shown(max(probe.load.batch_size))
        yield from ((("load", "batch_size"), text) for text in [refusal(kind, "input.batch_size", largest)] if text)
    if probe.load.shapes:
        yield from ((("load", "shapes"), text) for text in [refusal(kind, "input.shapes")] if text)


def slo_problems(probe: ProbeSettings, kind: str) -> Iterator[tuple[Path, str]]:
    """Limits on tokens, where nothing is counted in tokens or their times are not seen."""
    for key in probe.slo.of_tokens if probe.slo else ():
        if not KINDS[kind].takes_prompts:
            yield ("slo", key), f"has no meaning: targets of kind {kind} do not respond in tokens"
        elif not probe.streaming:
            yield ("slo", key), "needs streaming: true, since only a stream shows when a token comes"


def budget_problems(probe: ProbeSettings, kind: str) -> Iterator[tuple[Path, str]]:
    """A request count that the budget in tokens can not pay for."""
    count, allowed = probe.measurement.request_count, token_requests_of(probe)
    needed = 1 + probe.measurement.warm_up_requests + count
    if count and allowed is not None and KINDS[kind].takes_prompts and needed > allowed:
        problem = f"found {count}: stop.max_tokens, {probe.stop.max_tokens}, allows {allowed} requests of such prompts"
        yield ("measurement", "request_count"), f"{problem}, and with those to warm up it takes {needed}"


def signal_problems(probe: ProbeSettings, kind: str) -> Iterator[tuple[Path, str]]:
    """Signals of tokens, where there are none."""
    if KINDS[kind].takes_prompts:
        return
    for tier in ("page", "warn", "slow"):
        for signal in getattr(probe.baseline, tier).signals:
            if Signal(signal).is_of_tokens:
                yield ("baseline", tier, "signals"), f"{signal}: targets of kind {kind} do not respond in tokens"


def place_problems(target: TargetSettings) -> Iterator[tuple[Path, str]]:
    """Where the server is: what the target's kind needs for that, and what means nothing for it."""
    for key, problem in KINDS[target.kind].requires.items():
        if not getattr(target, key):
            yield (key,), problem
    yield from _refused(target, TARGET_ASKED)


def endpoint_problems(target: TargetSettings) -> Iterator[tuple[Path, str]]:
    """What else the target sets that does not fit its kind."""
    ports = KINDS[target.kind].ports
    if ports and target.scheme and target.scheme not in ports:
        yield ("url",), f"a target of kind {target.kind} is asked over {' or '.join(ports)}"
    yield from _refused(target, MANAGEMENT_ASKED)
    if target.management_headers and not target.management_url:
        yield ("management_headers",), "needs management_url beside it"


def _refused(
    target: TargetSettings, keys: Mapping[str, Callable[[TargetSettings], object]]
) -> Iterator[tuple[Path, str]]:
    for key, asked in keys.items():
        if asked(target) and (problem := refusal(target.kind, key)):
            yield (key,), problem
