"""What must hold between the keys of a probe. Pure."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from exporter.config import text
from exporter.config.inputs import check_parameter
from exporter.config.load_settings import SequenceSettings
from exporter.config.probe_settings import MAX_PERCENTILES, ProbeSettings, max_in_flight_of, percentiles_of
from exporter.config.quantities import format_duration
from exporter.config.target_checks import Found
from exporter.core.probe import CHAT, prompt_api
from exporter.payload.timing_files import has_steps

MAX_LABELS = 5
_RUN_ONCE = ("schedule_file", "periodic_concurrency", "session_concurrency")


def _model(probe: ProbeSettings) -> Found:
    if not probe.model and probe.models is None:
        yield ("model",), "is required"
    if probe.models is not None:
        for key in ("model", "version", "composing_models"):
            if getattr(probe, key):
                yield (key,), "excludes models: all-ready"


def _places(probe: ProbeSettings) -> Found:
    if probe.places and not probe.load.pool:
        yield ("from",), "needs load.pool, the Dask scheduler whose workers are in these places"
    for index, place in enumerate(probe.places):
        if place in probe.places[:index]:
            yield ("from", index), f"found {text.shown(place)}: is listed twice"
    if probe.places and "place" in probe.labels:
        yield ("labels", "place"), "is a label of probes with `from`; choose another name"


def _schedule(probe: ProbeSettings) -> Found:
    every, jitter_ns = probe.schedule.every_ns, probe.schedule.jitter_ns
    if every is not None and jitter_ns >= every:
        yield (
            ("schedule", "jitter"),
            f"found {format_duration(jitter_ns)}: must be below the interval, {format_duration(every)}",
        )
    if probe.schedule.cron is None and "timezone" in probe.schedule.model_fields_set:
        yield ("schedule", "timezone"), "has no meaning without cron"


def _concurrency(probe: ProbeSettings) -> Found:
    for key in ("concurrency", "streams"):
        levels = getattr(probe.load, key)
        if levels is not None and max(levels.values) > max_in_flight_of(probe):
            given = text.as_number(max(levels.values))
            yield ("load", key), f"found {given}: is above stop.max_in_flight, {max_in_flight_of(probe)}"


def _load(probe: ProbeSettings) -> Found:
    """Keys that belong to one kind of load."""
    given = probe.load.model_fields_set
    if probe.load.request_rate is None and "distribution" in given:
        yield ("load", "distribution"), "has no meaning without request_rate"
    if probe.load.concurrency is None and "think_time" in {name.removesuffix("_ns") for name in given}:
        yield ("load", "think_time"), "has no meaning without concurrency"
    if probe.load.distribution != "poisson" and probe.load.streams is None and "seed" in given:
        yield ("load", "seed"), "has no meaning without distribution: poisson, or streams"


def _streams(probe: ProbeSettings) -> Found:
    """Steps at fixed deadlines, of sequences."""
    load = probe.load
    if load.streams is None:
        for key in ("step_interval", "ramp"):
            if f"{key}_ns" in load.model_fields_set:
                yield ("load", key), "has no meaning without streams"
        return
    if load.step_interval_ns is None:
        yield ("load", "step_interval"), "is required with streams: the length of a chunk, as 300ms"
    if probe.measurement.request_count:
        yield ("measurement", "request_count"), "has no meaning with streams; give window and max_windows"


def _matrix(probe: ProbeSettings) -> Found:
    """Levels that differ by more than a number."""
    load = probe.load
    given = [key for key in ("batch_size", "shapes") if getattr(load, key)]
    if not given and "max_levels" in load.model_fields_set:
        yield ("load", "max_levels"), "has no meaning without batch_size or shapes"
    for key in given:
        if not (load.concurrency or load.request_rate or load.streams):
            yield ("load", key), "has no meaning without concurrency, request_rate or streams"
        if load.search != "every":
            yield ("load", key), f"does not go with search: {load.search}, which looks for one number"
    labels = [level.label for level in load.levels]
    if given and len(labels) > load.max_levels:
        yield ("load", given[-1]), f"makes {len(labels)} levels: above max_levels, {load.max_levels}"
    if len(set(labels)) < len(labels):
        yield ("load", given[-1]), "has an entry twice"
    if max(load.batch_size, default=1) > 1 and (load.sequences or load.streams):
        yield ("load", "batch_size"), "must be 1 with sequences: it is the server that batches them"


def _periodic(probe: ProbeSettings) -> Found:
    """Its steps are taken by counting the responses of streams."""
    load, stop = probe.load, probe.stop
    if load.periodic_concurrency is None:
        if "request_period" in load.model_fields_set:
            yield ("load", "request_period"), "has no meaning without periodic_concurrency"
        return
    end = load.periodic_concurrency[1]
    if not probe.streaming:
        yield ("load", "periodic_concurrency"), "needs streaming: true"
    if load.sequences is not None:
        yield ("load", "sequences"), "do not go with periodic_concurrency"
    if end > max_in_flight_of(probe):
        yield (
            ("load", "periodic_concurrency"),
            f"its {end} requests are above stop.max_in_flight, {max_in_flight_of(probe)}",
        )
    if end >= stop.max_requests:
        limit = stop.max_requests
        yield (
            ("load", "periodic_concurrency"),
            f"its {end} requests, with the first to warm up, are above stop.max_requests, {limit}",
        )


def _sessions(probe: ProbeSettings) -> Found:
    """A session's turns are in files, and only a chat has a history."""
    count = probe.load.session_concurrency
    if count is None:
        return
    if probe.input.source != "files":
        yield ("load", "session_concurrency"), "needs input.source: files, whose entries are the turns"
    if prompt_api(probe.input.prompt.endpoint) != CHAT:
        endpoint = text.shown(probe.input.prompt.endpoint)
        yield ("load", "session_concurrency"), f"needs an endpoint of {CHAT}; input.prompt.endpoint is {endpoint}"
    if count > max_in_flight_of(probe):
        limit = max_in_flight_of(probe)
        yield ("load", "session_concurrency"), f"found {count}: is above stop.max_in_flight, {limit}"


