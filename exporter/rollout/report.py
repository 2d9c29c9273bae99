"""A gate's result as text, Markdown, JSON and JUnit XML. Pure."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ET
from collections.abc import Sequence
from typing import Any

from exporter.config.quantities import format_duration
from exporter.core.rollout import THROUGHPUT, FigureResult, GateResult, GateSide, GateVerdict
from exporter.core.units import MS, NS

SCHEMA = "triton-canary-gate"
SCHEMA_VERSION = 1
"""Of the JSON. The version grows when the meaning of a key changes or a key goes; new keys may come at any time."""

_HEAD = ("figure", "stable", "candidate", "ratio", "interval", "margin", "verdict", "")


def headline(result: GateResult) -> str:
    """The verdict and why, in one line."""
    reasons = [f"{name}: {why}" for name, verdict, why in _judged(result) if verdict is result.verdict]
    if result.verdict in (GateVerdict.BETTER, GateVerdict.EQUIVALENT) or not reasons:
        reasons = reasons if result.verdict is GateVerdict.BETTER else []
    parts = [*reasons, *([f"{result.component} grew most"] if result.component else []), result.text]
    return ": ".join(filter(None, (result.verdict.value, "; ".join(filter(None, parts)))))


def text_report(result: GateResult) -> str:
    """For a terminal."""
    rows = [_HEAD, *_rows(result)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(_HEAD))]
    lines = [headline(result), ""]
    for name, side in (("stable", result.stable), ("candidate", result.candidate)):
        lines.append(f"{name:<10} {_named(side)}")
    lines.append("")
    cells = [[cell.ljust(width) for cell, width in zip(row, widths, strict=True)] for row in rows]
    return "\n".join([*lines, *("  ".join(row).rstrip() for row in cells), "", *_details(result)])


def markdown_report(result: GateResult) -> str:
    """For a pull request."""
    lines = [f"**Rollout gate: {_cell(headline(result))}**", ""]
    for name, side in (("Stable", result.stable), ("Candidate", result.candidate)):
        lines.append(f"- {name}: {_cell(_named(side))}")
    lines += ["", _row(_HEAD), _row(["---"] * len(_HEAD)), *map(_row, _rows(result)), ""]
    return "\n".join([*lines, *(f"- {_cell(line)}" for line in _details(result))])


def json_document(result: GateResult, *, running: bool = False) -> dict[str, Any]:
    """For programs. Seconds, inferences per second and ratios; what is not known is null."""
    errors = result.errors
    return {
        "schema": SCHEMA,
        "version": SCHEMA_VERSION,
        "id": result.id,
        "running": running,
        "state": "running" if running else result.verdict.value,
        "verdict": result.verdict.value,
        "passed": result.passed and not running,
        "text": headline(result),
        "stable": _side(result.stable),
        "candidate": _side(result.candidate),
        "level": result.level,
        "pairs": result.pairs,
        "started_unix_s": result.started_unix_s,
        "duration_seconds": round(result.duration_ns / NS, 3),
        "figures": [_figure(figure) for figure in result.figures],
        "errors": {
            "verdict": errors.verdict.value,
            "limit": errors.limit,
            "ratio": errors.candidate_ratio,
            "low": errors.low,
            "errors": errors.candidate_errors,
            "requests": errors.candidate_requests,
            "stable_errors": errors.stable_errors,
            "stable_requests": errors.stable_requests,
            "text": errors.text,
        },
        "outputs": result.outputs,
        "component": result.component,
        "components_seconds": {name: round(change / NS, 9) for name, change in result.components_ns.items()},
        "options": {
            "margins": [str(margin) for margin in result.options.margins],
            "max_error_ratio": result.options.max_error_ratio,
            "min_pairs": result.options.min_pairs,
            "max_pairs": result.options.max_pairs,
            "max_duration": format_duration(result.options.max_duration_ns),
            "window": format_duration(result.options.window_ns),
            "output_tolerance": result.options.output_tolerance,
        },
    }


def json_report(result: GateResult) -> str:
    return json.dumps(json_document(result), indent=2, allow_nan=False)


def junit_report(result: GateResult, *, undecided_fails: bool = True) -> str:
    """One test case per figure: a failure where it is worse or, if that fails, undecided; else that one is skipped."""
    suite = ET.Element("testsuite", name="triton-canary gate", time=f"{result.duration_ns / NS:.3f}")
    counts = {"tests": 0, "failures": 0, "skipped": 0}
    for name, verdict, why in _judged(result):
        case = ET.SubElement(suite, "testcase", classname=f"gate.{result.stable.name}", name=name)
        counts["tests"] += 1
        if verdict is GateVerdict.WORSE or (verdict is GateVerdict.UNDECIDED and undecided_fails):
            ET.SubElement(case, "failure", type=verdict.value, message=why).text = headline(result)
            counts["failures"] += 1
        elif verdict is GateVerdict.UNDECIDED:
            ET.SubElement(case, "skipped", message=why)
            counts["skipped"] += 1
    suite.attrib.update({name: str(count) for name, count in counts.items()})
    ET.SubElement(suite, "system-out").text = text_report(result)
    return ET.tostring(suite, encoding="unicode", xml_declaration=True)


# --- parts ------------------------------------------------------------------------------------------------------------


def _judged(result: GateResult) -> list[tuple[str, GateVerdict, str]]:
    """Each judged thing: its name, its verdict, and why."""
    found = [(figure.margin.figure, figure.verdict, figure.text) for figure in result.figures]
    found.append(("errors", result.errors.verdict, result.errors.text))
    if result.outputs_wrong:
        found.append(("outputs", GateVerdict.WORSE, result.outputs))
    return found


def _rows(result: GateResult) -> list[tuple[str, ...]]:
    rows: list[tuple[str, ...]] = []
    for figure in result.figures:
        values = (_value(figure, figure.stable), _value(figure, figure.candidate))
        interval = f"{_ratio(figure.low)} to {_ratio(figure.high)}" if figure.ratio else ""
        margin = f"{figure.margin.ratio * 100:.4g} %"
        ratio = _ratio(figure.ratio) if figure.ratio else ""
        rows.append((figure.margin.figure, *values, ratio, interval, margin, figure.verdict.value, figure.text))
    errors = result.errors
    counts = (
        f"{errors.stable_errors} of {errors.stable_requests}",
        f"{errors.candidate_errors} of {errors.candidate_requests}",
    )
    rows.append(("errors", *counts, "", "", f"{errors.limit * 100:.4g} %", errors.verdict.value, errors.text))
    return rows


def _details(result: GateResult) -> list[str]:
    window = format_duration(result.options.window_ns)
    lines = [f"{result.pairs} pairs of {window} windows in {result.duration_ns / NS:.0f} s, at level {result.level}"]
    if result.outputs:
        lines.append(f"outputs: {result.outputs}")
    if result.component:
        changes = sorted(result.components_ns.items(), key=lambda item: -abs(item[1]))
        shown = ", ".join(f"{name} {change / MS:+.3g} ms" for name, change in changes if abs(change) > MS / 1000)
        lines.append(f"mean latency changed by: {shown}")
    return lines


def _figure(figure: FigureResult) -> dict[str, Any]:
    return {
        "figure": figure.margin.figure,
        "margin": figure.margin.ratio,
        "verdict": figure.verdict.value,
        "pairs": figure.pairs,
        "stable": figure.stable,
        "candidate": figure.candidate,
        "ratio": figure.ratio,
        "low": figure.low,
        "high": figure.high,
        "text": figure.text,
    }


def _side(side: GateSide) -> dict[str, str]:
    return {
        "name": side.name,
        "target": side.target,
        "url": side.url,
        "model": side.model,
        "version": side.version,
    }


def _named(side: GateSide) -> str:
    version = f", version {side.version}" if side.version else ""
    return f"{side.name}: {side.model} at {side.url}{version}"


def _value(figure: FigureResult, value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:.4g}/s" if figure.margin.figure == THROUGHPUT else f"{value * 1000:.4g} ms"


def _ratio(value: float | None) -> str:
    return "?" if value is None else f"{value:.3f}"


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(map(_cell, cells))} |"


def _cell(text: str) -> str:
    return text.replace("\\", "\\\\").replace("|", "\\|").replace("<", "&lt;")
