"""What the daemon knows at one moment: taken in its event loop at once, made into pages and reports in another thread.

Pure but for the callables of its sources.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from exporter.core.limits import Load
from exporter.core.probe import Probe
from exporter.metrics.exporter_metrics import ExporterFacts
from exporter.state.day_ring import Day
from exporter.state.probe_state import ProbeView


@dataclass(frozen=True, slots=True)
class ReportSources:
    """Where reports come from. All callables return at once; `day` may be asked in any thread."""

    views: Callable[[], Sequence[ProbeView]]
    facts: ExporterFacts
    ready: Callable[[], bool]
    now: Callable[[], float]
    day: Callable[[Probe], Day] = lambda _probe: Day()
    grafana_url: str = ""


@dataclass(frozen=True, slots=True)
class ProbeMoment:
    """One probe. `pause` is why it is paused, "": it is not; `load` is what its sweeps of the last hour caused."""

    view: ProbeView
    next_run_unix_s: float | None = None
    pause: str = ""
    load: Load = field(default_factory=Load)


@dataclass(frozen=True, slots=True)
class Moment:
    """All probes, in configured order, and the daemon."""

    now_unix_s: float
    version: str
    ready: bool
    notices: Sequence[str]
    probes: Sequence[ProbeMoment] = ()

    def named(self, name: str) -> ProbeMoment | None:
        return next((each for each in self.probes if each.view.probe.name == name), None)


def take_moment(sources: ReportSources) -> Moment:
    """For the event loop's thread."""
    facts = sources.facts
    return Moment(
        sources.now(),
        facts.version,
        sources.ready(),
        _notices(facts),
        [
            ProbeMoment(view, facts.next_run(view.probe), facts.pause(view.probe), facts.load(view.probe))
            for view in sources.views()
        ],
    )


def _notices(facts: ExporterFacts) -> list[str]:
    archive, data = facts.archive_error(), facts.data_error()
    return [
        *facts.config_notices(),
        *([f"State, pauses and baselines are not saved: {data}"] if data else []),
        *([f"The archive cannot be written: {archive}"] if archive else []),
    ]
