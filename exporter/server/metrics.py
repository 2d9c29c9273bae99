"""A server's metrics page: fetched within bounds of size and time, and read as figures by our names, in base units.

The page can be Triton's own or a DCGM exporter's. Owns which of their families we take; knows nothing of windows.
"""

from __future__ import annotations

import http.client
import io
import math
import re
import threading
import time
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

import requests
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample
from urllib3.exceptions import HTTPError, ReadTimeoutError

from exporter.core.bounds import PAGE_BYTES, PAGE_LABELS, PAGE_LINE, PAGE_LINES, PAGE_MS, PAGE_PARSE_MS
from exporter.core.facts import GpuReading, GpuSource, ServerReading
from exporter.core.target import Target
from exporter.core.units import NS
from exporter.core.untrusted_text import clean_location, clean_text, is_clean_name
from exporter.server import MAX_GPUS, histograms, token_pages
from exporter.server.page_session import PageSession, read_body

TIMEOUT_NS = PAGE_MS * NS // 1000
"""How long a page may take, from connecting to its last byte."""
_ESCAPED: Final = frozenset('"\\\n')
"""What a label's value on a page is not written as it is."""
_LABEL: Final = re.compile(r'=\s*"')
_LINES_BETWEEN_LOOKS: Final = 256
"""How many lines are passed over between two looks at the clock."""
MAX_COUNTERS: Final = 512
"""Of a reading: a page can have any number of buckets."""
_MAX_PLAUSIBLE = 2.0**63
_MAX_TEXT = 120


class PageError(Exception):
    """A page that is of no use; its text is one line with the reason."""


@dataclass(frozen=True, slots=True)
class _Take:
    """Under which of our names a family goes, and what its unit is worth in ours."""

    name: str
    scale: float = 1.0


_MODEL_GAUGES: Final[Mapping[str, _Take]] = {"nv_inference_pending_request_count": _Take("pending_requests")}
_SERVER_GAUGES: Final[Mapping[str, _Take]] = {
    "nv_cpu_utilization": _Take("cpu_utilization_ratio"),
    "nv_cpu_memory_used_bytes": _Take("cpu_memory_used_bytes"),
    "nv_cpu_memory_total_bytes": _Take("cpu_memory_total_bytes"),
    "nv_pinned_memory_pool_used_bytes": _Take("pinned_memory_used_bytes"),
    "nv_pinned_memory_pool_total_bytes": _Take("pinned_memory_total_bytes"),
    "nv_cache_num_entries": _Take("response_cache_entries"),
    "nv_cache_util": _Take("response_cache_utilization_ratio"),
}
_PARTS: Final = ("request", "queue", "compute_input", "compute_infer", "compute_output")
_US: Final = 1e-6
_MODEL_COUNTERS: Final[Mapping[str, _Take]] = {
    "nv_inference_request_success": _Take("requests_succeeded"),
    "nv_inference_request_failure": _Take("requests_failed"),
    "nv_inference_count": _Take("inferences"),
    "nv_inference_exec_count": _Take("executions"),
    **{f"nv_inference_{part}_duration_us": _Take(f"{part}_seconds", _US) for part in _PARTS},
    "nv_cache_num_hits_per_model": _Take("cache_hits"),
    "nv_cache_num_misses_per_model": _Take("cache_misses"),
    "nv_cache_hit_duration_per_model": _Take("cache_hit_seconds", _US),
    "nv_cache_miss_duration_per_model": _Take("cache_miss_seconds", _US),
    "nv_inference_first_response_histogram_ms_sum": _Take("first_response_seconds", 1e-3),
    "nv_inference_first_response_histogram_ms_count": _Take("first_responses"),
}
_SUMMARIES: Final[Mapping[str, _Take]] = {
    f"nv_inference_{part}_summary_us": _Take(f"{part}_seconds", _US) for part in _PARTS
}
_FIRST_RESPONSE_BUCKET: Final = "nv_inference_first_response_histogram_ms_bucket"
_BUCKETS_OF_TOKEN_PAGES: Final = frozenset(histograms.BUCKETS.keys() - {_FIRST_RESPONSE_BUCKET})
_TRITON_GPU: Final[Mapping[str, _Take]] = {
    "nv_gpu_utilization": _Take("utilization_ratio"),
    "nv_gpu_power_usage": _Take("power_watts"),
    "nv_gpu_memory_used_bytes": _Take("memory_used_bytes"),
    "nv_gpu_memory_total_bytes": _Take("memory_total_bytes"),
    "nv_energy_consumption": _Take("energy_joules"),
}
_MIB: Final = float(1 << 20)
_DCGM_GPU: Final[Mapping[str, _Take]] = {
    "DCGM_FI_DEV_GPU_UTIL": _Take("utilization_ratio", 0.01),
    "DCGM_FI_DEV_POWER_USAGE": _Take("power_watts"),
    "DCGM_FI_DEV_FB_USED": _Take("memory_used_bytes", _MIB),
    "DCGM_FI_DEV_FB_FREE": _Take("memory_free_bytes", _MIB),
    "DCGM_FI_DEV_FB_RESERVED": _Take("memory_reserved_bytes", _MIB),
    "DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION": _Take("energy_joules", 1e-3),
    "DCGM_FI_DEV_GPU_TEMP": _Take("temperature_celsius"),
    "DCGM_FI_DEV_SM_CLOCK": _Take("clock_hertz", 1e6),
}
_KNOWN: Final = frozenset(
    {
        *_MODEL_GAUGES,
        *_SERVER_GAUGES,
        *_MODEL_COUNTERS,
        *_SUMMARIES,
        *histograms.BUCKETS,
        *_TRITON_GPU,
        *_DCGM_GPU,
        *token_pages.NAMES,
    }
)
_OF_A_MODEL: Final = frozenset({*_MODEL_GAUGES, *_MODEL_COUNTERS, *_SUMMARIES, _FIRST_RESPONSE_BUCKET})


