"""What the demo shows of its daemon: reads the daemon's status and lays it out for a terminal."""

from __future__ import annotations

import http.client
import json
from typing import TYPE_CHECKING, Any, TypedDict

if TYPE_CHECKING:
    from rich.table import Table

SHOWN_PERCENTILES = ("50", "95", "99")


class LevelJson(TypedDict):
    """`percentiles` are in seconds."""

    level: str
    throughput: float
    percentiles: dict[str, float]
    stable: bool


class ProbeJson(TypedDict):
    """The last sweep of a probe; no levels and an empty reason before its first."""

    name: str
    target: str
    model: str
    state: str
    reason: str
    reason_text: str
    levels: list[LevelJson]


def fetch_probes(listen: str) -> list[ProbeJson] | None:
    """The probes' state from the daemon at `listen`; None while it does not respond or is not ready."""
    # Not urllib: a proxy of the user's environment has no part in this.
    connection = http.client.HTTPConnection(listen, timeout=2)
    try:
        connection.request("GET", "/api/status")
        response = connection.getresponse()
        status: dict[str, Any] = json.load(response) if response.status == 200 else {}
    except (OSError, http.client.HTTPException, ValueError):
        return None
    finally:
        connection.close()
    probes: list[ProbeJson] = status.get("probes", [])
    return probes if status.get("ready") else None


def landed(probe: ProbeJson) -> bool:
    """Whether the probe's first sweep is over, however it went."""
    return bool(probe["levels"] or probe["reason"])


def one_line(probe: ProbeJson) -> str:
    """The probe's first level, or why there is none."""
    if not probe["levels"]:
        return f"{probe['name']}: {probe['reason']}: {probe['reason_text']}"
    level = probe["levels"][0]
    p50 = level["percentiles"].get("50")
    latency = "" if p50 is None else f", p50 {p50 * 1000:.2f} ms"
    return f"{probe['name']}: {level['throughput']:.0f} inferences/s{latency} at concurrency {level['level']}"


def table(probes: list[ProbeJson]) -> Table:
    """All levels of all probes, within the 80 columns of a plain terminal."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    made = Table(title="First sweeps", box=SIMPLE_HEAD, pad_edge=False, collapse_padding=True)
    made.add_column("probe", no_wrap=True)
    for heading in ("concurrency", "infer/s", *(f"p{percentile} ms" for percentile in SHOWN_PERCENTILES)):
        made.add_column(heading, justify="right", no_wrap=True)
    made.add_column("state", no_wrap=True)
    for probe in probes:
        name = probe["name"]
        for level in probe["levels"]:
            made.add_row(name, *_figures(level), "stable" if level["stable"] else "unstable")
            name = ""
        if not probe["levels"]:
            made.add_row(name, *[""] * (2 + len(SHOWN_PERCENTILES)), probe["reason"] or "no sweep yet")
    return made


def _figures(level: LevelJson) -> list[str]:
    values = (level["percentiles"].get(percentile) for percentile in SHOWN_PERCENTILES)
    latencies = ["" if value is None else f"{value * 1000:.2f}" for value in values]
    return [level["level"], f"{level['throughput']:.0f}", *latencies]
