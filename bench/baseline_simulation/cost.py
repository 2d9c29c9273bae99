"""What judging costs the daemon: `python -m bench.baseline_simulation.cost` prints the cpu time of a judged sweep, of
its file, of a search for change points and of a baseline, and what they come to with many probes.

Of a level that four weeks of sweeps are remembered of, so that every tier looks at its whole time, a day included.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import numpy as np

from bench.baseline_simulation.drive import Sweeps
from bench.baseline_simulation.scenarios import DAY_S, SCENARIOS, Draw, make_series
from exporter.baseline.change_points import LEAST_RATIO, find_changes
from exporter.baseline.file_format import encode
from exporter.baseline.judge import judge
from exporter.baseline.pins import make_pin
from exporter.baseline.second_opinion import SEARCH_EVERY_S
from exporter.baseline.state import LoadState, ProbeBaselines
from exporter.core.probe import Signal
from exporter.storage.atomic_file import replace_file

INTERVAL_S = 300.0
PROBES = 5000
DAYS, JUDGED_DAYS = 29, 3
PINS_IN_28_DAYS = 4
"""The provisional one, the full one, what is tried in vain, the refined one."""
REPEATS = 20


def cpu_s(work: Callable[[], object], repeats: int = REPEATS) -> float:
    """The median cpu time of the work."""
    took = []
    for _ in range(repeats):
        began = time.process_time()
        work()
        took.append(time.process_time() - began)
    return median(took)


def costs() -> dict[str, float]:
    """The cpu seconds of each part, for one level."""
    (scenario,) = (each for each in SCENARIOS if each.name == "smooth days")
    count = round((DAYS + JUDGED_DAYS) * DAY_S / INTERVAL_S)
    series = make_series(scenario, Draw(np.random.default_rng(1), held_out=False), count, INTERVAL_S, 0)
    sweeps, load = Sweeps(series, INTERVAL_S), LoadState()
    results = [result for index in range(count) if (result := sweeps.result(index)) is not None]
    first = round(DAYS * DAY_S / INTERVAL_S)
    for result in results[:first]:
        judge(load, result)
    began = time.process_time()
    for result in results[first:]:
        judge(load, result)
    judged = (time.process_time() - began) / (count - first)
    (level,) = load.levels.values()
    (version,) = level.versions.values()
    rows = version.history.since(0.0)
    latencies_s = np.exp(rows.signal(Signal.LATENCY_P50)) / 1e9
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "a.baseline")
        written = cpu_s(lambda: replace_file(path, encode("a", ProbeBaselines({"load": load}))))
    return {
        "a judged sweep": judged,
        "its file": written,
        "a search for change points": cpu_s(lambda: find_changes(rows.unix_s, latencies_s, LEAST_RATIO, "UTC")),
        "a baseline": cpu_s(lambda: make_pin(version, sweeps.probe, float(rows.unix_s[-1]), provisional=False), 5),
    }


def main() -> None:
    found = costs()
    per_second = {
        "a judged sweep": PROBES / INTERVAL_S,
        "its file": PROBES / INTERVAL_S,
        "a search for change points": PROBES / SEARCH_EVERY_S,
        "a baseline": PROBES * PINS_IN_28_DAYS / (28 * DAY_S),
    }
    print(f"| part | cpu | of a core, {PROBES} probes each {INTERVAL_S / 60:.0f} min |\n|---|---|---|")
    for name, seconds in found.items():
        print(f"| {name} | {seconds * 1e3:.2f} ms | {seconds * per_second[name]:.2%} |")
    print(f"| all | | {sum(found[name] * per_second[name] for name in found):.2%} |")


if __name__ == "__main__":
    main()
