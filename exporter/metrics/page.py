"""The metrics page as bytes: negotiated, compressed, made off the event loop and kept until something changes.

It owns the thread in which pages are made. The large part, of probes, is cached as text and as deflated bytes; the
small live part, of the daemon itself, is made at each scrape and put behind it.
"""

from __future__ import annotations

import asyncio
import logging
import struct
import zlib
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

from prometheus_client import Metric, exposition
from prometheus_client.openmetrics import exposition as openmetrics

from exporter.metrics.collector import ProbeRow, ProbeSamples
from exporter.metrics.exporter_metrics import (
    COLLECTORS,
    CollectorErrors,
    ExporterFacts,
    RuntimeCollectors,
    facts_metrics,
    page_metrics,
)
from exporter.metrics.exposition import Format
from exporter.state.probe_state import Board, ProbeView

_log = logging.getLogger(__name__)
_T = TypeVar("_T")

_COMPRESS_LEVEL = 1  # the lines repeat themselves so much that more effort gains next to nothing
_FEW_SAMPLES = 10
_OF_THE_PAGE = 2 + len(COLLECTORS)
"""Series that the page has of itself, made last."""
_RAW_DEFLATE = -zlib.MAX_WBITS
_GZIP_HEADER = b"\x1f\x8b\x08" + b"\x00" * 6 + b"\xff"  # deflate, no flags, no time, unknown system


@dataclass(frozen=True, slots=True)
class Rendered:
    """A page ready to be sent. `content_encoding` is "gzip" or None."""

    body: bytes
    content_type: str
    content_encoding: str | None


@dataclass(frozen=True, slots=True)
class _Cached:
    """The part of the probes in one format, and its deflated form once it was requested."""

    version: int
    plain: bytes
    deflated: bytes | None = None
    crc: int = 0


@dataclass(frozen=True, slots=True)
class _Request:
    """One scrape: what was asked for and what the daemon knew at that moment."""

    page_format: Format
    gzip: bool
    names: frozenset[str]
    rows: Sequence[ProbeRow]
    facts: list[Metric]
    state_file_errors: int
    baseline_errors: int


