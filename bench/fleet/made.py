"""The endpoints of the fleet, their probes, and what changes from day to day. The same at every call."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml

from exporter.config import build_probes, load
from exporter.core.probe import Probe
from tests.builders import concurrency

HOURLY, SIX_HOURLY, NIGHTLY = {"every": "1h"}, {"every": "6h"}, {"cron": "0 3 * * *", "jitter": "30m"}


@dataclass(frozen=True, slots=True)
class Size:
    """How many endpoints in how many groups, on how many shards at first."""

    endpoints: int = 10_000
    groups: int = 3_000
    shards: int = 12


def configuration(size: Size) -> dict[str, Any]:
    """One probe per endpoint. A group has one endpoint or more: a server is reached by HTTP and gRPC, on many ports."""
    dice = random.Random(1)
    groups = [*range(size.groups), *(dice.randrange(size.groups) for _ in range(size.endpoints - size.groups))]
    targets, probes = [], []
    for number, group in enumerate(groups):
        host = f"10.{group // 62_500}.{group // 250 % 250}.{group % 250 + 1}"
        targets.append({"name": f"triton-{number}", "url": f"http://{host}:{8000 + number % 50}"})
        schedule = HOURLY if number % 10 < 5 else SIX_HOURLY if number % 10 < 9 else NIGHTLY
        probes.append(
            {
                "name": f"probe-{number}",
                "target": f"triton-{number}",
                "model": f"model-{number % 40}",
                "load": {"concurrency": [1, 8]},
                "schedule": schedule,
            }
        )
    return {"targets": targets, "probes": probes, "limits": {"concurrent_sweeps": 16, "max_series": 200_000}}


def write(size: Size, path: Path, **more: Any) -> None:
    """The configuration, and `more` over it, as a file."""
    path.write_text(yaml.dump(configuration(size) | more, Dumper=yaml.CSafeDumper))


def probes_of(size: Size, folder: Path) -> tuple[Probe, ...]:
    """By the product's own reading of the file."""
    path = folder / "canary.yaml"
    write(size, path)
    return build_probes(load(path, {}))


def on_day(probes: Sequence[Probe], day: int) -> list[Probe]:
    """One in 50 is not configured on a day, and one in 100 has another level than the day before."""
    there = []
    for number, probe in enumerate(probes):
        if (number + day) % 50 == 0:
            continue
        levels = (concurrency(2),) if (number + day) % 100 == 1 else probe.levels
        there.append(probe if levels is probe.levels else replace(probe, levels=levels))
    return there