class PageReader:
    """Reads the page of a target for one model, in whatever thread calls it; one call at a time."""

    from_page = True

    def __init__(self, target: Target, model: str, version: str) -> None:
        self._url = target.metrics_url
        self._model = model
        self._version = version
        # Our certificate is for the target, not for whatever serves its page.
        self._session = PageSession(replace(target.tls, cert_file="", key_file=""))
        self.stopped = threading.Event()

    def read(self) -> ServerReading:
        """What the page reports now. Never raises: a page that is of no use is a reading with an error."""
        begin_ns = time.monotonic_ns()
        try:
            text, asked_ns, received_ns = self.fetch()
            middle_ns = (asked_ns + received_ns) // 2
            return parse_page(text, middle_ns, self._model, self._version, self.stopped)
        except PageError as error:
            return ServerReading(begin_ns, True, error=str(error))

    def fetch(self) -> tuple[str, int, int]:
        """The page's text, and when it was asked for and there. Raises PageError."""
        asked_ns = time.monotonic_ns()
        text = _fetch(self._session, self._url, asked_ns + TIMEOUT_NS)
        return text, asked_ns, time.monotonic_ns()

    def stop(self) -> None:
        """Ends the reading that is under way in another thread, if there is one. Returns at once."""
        self.stopped.set()
        self._session.shut()

    def close(self) -> None:
        """Closes its connection."""
        self._session.close()


# --- fetching --------------------------------------------------------------------------------------------------------


def _fetch(session: PageSession, url: str, deadline_ns: int) -> str:
    """The page's text. Raises PageError."""
    try:
        with session.until(deadline_ns):
            body = _fetch_body(session, url)
    except (requests.RequestException, HTTPError, OSError, ValueError) as error:
        raise PageError(_reason(error) if time.monotonic_ns() < deadline_ns else _late()) from error
    if time.monotonic_ns() >= deadline_ns:
        # A body of unknown length looks complete when its socket is shut.
        raise PageError(_late())
    if body and not body.endswith(b"\n"):
        raise PageError("is cut off: its last line has no end")
    try:
        return body.decode()
    except UnicodeDecodeError as error:
        raise PageError(f"is not UTF-8 text: {error.reason} at byte {error.start}") from error