class MetricsPage:
    """Renders the page of a board. A scrape reads the present views and causes nothing but the rendering of what
    changed since the last; scrapes at the same time wait for each other."""

    def __init__(self, board: Board, facts: ExporterFacts, max_series: int) -> None:
        self._board = board
        self._facts = facts
        self._errors = CollectorErrors()
        self._runtime = RuntimeCollectors(self._errors)
        self._max_series = max_series
        self._samples = ProbeSamples(max_series, partial(self._errors.count, "probes"))
        self._cached: dict[Format, _Cached] = {}
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="metrics-page")

    async def render(self, accept: str | None, accept_encoding: str | None, names: Sequence[str]) -> Rendered:
        """The page for these headers; with `names`, only the samples of these names."""
        rows = self._rows()
        request = _Request(
            page_format=negotiate(accept),
            gzip=exposition.gzip_accepted(accept_encoding or ""),
            names=frozenset(names),
            rows=rows,
            facts=facts_metrics(self._facts, len(rows), self._errors),
            state_file_errors=self._board.state_write_errors,
            baseline_errors=self._facts.baseline_write_errors(),
        )
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._render, request)

    def close(self) -> None:
        """Ends the thread; no page can be rendered after."""
        self._thread.shutdown(wait=True)

    def _rows(self) -> list[ProbeRow]:
        return [self._row(view) for view in self._board.probes()]

    def _row(self, view: ProbeView) -> ProbeRow:
        pause = self._asked(partial(self._facts.pause, view.probe))
        next_run_unix_s = self._asked(partial(self._facts.next_run, view.probe))
        return ProbeRow(view, next_run_unix_s, paused=None if pause is None else pause != "")

    def _asked(self, ask: Callable[[], _T]) -> _T | None:
        try:
            return ask()
        except Exception:
            _log.exception("the scheduler cannot be asked")
            self._errors.count("scheduler")
            return None

    def _render(self, request: _Request) -> Rendered:
        live = bounded([*request.facts, *self._runtime.metrics()], self._max_series // 2)
        self._samples.update(request.rows, _OF_THE_PAGE + sum(len(metric.samples) for metric in live))
        live += page_metrics(self._samples.series, self._samples.series_dropped)
        live.append(self._errors.metric(request.state_file_errors, request.baseline_errors))
        tail = _tail(request.page_format, live, request.names)
        if request.names:
            head = self._samples.selected(request.page_format, request.names).encode()
            cached = _Cached(self._samples.version, head)
        else:
            cached = self._up_to_date(request.page_format)
        if not request.gzip:
            return Rendered(cached.plain + tail, request.page_format.content_type, None)
        if cached.deflated is None:
            cached = _deflate(cached)
            if not request.names:
                self._cached[request.page_format] = cached
        return Rendered(_gzip(cached, tail), request.page_format.content_type, "gzip")

    def _up_to_date(self, page_format: Format) -> _Cached:
        cached = self._cached.get(page_format)
        if cached is None or cached.version != self._samples.version:
            cached = _Cached(self._samples.version, self._samples.page(page_format).encode())
            self._cached[page_format] = cached
        return cached


def bounded(metrics: Sequence[Metric], most: int) -> list[Metric]:
    """The daemon's own metrics, in at most so many samples: of those that have one for each group or source the last
    are left out. The others are few, and always there."""
    long = [metric for metric in metrics if len(metric.samples) > _FEW_SAMPLES]
    left = most - sum(len(metric.samples) for metric in metrics) + sum(len(metric.samples) for metric in long)
    for number, metric in enumerate(long):
        metric.samples = metric.samples[: max(0, left // (len(long) - number))]
        left -= len(metric.samples)
    return list(metrics)


def negotiate(accept: str | None) -> Format:
    """OpenMetrics for who prefers it, by prometheus_client's own reading of the header; else the text format."""
    encoder, _ = exposition.choose_encoder(accept or "")
    chosen = encoder.func if isinstance(encoder, partial) else encoder
    return Format.OPENMETRICS if chosen is openmetrics.generate_latest else Format.TEXT


def _tail(page_format: Format, metrics: Sequence[Metric], names: frozenset[str]) -> bytes:
    if names:
        metrics = [selected for metric in metrics if (selected := _selected(metric, names)).samples]
    end = "# EOF\n" if page_format is Format.OPENMETRICS else ""
    return (page_format.encode(metrics) + end).encode()


def _selected(metric: Metric, names: frozenset[str]) -> Metric:
    selected = Metric(metric.name, metric.documentation, metric.type)
    selected.samples = [sample for sample in metric.samples if sample.name in names]
    return selected


def _deflate(cached: _Cached) -> _Cached:
    compressor = zlib.compressobj(_COMPRESS_LEVEL, zlib.DEFLATED, _RAW_DEFLATE)
    deflated = compressor.compress(cached.plain) + compressor.flush(zlib.Z_FULL_FLUSH)
    return _Cached(cached.version, cached.plain, deflated, zlib.crc32(cached.plain))


def _gzip(cached: _Cached, tail: bytes) -> bytes:
    """One gzip member of both parts. The full flush ended the first on a byte border, so that the deflated tail, which
    refers to nothing before it, can follow."""
    assert cached.deflated is not None
    compressor = zlib.compressobj(_COMPRESS_LEVEL, zlib.DEFLATED, _RAW_DEFLATE)
    deflated_tail = compressor.compress(tail) + compressor.flush()
    size = (len(cached.plain) + len(tail)) & 0xFFFFFFFF
    trailer = struct.pack("<II", zlib.crc32(tail, cached.crc), size)
    return b"".join((_GZIP_HEADER, cached.deflated, deflated_tail, trailer))
