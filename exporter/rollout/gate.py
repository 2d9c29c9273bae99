"""Runs one rollout gate: pairs in random order until its question is decided, or may not be decided any more."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Awaitable, Callable

from exporter.analysis.paired import overall
from exporter.core.outcome import Outcome
from exporter.core.probe import Probe
from exporter.core.redaction import redacted
from exporter.core.result import SweepResult
from exporter.core.rollout import GateOptions, GateResult, GateVerdict
from exporter.core.units import NS
from exporter.core.untrusted_text import clean_text
from exporter.rollout.halves import Half, check_probe, half_probe, read_half, side_of
from exporter.rollout.tally import Tally

MOST_FAILURES = 3
"""Halves of one side that fail in a row: then the side can't be measured, and is left alone."""
FAILURE_PAUSE_SECONDS = 1.0
"""Before the next pair after a half that failed: a server that is coming up gets some time."""

Measure = Callable[[Probe], Awaitable[SweepResult | str]]
"""Runs a sweep of the probe once its turn has come, or returns why it may not run at all."""


class RolloutGate:
    """One gate, for one loop. `run` is called once. `sides` are the stable side and the candidate, as `same_load` made
    them. `on_look` gets the result so far at each look; `coin` gives random bits."""

    def __init__(
        self,
        gate_id: str,
        sides: tuple[Probe, Probe],
        options: GateOptions,
        measure: Measure,
        *,
        on_look: Callable[[GateResult], None] = lambda _: None,
        coin: Callable[[int], int] = secrets.randbits,
        failure_pause_s: float = FAILURE_PAUSE_SECONDS,
    ) -> None:
        self._id = gate_id
        self._stable, self._candidate = sides
        self._options = options
        self._measure = measure
        self._on_look = on_look
        self._coin = coin
        self._failure_pause_s = failure_pause_s
        self._tally = Tally(options)
        self._versions = {"stable": "", "candidate": ""}
        self._failures = {"stable": 0, "candidate": 0}
        self._stopped = ""
        self._outputs = ""
        self._outputs_wrong = False
        self._started_unix_s = time.time()
        self._started_ns = time.monotonic_ns()

    def stop(self, why: str) -> None:
        """Ends the gate after the half that is measured now, undecided unless it is worse already."""
        self._stopped = self._stopped or why

    async def run(self) -> GateResult:
        """Measures until it is decided. Raises nothing but its own cancellation."""
        await self._compare_outputs()
        attempts = 0
        verdict = GateVerdict.WORSE if self._outputs_wrong else GateVerdict.UNDECIDED
        while verdict is GateVerdict.UNDECIDED and not self._stopped:
            if attempts >= self._options.max_pairs:
                self.stop(f"after {attempts} pairs")
            elif attempts and time.monotonic_ns() - self._started_ns >= self._options.max_duration_ns:
                self.stop(f"after {self._options.max_duration_ns / NS:g} s")
            else:
                attempts += 1
                if await self._pair():
                    verdict = self._tally.look(final=False)
                    self._on_look(self.result(f"running: {self._tally.pairs} pairs"))
        self._tally.look(final=True)
        return self.result(self._stopped and f"ended {self._stopped}")

    def result(self, text: str = "") -> GateResult:
        """The gate as it is at its last look. `text` states why it ended where that was not its verdict."""
        tally = self._tally
        verdicts = [*(figure.verdict for figure in tally.figures), tally.errors.verdict]
        if self._outputs_wrong:
            verdicts.append(GateVerdict.WORSE)
        verdict = overall(verdicts)
        components = tally.components_ns
        grown = max(components, key=lambda name: components[name], default="")
        slower = any(figure.verdict is GateVerdict.WORSE for figure in tally.figures)
        return GateResult(
            id=self._id,
            verdict=verdict,
            text=clean_text(redacted(text)),
            stable=side_of(self._stable, self._versions["stable"]),
            candidate=side_of(self._candidate, self._versions["candidate"]),
            options=self._options,
            figures=tally.figures,
            errors=tally.errors,
            pairs=tally.pairs,
            started_unix_s=self._started_unix_s,
            duration_ns=time.monotonic_ns() - self._started_ns,
            level=self._stable.levels[0].label,
            component=grown if slower and grown and components[grown] > 0 else "",
            components_ns=components,
            outputs=clean_text(redacted(self._outputs)),
            outputs_wrong=self._outputs_wrong,
        )

    # --- measuring ---------------------------------------------------------------------------------------------------

    async def _pair(self) -> bool:
        """One pair in random order; returns whether it is time to look."""
        seed = self._coin(32)
        sides = [("stable", self._stable), ("candidate", self._candidate)]
        if self._coin(1):
            sides.reverse()
        halves = {}
        for name, probe in sides:
            half = await self._half(name, half_probe(probe, self._options, seed))
            if half is None or half.failure:
                if half is not None and not self._stopped:
                    await asyncio.sleep(self._failure_pause_s)
                return False
            halves[name] = half
        due = self._tally.add(halves["stable"], halves["candidate"])
        if hopeless := self._tally.hopeless:
            self.stop(f"early: {hopeless}")
        return due

    async def _half(self, name: str, probe: Probe) -> Half | None:
        """One side's window; None where it may not be measured, or the gate was stopped meanwhile."""
        if self._stopped:
            return None
        measured = await self._measure(probe)
        if isinstance(measured, str):
            self.stop(f"early: the {name} side may not be measured: {measured}")
            return None
        half = read_half(measured, self._options)
        self._tally.count(name, half)
        known = self._versions[name]
        if known and half.version not in ("", known):
            self.stop(f"early: the {name} side changed from version {known} to {half.version}")
            return None
        self._versions[name] = half.version or known
        if not half.failure:
            self._failures[name] = 0
            return half
        self._failures[name] += 1
        if self._failures[name] >= MOST_FAILURES:
            self.stop(f"early: the {name} side cannot be measured: {half.failure}")
        return half

    async def _compare_outputs(self) -> None:
        """Before the pairs: how far the candidate's outputs are from what is expected. Wrong ones end the gate."""
        rules = self._candidate.validation
        if rules is None:
            return
        measured = await self._measure(check_probe(self._candidate))
        if isinstance(measured, str) or not measured.measurements:
            why = measured if isinstance(measured, str) else f"{measured.reason}: {measured.reason_text}"
            self._outputs = f"not compared: {why}"
            return
        found = measured.measurements[-1]
        wrong = found.outcomes.get(Outcome.WRONG_OUTPUT, 0)
        if wrong:
            self._outputs_wrong = True
            self._outputs = f"{wrong} of {found.validated or wrong} outputs are wrong: {found.output_difference}"
        elif not found.validated:
            self._outputs = "not compared: no output was checked"
        elif found.output_error is not None and (found.output_error.absolute or found.output_error.relative):
            error = found.output_error
            self._outputs = f"differ by at most {error.absolute:.3g} (relative {error.relative:.3g})"
        else:
            self._outputs = f"equal in {found.validated} requests"