def _fetch_body(session: PageSession, url: str) -> bytes:
    with session.get(url, stream=True, timeout=TIMEOUT_NS / NS) as response:
        if response.is_redirect:
            location = clean_location(response.headers["Location"])
            raise PageError(f"got {response.status_code}, a redirect to {location}, which is not followed")
        if response.status_code != 200:
            raise PageError(f"responded {response.status_code}")
        encoding = response.headers.get("Content-Encoding", "identity")
        if encoding != "identity":
            raise PageError(f"is compressed ({clean_text(encoding)}), though asked not to be")
        body = read_body(response, PAGE_BYTES)
        if body is None:
            raise PageError(f"is larger than {PAGE_BYTES >> 20} MiB")
        return body


def _late() -> str:
    return f"was not there within {TIMEOUT_NS / NS:g} s"


def _reason(error: Exception) -> str:
    """An exception of requests or urllib3 in one short line."""
    if isinstance(error, requests.Timeout | ReadTimeoutError):
        return _late()
    if isinstance(error.__cause__, http.client.IncompleteRead):
        return "is cut off"
    if isinstance(error, requests.exceptions.SSLError):
        return f"TLS failed: {_innermost(error)}"
    if isinstance(error, requests.ConnectionError):
        return f"cannot connect: {_innermost(error)}"
    return f"cannot be read: {_innermost(error)}"


def _innermost(error: BaseException) -> str:
    while (cause := error.__cause__ or error.__context__) is not None:
        error = cause
    text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return clean_text(text or type(error).__name__).lower()


# --- reading ---------------------------------------------------------------------------------------------------------


def parse_page(
    text: str, at_ns: int, model: str, version: str = "", stopped: threading.Event | None = None
) -> ServerReading:
    """What the page reports about the model (of one version, if given) and of the GPUs. Raises PageError for a page
    that is no metrics page; families that it lacks, and figures that can't be true (NaN, negative, beyond 2^63), are
    left out.
    """
    gauges: dict[str, float] = {}
    counters: defaultdict[str, float] = defaultdict(float)
    gpus: dict[str, dict[str, float]] = {}
    for sample in find_samples(text, _KNOWN, _OF_A_MODEL, model, stopped):
        name, labels = sample.name, sample.labels
        if name in _SERVER_GAUGES:
            gauges[_SERVER_GAUGES[name].name] = sample.value * _SERVER_GAUGES[name].scale
        elif name in _OF_A_MODEL:
            if labels.get("model") == model and version in ("", labels.get("version", "")):
                _take_model_sample(sample, gauges, counters)
        elif name in token_pages.NAMES:
            token_pages.take(sample, model, gauges, counters)
        elif name in _BUCKETS_OF_TOKEN_PAGES:
            if token_pages.is_of(sample, model):
                _take_bucket(sample, counters)
        else:
            _take_gpu_sample(sample, gpus)
    return ServerReading(at_ns, True, gauges=gauges, counters=dict(counters), gpus=tuple(_gpu_readings(gpus)))


def find_samples(
    text: str,
    known: Collection[str],
    of_a_model: Collection[str],
    model: str,
    stopped: threading.Event | None = None,
) -> Iterator[Sample]:
    """The samples by the `known` names with figures that can be true: only their lines are parsed, which costs a
    hundred times what skipping does. Of those `of_a_model` the other models' are left out, but where the model's name
    is written otherwise on a page. Raises PageError, also where that takes too long, or once `stopped` is set."""
    mark = "" if set(model) & _ESCAPED else f'"{model}"'
    taken = 0
    lines_seen = False
    last_ns = time.thread_time_ns() + PAGE_PARSE_MS * NS // 1000
    # Not a list of all lines, which takes many times what a page of nothing but line ends does.
    for number, line in enumerate(io.StringIO(text), 1):
        if not number % _LINES_BETWEEN_LOOKS:
            _check_time(last_ns, stopped)
        if line[0] in "#\r\n":
            continue
        lines_seen = True
        name = line.partition("{")[0].partition(" ")[0].partition("\t")[0]
        if name not in known or (mark and name in of_a_model and mark not in line):
            continue
        taken += 1
        if taken > PAGE_LINES:
            raise PageError(f"has more than {PAGE_LINES} lines that may concern the model")
        _check_time(last_ns, stopped)
        yield from _samples(number, line)
    if text and not lines_seen:
        raise PageError("holds no samples")


