"""Figures of sequences at the pace of real time. Pure.

With d the deadline of a step, s the moment at which it was sent, l its last response and I the interval between two
deadlines:

- a step's response time is l - d (`windows.response_times_ns`), and its latency l - s;
- a step is late if it had no ok response at d + I, when the next one was due: the recogniser is behind its speaker. A
  step that failed is late;
- the final latency of a sequence is l - d of its last step: what a speaker waits for after the last word;
- the real-time factor is the time that the server took for a second of stream: the sum of l - s over ok steps, over as
  many intervals. Above 1 it falls behind however it is paced;
- a stream kept real time if none of its judged steps was late.

Steps that this client itself gave up at the end of a level (cancelled) are not judged.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from exporter.analysis.latency import summarise
from exporter.analysis.windows import latencies_ns
from exporter.core.outcome import Outcome
from exporter.core.probe import LoadLevel
from exporter.core.result import StreamFigures
from exporter.core.window import RecordColumns


def stream_figures(columns: RecordColumns, level: LoadLevel, percentiles: Iterable[float]) -> StreamFigures:
    """The figures of a level's merged windows."""
    interval_ns = level.step_interval_ns
    ok = columns.outcome == Outcome.OK
    judged = columns.outcome != Outcome.CANCELLED
    response_ns = columns.last_ns - columns.intended_ns
    late = judged & (~ok | (response_ns > interval_ns))
    final = ok & (columns.sequence_end == 1)
    ids = columns.sequence_ids
    seen, behind = np.unique(ids[judged]), np.unique(ids[late])
    steps = int(np.count_nonzero(ok))
    factor = float(latencies_ns(columns).sum()) / (steps * interval_ns) if steps else None
    return StreamFigures(
        step_interval_ns=interval_ns,
        final_latency=summarise(response_ns[final], tuple(percentiles)),
        real_time_factor=factor,
        steps=int(np.count_nonzero(judged)),
        late=int(np.count_nonzero(late)),
        streams=len(seen),
        on_time=len(seen) - len(behind),
    )
