"""Observing one sweep from the inside: `Watcher`.

There are two ways to observe. A `Sink` (core/result.py) outlives sweeps: it receives counts and results of all probes,
and must return at once. A `Watcher` belongs to one sweep, and to the caller that waits for it. It receives the progress
and the raw windows, which are large and are freed once their level is decided; the sweep waits for it.
"""

from __future__ import annotations

from exporter.core.facts import ModelFacts
from exporter.core.probe import LoadLevel
from exporter.core.result import Measurement, WindowSummary
from exporter.core.window import Window
from exporter.engine.plan import LevelPlan
from exporter.sweep.stability import Stability


class Watcher:
    """Does nothing; override what you need. No method may raise, and only those documented so may block."""

    def model_known(self, facts: ModelFacts) -> None:
        """Preflight is done; load begins."""

    def level_started(self, plan: LevelPlan) -> None:
        """A level is about to run; the next windows belong to it. Called off the event loop, and may block."""

    def window_measured(self, window: Window) -> None:
        """A measured window ended, with all its requests. Called off the event loop, and may block."""

    def window_judged(self, level: LoadLevel, summary: WindowSummary, verdict: Stability) -> None:
        """The level was judged, including its last window."""

    def level_ended(self, measurement: Measurement | None) -> None:
        """A level is over. With repeats the measurement includes earlier runs; None: no measurement."""
