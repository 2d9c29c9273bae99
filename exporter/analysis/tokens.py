"""Figures in tokens, of requests to language models. Pure.

With s the moment a request was sent, f and l its first and last event with content, and n its output tokens: the time
to the first token is f - s, the time per output token (l - f)/(n - 1), one per request (as vLLM's and NVIDIA's
benchmarks have it), and inter-token latencies are the gaps between events, pooled over the requests.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

from exporter.analysis.latency import summarise
from exporter.analysis.windows import inter_responses_ns
from exporter.core.outcome import Outcome
from exporter.core.probe import Slo
from exporter.core.result import TokenFigures, TokenSource
from exporter.core.units import NS
from exporter.core.window import RecordColumns

Durations = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]


def has_tokens(columns: RecordColumns) -> bool:
    """Whether the rows are of a target that takes prompts."""
    return len(columns.output_tokens) == len(columns) > 0


def stream_opens_ns(columns: RecordColumns) -> Durations:
    """Sent to the first event of any kind, of the ok requests that had a stream."""
    chosen = (columns.outcome == Outcome.OK) & (columns.opened_ns > 0)
    durations: Durations = columns.opened_ns[chosen] - columns.sent_ns[chosen]
    return durations


def _streamed(columns: RecordColumns) -> Flags:
    """The ok requests whose stream had content."""
    flags: Flags = (columns.outcome == Outcome.OK) & (columns.opened_ns > 0) & (columns.responses > 0)
    return flags


def first_tokens_ns(columns: RecordColumns) -> Durations:
    """Sent to the first event with content, of the ok requests that had a stream."""
    chosen = _streamed(columns)
    durations: Durations = columns.first_ns[chosen] - columns.sent_ns[chosen]
    return durations


def _content_ns(columns: RecordColumns) -> Durations:
    """From the first to the last event with content of each row, 0 where it has no two."""
    found = np.zeros(len(columns), np.int64)
    responses = columns.responses.astype(np.int64)
    if int(responses.sum()) != len(columns.response_ns):
        return found
    ends = np.cumsum(responses)
    several = responses > 1
    found[several] = columns.response_ns[ends[several] - 1] - columns.response_ns[(ends - responses)[several]]
    return found


def _paced(columns: RecordColumns) -> Flags:
    """The requests that have a time per output token: more than one event, and more than one token."""
    flags: Flags = _streamed(columns) & (columns.responses > 1) & (columns.output_tokens > 1)
    return flags


def per_output_tokens_ns(columns: RecordColumns) -> npt.NDArray[np.float64]:
    """(l - f)/(n - 1) of the ok requests, one each. What came in one event has no pace."""
    chosen = _paced(columns)
    paces: npt.NDArray[np.float64] = _content_ns(columns)[chosen] / (columns.output_tokens[chosen] - 1)
    return paces


def token_figures(columns: RecordColumns, duration_ns: int, percentiles: Iterable[float]) -> TokenFigures | None:
    """The figures of a level's merged windows; None where the target takes no prompts."""
    if not has_tokens(columns):
        return None
    wanted = tuple(percentiles)
    ok = columns.outcome == Outcome.OK
    output, prompt, cached = columns.output_tokens[ok], columns.prompt_tokens[ok], columns.cached_tokens[ok]
    is_counted = bool(len(output)) and bool((output >= 0).all())
    per_second = float(output.sum()) * NS / duration_ns if is_counted and duration_ns > 0 else None
    return TokenFigures(
        source=TokenSource.COUNTED if is_counted else TokenSource.CHUNKS,
        stream_open=summarise(stream_opens_ns(columns), wanted),
        first_token=summarise(first_tokens_ns(columns), wanted),
        per_output_token=summarise(np.rint(per_output_tokens_ns(columns)).astype(np.int64), wanted),
        inter_token=summarise(inter_responses_ns(columns), wanted) if columns.opened_ns.any() else None,
        output_tokens_per_second=per_second,
        prompt_tokens=_sum_known(prompt),
        output_tokens=_sum_known(output),
        cached_tokens=_sum_known(cached),
        chunks=int(columns.responses[ok].sum()) if columns.opened_ns.any() else None,
        early_ends=int(np.count_nonzero(columns.early_ends[ok])),
        requests=int(np.count_nonzero(ok)),
    )


def _sum_known(counts: Durations) -> int | None:
    """The sum; None if any of them is unknown, or there is none."""
    return int(counts.sum()) if len(counts) and bool((counts >= 0).all()) else None


def keeps_token_limits(columns: RecordColumns, slo: Slo) -> Flags:
    """Which requests keep the slo's limits on tokens. One without the figure that a limit is on does not keep it, but
    for gaps and paces where there is only one token."""
    kept = np.ones(len(columns), bool)
    if not slo.is_of_tokens:
        return kept
    if not has_tokens(columns):
        return np.zeros(len(columns), bool)
    streamed = _streamed(columns)
    kept &= streamed
    if slo.first_token_ns:
        kept &= columns.first_ns - columns.sent_ns <= slo.first_token_ns
    if slo.per_output_token_ns:
        paces = np.zeros(len(columns))
        paced = _paced(columns)
        paces[paced] = _content_ns(columns)[paced] / (columns.output_tokens[paced] - 1)
        kept &= (paces <= slo.per_output_token_ns) & (
            paced | (columns.output_tokens >= 0) & (columns.output_tokens <= 1)
        )
    if slo.inter_token_ns:
        kept &= _longest_gaps_ns(columns) <= slo.inter_token_ns
    return kept


def _longest_gaps_ns(columns: RecordColumns) -> Durations:
    """The longest gap between two events with content of each row; 0 where there are no two."""
    longest = np.zeros(len(columns), np.int64)
    row = np.repeat(np.arange(len(columns)), columns.responses)
    if len(row) == len(columns.response_ns) > 1:
        inside = row[1:] == row[:-1]
        np.maximum.at(longest, row[1:][inside], np.diff(columns.response_ns)[inside])
    return longest
