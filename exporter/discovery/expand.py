"""From the configuration and what was discovered to probes, under a hard cap. Pure.

A target that discovers its addresses is a pattern: each address is a target `NAME/HOST:PORT`, and each probe of the
pattern a probe `NAME/HOST:PORT` there. A probe with `models: all-ready` is one for each model, `NAME/MODEL`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from urllib.parse import urlsplit

from exporter.config import Settings, build_probes
from exporter.config.probe_checks import MAX_LABELS
from exporter.config.probes import build_target, hashed
from exporter.config.target_settings import TargetSettings
from exporter.core.probe import Probe
from exporter.core.target import Resolve, Target
from exporter.discovery.found import Found


@dataclass(frozen=True, slots=True)
class Expanded:
    """The probes, how many more were found, at least, than `limits.max_discovered` allows, and the addresses that are
    within it."""

    probes: tuple[Probe, ...]
    dropped: int = 0
    addresses: Mapping[str, Sequence[Found]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class _Place:
    """One target that a probe is to run on, and the labels that its address brought."""

    target: Target
    labels: tuple[tuple[str, str], ...] = ()
    suffix: str = ""


def own_settings(settings: Settings, measured: Callable[[str], bool]) -> Settings:
    """The settings without the targets of groups that are not `measured` here, and without their probes: those of a
    fleet are mostly other daemons'. Targets that discover their addresses stay."""
    own = tuple(target for target in settings.targets if target.discover or measured(build_target(target).group))
    names = {target.name for target in own}
    probes = tuple(probe for probe in settings.probes if probe.target in names)
    return settings.model_copy(update={"targets": own, "probes": probes})


def expand(
    settings: Settings,
    addresses: Mapping[str, Sequence[Found]],
    models: Mapping[str, Sequence[str]],
    present: Collection[str] = (),
    measured: Callable[[str], bool] = lambda _group: True,
) -> Expanded:
    """`addresses` by the target that discovers them, `models` by target, replicas included; only of groups that are
    `measured` here. Where there are too many of those, the probes named in `present` stay, so that who comes last is
    left out and nothing flaps."""
    kept_addresses, left_out = capped(settings, addresses, present, measured)
    patterns = {target.name: target for target in settings.targets}
    all_ready = {probe.name for probe in settings.probes if probe.models}
    static: list[Probe] = []
    candidates: list[Probe] = []
    order: list[Probe] = []
    for probe in build_probes(settings):
        pattern = patterns[probe.target.name]
        for place in _places(pattern, probe.target, kept_addresses):
            if not measured(place.target.group):
                continue
            for model in models.get(place.target.name, ()) if probe.name in all_ready else (probe.model,):
                made = _made(probe, place, model)
                order.append(made)
                (static if made.name == probe.name else candidates).append(made)
    limit = settings.limits.max_discovered
    stay = set(present)
    kept = [probe.name for probe in candidates if probe.name in stay][:limit]
    kept += [probe.name for probe in candidates if probe.name not in stay][: limit - len(kept)]
    chosen = {*kept, *(probe.name for probe in static)}
    return Expanded(
        tuple(probe for probe in order if probe.name in chosen), len(candidates) - len(kept) + left_out, kept_addresses
    )


def capped(
    settings: Settings,
    addresses: Mapping[str, Sequence[Found]],
    present: Collection[str] = (),
    measured: Callable[[str], bool] = lambda _group: True,
) -> tuple[Mapping[str, Sequence[Found]], int]:
    """Of the addresses as many as there may be probes, since each of them gets a connection, with the target's headers,
    before it is known whether it has a model; and how many probes that leaves out, at least. Targets named in `present`
    stay; addresses that are not `measured` here count for nothing."""
    probes = Counter(probe.target for probe in settings.probes)
    found: dict[str, tuple[str, Found]] = {}
    for pattern in settings.targets:
        if pattern.discover is None or not probes[pattern.name]:
            continue
        target = build_target(pattern)
        for each in addresses.get(pattern.name, ()):
            place = _place(pattern, target, each)
            if measured(place.target.group):
                found.setdefault(place.target.name, (pattern.name, each))
    limit = settings.limits.max_discovered
    stay = set(present)
    kept = [name for name in found if name in stay][:limit]
    kept += [name for name in found if name not in stay][: limit - len(kept)]
    chosen = set(kept)
    capped: dict[str, list[Found]] = {}
    for name, (pattern_name, each) in found.items():
        if name in chosen:
            capped.setdefault(pattern_name, []).append(each)
    return capped, sum(probes[pattern] for name, (pattern, _) in found.items() if name not in chosen)


def patterns(settings: Settings) -> list[tuple[str, str]]:
    """The names (target, probe) in the configuration that stand for any number of probes."""
    discovering = {target.name for target in settings.targets if target.discover is not None}
    return [(probe.target, probe.name) for probe in settings.probes if probe.models or probe.target in discovering]


def replicas(pattern: TargetSettings, addresses: Mapping[str, Sequence[Found]]) -> list[Target]:
    """The targets that a target of the configuration stands for now."""
    return [place.target for place in _places(pattern, build_target(pattern), addresses)]


def _places(pattern: TargetSettings, target: Target, addresses: Mapping[str, Sequence[Found]]) -> Iterator[_Place]:
    if pattern.discover is None:
        yield _Place(target)
        return
    seen: set[str] = set()
    for found in addresses.get(pattern.name, ()):
        place = _place(pattern, target, found)
        if place.suffix not in seen:  # a list may have one address with the pattern's port, and without one
            seen.add(place.suffix)
            yield place


def _place(pattern: TargetSettings, target: Target, found: Found) -> _Place:
    """The target at this address. It is a server of its own, with a lock and a budget of its own, unless the
    configuration names the group; its certificate and its host header are still those of the name that led to it."""
    where = found.address or found.host
    port = found.port or target.port
    suffix = f"[{where}]:{port}" if ":" in where else f"{where}:{port}"
    made = replace(
        target,
        name=f"{target.name}/{suffix}",
        parent=target.name,
        host=found.host,
        port=port,
        address=found.address,
        group=pattern.group or where,
        metrics_url=_at(target.metrics_url, target.host, where),
        resolve=Resolve.SWEEP if found.address else target.resolve,
    )
    return _Place(made, found.labels, suffix)


def _at(url: str, pattern_host: str, host: str) -> str:
    """The metrics url for this host, where it was that of the pattern's own."""
    parts = urlsplit(url)
    if not url or parts.hostname != pattern_host.lower():
        return url
    shown = f"[{host}]" if ":" in host else host
    return parts._replace(netloc=shown if parts.port is None else f"{shown}:{parts.port}").geturl()


def _made(probe: Probe, place: _Place, model: str) -> Probe:
    parent = probe.name if model == probe.model else f"{probe.name}/{model}"
    if not place.suffix and parent == probe.name:
        return probe
    own = dict(probe.labels)
    labels = [*probe.labels, *((name, value) for name, value in place.labels if name not in own)][:MAX_LABELS]
    made = replace(
        probe,
        name=f"{parent}/{place.suffix}" if place.suffix else parent,
        target=place.target,
        model=model,
        labels=tuple(sorted(labels)),
        parent=parent if place.suffix else "",
    )
    return hashed(made)
