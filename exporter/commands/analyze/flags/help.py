"""The table of flags for people: the help on a terminal, and the table of docs/analyze.md. Pure."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator

from exporter.commands.analyze.flags.flag import Flag, Key, NoEffect, Part, Refused
from exporter.commands.analyze.flags.table import GROUPS

_WIDTH = 100
_INDENT = 38
_USAGE = """usage: triton-canary analyze -m MODEL [flags]

Measures a model as perf_analyzer does, with its flags, and gives its report.

Examples:
  triton-canary analyze -m resnet --concurrency-range 1:8
      over HTTP from localhost:8000, with 1 to 8 requests in flight
  triton-canary analyze -m resnet -i grpc -u triton:8001 --request-rate-range 50:200:50 --percentile 99 -l 20
      over gRPC, 50 to 200 requests per second, the levels whose p99 is within 20 ms
  triton-canary analyze -m resnet -u triton:8000 --print-probe > config.yaml
      the same measurement as a configuration for the daemon

Exit codes: 0 measured and stable, 2 measured but unstable or cut short, 3 bad options, 4 nothing measured,
5 a --fail-on condition is met, 130 interrupted; 1 where the report or a file could not be written."""


def help_text() -> str:
    """The whole help."""
    lines = [_USAGE]
    for title, flags in GROUPS:
        lines += ["", f"{title}:"]
        for flag in flags:
            lines += _entry(flag)
    return "\n".join(lines)


def _entry(flag: Flag) -> list[str]:
    head = "  " + " ".join(filter(None, (", ".join(flag.names), flag.metavar)))
    lines = textwrap.wrap(_meaning(flag), _WIDTH - _INDENT)
    if len(head) >= _INDENT - 1:
        return [head, *(" " * _INDENT + line for line in lines)]
    return [head.ljust(_INDENT) + lines[0], *(" " * _INDENT + line for line in lines[1:])]


def _meaning(flag: Flag) -> str:
    if flag.use_instead:
        return f"{flag.help} Deprecated: write {flag.use_instead}."
    if isinstance(flag.effect, Refused):
        return f"{flag.help} Refused: {flag.effect.reason}."
    if isinstance(flag.effect, NoEffect) and flag.effect.reason:
        return f"{flag.help} No effect: {flag.effect.reason}."
    return flag.help


def reference() -> str:
    """All flags as Markdown: what each means, and what becomes of it in a configuration."""
    return "\n".join(_tables())


def _tables() -> Iterator[str]:
    for title, flags in GROUPS:
        yield f"### {title}\n\n| flag | meaning | in a configuration |\n|---|---|---|"
        for flag in flags:
            names = ", ".join(f"`{name}`" for name in flag.names)
            value = f" {flag.metavar}" if flag.metavar else ""
            yield f"| {names}{value} | {_meaning(flag)} | {_becomes(flag)} |".replace("0|1", "0\\|1").replace(
                "1|2", "1\\|2"
            )
        yield ""


def _becomes(flag: Flag) -> str:
    effect = flag.effect
    if isinstance(effect, Key):
        return f"`{effect.key}`"
    return effect.becomes if isinstance(effect, Part) else ""
