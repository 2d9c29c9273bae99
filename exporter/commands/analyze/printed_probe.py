"""`--print-probe`: the measurement of a command line as a configuration for the daemon, with the daemon's own guards.

A person watches a command line; the daemon runs unwatched. So what the command line assumed is left to the daemon's
defaults, and a guard is raised only where a level could not run within it. Pure.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Collection, Iterable, Mapping
from typing import Any

import yaml

from exporter.config.document import parse_value
from exporter.config.probe_settings import StopSettings, default_in_flight
from exporter.config.quantities import format_duration
from exporter.core.probe import Mode, Probe, WindowMode
from exporter.core.units import NS

_HEAD = """\
# The same measurement for the daemon. The guards are the daemon's own, and it needs a schedule: set yours.
"""
_SECTIONS = ("stop", "measurement")
"""What a command line assumes in these is left to the daemon."""
_ROOM = 2
"""A raised time budget is so many times what the levels take at least."""
_MINUTE_NS = 60 * NS


def print_document(
    document: Mapping[str, Any],
    variables: Iterable[str],
    probe: Probe | None = None,
    assumed: Collection[str] = (),
) -> str:
    """A configuration document as YAML that the daemon reads back. `variables` are those of the environment that it
    needs; `assumed` are the probe's keys, as `stop.max_requests`, that no flag set. With the `probe` that it makes,
    guards are the daemon's."""
    raised: dict[str, tuple[object, str]] = {}
    shown = copy.deepcopy(dict(document))
    if probe is not None:
        raised = _raised(probe)
        _leave_out(shown["probes"][0], assumed)
        shown["targets"][0].pop("gpu", None)  # assumed without --collect-metrics; a daemon looks for itself
        stop = {key: value for key, (value, _) in raised.items()}
        if stop:
            shown["probes"][0]["stop"] = shown["probes"][0].get("stop", {}) | stop
    text = yaml.dump(shown, Dumper=_ProbeDumper, sort_keys=False, allow_unicode=True, width=120)
    for key, (value, why) in raised.items():
        text = text.replace(f"    {key}: {value}\n", f"    {key}: {value}  # {why}\n", 1)
    return _HEAD + "".join(f"# Needs the secret in the variable {name}.\n" for name in variables) + text


def _leave_out(probe: dict[str, Any], assumed: Collection[str]) -> None:
    for section in _SECTIONS:
        kept = {key: value for key, value in probe.get(section, {}).items() if f"{section}.{key}" not in assumed}
        if kept:
            probe[section] = kept
        else:
            probe.pop(section, None)


def _raised(probe: Probe) -> dict[str, tuple[object, str]]:
    """The guards of which the levels need more than the daemon's default, each with its value and why."""
    defaults = StopSettings()
    found: dict[str, tuple[object, str]] = {}
    in_flight = _needed_in_flight(probe)
    usual = default_in_flight(
        max((level.value for level in probe.levels if level.mode is Mode.REQUEST_RATE), default=0)
    )
    if in_flight > usual:
        found["max_in_flight"] = in_flight, f"raised from {usual}: the highest level has {in_flight} requests in flight"
    requests = _needed_requests(probe)
    if requests > defaults.max_requests:
        found["max_requests"] = requests, f"raised from {defaults.max_requests}: the levels send {requests}"
    duration_ns = _needed_ns(probe)
    if duration_ns > defaults.max_duration_ns:
        budget_ns = min(math.ceil(_ROOM * duration_ns / _MINUTE_NS) * _MINUTE_NS, 24 * 60 * _MINUTE_NS)
        default = format_duration(defaults.max_duration_ns)
        least = format_duration(math.ceil(duration_ns / NS) * NS)
        found["max_duration"] = format_duration(budget_ns), f"raised from {default}: the levels take {least} at least"
    return found


def _needed_in_flight(probe: Probe) -> int:
    closed = [level.value for level in probe.levels if level.mode is Mode.STREAMS or not level.mode.is_open_loop]
    sequences = probe.sequences.count if probe.sequences and not closed else 0
    return max([sequences, *map(int, closed)])


def _needed_requests(probe: Probe) -> int:
    options = probe.measurement
    per_level = options.request_count + options.warm_up_requests
    counted = sum(
        int(level.value) if level.mode in (Mode.SCHEDULE, Mode.PERIODIC) else per_level for level in probe.levels
    )
    return (counted + len(probe.levels)) * options.repeats + 1


def _needed_ns(probe: Probe) -> int:
    """The least time of all levels: their windows agree at once."""
    options = probe.measurement
    is_counted = options.window_mode is WindowMode.COUNT or options.request_count
    windows_ns = 0 if is_counted else options.window_ns * options.stability_windows
    levels_ns = sum(level.duration_ns or windows_ns + options.warm_up_ns + level.ramp_ns for level in probe.levels)
    return levels_ns * options.repeats + NS


class _ProbeDumper(yaml.SafeDumper):
    def ignore_aliases(self, data: Any) -> bool:
        """Aliases are hard to read."""
        return True


def _dumped_text(dumper: yaml.SafeDumper, value: str) -> yaml.ScalarNode:
    """Text that we would read as something else is quoted; the dumper quotes what YAML 1.1 would."""
    return dumper.represent_scalar("tag:yaml.org,2002:str", value, style=None if parse_value(value) == value else '"')


_ProbeDumper.add_representer(str, _dumped_text)
