"""The head of docs/performance.md: what was measured, on what, and how to do it again. No paths, no host names."""

from __future__ import annotations

import datetime
import json
import os
import platform
import re
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

from bench.models import CACHED_IDENTITY, IDENTITY
from bench.programs import BenchError, run_program
from bench.setting import Setting, missing

PACKAGES = ("httptools", "numpy", "tritonclient", "grpcio", "gevent")


NOTES = "<!-- From here on by hand: `bench.compare` keeps it. -->"


def kept_notes(file: Path) -> str:
    """What people wrote at the end of the page that is about to be written again."""
    text = file.read_text(encoding="utf-8") if file.exists() else ""
    return text[text.index(NOTES) :] if NOTES in text else ""


async def head(setting: Setting, idle: str) -> str:
    """The page up to its first section; `idle` is how the machine was found before the first measurement."""
    rows = [
        ("date", datetime.datetime.now(datetime.UTC).date().isoformat()),
        ("machine", f"{len(os.sched_getaffinity(0))} cores, {_cpu_model()}; clients and server share them"),
        ("kernel", f"{platform.system()} {platform.release()}"),
        ("before the first measurement", idle),
        ("ours", f"triton-canary {version('triton-canary')}, Python {platform.python_version()}"),
        ("packages", ", ".join(f"{name} {version(name)}" for name in PACKAGES)),
        ("server", f"Triton {json.loads(setting.get('/v2'))['version']} (the demo's), loopback"),
        ("perf_analyzer", await _perf_analyzer_version(setting)),
        ("wrk", await _wrk_version(setting)),
        ("rounds", f"{setting.rounds}, interleaved; each measurement takes {setting.seconds:g} s"),
    ]
    left_out = "".join(f"\n{line}\n" for line in missing(setting))
    return _HEAD.format(
        table="\n".join(f"| {name} | {value} |" for name, value in rows),
        options=f"--rounds {setting.rounds} --seconds {setting.seconds:g}",
        left_out=left_out,
        identity=IDENTITY,
        cached=CACHED_IDENTITY,
    )


_HEAD = """# Performance: this project's load beside its peers

Written by `python -m bench.compare --perf-analyzer PATH {options}`; not edited by hand.

| | |
|---|---|
{table}
{left_out}
All tools meet the same server, model, tensor and length of measurement, one after the other; who begins changes from
round to round. A ratio is ours over the peer's within one round: given are the median over the rounds and the range.
perf_analyzer always runs with `-a`. Our own load is the daemon's real path: a worker process that streams windows of
recorded requests.

`{identity}` gives back its tensor, from a Python process. `{cached}` is the same behind Triton's response cache: from
the second request on it is served without that process, so that it is the endpoints of the server that are measured,
and the clients.
"""


def _cpu_model() -> str:
    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


async def _perf_analyzer_version(setting: Setting) -> str:
    if setting.program is None:
        return "none"
    return await _version([str(setting.program), "--version"], lambda text: re.search(r"commit \w+", text))


async def _wrk_version(setting: Setting) -> str:
    if setting.wrk is None:
        return "none"
    return await _version([setting.wrk, "-v"], lambda text: re.search(r"wrk (\S*\d\.\d\S*)", text))


async def _version(command: list[str], find: Callable[[str], re.Match[str] | None]) -> str:
    """What the program reports about itself, whatever its exit status."""
    try:
        printed = (await run_program(command)).printed
    except BenchError as error:
        printed = str(error)
    match = find(printed)
    return match[match.lastindex or 0] if match else "unknown"