def _schedule_file(probe: ProbeSettings) -> Found:
    """A schedule is run to its end, or it was not worth to begin."""
    if probe.load.schedule_file is None:
        return
    moments_ns, stop = probe.load.schedule_file.entries_ns, probe.stop
    if probe.load.workers > 1 and has_steps(probe.load.schedule_file.path):
        problem = f"found {probe.load.workers}: the steps of schedule_file have their moments in one worker; give 1"
        yield ("load", "workers"), problem
    if len(moments_ns) >= stop.max_requests:
        count = f"its {len(moments_ns)} requests, with the first to warm up"
        yield ("load", "schedule_file"), f"{count}, are above stop.max_requests, {stop.max_requests}"
    if moments_ns[-1] >= stop.max_duration_ns:
        last, limit = format_duration(moments_ns[-1]), format_duration(stop.max_duration_ns)
        yield ("load", "schedule_file"), f"its last request, at {last}, comes after stop.max_duration, {limit}"


def _input(probe: ProbeSettings) -> Found:
    settings = probe.input
    if settings.source == "files" and settings.paths is None:
        yield ("input", "paths"), "is required with source: files"
    if settings.source != "files" and settings.paths is not None:
        yield ("input", "paths"), "has no meaning without source: files"
    for name, value in settings.parameters.items():
        try:
            check_parameter(name, value)
        except ValueError as error:
            yield ("input", "parameters", name), str(error)


def _validation(probe: ProbeSettings) -> Found:
    validation = probe.validation
    if validation is None or validation.reference_model:
        return
    if validation.reference_version:
        yield ("validation", "reference_version"), "needs reference_model beside it"
    elif probe.input.source != "files":
        missing = "reference_model, or input.source: files with the expected outputs"
        yield ("validation",), f"has no meaning without {missing}: nothing is validated; add one of them"


