"""What a person at a terminal sees while a sweep runs: one line that is always of the last window."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from exporter.core.probe import LoadLevel, Probe, WindowMode
from exporter.core.result import WindowSummary
from exporter.core.units import MS, NS
from exporter.sweep.stability import Stability

if TYPE_CHECKING:
    from rich.console import Console

_REFRESHES_PER_SECOND = 8


class LiveReport:
    """The line. Never used in a pipe: whoever makes it has asked whether there is a terminal."""

    def __init__(self, console: Console, probe: Probe) -> None:
        from rich.live import Live
        from rich.spinner import Spinner

        self._probe = probe
        self._levels_ended = 0
        self._spinner = Spinner("dots", "asking the server")
        self._live = Live(
            self._spinner, console=console, refresh_per_second=_REFRESHES_PER_SECOND, transient=True, auto_refresh=True
        )

    def start(self) -> None:
        """Shows the line."""
        self._live.start()

    def stop(self) -> None:
        """Takes it away; the terminal is as it was."""
        self._live.stop()

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """The line is away, so that other lines can be printed."""
        self._live.stop()
        try:
            yield
        finally:
            self._live.start()

    def load_begins(self) -> None:
        """The server was asked; the first window runs."""
        self._show(f"level {self._probe.levels[0].label}: the first window runs")

    def window_judged(self, level: LoadLevel, summary: WindowSummary, verdict: Stability, windows: int) -> None:
        """A window ended: the `windows`-th of its level."""
        done = Progress(self._levels_ended, level, windows)
        self._show(window_line(self._probe, done, summary, verdict))

    def level_ended(self) -> None:
        """The next level begins."""
        self._levels_ended += 1

    def _show(self, line: str) -> None:
        from rich.text import Text

        self._spinner.update(text=Text(line, no_wrap=True, overflow="ellipsis"))


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a sweep is: levels ended, the running level, and its windows so far."""

    levels_ended: int
    level: LoadLevel
    windows: int


def window_line(probe: Probe, done: Progress, summary: WindowSummary, verdict: Stability) -> str:
    """Level, window, throughput, the judged latency, how far the windows are apart, and how long it takes yet."""
    options = probe.measurement
    of_levels = "" if probe.search else f" ({done.levels_ended + 1}/{len(probe.levels)})"
    parts = [f"level {done.level.label}{of_levels}", f"window {done.windows}/{options.max_windows}"]
    parts.append(f"{summary.throughput:.6g} infer/sec")
    if summary.latency is not None:
        percentile = options.stability_percentile
        name = "mean" if percentile is None else f"p{percentile:g}"
        value_ns = summary.latency.mean_ns if percentile is None else summary.latency.at(percentile)
        parts.append(f"{name} {value_ns / MS:.3f} ms")
    if done.windows > 1 and verdict.spread_ratio is not None:
        parts.append(f"spread {verdict.spread_ratio - 1:.1%} of {options.stability_ratio:.1%}")
    left_ns = least_left_ns(probe, done)
    if left_ns is not None:
        parts.append(f"{left_ns / NS:.0f} s left or more")
    return " | ".join(parts)


def least_left_ns(probe: Probe, done: Progress) -> int | None:
    """How long the sweep takes yet if all windows agree from now on. None where windows have no fixed length, and in a
    search, whose levels are not known."""
    options = probe.measurement
    if probe.search or options.window_mode is WindowMode.COUNT or options.request_count or done.level.mode.runs_once:
        return None
    here = min(max(options.stability_windows - done.windows, 1), max(options.max_windows - done.windows, 0))
    others = max(len(probe.levels) - done.levels_ended - 1, 0) * options.stability_windows
    return (here + others) * options.window_ns
