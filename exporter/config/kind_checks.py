"""What must hold between a target's kind and the rest: not every kind of server can do all that a probe can ask.

Pure. What is refused here would fail at each request, or be left out without a word. What a kind has and lacks stands
in `exporter.core.kinds`; here is how a probe asks for it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Final

from exporter.config.environment import Path
from exporter.config.probe_settings import ProbeSettings
from exporter.config.target_settings import TargetSettings
from exporter.config.text import shown
from exporter.core.kinds import IN_PROCESS, KINDS

ASKED: Final[Mapping[str, Callable[[ProbeSettings], object]]] = {
    "models": lambda probe: probe.models,
    "streaming": lambda probe: probe.streaming,
    "composing_models": lambda probe: probe.composing_models,
    "load.workers": lambda probe: _unless(probe.load.workers, 1),
    "load.sequences": lambda probe: probe.load.sequences,
    "input.batch_size": lambda probe: _unless(probe.input.batch_size, 1),
    "input.format": lambda probe: _unless(probe.input.format, "binary"),
    "input.output_format": lambda probe: _unless(probe.input.output_format, "binary"),
    "input.compression": lambda probe: _unless(probe.input.compression, "none"),
    "input.shared_memory": lambda probe: _unless(probe.input.shared_memory, "none"),
    "input.parameters": lambda probe: probe.input.parameters,
    "input.datatypes": lambda probe: probe.input.datatypes,
    "input.signature": lambda probe: "signature" in probe.input.model_fields_set,
    "input.content_type": lambda probe: probe.input.content_type,
    "server_settings": lambda probe: probe.server_settings,
    "validation.reference_model": lambda probe: probe.validation and probe.validation.reference_model,
}
"""Keys of a probe that not all kinds have, and what it asks for there, if it does."""


def _unless(given: object, default: object) -> object:
    return None if given == default else given


def kind_faults(probe: ProbeSettings, kind: str) -> Iterator[tuple[Path, str]]:
    """What the probe asks for that a target of this kind cannot do."""
    for key, asked in ASKED.items():
        given = asked(probe)
        if not given:
            continue
        path = tuple(key.split("."))
        if key in KINDS[kind].lacks:
            yield path, KINDS[kind].lacks[key].format(kind=kind, given=shown(given))
        elif problem := _not_its_own(key, kind):
            yield path, problem


def target_faults(target: TargetSettings) -> Iterator[tuple[Path, str]]:
    """What the target says that does not go with its kind."""
    ports = KINDS[target.kind].ports
    if ports and target.scheme and target.scheme not in ports:
        yield ("url",), f"a target of kind {target.kind} is asked over {' or '.join(ports)}"
    for key in ("management_url", "management_headers"):
        if getattr(target, key) and (problem := _not_its_own(key, target.kind)):
            yield (key,), problem
    if target.management_headers and not target.management_url:
        yield ("management_headers",), "needs management_url beside it"


def _not_its_own(key: str, kind: str) -> str:
    """What is wrong with the key where only other kinds have it; "" if nothing is."""
    owners = [name for name, each in KINDS.items() if key in each.own]
    if not owners or kind in owners:
        return ""
    return f"is for targets of kind {' and '.join(owners)}; this one's is {kind}"


def place_faults(target: TargetSettings) -> Iterator[tuple[Path, str]]:
    """Where the server is: behind a door, or in a folder."""
    folders = ("server_directory", "model_repository")
    if target.kind == IN_PROCESS:
        for key in folders:
            if not getattr(target, key):
                yield (key,), f"is required with kind: {IN_PROCESS}"
        for key in ("url", "headers", "tls", "discover", "resolve", "streams_per_connection"):
            if key in target.model_fields_set:
                yield (key,), f"has no meaning with kind: {IN_PROCESS}"
        return
    if target.url is None:
        yield ("url",), "is required"
    for key in folders:
        if getattr(target, key):
            yield (key,), f"has no meaning without kind: {IN_PROCESS}"
