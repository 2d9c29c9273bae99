"""One half of a pair: a short sweep of one side, and what it reports. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from exporter.core.errors import ConfigError
from exporter.core.outcome import Outcome, Reason
from exporter.core.probe import BaselineOptions, LoadLevel, Mode, Probe, Validation, WindowMode
from exporter.core.result import Measurement, SweepResult
from exporter.core.rollout import FIRST_RESPONSE, THROUGHPUT, GateOptions, GateSide, Margin
from exporter.core.units import MS, NS
from exporter.sweep.measure import CPU_LIMIT_RATIO, THROTTLE_LIMIT_RATIO

WARM_UP_NS = 250 * MS
"""Before each window. A sweep has opened its connections by then."""
CHECKED_REQUESTS = 20
"""With so many requests the outputs of both sides are compared, once, before the pairs."""
_LEAST_REQUESTS = 10


@dataclass(frozen=True, slots=True)
class Half:
    """What one side showed in one window. `figures` are by margin's name: seconds, or inferences a second; `few` states
    of those that are missing why. `failure` is why there are none at all, "" where there are."""

    errors: int
    requests: int
    figures: Mapping[str, float] = field(default_factory=dict)
    few: Mapping[str, str] = field(default_factory=dict)
    components_ns: Mapping[str, float] = field(default_factory=dict)
    failure: str = ""
    version: str = ""


def same_load(
    stable: Probe, candidate: Probe, *, level: str = "", output_tolerance: float | None = None
) -> tuple[Probe, Probe]:
    """Both sides with the load and the input of the stable one, at the named level or its first. Raises ConfigError."""
    levels = [each for each in stable.levels if each.label == level] if level else list(stable.levels[:1])
    if not levels:
        known = ", ".join(each.label for each in stable.levels)
        raise ConfigError([f"level: {stable.name} has no level {level!r}; it has {known}"])
    if levels[0].mode.runs_once:
        text = (
            f"load: {stable.name} runs a {levels[0].mode}, which is not a steady load: use concurrency or request_rate"
        )
        raise ConfigError([text])
    stable = replace(stable, levels=(levels[0],), search=None)
    other = replace(
        stable,
        name=candidate.name,
        target=candidate.target,
        model=candidate.model,
        version=candidate.version,
        composing_models=candidate.composing_models,
        server_settings=candidate.server_settings,
    )
    if _identity(stable) == _identity(other):
        raise ConfigError([f"candidate: is the same model at the same server as stable: {other.name}"])
    # What a response is compared with costs the client time, which would be one side's alone.
    return replace(stable, validation=None), replace(
        other, validation=_outputs_expected(stable, candidate, output_tolerance)
    )


def _identity(probe: Probe) -> tuple[str, ...]:
    """What makes two sides the same one. Two names of one model are for a trial of the gate itself."""
    return probe.name, probe.target.url, probe.model, probe.version


def _outputs_expected(stable: Probe, candidate: Probe, tolerance: float | None) -> Validation | None:
    """What the candidate's outputs are compared with: what its probe states, or the stable side, where both are in one
    server and response each request once."""
    if candidate.validation is not None:
        return candidate.validation
    one_server = stable.target.url == candidate.target.url and not stable.target.in_process
    another = (stable.model, stable.version) != (candidate.model, candidate.version)
    single = not stable.streaming and stable.sequences is None and stable.input.shared_memory == "none"
    if one_server and another and single and stable.target.kind == "triton":
        return Validation(stable.model, stable.version, tolerance, tolerance)
    if tolerance is not None:
        text = "compares outputs of two models, or two versions, in one Triton, which responds each request once"
        raise ConfigError([f"output_tolerance: {text}"])
    return None


def half_probe(probe: Probe, options: GateOptions, seed: int) -> Probe:
    """The probe as one short window. Both halves of a pair have one seed: random arrivals come at the same moments."""
    (level,) = probe.levels
    if level.is_random and level.seed is None:
        level = replace(level, seed=seed)
    measurement = replace(
        probe.measurement,
        window_mode=WindowMode.TIME,
        window_ns=options.window_ns,
        stability_windows=1,
        max_windows=1,
        repeats=1,
        request_count=0,
        warm_up_requests=0,
        warm_up_ns=WARM_UP_NS,
        percentiles=_percentiles(options.margins),
    )
    return _bare(probe, level, replace(probe, measurement=measurement, validation=None))


def check_probe(candidate: Probe) -> Probe:
    """The candidate as the few requests whose outputs are compared with what is expected."""
    measurement = replace(
        candidate.measurement,
        request_count=CHECKED_REQUESTS,
        warm_up_requests=0,
        warm_up_ns=0,
        repeats=1,
        stability_windows=1,
    )
    return _bare(candidate, LoadLevel(Mode.CONCURRENCY, 1.0, "1"), replace(candidate, measurement=measurement))


def _bare(probe: Probe, level: LoadLevel, changed: Probe) -> Probe:
    return replace(
        changed,
        levels=(level,),
        slo=None,
        histogram=False,
        workers=probe.workers if level.value >= probe.workers else 1,
        baseline=BaselineOptions(enabled=False),
    )


def _percentiles(margins: Iterable[Margin]) -> tuple[float, ...]:
    return tuple(sorted({50.0, *(margin.percentile for margin in margins if margin.percentile)}))


def read_half(result: SweepResult, options: GateOptions) -> Half:
    """What the sweep reports about its side."""
    judged = sum(count for outcome, count in result.outcomes.items() if outcome is not Outcome.CANCELLED)
    errors = judged - result.outcomes.get(Outcome.OK, 0)
    version = result.facts.version if result.facts else ""
    measurement = result.measurements[-1] if result.measurements else None
    failure = _failure(result, measurement)
    if failure or measurement is None:
        return Half(errors, judged, failure=failure or "no window was measured", version=version)
    figures, few = {}, {}
    for margin in options.margins:
        value, why = _figure(measurement, margin, options)
        if value is None:
            few[margin.figure] = why
        else:
            figures[margin.figure] = value
    return Half(errors, judged, figures, few, measurement.breakdown_ns, version=version)


def _failure(result: SweepResult, measurement: Measurement | None) -> str:
    """Why the sweep contains no information of its side's speed; "" where it does. One late wake-up of this client is
    noise like any other; a client without time left would make both sides alike."""
    if result.reason not in (Reason.NONE, Reason.UNSTABLE):
        return f"{result.reason}: {result.reason_text}"
    if measurement is None or measurement.latency is None:
        return "no request was ok"
    health, duration_ns = measurement.health, measurement.duration_ns
    if health.cpu_ratio >= CPU_LIMIT_RATIO or health.throttled_ns > THROTTLE_LIMIT_RATIO * duration_ns:
        return "client_limited: this client, not the server, limited the load: use less load or more load.workers"
    return ""


def _figure(measurement: Measurement, margin: Margin, options: GateOptions) -> tuple[float | None, str]:
    """The figure, or why it is missing."""
    if margin.figure == THROUGHPUT:
        return measurement.throughput, ""
    latency = measurement.first_response if margin.figure == FIRST_RESPONSE else measurement.latency
    if latency is None:
        return None, f"{margin.figure} needs a stream (streaming: true)"
    assert margin.percentile is not None
    needed = max(_LEAST_REQUESTS, math.ceil(round(100 / (100 - margin.percentile), 6)))
    if latency.count < needed:
        seconds = math.ceil(options.window_ns / NS * needed * 1.5 / max(1, latency.count))
        text = f"too few requests: {margin.figure} needs {needed} per window, and one had {latency.count}"
        return None, f"{text}: use a window of {seconds}s or more load"
    value_ns = latency.at(margin.percentile)
    return (value_ns / NS, "") if value_ns > 0 else (None, f"{margin.figure} is 0")


def side_of(probe: Probe, version: str) -> GateSide:
    """The side as its result names it."""
    return GateSide(probe.name, probe.target.name, probe.target.url, probe.model, version or probe.version)
