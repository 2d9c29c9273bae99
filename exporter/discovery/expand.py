"""From the configuration and what was discovered to probes, under a hard cap. Pure.

A target that discovers its addresses is a pattern: each address is a target `NAME/HOST:PORT`, and each probe of the
pattern a probe `NAME/HOST:PORT` there. A probe with `models: all-ready` is one for each model, `NAME/MODEL`. One
that is measured from places is `NAME/PLACE` for each, before all that.
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
from exporter.schedule.phase import configured_key, probe_key


@dataclass(frozen=True, slots=True)
class Expanded:
    """The probes, how many more were found, at least, than `limits.max_discovered` allows, and the addresses that are
    within it."""

    probes: tuple[Probe, ...]
    dropped: int = 0
    addresses: Mapping[str, Sequence[Found]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class _Replica:
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
    all_ready = {(probe.target, probe.name) for probe in settings.probes if probe.models}
    static: list[Probe] = []
    candidates: list[Probe] = []
    order: list[Probe] = []
    for probe in build_probes(settings):
        pattern = patterns[probe.target.name]
        for replica in _replicas(pattern, probe.target, kept_addresses):
            if not measured(replica.target.group):
                continue
            is_pattern = configured_key(probe_key(probe)) in all_ready
            for model in models.get(replica.target.name, ()) if is_pattern else (probe.model,):
                made = _made(probe, replica, model)
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
    probes: Counter[str] = Counter()
    for probe in settings.probes:
        probes[probe.target] += max(1, len(probe.places))
    found: dict[str, tuple[str, Found]] = {}
    for pattern in settings.targets:
        if pattern.discover is None or not probes[pattern.name]:
            continue
        target = build_target(pattern)
        for each in addresses.get(pattern.name, ()):
            replica = _replica(pattern, target, each)
            if measured(replica.target.group):
                found.setdefault(replica.target.name, (pattern.name, each))
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
    several = (probe for probe in settings.probes if probe.models or probe.places or probe.target in discovering)
    return [(probe.target, probe.name) for probe in several]


def replicas(pattern: TargetSettings, addresses: Mapping[str, Sequence[Found]]) -> list[Target]:
    """The targets that a target of the configuration stands for now."""
    return [replica.target for replica in _replicas(pattern, build_target(pattern), addresses)]


def _replicas(pattern: TargetSettings, target: Target, addresses: Mapping[str, Sequence[Found]]) -> Iterator[_Replica]:
    if pattern.discover is None:
        yield _Replica(target)
        return
    seen: set[str] = set()
    for found in addresses.get(pattern.name, ()):
        replica = _replica(pattern, target, found)
        if replica.suffix not in seen:  # a list may have one address with the pattern's port, and without one
            seen.add(replica.suffix)
            yield replica


def _replica(pattern: TargetSettings, target: Target, found: Found) -> _Replica:
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
    return _Replica(made, found.labels, suffix)


def _at(url: str, pattern_host: str, host: str) -> str:
    """The metrics url for this host, where it was that of the pattern's own."""
    parts = urlsplit(url)
    if not url or parts.hostname != pattern_host.lower():
        return url
    shown = f"[{host}]" if ":" in host else host
    return parts._replace(netloc=shown if parts.port is None else f"{shown}:{parts.port}").geturl()


def _made(probe: Probe, replica: _Replica, model: str) -> Probe:
    parent = probe.name if model == probe.model else f"{probe.name}/{model}"
    if not replica.suffix and parent == probe.name:
        return probe
    own = {*dict(probe.labels), *(["place"] if probe.place else [])}
    labels = [*probe.labels, *((name, value) for name, value in replica.labels if name not in own)][:MAX_LABELS]
    made = replace(
        probe,
        name=f"{parent}/{replica.suffix}" if replica.suffix else parent,
        target=replica.target,
        model=model,
        labels=tuple(sorted(labels)),
        parent=parent if replica.suffix else "",
    )
    return hashed(made)
