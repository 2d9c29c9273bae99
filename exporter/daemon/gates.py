"""The daemon's rollout gates: started by requests, measured in turn with all other sweeps, kept over restarts.

A gate is known by the id of its request. One that the daemon's end cut short is undecided afterwards: no result is
never a pass. It must not know HTTP.
"""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from exporter.core.errors import ConfigError
from exporter.core.probe import Probe
from exporter.core.result import SweepResult
from exporter.core.rollout import GateResult, GateVerdict, LastGate
from exporter.core.units import NS
from exporter.logs import fields
from exporter.rollout.gate import RolloutGate
from exporter.rollout.halves import same_load
from exporter.rollout.report import headline, json_document
from exporter.rollout.request import GateRequest, flagger_token, read_flagger, read_request
from exporter.schedule.actions import RefusalKind, RefusedError
from exporter.storage.atomic_file import replace_file
from exporter.web.probe_routes import NoSweep

_log = logging.getLogger("exporter.gates")
_audit = logging.getLogger("exporter.audit")

MAX_RUNNING = 10
"""Gates at once: they wait for each other's halves."""
MAX_KEPT = 100
"""Gates whose results are kept; the oldest go."""
TURN_SECONDS = 0.1
"""How often a half asks for its turn while another sweep of its group runs."""
_HALF_MARGIN_NS = 30 * NS
"""On top of a half's own times: its preflight, its connections, a worker that has to start."""
_FILE_VERSION = 1
_SHUT_DOWN = "the daemon was shut down during the gate"
_MAX_FILE_BYTES = 16 << 20

Run = Callable[[Probe, Probe, float], Awaitable[SweepResult | NoSweep]]
"""Runs the second probe, made of the first, within so many seconds, if that may start now."""


@dataclass(slots=True)
class _Entry:
    """One gate: its request, its document as it is now, and its task while it runs."""

    request: GateRequest
    document: dict[str, Any]
    task: asyncio.Task[None] | None = None
    ended_unix_s: float = 0.0

    def end(self, document: dict[str, Any]) -> None:
        """This is its result."""
        self.document, self.task, self.ended_unix_s = document, None, time.time()


