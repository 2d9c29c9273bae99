"""Following one sweep from its inside: `Watcher`.

There are two ways to observe. A `Sink` (core/result.py) outlives sweeps: it takes in what happened to all probes, as
counts and results, and must return at once. A `Watcher` belongs to one sweep and to whoever waits for that sweep: it
gets the progress, and the raw windows, which are large and are gone once their level is decided; the sweep waits until
it has taken one.
"""

from __future__ import annotations

from exporter.core.facts import ModelFacts
from exporter.core.probe import LoadLevel
from exporter.core.result import Measurement, WindowSummary
from exporter.core.window import Window
from exporter.engine.plan import LevelPlan
from exporter.sweep.stability import Stability


class Watcher:
    """Does nothing: overrides what it wants to know. No method raises, and only those documented so may block."""

    def model_known(self, facts: ModelFacts) -> None:
        """The server was asked; load begins."""

    def level_started(self, plan: LevelPlan) -> None:
        """A level is about to run: the next windows are of it. Called off the event loop, and may block."""

    def window_measured(self, window: Window) -> None:
        """A window outside warm-up ended, with all its requests. Called off the event loop, and may block."""

    def window_judged(self, level: LoadLevel, summary: WindowSummary, verdict: Stability) -> None:
        """The level was judged with its last window."""

    def level_ended(self, measurement: Measurement | None) -> None:
        """A level is over. Its measurement, where the sweep is repeated with its runs before; None: it has none."""
