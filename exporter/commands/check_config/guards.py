"""Which guards of the probed server a configuration has switched off, or set beyond any use. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from exporter.config.settings import Settings
from exporter.core.kinds import KINDS
from exporter.core.probe import OverloadPolicy, Probe

_MANY_REQUESTS = 100_000_000
"""More than a sweep sends in its most five minutes, by default."""


def guard_warnings(settings: Settings, probes: tuple[Probe, ...]) -> list[str]:
    """A warning for each guard that is off; those that several probes share, as by `defaults`, are one."""
    found: dict[str, list[str]] = {}
    for probe in probes:
        for text in _of_probe(probe):
            found.setdefault(text, []).append(probe.name)
    lines = [f"probe{'s' if len(names) > 1 else ''} {_names(names)}: {text}" for text, names in found.items()]
    return lines + list(_of_limits(settings))


def _of_probe(probe: Probe) -> Iterator[str]:
    stop = probe.stop
    if stop.max_latency_ns == 0:
        yield "stop.max_latency is 0s: a sweep continues however slow the server gets"
    if stop.max_error_ratio >= 1:
        yield "stop.max_error_ratio is 100%: a sweep continues even if all requests fail"
    if stop.on_overload is OverloadPolicy.COUNT:
        yield "stop.on_overload is count: a server that reports overload gets more load"
    if stop.pending_growth == 0 and probe.target.metrics_url:
        yield "stop.pending_growth is 0: a growing queue in the server ends no sweep"
    if stop.max_requests >= _MANY_REQUESTS:
        yield f"stop.max_requests is {stop.max_requests}: it ends no sweep"


def _of_limits(settings: Settings) -> Iterator[str]:
    limits = settings.limits
    if limits.group_requests_per_hour == 0:
        yield "limits.group_requests_per_hour is 0: the requests of all probes to a server are unlimited"
    takes_prompts = any(KINDS[target.kind].takes_prompts for target in settings.targets)
    if limits.group_tokens_per_hour == 0 and takes_prompts:
        yield "limits.group_tokens_per_hour is 0: nothing bounds what all probes of a language model cost"
    if limits.group_duty_ratio >= 1:
        yield "limits.group_duty is 100%: a server may be measured without a pause"


def _names(names: list[str]) -> str:
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