def _samples(number: int, line: str) -> Iterator[Sample]:
    """One line's. The parser's time grows with the square of its labels, so that these are counted first."""
    if len(line) > PAGE_LINE:
        raise PageError(f"line {number} has more than {PAGE_LINE} characters")
    if line.count("=") > PAGE_LABELS and len(_LABEL.findall(line)) > PAGE_LABELS:
        raise PageError(f"line {number} has more than {PAGE_LABELS} labels")
    try:
        samples = [sample for family in text_string_to_metric_families(line) for sample in family.samples]
    except (ValueError, KeyError, IndexError) as error:
        raise PageError(f"line {number} cannot be parsed: {clean_text(line, _MAX_TEXT)!r}") from error
    return (s for s in samples if math.isfinite(s.value) and 0 <= s.value < _MAX_PLAUSIBLE)


def _check_time(last_ns: int, stopped: threading.Event | None) -> None:
    if stopped is not None and stopped.is_set():
        raise PageError("is not read to its end: the sweep is over")
    if time.thread_time_ns() > last_ns:
        raise PageError(f"takes more than {PAGE_PARSE_MS} ms to parse")


def _take_model_sample(sample: Sample, gauges: dict[str, float], counters: defaultdict[str, float]) -> None:
    """Versions, GPUs and failure reasons of a model are summed; of quantiles, which can't be, the largest is taken."""
    name, labels = sample.name, sample.labels
    if name in _MODEL_GAUGES:
        own = _MODEL_GAUGES[name].name
        gauges[own] = gauges.get(own, 0.0) + sample.value
    elif name in _MODEL_COUNTERS:
        counters[_MODEL_COUNTERS[name].name] += sample.value * _MODEL_COUNTERS[name].scale
    elif name in _SUMMARIES and (quantile := _number(labels.get("quantile"))) is not None:
        own = f"{_SUMMARIES[name].name}_p{quantile * 100:.10g}"
        gauges[own] = max(gauges.get(own, 0.0), sample.value * _SUMMARIES[name].scale)
    elif name == _FIRST_RESPONSE_BUCKET:
        _take_bucket(sample, counters)


def _take_bucket(sample: Sample, counters: defaultdict[str, float]) -> None:
    own = histograms.counter_name(sample.name, sample.labels.get("le", ""))
    if own and (own in counters or len(counters) < MAX_COUNTERS):
        counters[own] += sample.value


def _number(text: str | None) -> float | None:
    try:
        value = float(text or "")
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def _take_gpu_sample(sample: Sample, gpus: dict[str, dict[str, float]]) -> None:
    """DCGM names a MIG instance by its GPU and a number; Triton knows none."""
    source = GpuSource.TRITON if sample.name in _TRITON_GPU else GpuSource.DCGM
    take = _TRITON_GPU.get(sample.name) or _DCGM_GPU[sample.name]
    uuid = sample.labels.get("gpu_uuid" if source is GpuSource.TRITON else "UUID", "")
    instance = sample.labels.get("GPU_I_ID", "")
    key = f"{uuid}/{instance}" if instance else uuid
    if not uuid or not is_clean_name(key):
        return
    if f"{source}:{key}" not in gpus and len(gpus) >= MAX_GPUS:
        return
    gpus.setdefault(f"{source}:{key}", {})[take.name] = sample.value * take.scale


def _gpu_readings(gpus: Mapping[str, Mapping[str, float]]) -> Iterator[GpuReading]:
    for key, figures in gpus.items():
        source, _, uuid = key.partition(":")
        values: dict[str, Any] = dict(figures)
        free, reserved = values.pop("memory_free_bytes", None), values.pop("memory_reserved_bytes", 0.0)
        if free is not None and "memory_used_bytes" in values:
            values["memory_total_bytes"] = values["memory_used_bytes"] + free + reserved
        if values.get("utilization_ratio", 0.0) > 1.0:
            del values["utilization_ratio"]
        yield GpuReading(uuid, GpuSource(source), **values)
