"""The command `try`: one sweep of a configured probe, with the daemon's guards, as a report. Nothing is kept."""

from __future__ import annotations

import asyncio
from functools import partial
from pathlib import Path

from exporter.commands.analyze.flags import RunOptions
from exporter.commands.analyze.report.lines import ReportOptions
from exporter.commands.analyze.running import Display, exit_code, is_written, print_error, run_sweep
from exporter.config import Settings, build_probes, load
from exporter.config.problems import nearest
from exporter.config.quantities import format_duration
from exporter.core.errors import ConfigError
from exporter.core.exit_code import ExitCode
from exporter.core.limits import Load
from exporter.core.probe import Probe
from exporter.core.units import NS
from exporter.logs import COMMAND_FORMAT, configure

_HOUR_NS = 3600 * NS
_NO_LIMIT = 2**62


def run_try(name: str, path: Path) -> ExitCode:
    """Runs the sweep and prints its report; the exit code is as that of `analyze`. Raises ConfigError for a
    configuration with errors, and for a name that is no probe's."""
    settings = load(path)
    probe = find_probe(settings, name)
    allowed = allowed_load(settings)
    configure("warning", COMMAND_FORMAT)
    note = partial(print_error, command="try")
    note(_guards(probe, allowed))
    options = ReportOptions(verbose=False, asynchronous=probe.streaming, metrics=bool(probe.target.metrics_url))
    with Display(probe, options) as display:
        result = asyncio.run(run_sweep(probe, [display], allowed))
        written = is_written("the report", partial(display.finish, result), note)
    code = exit_code(result, RunOptions(), written=written, print_error=note)
    note(f"{sum(result.outcomes.values())} requests in {result.duration_ns / NS:.1f} s; nothing was kept")
    return code


def find_probe(settings: Settings, name: str) -> Probe:
    """The probe of this name. Raises ConfigError, naming those that there are."""
    probes = {probe.name: probe for probe in build_probes(settings)}
    if name not in probes:
        several = [made for made in probes if made.startswith(f"{name}/")]
        near = nearest(name, list(probes))
        hint = f"did you mean {near!r}?" if near else f"there are {', '.join(probes) or 'none'}"
        if several:
            hint = f"it is measured from several places: choose one of {', '.join(several)}"
        raise ConfigError([f"no probe is named {name!r}; {hint}"])
    configured = name.partition("/")[0]
    chosen = next(probe for probe in settings.probes if probe.name == configured)
    discovering = {target.name for target in settings.targets if target.discover is not None}
    if chosen.models is not None or chosen.target in discovering:
        raise ConfigError(
            [f"probe {name!r} is a pattern for probes that are discovered: try one with a url and a model of its own"]
        )
    return probes[name]


def allowed_load(settings: Settings) -> Load:
    """What the daemon allows a group in an hour of which nothing is spent."""
    limits = settings.limits
    requests, tokens = limits.group_requests_per_hour or _NO_LIMIT, limits.group_tokens_per_hour or _NO_LIMIT
    return Load(requests, round(limits.group_duty_ratio * _HOUR_NS), tokens)


def _guards(probe: Probe, allowed: Load) -> str:
    stop = probe.stop
    limits = f"{min(stop.max_requests, allowed.requests)} requests, "
    if probe.target.takes_prompts:
        limits += f"{min(stop.max_tokens, allowed.tokens)} tokens, "
    limits += f"{format_duration(min(stop.max_duration_ns, allowed.duration_ns))}, {stop.max_in_flight} in flight"
    return f"one sweep within the daemon's guards: {limits}, {stop.max_error_ratio:.0%} of the requests may fail"
