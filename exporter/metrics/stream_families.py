"""The metric families of streams at the pace of real time. `families` puts them on the page."""

from __future__ import annotations

from typing import Final

from exporter.metrics.family import PREFIX, FamilyTable, L

TABLE: Final = FamilyTable(PREFIX, L)
_family = TABLE.family

_LAST = " Of the last sweep with usable data; absent once that is 3 intervals old, and at other loads than streams."

FINAL_LATENCY = _family(
    "gauge",
    "stream_final_latency_seconds",
    "Percentiles of the time from the deadline of a sequence's last step to its last response, ok requests: what a "
    "speaker waits for after the last word." + _LAST + " Absent where no sequence ended.",
    (*L, "percentile"),
)
REAL_TIME_FACTOR = _family(
    "gauge",
    "stream_real_time_factor",
    "Time from sent to the response of the ok steps, over the seconds of stream in them. Above 1 the server falls "
    "behind." + _LAST + " Absent without ok requests.",
)
LATE_RATIO = _family(
    "gauge",
    "stream_late_steps_ratio",
    "Part of the steps that had no ok response before the next step was due, 0..1." + _LAST,
)
ON_TIME_RATIO = _family(
    "gauge",
    "stream_on_time_ratio",
    "Part of the streams (sequences with a step in the merged windows) without a late step, 0..1." + _LAST,
)
