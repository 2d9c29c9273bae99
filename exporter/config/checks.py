"""What must hold between keys, and between probes and targets.

Pure. Works on what validated so far, so that a wrong key in one section does not hide what is wrong between others.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, ValidationError

from exporter.config import text
from exporter.config.environment import Path
from exporter.config.kind_checks import budget_problems, kind_problems, signal_problems, slo_problems
from exporter.config.probe_checks import PROBE_CHECKS
from exporter.config.probe_settings import ProbeSettings
from exporter.config.problems import nearest
from exporter.config.quantities import format_duration
from exporter.config.settings import Settings
from exporter.config.target_checks import TARGET_CHECKS, Found
from exporter.config.target_settings import TargetSettings
from exporter.core.kinds import KINDS, Kind

_TARGET_PLACEHOLDER = {"name": "x", "kind": "triton", "url": "http://x"}
_PROBE_PLACEHOLDER = {"name": "x", "target": "x", "model": "x", "schedule": {"every": "1h"}, "load": {"concurrency": 1}}


@dataclass(frozen=True, slots=True)
class Entry:
    """A target or probe as far as it is valid: what is under the keys in `broken` is a placeholder."""

    settings: Any
    broken: frozenset[str]


def salvage_targets(values: object) -> list[Entry | None]:
    """The targets in raw values, None for what is no target at all."""
    return _salvage(values, TargetSettings, _TARGET_PLACEHOLDER)


def salvage_probes(values: object) -> list[Entry | None]:
    """The probes in raw values, None for what is no probe at all."""
    return _salvage(values, ProbeSettings, _PROBE_PLACEHOLDER)


def _salvage(values: object, model: type[BaseModel], placeholder: Mapping[str, Any]) -> list[Entry | None]:
    if not isinstance(values, list):
        return [None]
    return [_salvaged(value, model, placeholder) if isinstance(value, Mapping) else None for value in values]


def _salvaged(value: Mapping[str, Any], model: type[BaseModel], placeholder: Mapping[str, Any]) -> Entry:
    try:
        return Entry(model.model_validate(value), frozenset())
    except ValidationError as error:
        broken = frozenset(str(details["loc"][0]) for details in error.errors(include_url=False) if details["loc"])
    whole = {key: inner for key, inner in value.items() if key not in broken}
    whole |= {key: inner for key, inner in placeholder.items() if key in broken}
    return Entry(model.model_validate(whole), broken)


def cross_problems(targets: Sequence[Entry | None], probes: Sequence[Entry | None]) -> Found:
    """All problems between keys."""
    yield from _names("targets", targets)
    yield from _names("probes", probes)
    for index, entry in enumerate(targets):
        if entry:
            yield from _of_entry(("targets", index), entry, TARGET_CHECKS)
    known = [entry.settings.name for entry in targets if entry and "name" not in entry.broken]
    names = frozenset(known)
    complete = len(known) == len(targets)
    is_grpc = {entry.settings.name: _is_grpc(entry) for entry in targets if entry and "url" not in entry.broken}
    kinds = {entry.settings.name: entry.settings.kind for entry in targets if entry and "kind" not in entry.broken}
    patience_ns = {
        entry.settings.name: entry.settings.connect_timeout_ns
        for entry in targets
        if entry and "connect_timeout_ns" in entry.settings.model_fields_set and "connect_timeout" not in entry.broken
    }
    for index, entry in enumerate(probes):
        if not entry:
            continue
        if complete and "target" not in entry.broken and entry.settings.target not in names:
            yield ("probes", index, "target"), _no_such("target", entry.settings.target, known)
        through_grpc = is_grpc.get(entry.settings.target)
        kind = kinds.get(entry.settings.target)
        if entry.settings.streaming and through_grpc is False and not KINDS.get(kind or "", Kind()).takes_prompts:
            given = text.shown(entry.settings.target)
            yield ("probes", index, "streaming"), f"needs a gRPC endpoint; target {given} has another protocol"
        yield from _of_entry(("probes", index), entry, PROBE_CHECKS)
        if kind is not None and not entry.broken & {"target", "input", "load", "validation"}:
            yield from ((("probes", index, *path), problem) for path, problem in kind_problems(entry.settings, kind))
        if kind is not None and not entry.broken & {"measurement", "stop", "input"}:
            yield from ((("probes", index, *path), problem) for path, problem in budget_problems(entry.settings, kind))
        if kind is not None and "baseline" not in entry.broken:
            yield from ((("probes", index, *path), problem) for path, problem in signal_problems(entry.settings, kind))
        if kind is not None and "slo" not in entry.broken:
            yield from ((("probes", index, *path), problem) for path, problem in slo_problems(entry.settings, kind))
        if not entry.broken & {"target", "input"} and through_grpc:
            yield from _grpc_input(("probes", index, "input"), entry.settings)
        if not entry.broken & {"target", "stop"} and (limit_ns := patience_ns.get(entry.settings.target)):
            yield from _max_duration(("probes", index, "stop", "max_duration"), entry.settings, limit_ns)


def _max_duration(path: Path, probe: ProbeSettings, connect_timeout_ns: int) -> Found:
    """A sweep's own deadline would come first, and look like an error of ours."""
    if connect_timeout_ns > probe.stop.max_duration_ns:
        given, limit = format_duration(probe.stop.max_duration_ns), format_duration(connect_timeout_ns)
        yield path, f"found {given}: is below its target's connect_timeout, {limit}"


def maintenance_problems(settings: Settings) -> Found:
    """Names in maintenance windows that nothing has."""
    known = {
        "targets": [target.name for target in settings.targets],
        "probes": [probe.name for probe in settings.probes],
    }
    for index, window in enumerate(settings.maintenance):
        for key, names in known.items():
            unknown = set(getattr(window, key)).difference(names)
            for position, given in enumerate(getattr(window, key)):
                if given in unknown:
                    yield ("maintenance", index, key, position), _no_such(key.removesuffix("s"), given, names)


def _is_grpc(target: Entry) -> bool | None:
    """None for a target without an endpoint."""
    return target.settings.scheme.startswith("grpc") if target.settings.scheme else None


def _grpc_input(path: Path, probe: ProbeSettings) -> Found:
    for key, value in {"format": probe.input.format, "output_format": probe.input.output_format}.items():
        if value == "json":
            yield (*path, key), "found 'json': gRPC's tensors are always binary"


def _names(section: str, entries: Sequence[Entry | None]) -> Found:
    places: defaultdict[str, list[int]] = defaultdict(list)
    for index, entry in enumerate(entries):
        if entry and "name" not in entry.broken:
            places[entry.settings.name].append(index)
    for name, (first, *others) in places.items():
        for index in others:
            yield (section, index, "name"), f"found {text.shown(name)}: {section}[{first}] has this name already"


def _no_such(kind: str, given: str, known: list[str]) -> str:
    near = nearest(given, known)
    hint = f"did you mean {text.shown(near)}?" if near else f"there are {', '.join(map(text.shown, known)) or 'none'}"
    return f"found {text.shown(given)}: no {kind} has this name; {hint}"


def _of_entry(path: Path, entry: Entry, checks: Mapping[Callable[[Any], Found], set[str]]) -> Found:
    for check, keys in checks.items():
        if not keys & entry.broken:
            for inner, problem in check(entry.settings):
                yield (*path, *inner), problem
