"""The command `gate`: runs one rollout gate with a worker of its own, writes its result, and gives the exit code."""

from __future__ import annotations

import asyncio
import os
import secrets
import signal
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from exporter.commands.gate.sides import SideOptions, read_sides
from exporter.config.quantities import format_duration
from exporter.core.errors import ConfigError
from exporter.core.exit_code import ExitCode
from exporter.core.probe import Probe
from exporter.core.result import SweepResult
from exporter.core.rollout import GateOptions, GateResult, GateVerdict
from exporter.core.units import NS
from exporter.logs import configure
from exporter.rollout.gate import RolloutGate
from exporter.rollout.halves import same_load
from exporter.rollout.report import headline, json_report, junit_report, markdown_report, text_report
from exporter.rollout.request import read_options
from exporter.sweep.conductor import Sweep
from exporter.sweep.leftovers import Leftovers
from exporter.sweep.preflight import Pins
from exporter.sweep.trace_settings import put_back_now
from exporter.worker.lender import lender
from exporter.worker.pool import WorkerPool

FORMATS = ("text", "markdown", "json", "junit")


@dataclass(frozen=True, slots=True)
class GateCommand:
    """What to run, with the options as they were given (text, under the keys of a request), and how its result is
    written: to standard output, or in this form to the `output` and as text to standard output."""

    sides: SideOptions
    options: Mapping[str, Any]
    level: str = ""
    form: str = "text"
    output: Path | None = None
    undecided_passes: bool = False


def run_gate(command: GateCommand) -> ExitCode:
    """Runs it; every problem of what was given is one line on standard error."""
    try:
        options, problems = read_options(command.options)
        stable, candidate = _read(command, [_as_flag(problem) for problem in problems])
        sides = same_load(stable, candidate, level=command.level, output_tolerance=options.output_tolerance)
    except ConfigError as error:
        for problem in error.problems:
            _notify(problem)
        return ExitCode.BAD_OPTIONS
    configure("warning", "logfmt")
    result, interrupted = asyncio.run(_Run(sides, options).run())
    written = _write(command, result)
    if interrupted:
        return ExitCode.INTERRUPTED
    code = _CODES[result.verdict]
    if code is ExitCode.UNDECIDED and command.undecided_passes:
        code = ExitCode.OK
    return code if written or code is not ExitCode.OK else ExitCode.ERROR


_CODES = {
    GateVerdict.BETTER: ExitCode.OK,
    GateVerdict.EQUIVALENT: ExitCode.OK,
    GateVerdict.WORSE: ExitCode.WORSE,
    GateVerdict.UNDECIDED: ExitCode.UNDECIDED,
}


def _as_flag(problem: str) -> str:
    """The problem of a key, as one of its flag."""
    key, colon, text = problem.partition(":")
    return f"--{'margin' if key == 'margins' else key.replace('_', '-')}{colon}{text}"


def _read(command: GateCommand, problems: list[str]) -> tuple[Probe, Probe]:
    """The sides. Raises ConfigError with their errors after those before."""
    try:
        sides = read_sides(command.sides)
    except ConfigError as error:
        raise ConfigError([*problems, *error.problems]) from None
    if problems:
        raise ConfigError(problems)
    return sides


class _Run:
    """The gate with a worker of its own. SIGINT and SIGTERM end it with what was measured; a second one ends all."""

    def __init__(self, sides: tuple[Probe, Probe], options: GateOptions) -> None:
        self._pool = WorkerPool(1)
        self._pins, self._leftovers = Pins(), Leftovers()
        self._gate = RolloutGate(secrets.token_hex(6), sides, options, self._measure, on_look=_progress)
        self._sweep: Sweep | None = None
        self._interrupts: list[asyncio.Task[None]] = []
        names = " against ".join(f"{probe.model} at {probe.target.url}" for probe in reversed(sides))
        pairs = f"{options.min_pairs} to {options.max_pairs} pairs of {format_duration(options.window_ns)} windows"
        self._begins = f"{names}: {pairs}"

    async def run(self) -> tuple[GateResult, bool]:
        """The result, and whether a signal ended it."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self._on_signal, number)
        _notify(self._begins)
        try:
            result = await self._gate.run()
            return result, bool(self._interrupts)
        finally:
            await self._pool.close()

    async def _measure(self, probe: Probe) -> SweepResult:
        self._sweep = Sweep(probe, [], self._pins, leftovers=self._leftovers)
        return await self._sweep.run(lender(probe, self._pool))

    def _on_signal(self, number: int) -> None:
        if self._interrupts:
            for line in put_back_now():
                _notify(line)
            os._exit(128 + number)
        self._gate.stop("by a signal")
        self._interrupts.append(asyncio.create_task(self._interrupt()))

    async def _interrupt(self) -> None:
        if self._sweep is not None:
            await self._sweep.interrupt()


def _progress(result: GateResult) -> None:
    parts = []
    for figure in result.figures:
        if figure.ratio is not None:
            low, high = (("?" if bound is None else f"{bound:.3f}") for bound in (figure.low, figure.high))
            parts.append(f"{figure.margin.figure} {figure.ratio:.3f} ({low} to {high}) {figure.verdict}")
    parts.append(f"errors {result.errors.candidate_errors} of {result.errors.candidate_requests}")
    _notify(f"{result.pairs} pairs, {result.duration_ns / NS:.0f} s: {', '.join(parts)}")


def _write(command: GateCommand, result: GateResult) -> bool:
    """Writes the result; False, and a line on standard error, where that fails."""
    forms: dict[str, Callable[[], str]] = {
        "text": partial(text_report, result),
        "markdown": partial(markdown_report, result),
        "json": partial(json_report, result),
        "junit": partial(junit_report, result, undecided_fails=not command.undecided_passes),
    }
    try:
        if command.output is None:
            print(forms[command.form](), flush=True)
        else:
            print(text_report(result), flush=True)
            command.output.write_text(f"{forms[command.form]()}\n", encoding="utf-8")
    except OSError as error:
        _notify(f"{command.output or 'the result'}: cannot write: {error.strerror or error}")
        if command.output is None:
            _notify(headline(result))
        return False
    return True


def _notify(text: str) -> None:
    print(f"triton-canary gate: {text}", file=sys.stderr)
