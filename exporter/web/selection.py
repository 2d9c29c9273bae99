"""Which probes a reader asked for, and in which order. Pure."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from exporter.web.report import ProbeReport

STATES = ("failing", "regressed", "objective_missed", "unstable", "no_result", "ok")
"""The groups of states on the overview, worst first. Each probe is in one."""
MARKS = ("running", "paused")
"""What a probe may be beside its state."""
SORTS = ("severity", "name", "p99", "change", "errors", "last_run")
ROWS_PER_PAGE = 200
"""Of the overview: a page of all of 1000 probes would take seconds to draw."""
_MAX_TEXT = 200
_MAX_PAGE = 9999


@dataclass(frozen=True, slots=True)
class Selection:
    """`text` is found in name, target or model; `state` is one of STATES or MARKS; empty: all. `page` counts from 1 and
    matters to the overview alone."""

    text: str = ""
    state: str = ""
    target: str = ""
    sort: str = SORTS[0]
    page: int = 1

    @classmethod
    def of(cls, query: Mapping[str, str]) -> Selection:
        """Of a request's query: what is not known is left out."""
        state, sort, page = query.get("state", ""), query.get("sort", ""), query.get("page", "")
        return cls(
            text=query.get("q", "").strip()[:_MAX_TEXT],
            state=state if state in (*STATES, *MARKS) else "",
            target=query.get("target", "")[:_MAX_TEXT],
            sort=sort if sort in SORTS else SORTS[0],
            page=max(1, min(int(page), _MAX_PAGE)) if page.isdecimal() and len(page) < 9 else 1,
        )

    @classmethod
    def asked(cls, query: Mapping[str, str]) -> Selection:
        """As `of`, for programs. Raises ValueError, with what is allowed, for a state or an order that is not known."""
        for key, allowed in (("state", (*STATES, *MARKS)), ("sort", SORTS)):
            if (value := query.get(key, "")) and value not in allowed:
                raise ValueError(f"{key}: found '{value[:_MAX_TEXT]}': must be one of {', '.join(allowed)}")
        return cls.of(query)

    @property
    def selects_all(self) -> bool:
        return not (self.text or self.state or self.target)

    def takes(self, probe: ProbeReport) -> bool:
        words = self.text.casefold().split()
        there = f"{probe.name} {probe.target} {probe.model}".casefold()
        return (
            all(word in there for word in words)
            and (not self.target or probe.target == self.target)
            and (not self.state or self.state in (group_of(probe), *marks_of(probe)))
        )

    def select(self, probes: Iterable[ProbeReport]) -> list[ProbeReport]:
        """Those taken, in the order asked for; what is equal stays in configured order."""
        return sorted(filter(self.takes, probes), key=_KEYS[self.sort])

    def on_page(self, selected: Sequence[ProbeReport]) -> Sequence[ProbeReport]:
        """Those of the selected ones that the page has; of a page behind the last one, none."""
        return selected[(self.page - 1) * ROWS_PER_PAGE : self.page * ROWS_PER_PAGE]


def group_of(probe: ProbeReport) -> str:
    """One of STATES."""
    if probe.failing:
        return "failing"
    return probe.state if probe.state in STATES else "no_result"


def marks_of(probe: ProbeReport) -> list[str]:
    """Those of MARKS that hold."""
    return [mark for mark, holds in (("running", probe.running), ("paused", bool(probe.pause))) if holds]


def counts_of(probes: Sequence[ProbeReport]) -> dict[str, int]:
    """By group and mark, all of them."""
    counts = dict.fromkeys((*STATES, *MARKS), 0)
    for probe in probes:
        for name in (group_of(probe), *marks_of(probe)):
            counts[name] += 1
    return counts


def _change(probe: ProbeReport) -> float:
    """The worse of both percentiles, compared with its baseline."""
    verdicts = [v for v in (probe.main.verdicts if probe.main else ()) if v.signal != "throughput"]
    return max((verdict.ratio for verdict in verdicts if verdict.ratio is not None), default=-math.inf)


def _p99(probe: ProbeReport) -> float:
    return probe.main.percentiles.get("99", -math.inf) if probe.main else -math.inf


def _errors(probe: ProbeReport) -> float:
    found = probe.main.error_ratio if probe.main else None
    return -math.inf if found is None else found


def _last_run(probe: ProbeReport) -> float:
    return probe.last_run_unix_s or -math.inf


_KEYS: Mapping[str, Callable[[ProbeReport], tuple[float | str, ...]]] = {
    "severity": lambda probe: (STATES.index(group_of(probe)), -_change(probe) if group_of(probe) == "regressed" else 0),
    "name": lambda probe: (probe.name.casefold(), probe.target),
    "p99": lambda probe: (-_p99(probe),),
    "change": lambda probe: (-_change(probe),),
    "errors": lambda probe: (-_errors(probe),),
    "last_run": lambda probe: (-_last_run(probe),),
}
