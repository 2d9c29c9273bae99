"""`python -m bench.baseline_simulation [--quick] [--held-out]`: prints the tables of docs/alerts.md."""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor

from bench.baseline_simulation.drive import SOUGHT, Outcomes, probe_years, quantile
from bench.baseline_simulation.scenarios import SCENARIOS, Scenario

HELD_OUT_SEEDS = 1_000_000
EVERY = {1: 60.0, 5: 300.0, 60: 3600.0}
HEADER = (
    "scenario", "page /y", "warn /y", "slow /y", "none", "p99 none", "+50 page", "median, 95%",
    "+20 page or warn", "median", "+10 warn or slow", "median", "page over after",
)  # fmt: skip


def row(name: str, probes: Sequence[Outcomes]) -> list[str]:
    """One line of the table, over all probes of a scenario."""
    years = sum(each.years for each in probes)
    rates = [f"{sum(each.alarms[tier] for each in probes) / years:.2f}" for tier in ("page", "warn", "slow")]
    silent = [sum(getattr(each, name) for each in probes) / len(probes) for name in ("silent", "silent_p99")]
    found = []
    for step in sorted(SOUGHT, reverse=True):
        delays = [delay for each in probes for delay in each.delays.get(step, [])]
        share = sum(map(math.isfinite, delays)) / len(delays) if delays else math.nan
        times = span(quantile(delays, 0.5)) if delays else ""
        if SOUGHT[step] == ("page",) and delays:
            times += f", {span(quantile(delays, 0.95))}"
        found += [f"{share:.0%}" if delays else "", times]
    recovery = [each for probe in probes for each in probe.recovery]
    over = span(quantile(recovery, 0.5)) if recovery else ""
    return [name, *rates, *(f"{each:.1%}" for each in silent), *found, over]


def span(seconds: float) -> str:
    """A duration, for people."""
    if math.isinf(seconds):
        return "never"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def averages(rows: Iterable[Sequence[Outcomes]]) -> str:
    """Mean false alarms per probe-year and silence, over scenarios."""
    kept = [probes for probes in rows if probes]
    tiers = ("page", "warn", "slow")
    means = [
        sum(sum(p.alarms[tier] for p in probes) / sum(p.years for p in probes) for probes in kept) / len(kept)
        for tier in tiers
    ]
    silent = sum(sum(p.silent for p in probes) / len(probes) for probes in kept) / len(kept)
    return (
        "mean per probe-year: "
        + ", ".join(f"{t} {m:.2f}" for t, m in zip(tiers, means, strict=True))
        + (f"; no verdict {silent:.2%}")
    )


def _simulate(arguments: tuple[int, int, bool, float, float, int, int]) -> Outcomes:
    which, seed, held_out, days, interval_s, weekday, starts = arguments
    return probe_years(
        SCENARIOS[which], seed, held_out=held_out, days=days, interval_s=interval_s, weekday=weekday, starts=starts
    )


def simulate(
    options: argparse.Namespace, chosen: Sequence[tuple[int, Scenario]], pool: ProcessPoolExecutor
) -> Iterable[tuple[Scenario, list[Outcomes]]]:
    """All probes of the chosen scenarios, in the pool; weekdays take turns."""
    interval_s = EVERY[options.minutes]
    first = HELD_OUT_SEEDS if options.held_out else 1
    jobs = {
        scenario.name: [
            pool.submit(
                _simulate,
                (
                    which, first + 100 * options.seed + number, options.held_out, options.days, interval_s,
                    options.weekday if options.weekday is not None else (which + 3 * number) % 7, options.starts,
                ),
            )
            for number in range(options.probes)
        ]
        for which, scenario in chosen
    }  # fmt: skip
    for _, scenario in chosen:
        yield scenario, [job.result() for job in jobs[scenario.name]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="one probe of 120 days for each scenario")
    parser.add_argument("--held-out", action="store_true", help="seeds and parameters that nothing was tuned on")
    parser.add_argument("--days", type=float, default=365.0)
    parser.add_argument("--probes", type=int, default=3, help="probes of each scenario")
    parser.add_argument("--starts", type=int, default=16, help="regressions of each size in each probe")
    parser.add_argument("--minutes", type=int, choices=list(EVERY), default=5, help="between sweeps")
    parser.add_argument("--weekday", type=int, choices=range(7), help="0 is Monday; by default they take turns")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", nargs="*", default=[], help="scenarios whose names begin so")
    options = parser.parse_args()
    if options.quick:
        options.days, options.probes, options.starts = 120.0, 1, 6
    began_s = time.perf_counter()
    chosen = [
        (which, scenario)
        for which, scenario in enumerate(SCENARIOS)
        if not options.only or any(scenario.name.startswith(name) for name in options.only)
    ]
    print(f"{options.probes} probes of {options.days:g} days, a sweep every {options.minutes} min.\n")
    print("| " + " | ".join(HEADER) + " |\n|" + "---|" * len(HEADER))
    everything = []
    with ProcessPoolExecutor(max_workers=2) as pool:
        for scenario, probes in simulate(options, chosen, pool):
            everything.append((scenario, probes))
            print("| " + " | ".join(row(scenario.name, probes)) + " |", flush=True)
    print(f"\nAll: {averages(probes for _, probes in everything)}")
    print(f"Without the hard ones: {averages(probes for scenario, probes in everything if not scenario.hard)}")
    print(f"Ran for {time.perf_counter() - began_s:.0f} s.")


if __name__ == "__main__":
    main()