def _sequences(probe: ProbeSettings) -> Found:
    load = probe.load
    sequences = load.sequences or (SequenceSettings() if load.streams else None)
    if sequences is None:
        return
    places = load.concurrency or load.streams
    is_open = places is None and all(level.mode.is_open_loop for level in load.levels)
    under_way = sequences.count if is_open else int(max(places.values)) if places else 1
    if is_open and sequences.count > max_in_flight_of(probe):
        limit = max_in_flight_of(probe)
        yield ("load", "sequences", "count"), f"found {sequences.count}: is above stop.max_in_flight, {limit}"
    if not is_open and "count" in sequences.model_fields_set:
        key, each = ("streams", "stream") if load.streams else ("concurrency", "request in flight")
        yield ("load", "sequences", "count"), f"has no meaning with {key}: each {each} has a sequence"
    if 0 < sequences.id_range < under_way:
        problem = f"found {sequences.id_range}: {under_way} sequences are under way at once"
        yield ("load", "sequences", "id_range"), problem
    if under_way >= probe.stop.max_requests:
        problem = f"{under_way} are under way at once; stop.max_requests, {probe.stop.max_requests}, must be above that"
        yield ("load", "sequences"), problem
    if probe.input.batch_size > 1:
        key = "sequences" if load.sequences else "streams"
        yield ("input", "batch_size"), f"must be 1 with load.{key}: it is the server that batches sequences"


def _shared_memory(probe: ProbeSettings) -> Found:
    if probe.input.shared_memory == "none" and "output_shared_memory_bytes" in probe.input.model_fields_set:
        yield ("input", "output_shared_memory_size"), "has no meaning without shared_memory"


def _together(probe: ProbeSettings) -> Found:
    """What changes requests after they were encoded, or keeps their responses from being looked at one by one."""
    load, shared = probe.load, probe.input.shared_memory != "none"
    by_load = "load.streams" if load.streams else "load.sequences"
    sequences = load.sequences is not None or load.streams is not None
    compression = probe.input.compression
    changing = {by_load: sequences, "streaming": probe.streaming, "input.shared_memory": shared}
    if compression != "none" and any(changing.values()):
        names = " and ".join(name for name, given in changing.items() if given)
        yield ("input", "compression"), f"found '{compression}': must be none with {names}"
    if probe.validation is None or not probe.validation.reference_model:
        return
    if shared:
        yield (
            ("validation", "reference_model"),
            "does not go with input.shared_memory, where responses are not looked at",
        )
    if sequences:
        problem = f"does not go with {by_load}, whose responses depend on the requests before"
        yield ("validation", "reference_model"), problem


def _windows(probe: ProbeSettings) -> Found:
    measurement = probe.measurement
    if measurement.stability_windows > measurement.max_windows:
        problem = f"found {measurement.stability_windows}: is above max_windows, {measurement.max_windows}"
        yield ("measurement", "stability_windows"), problem


def _search(probe: ProbeSettings) -> Found:
    """A search looks for the highest level that keeps a threshold."""
    kind = probe.load.search
    if kind == "every":
        return
    if probe.load.searched is None:
        yield ("load", "search"), "has no meaning without concurrency, request_rate or streams"
    if not probe.measurement.latency_threshold_ns:
        yield ("load", "search"), f"found '{kind}': needs measurement.latency_threshold"
    if probe.measurement.repeats > 1:
        problem = f"found {probe.measurement.repeats}: one search need not visit the levels of another; give 1"
        yield ("measurement", "repeats"), problem


