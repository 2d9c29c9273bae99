"""What must hold between a target's kind and the rest: not every kind of server can do all that a probe can ask.

Pure. What is refused here would fail at each request, or be left out without a word.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Final

from exporter.config.environment import Path
from exporter.config.probe_settings import ProbeSettings
from exporter.config.target_settings import TargetSettings

_PLAIN: Final = ("oip", "tfserving", "torchserve")
_NO_TENSORS: Final = ("tfserving", "torchserve")

_REFUSED: Final[Mapping[Path, tuple[Callable[[ProbeSettings], object], tuple[str, ...]]]] = {
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


def target_faults(target: TargetSettings) -> Iterator[tuple[Path, str]]:
    """What the target says that does not go with its kind."""
    if target.kind == "torchserve" and target.url.scheme.startswith("grpc"):
        yield ("url",), "a target of kind torchserve is asked over http or https"
    for key in ("management_url", "management_headers"):
        if target.kind != "torchserve" and getattr(target, key):
            yield (key,), f"is for targets of kind torchserve; this one's is {target.kind}"
    if target.management_headers and not target.management_url:
        yield ("management_headers",), "needs management_url beside it"
