"""From settings to what is measured: probes with their targets, levels and configuration hash."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields, replace
from functools import cache
from typing import Any

from exporter.config.cron import gaps, parse_cron
from exporter.config.input_settings import InputSettings, PromptSettings
from exporter.config.load_settings import LoadSettings
from exporter.config.probe_settings import (
    ProbeSettings,
    ScheduleSettings,
    SloSettings,
    max_in_flight_of,
    percentiles_of,
    token_requests_of,
)
from exporter.config.settings import Settings
from exporter.config.target_settings import HeaderSettings, TargetSettings, TlsSettings
from exporter.config.text import Endpoint
from exporter.core.kinds import IN_PROCESS, KINDS
from exporter.core.limits import GroupBudget, Maintenance
from exporter.core.probe import (
    TOKEN_SIGNALS,
    BaselineOptions,
    InputOptions,
    MeasurementOptions,
    OverloadPolicy,
    Probe,
    PromptOptions,
    Schedule,
    SequenceOptions,
    ServerSettings,
    Slo,
    StabilityRule,
    StopRules,
    Unit,
    Validation,
    WindowMode,
)
from exporter.core.target import Header, Resolve, Target, TlsOptions
from exporter.core.units import NS

DEFAULT_ID_RANGE = 2**32 - 1
"""As in perf_analyzer."""

LOAD_TIMEOUT_NS = 60 * NS
"""How long a model may take to load in the worker's own process."""

PROMPT_TIMEOUT_NS = 60 * NS
"""When a request to a language model is given up by default."""

STREAM_UNIT = "stream_seconds"
"""What the throughput of streams is in where the user names no unit: seconds of stream per second."""

_NO_ENDPOINT = Endpoint("", "127.0.0.1", 0, "")
"""What runs in the worker runs on this machine."""


def build_probes(settings: Settings) -> tuple[Probe, ...]:
    """The probes, in the order of the configuration; those of one target share it. One that is measured from several
    places is a probe `NAME/PLACE` for each."""
    targets = {target.name: build_target(target) for target in settings.targets}
    per_decade = settings.limits.histogram_buckets_per_decade
    return tuple(
        made
        for probe in settings.probes
        for made in _of_each_place(_probe(probe, targets[probe.target], per_decade), probe.places)
    )


def _of_each_place(probe: Probe, places: Sequence[str]) -> Iterator[Probe]:
    """The probe itself where no place is named. Places are compared as variants, where the user names none."""
    if not places:
        yield hashed(probe)
    for place in places:
        yield hashed(
            replace(
                probe,
                name=f"{probe.name}/{place}",
                place=place,
                variant=probe.variant or place,
                variant_group=probe.variant_group or probe.name,
            )
        )


def build_target(settings: TargetSettings) -> Target:
    """The target; its group is the url's host where none is given."""
    endpoint = settings.url or _NO_ENDPOINT
    in_process = settings.kind == IN_PROCESS
    loads_long = in_process and "connect_timeout_ns" not in settings.model_fields_set
    return Target(
        name=settings.name,
        kind=settings.kind,
        scheme=endpoint.scheme,
        host=endpoint.host,
        port=endpoint.port or KINDS[settings.kind].ports.get(endpoint.scheme, 0),
        group=settings.group or (IN_PROCESS if in_process else endpoint.host),
        path=endpoint.path,
        metrics_url=settings.metrics_url or "",
        headers=build_headers(settings.headers),
        tls=_tls(settings.tls),
        connect_timeout_ns=LOAD_TIMEOUT_NS if loads_long else settings.connect_timeout_ns,
        resolve=Resolve(settings.resolve),
        streams_per_connection=settings.streams_per_connection,
        metrics_interval_ns=settings.metrics_interval_ns,
        gpu=settings.gpu,
        server_directory=settings.server_directory,
        model_repository=settings.model_repository,
        max_response_bytes=settings.max_response_bytes or 0,
        host_header=settings.host_header,
        management_url=settings.management_url or "",
        management_headers=build_headers(settings.management_headers),
    )


def build_headers(headers: Mapping[str, HeaderSettings]) -> tuple[Header, ...]:
    """Headers, with where their values come from."""
    return tuple(
        Header(name, value=header.plain, env=header.env, file=header.file, prefix=header.prefix)
        for name, header in headers.items()
    )


def _tls(settings: TlsSettings) -> TlsOptions:
    verify = {"verify": settings.verify != "none", "verify_host": settings.verify == "full"}
    return TlsOptions(**(settings.model_dump() | verify))


def _probe(settings: ProbeSettings, target: Target, per_decade: int) -> Probe:
    levels = settings.load.levels
    timeout_ns = timeout_of(settings, target)
    measurement = settings.measurement.model_dump() | {
        "request_timeout_ns": timeout_ns,
        "percentiles": percentiles_of(settings),
        "stability_rule": StabilityRule(settings.measurement.stability_rule),
        "window_mode": WindowMode(settings.measurement.window_mode),
    }
    slo, validation = settings.slo, settings.validation
    return Probe(
        name=settings.name,
        target=target,
        model=settings.model,
        version=settings.version,
        schedule=_schedule(settings.schedule),
        levels=levels,
        measurement=MeasurementOptions(**measurement),
        input=_input(settings.input),
        stop=_stop(settings, target, timeout_ns),
        slo=_slo(slo, levels[0].label) if slo else None,
        unit=_unit(settings),
        workers=settings.load.workers,
        pool=settings.load.pool,
        histogram=settings.histogram,
        buckets_per_decade=per_decade,
        variant=settings.variant,
        variant_group=settings.variant_group,
        labels=tuple(sorted(settings.labels.items())),
        search=settings.load.searched,
        composing_models=settings.composing_models,
        server_settings=ServerSettings(**settings.server_settings.model_dump()) if settings.server_settings else None,
        validation=Validation(**validation.model_dump()) if validation else None,
        sequences=_sequences(settings.load),
        streaming=settings.streaming,
        baseline=_baseline(settings, target),
    )