def _counted_windows(probe: ProbeSettings) -> Found:
    measurement, given = probe.measurement, probe.measurement.model_fields_set
    if measurement.window_mode != "count" and "window_requests" in given:
        yield ("measurement", "window_requests"), "has no meaning without window_mode: count"
    if measurement.request_count and measurement.warm_up_ns:
        yield ("measurement", "warm_up"), "has no meaning with request_count; give warm_up_requests"
    if probe.load.workers > 1 and (measurement.request_count or measurement.window_mode == "count"):
        what = "request_count" if measurement.request_count else "window_mode: count"
        yield ("load", "workers"), f"found {probe.load.workers}: with {what} one worker must count; give 1"
    if probe.load.pool and probe.input.shared_memory != "none":
        yield ("load", "pool"), "excludes input.shared_memory, which needs the server's own machine"
    run_once = next((key for key in _RUN_ONCE if getattr(probe.load, key)), "")
    if run_once:
        for key in ("request_count", "warm_up_requests", "warm_up_ns"):
            if getattr(measurement, key):
                yield ("measurement", key.removesuffix("_ns")), f"has no meaning with {run_once}: all is measured"


def _request_count(probe: ProbeSettings) -> Found:
    """All of a request count's requests must be allowed, and enough for the level to be what it is called."""
    measurement, count = probe.measurement, probe.measurement.request_count
    if not count:
        return
    needed, allowed = 1 + measurement.warm_up_requests + count, probe.stop.max_requests
    if needed > allowed:
        problem = f"found {count}: with those to warm up {needed} requests, above stop.max_requests, {allowed}"
        yield ("measurement", "request_count"), problem
    highest = max(probe.load.concurrency.values) if probe.load.concurrency else 0
    if count < highest:
        problem = f"found {count}: is below the concurrency, {text.as_number(highest)}"
        yield ("measurement", "request_count"), problem


def _percentiles(probe: ProbeSettings) -> Found:
    count = len(percentiles_of(probe))
    if count > MAX_PERCENTILES:
        problem = f"are {count} with 50, 99 and those of stability_percentile and slo; at most {MAX_PERCENTILES}"
        yield ("measurement", "percentiles"), problem


def _slo_levels(probe: ProbeSettings) -> Found:
    if probe.slo is None:
        return
    labels = [level.label for level in probe.load.levels]
    if not probe.slo.levels and len(labels) > 1:
        yield ("slo", "levels"), f"is required where the load has several levels: any of {', '.join(labels)}"
    for index, label in enumerate(probe.slo.levels):
        if label not in labels:
            yield (
                ("slo", "levels", index),
                f"found {text.shown(label)}: no level of the load; it has {', '.join(labels)}",
            )
        elif label in probe.slo.levels[:index]:
            yield ("slo", "levels", index), f"found {text.shown(label)}: is there twice"


def _labels(probe: ProbeSettings) -> Found:
    if len(probe.labels) > MAX_LABELS:
        yield ("labels",), f"are {len(probe.labels)}; at most {MAX_LABELS}"
    for name in probe.labels:
        try:
            text.label_name(name)
        except ValueError as error:
            yield ("labels", name), str(error)


PROBE_CHECKS: dict[Callable[[Any], Found], set[str]] = {
    _model: {"model", "models"},
    _places: {"from", "load", "labels"},
    _schedule: {"schedule"},
    _load: {"load"},
    _concurrency: {"load", "stop"},
    _streams: {"load", "measurement"},
    _matrix: {"load"},
    _schedule_file: {"load", "stop"},
    _input: {"input"},
    _validation: {"validation", "input"},
    _periodic: {"load", "stop", "streaming"},
    _sessions: {"load", "stop", "input"},
    _sequences: {"load", "stop", "input"},
    _shared_memory: {"input"},
    _together: {"load", "streaming", "input", "validation"},
    _windows: {"measurement"},
    _search: {"load", "measurement"},
    _counted_windows: {"load", "measurement"},
    _request_count: {"load", "measurement", "stop"},
    _percentiles: {"measurement", "slo"},
    _slo_levels: {"slo", "load"},
    _labels: {"labels"},
}
"""The checks, each with the keys that must be valid for it to make sense."""
