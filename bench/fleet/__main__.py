"""`python -m bench.fleet month|daemon`: a fleet of 10,000 endpoints in simulated time, and one of its daemons in real
time. Prints Markdown tables."""

from __future__ import annotations

import argparse
import logging
import tempfile
from pathlib import Path

from bench.fleet.made import Size, configuration
from bench.fleet.month import Month, moved


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.fleet", description=__doc__)
    parser.add_argument("what", choices=("month", "daemon"))
    for name, default in (("endpoints", 10_000), ("groups", 3_000), ("shards", 12), ("grown", 16), ("days", 30)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--one-step", action="store_true", help="grow without --shards-before")
    options = parser.parse_args()
    logging.basicConfig(level=logging.ERROR)
    logging.disable(logging.WARNING)
    size = Size(options.endpoints, options.groups, options.shards)
    with tempfile.TemporaryDirectory() as folder:
        if options.what == "month":
            month = Month(size, Path(folder), options.days, options.grown, not options.one_step)
            month.run()
            print_month(month)
        else:
            from bench.fleet.daemon import print_daemon

            print_daemon(size, Path(folder))


def print_month(month: Month) -> None:
    """The table."""
    audit, size = month.audit, month.size
    groups = sorted({target["url"].partition("//")[2].partition(":")[0] for target in configuration(size)["targets"]})
    moving, between_old = moved(groups, size.shards, month.grown)
    skips = ", ".join(f"{count} {reason}" for reason, count in sorted(audit.skips.items()))
    rows = {
        f"{size.endpoints} endpoints in {len(groups)} groups": f"{size.shards} shards, then {month.grown}",
        "simulated": f"{month.days} days, in {month.cpu_s:.0f} s of cpu",
        "occurrences due": audit.counts["due"],
        "sweeps": audit.counts["sweeps"],
        "skipped": skips,
        "groups swept twice at once": audit.counts["groups swept twice at once"],
        "slots run twice": audit.counts["slots run twice"],
        "runs off the grid (after a start or a jump)": audit.counts["off the grid"],
        "furthest from its slot of all others": f"{audit.drift_s * 1e6:.1f} us",
        "wait for its turn, p50, p99, longest": ", ".join(f"{audit.wait_at(p)} s" for p in (50, 99, 100)),
        "longest from start to start": f"{audit.longest_gap:.2f} intervals",
        "without a run in their last two intervals": len(audit.lost(month.probes, month.ended_unix_s)),
        f"groups that move from {size.shards} to {month.grown}": f"{moving}, of which to an old shard {between_old}",
    }
    print("| what | measured |\n|---|---|")
    for what, value in rows.items():
        print(f"| {what} | {value} |")
    for problem in audit.problems[:10]:
        print(f"problem: {problem}")


if __name__ == "__main__":
    main()