def build_budget(settings: Settings) -> GroupBudget:
    """What sweeps may cause in each group."""
    limits = settings.limits
    return GroupBudget(limits.group_requests_per_hour, limits.group_duty_ratio, limits.group_tokens_per_hour)


def build_maintenance(settings: Settings) -> tuple[Maintenance, ...]:
    """The maintenance windows."""
    return tuple(
        Maintenance(
            parse_cron(window.cron).portable, window.duration_ns, window.timezone, window.targets, window.probes
        )
        for window in settings.maintenance
    )


def timeout_of(settings: ProbeSettings, target: Target) -> int:
    """When a request is given up: a language model's takes longer, where the user does not set it."""
    if target.takes_prompts and "request_timeout_ns" not in settings.measurement.model_fields_set:
        return PROMPT_TIMEOUT_NS
    return settings.measurement.request_timeout_ns


def _max_requests(settings: ProbeSettings, target: Target) -> int:
    """No more than the tokens allow, where it is known how many a request has at most."""
    allowed = token_requests_of(settings) if target.takes_prompts else None
    return settings.stop.max_requests if allowed is None else min(settings.stop.max_requests, allowed)


def _stop(settings: ProbeSettings, target: Target, timeout_ns: int) -> StopRules:
    stop = settings.stop
    latency_ns = timeout_ns // 2 if stop.max_latency_ns is None else stop.max_latency_ns
    chosen = {
        "on_overload": OverloadPolicy(stop.on_overload),
        "max_latency_ns": latency_ns,
        "max_requests": _max_requests(settings, target),
        "max_in_flight": max_in_flight_of(settings),
    }
    return StopRules(**(stop.model_dump() | chosen))


def _baseline(settings: ProbeSettings, target: Target) -> BaselineOptions:
    """Its tiers look at tokens, too, where there are any and the user does not choose the signals."""
    options = settings.baseline.options
    if not target.takes_prompts or not settings.streaming:
        return options
    chosen = {name: getattr(settings.baseline, name).model_fields_set for name in ("page", "warn", "slow")}
    tiers = (
        tier if "signals" in chosen[tier.name] else replace(tier, signals=(*tier.signals, *TOKEN_SIGNALS))
        for tier in options.tiers
    )
    return replace(options, tiers=tuple(tiers))


def _slo(slo: SloSettings, only_level: str) -> Slo:
    return Slo(
        name=slo.name,
        latency_ns=slo.latency_ns or 0,
        percentile=slo.percentile,
        levels=slo.levels or (only_level,),
        objective=slo.objective or 0.0,
        first_token_ns=slo.time_to_first_token_ns or 0,
        per_output_token_ns=slo.time_per_output_token_ns or 0,
        inter_token_ns=slo.inter_token_latency_ns or 0,
    )


def _prompt(settings: PromptSettings) -> PromptOptions:
    return PromptOptions(**settings.model_dump(exclude={"cache"}), allow_cache=settings.cache == "allow")


def _input(settings: InputSettings) -> InputOptions:
    files = settings.paths
    values = settings.model_dump(exclude={"paths", "prompt"}) | {
        "shapes": tuple(sorted(settings.shapes.items())),
        "parameters": tuple(sorted(settings.parameters.items())),
        "datatypes": tuple(sorted(settings.datatypes.items())),
        "prompt": _prompt(settings.prompt),
    }
    return InputOptions(**values, paths=files.given if files else (), files_digest=files.digest if files else "")


def _schedule(settings: ScheduleSettings) -> Schedule:
    if settings.cron is None:
        return Schedule(settings.every_ns or 0, timezone=settings.timezone, jitter_ns=settings.jitter_ns)
    cron = parse_cron(settings.cron)
    return Schedule(gaps(cron, settings.timezone).longest_ns, cron.portable, settings.timezone, settings.jitter_ns)


def _unit(settings: ProbeSettings) -> Unit | None:
    """What one inference is worth; by default a step of a stream is worth the time between two."""
    if settings.unit is not None:
        return Unit(settings.unit.name, settings.unit.per_inference)
    interval_ns = settings.load.step_interval_ns
    return Unit(STREAM_UNIT, interval_ns / NS) if settings.load.streams and interval_ns else None


def _sequences(load: LoadSettings) -> SequenceOptions | None:
    """Streams are sequences whether or not the section is there."""
    settings = load.sequences
    if settings is None:
        return SequenceOptions() if load.streams else None
    options = SequenceOptions(**settings.model_dump())
    if options.start_id and not options.id_range:
        return replace(options, id_range=DEFAULT_ID_RANGE)
    return options


def hashed(probe: Probe) -> Probe:
    """The probe with its hash: twelve hex digits over all of it and its target. Secrets are not in it, only where they
    come from."""
    bare = replace(probe, config_hash="")
    canonical = json.dumps(bare, default=_fields, sort_keys=True, separators=(",", ":"))
    return replace(probe, config_hash=hashlib.sha256(canonical.encode()).hexdigest()[:12])


def _fields(value: Any) -> dict[str, Any]:
    """A dataclass for JSON; `dataclasses.asdict` copies all it finds, and takes ten times as long."""
    return {name: getattr(value, name) for name in _names(type(value))}  # type: ignore[arg-type]  # a class is hashable


@cache
def _names(kind: type[Any]) -> tuple[str, ...]:
    return tuple(field.name for field in fields(kind))