@dataclass(slots=True)
class Gates:
    """For one loop. `probes` gives the configured ones; `claim` is asked before each write, and raises OSError while
    the data directory is another daemon's."""

    path: Path
    probes: Callable[[], Sequence[Probe]]
    run: Run
    claim: Callable[[], object] = lambda: None
    _entries: dict[str, _Entry] = field(default_factory=dict)
    _saving: asyncio.Lock = field(default_factory=asyncio.Lock)

    def start(self, body: Any, by: str) -> dict[str, Any]:
        """Starts the gate of a request's JSON, or returns what there is of the one with its id. Raises ConfigError for
        a bad request and for sides that cannot be compared, RefusedError for an unknown probe, an id that was used for
        another request, and too many gates."""
        return self._start(read_request(body), by)

    def start_flagger(self, body: Any, by: str) -> dict[str, Any]:
        """The same of the body of one of Flagger's webhooks."""
        return self._start(read_flagger(body), by)

    def flagger_token(self, body: Any) -> str:
        """See `rollout.request`."""
        return flagger_token(body)

    def _start(self, request: GateRequest, by: str) -> dict[str, Any]:
        if (known := self._entries.get(request.id)) is not None:
            if known.request != request:
                text = f"gate {request.id} was requested with other options: use another id"
                raise RefusedError(RefusalKind.CONFLICT, text)
            return known.document
        stable, candidate = (self._find(name) for name in (request.stable, request.candidate))
        sides = same_load(stable, candidate, level=request.level, output_tolerance=request.options.output_tolerance)
        if sum(entry.task is not None for entry in self._entries.values()) >= MAX_RUNNING:
            raise RefusedError(RefusalKind.BUDGET, f"{MAX_RUNNING} gates run already")
        until_s = time.monotonic() + request.options.max_duration_ns / NS
        gate = RolloutGate(
            request.id,
            sides,
            request.options,
            partial(self._measure, (stable, candidate), until_s),
            on_look=partial(self._looked, request.id),
        )
        entry = _Entry(request, json_document(gate.result("running: 0 pairs"), running=True))
        self._entries[request.id] = entry
        self._forget()
        entry.task = asyncio.get_running_loop().create_task(self._run(entry, gate))
        _audit.info("gate started", extra=fields(gate=request.id, by=by, **self._named(request)))
        return entry.document

    def get(self, gate_id: str) -> dict[str, Any] | None:
        """The document of a gate, None for an unknown one."""
        entry = self._entries.get(gate_id)
        return entry.document if entry else None

    async def wait(self, gate_id: str, seconds: float) -> None:
        """Until the gate has ended, but no longer than so many seconds."""
        entry = self._entries.get(gate_id)
        if entry is not None and entry.task is not None and seconds > 0:
            await asyncio.wait({entry.task}, timeout=seconds)

    def all(self) -> list[dict[str, Any]]:
        """All documents, the newest first."""
        return [entry.document for entry in reversed(self._entries.values())]

    def last(self) -> LastGate | None:
        """The gate that ended last."""
        ended = [entry for entry in self._entries.values() if entry.task is None]
        entry = max(ended, key=lambda entry: entry.ended_unix_s, default=None)
        return _last_gate(entry.document, entry.ended_unix_s) if entry else None

    @property
    def running(self) -> int:
        """How many run or wait."""
        return sum(entry.task is not None for entry in self._entries.values())

    async def close(self) -> None:
        """Ends the running ones as undecided, and keeps that."""
        tasks = [entry.task for entry in self._entries.values() if entry.task is not None]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
        for entry in self._entries.values():
            if entry.task is not None:  # cancelled before its first step
                entry.end(_undecided(entry.document, _SHUT_DOWN))
        await self._save()

    # --- one gate ----------------------------------------------------------------------------------------------------

    async def _run(self, entry: _Entry, gate: RolloutGate) -> None:
        try:
            await self._save()  # so that a killed daemon knows of it
            entry.end(json_document(await gate.run()))
        except asyncio.CancelledError:
            entry.end(_undecided(entry.document, _SHUT_DOWN))
        except Exception:
            _log.exception("internal error in a gate", extra=fields(gate=entry.request.id))
            entry.end(_undecided(entry.document, "the gate failed with an internal error of the exporter"))
        document = entry.document
        ended = {"gate": entry.request.id, "verdict": document["verdict"], "pairs": document["pairs"]}
        ended |= self._named(entry.request)
        _log.info(
            "gate ended", extra=fields(**ended, duration_seconds=document["duration_seconds"], detail=document["text"])
        )
        await self._save()

    def _looked(self, gate_id: str, result: GateResult) -> None:
        self._entries[gate_id].document = json_document(result, running=True)
        _log.info("gate looked", extra=fields(gate=gate_id, pairs=result.pairs, detail=headline(result)))

    async def _measure(self, configured: tuple[Probe, Probe], until_s: float, half: Probe) -> SweepResult | str:
        """Waits until the half may run, and runs it; or why it may not."""
        options = half.measurement
        seconds = (options.window_ns + options.warm_up_ns + 2 * options.request_timeout_ns + _HALF_MARGIN_NS) / NS
        while True:
            if not all(probe in self.probes() for probe in configured):
                return "its configuration changed"
            found = await self.run(half, half, seconds)
            if isinstance(found, SweepResult):
                return found
            if found not in (NoSweep.GROUP_BUSY, NoSweep.ALL_BUSY):
                return str(found.value[1])
            if time.monotonic() >= until_s:
                return f"its turn did not come: {found.value[1]}"
            await asyncio.sleep(TURN_SECONDS)

    def _find(self, name: str) -> Probe:
        fitting = [probe for probe in self.probes() if name in (probe.name, f"{probe.target.name}/{probe.name}")]
        if not fitting:
            raise RefusedError(RefusalKind.UNKNOWN, f"no probe is named {name}")
        if len(fitting) > 1:
            raise RefusedError(RefusalKind.UNKNOWN, f"several probes are named {name}: write TARGET/PROBE")
        return fitting[0]

    def _named(self, request: GateRequest) -> dict[str, str]:
        return {"stable": request.stable, "candidate": request.candidate}

    # --- the file ----------------------------------------------------------------------------------------------------

    def load(self) -> None:
        """Takes in what was kept. A damaged file is set aside. Raises OSError."""
        if not self.path.exists():
            return
        try:
            if self.path.stat().st_size > _MAX_FILE_BYTES:
                raise ValueError("it is too large")
            kept = json.loads(self.path.read_text(encoding="utf-8"))
            entries = [_kept_entry(each) for each in kept["gates"]]
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError, ConfigError) as error:
            aside = self.path.with_name(self.path.name + ".damaged")
            self.path.replace(aside)
            _log.warning("the gates file is damaged and was renamed", extra=fields(path=str(aside), error=error))
            return
        self._entries = {entry.request.id: entry for entry in entries} | self._entries

    async def _save(self) -> None:
        async with self._saving:
            gates = [
                {"request": entry.request.to_json(), "document": entry.document, "ended": entry.ended_unix_s}
                for entry in self._entries.values()
            ]
            text = json.dumps({"version": _FILE_VERSION, "gates": gates}, allow_nan=False)
            try:
                await asyncio.to_thread(self._write, text)
            except OSError as error:
                _log.warning("the gates file cannot be written", extra=fields(path=str(self.path), error=error))

    def _write(self, text: str) -> None:
        self.claim()
        replace_file(self.path, text)

    def _forget(self) -> None:
        ended = [gate_id for gate_id, entry in self._entries.items() if entry.task is None]
        for gate_id in ended[: max(0, len(self._entries) - MAX_KEPT)]:
            if gate_id != next(reversed(self._entries)):
                del self._entries[gate_id]


def _undecided(document: Mapping[str, Any], why: str) -> dict[str, Any]:
    verdict = GateVerdict.UNDECIDED.value
    changes = {"verdict": verdict, "state": verdict, "passed": False, "running": False, "text": f"{verdict}: {why}"}
    return dict(document) | changes


def _kept_entry(kept: Mapping[str, Any]) -> _Entry:
    """One gate of the file. Raises what a damaged one raises."""
    request, document = read_request(kept["request"], check=False), dict(kept["document"])
    ended_unix_s = float(kept["ended"])
    if document["running"]:
        document = _undecided(document, "the daemon ended during the gate")
        ended_unix_s = float(document["started_unix_s"]) + float(document["duration_seconds"])
    _last_gate(document, ended_unix_s)  # has all that is read later
    return _Entry(request, document, ended_unix_s=ended_unix_s)


def _last_gate(document: Mapping[str, Any], ended_unix_s: float) -> LastGate:
    ratios = {
        str(figure["figure"]): tuple(None if figure[key] is None else float(figure[key]) for key in _RATIO_KEYS)
        for figure in document["figures"]
    }
    return LastGate(
        stable=str(document["stable"]["name"]),
        candidate=str(document["candidate"]["name"]),
        verdict=GateVerdict(document["verdict"]),
        pairs=int(document["pairs"]),
        seconds=float(document["duration_seconds"]),
        ended_unix_s=ended_unix_s,
        ratios=ratios,
        error_ratio=document["errors"]["ratio"],
    )


_RATIO_KEYS = ("ratio", "low", "high")
