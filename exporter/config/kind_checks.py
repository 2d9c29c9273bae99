"""What must hold between a target's kind and the rest: not every kind of server can do all that a probe can ask.

Pure. What is refused here would fail at each request, or be left out without a word.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Final

from exporter.config.environment import Path
from exporter.config.probe_settings import ProbeSettings
from exporter.config.target_settings import IN_PROCESS, TargetSettings

_PLAIN: Final = ("oip", "tfserving", "torchserve")
_NO_TENSORS: Final = ("tfserving", "torchserve")

_REFUSED: Final[Mapping[Path, tuple[Callable[[ProbeSettings], object], tuple[str, ...]]]] = {
    ("models",): (lambda probe: probe.models, (*_NO_TENSORS, IN_PROCESS)),
    ("streaming",): (lambda probe: probe.streaming, _PLAIN),
    ("composing_models",): (lambda probe: probe.composing_models, _PLAIN),
    ("server_settings",): (lambda probe: probe.server_settings, _PLAIN),
    ("load", "sequences"): (lambda probe: probe.load.sequences, _PLAIN),
    ("input", "shared_memory"): (lambda probe: probe.input.shared_memory != "none", _PLAIN),
    ("validation", "reference_model"): (lambda probe: probe.validation and probe.validation.reference_model, _PLAIN),
    ("input", "parameters"): (lambda probe: probe.input.parameters, _NO_TENSORS),
    ("input", "compression"): (lambda probe: probe.input.compression != "none", ("torchserve",)),
}
"""Keys, whether a probe gives them, and the kinds that have no such thing."""

_OWN: Final[Mapping[Path, tuple[Callable[[ProbeSettings], object], tuple[str, ...]]]] = {
    ("input", "datatypes"): (lambda probe: probe.input.datatypes, ("oip", "tfserving")),
    ("input", "signature"): (lambda probe: "signature" in probe.input.model_fields_set, ("tfserving",)),
    ("input", "content_type"): (lambda probe: probe.input.content_type, ("torchserve",)),
}
"""Keys, whether a probe gives them, and the only kinds for which they mean something."""


def kind_faults(probe: ProbeSettings, kind: str) -> Iterator[tuple[Path, str]]:
    """What the probe asks for that a target of this kind cannot do."""
    for path, (given, kinds) in _REFUSED.items():
        if kind in kinds and given(probe):
            yield path, f"the target's kind is {kind}, which has no such thing"
    for path, (given, kinds) in _OWN.items():
        if kind not in kinds and given(probe):
            yield path, f"is for targets of kind {' and '.join(kinds)}; this one's is {kind}"
    if kind == IN_PROCESS:
        yield from _in_process(probe)


def _in_process(probe: ProbeSettings) -> Iterator[tuple[Path, str]]:
    """What is of a connection, or of a server that several share."""
    for key in ("format", "output_format", "compression", "shared_memory"):
        if (given := getattr(probe.input, key)) not in ("binary", "none"):
            yield ("input", key), f"found '{given}': the target's Triton is in this process, nothing is sent"
    if probe.load.workers > 1:
        yield ("load", "workers"), f"found {probe.load.workers}: each would load a Triton of its own; give 1"
    if probe.server_settings is not None:
        yield ("server_settings",), "have no meaning: the target's Triton is in this process, and does not trace"


def target_faults(target: TargetSettings) -> Iterator[tuple[Path, str]]:
    """What the target says that does not go with its kind."""
    if target.kind == "torchserve" and target.scheme.startswith("grpc"):
        yield ("url",), "a target of kind torchserve is asked over http or https"
    for key in ("management_url", "management_headers"):
        if target.kind != "torchserve" and getattr(target, key):
            yield (key,), f"is for targets of kind torchserve; this one's is {target.kind}"
    if target.management_headers and not target.management_url:
        yield ("management_headers",), "needs management_url beside it"


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
