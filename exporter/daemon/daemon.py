"""The composition root: builds the daemon from its settings, runs it, and ends it in order.

Owns who knows whom, the signals, and the order of start and end. Knows no wire format.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import time
from collections.abc import Coroutine
from pathlib import Path

from exporter import __version__
from exporter.archive.archive import CsvArchive
from exporter.baseline.actions import BaselineActions
from exporter.baseline.store import BaselineStore
from exporter.config import build_budget, build_maintenance
from exporter.core.outcome import SkipReason
from exporter.core.probe import Probe
from exporter.core.result import Sink
from exporter.core.units import NS
from exporter.daemon.exit import leave_stuck_threads, own_blocking_threads
from exporter.daemon.gates import Gates
from exporter.daemon.on_demand import OnDemand
from exporter.daemon.process import LoopErrors, raise_open_files
from exporter.daemon.reload import Loaded, ProbeSet, Reloader, read, summary
from exporter.daemon.standby import Standby, begin_again
from exporter.discovery.expand import patterns
from exporter.discovery.follow import Discovery
from exporter.discovery.sources import Response, Source
from exporter.discovery.sources import read as read_source
from exporter.engine.plan import Borrow
from exporter.logs import configure, fields
from exporter.metrics.exporter_metrics import ExporterFacts
from exporter.metrics.page import MetricsPage
from exporter.schedule.actions import ProbeActions
from exporter.schedule.gate import Gate
from exporter.schedule.ledger import Ledger
from exporter.schedule.ledger_file import LedgerFile, sweep_note
from exporter.schedule.maintenance import MaintenanceCalendar
from exporter.schedule.pauses import Pauses
from exporter.schedule.scheduler import Scheduler
from exporter.schedule.sharding import Shard
from exporter.state.history import History
from exporter.state.history_file import HistoryFile
from exporter.state.probe_state import Board
from exporter.storage.atomic_file import remove_leftovers
from exporter.storage.directory_lock import DirectoryLock, FolderClaim
from exporter.sweep.conductor import Sweep
from exporter.sweep.leftovers import Leftovers
from exporter.sweep.preflight import Pins
from exporter.sweep.sweep_log import SweepLog
from exporter.sweep.trace_settings import put_back_now
from exporter.web.access import WebAccess
from exporter.web.action_routes import action_routes, config_routes
from exporter.web.app import WebSources, create_app
from exporter.web.auth import TokenGuard
from exporter.web.baseline_routes import baseline_routes
from exporter.web.gate_routes import gate_routes
from exporter.web.http_server import WebServer
from exporter.web.page_routes import page_action_routes
from exporter.web.probe_routes import ProbePage, probe_routes
from exporter.web.request_check import HostNames
from exporter.web.status import conclude
from exporter.worker.lender import lender
from exporter.worker.local import LocalWorker
from exporter.worker.pool import WorkerPool

log = logging.getLogger("exporter.daemon")

HEARTBEAT_LIMIT_SECONDS = 30.0
"""Without a tick of the scheduler for so long the daemon calls itself unhealthy."""


def serve(config_path: Path, shard: Shard, web_config_path: Path | None = None) -> None:
    """Runs the daemon on its shard of the groups, until SIGTERM or SIGINT. Raises ConfigError, and ListenError if its
    address is taken."""
    raise_open_files()
    daemon = Daemon(config_path, shard, WebAccess(web_config_path))
    asyncio.run(_run_and_leave(daemon))


async def _run_and_leave(daemon: Daemon) -> None:
    threads = own_blocking_threads()
    if await daemon.run():
        begin_again()
    await leave_stuck_threads(threads)


class Daemon:
    """The whole exporter, as one event loop and its worker processes."""

    def __init__(self, config_path: Path, shard: Shard, access: WebAccess) -> None:
        """Reads the configuration. Raises ConfigError."""
        self._shard = shard
        self._discovery = Discovery(self._discovered, self._read_source, measured=shard.has)
        loaded = read(config_path, self._discovery.probes_of, self._discovery.own)
        self._settings = settings = loaded.settings
        configure(settings.log.level, settings.log.format)
        self._ready = self._measures = False
        self._stop = asyncio.Event()
        self._data = data = Path(settings.data_directory)
        self._standby = Standby(settings, shard)
        keeper = self._standby.keeper
        # A stopped process keeps a lock, and a machine that is cut off may: a lease takes the place of locks.
        self._lock: FolderClaim = keeper.claim if keeper else DirectoryLock(data, "data directory", ".daemon.lock")
        claim = self._lock.acquire
        self._board = Board(data / "state.json", claim=claim)
        self._archive = CsvArchive(
            settings.archive_directory,
            settings.archive.max_age_ns,
            settings.archive.max_size_bytes,
            lock=keeper.claim if keeper else None,
        )
        self._accounts = data / "accounts"
        self._ledger_file = LedgerFile(data / "ledger.jsonl", self._accounts, claim)
        self._ledger = Ledger(build_budget(settings), file=self._ledger_file)
        self._history_file = HistoryFile(data / "history", claim)
        self._history = History(conclude, self._history_file.append)
        self._sinks: list[Sink] = [self._board, self._history, SweepLog(), self._ledger]
        if settings.archive.enabled:
            self._sinks.append(self._archive)
        self._baselines = BaselineStore(data / "baselines", claim=claim)
        self._pins = Pins()
        self._leftovers = Leftovers()
        self._pool = WorkerPool(
            settings.limits.concurrent_sweeps,
            spawn=self._spawn_worker,
            max_sweeps=settings.limits.sweeps_per_worker,
        )
        self._calendar = MaintenanceCalendar(build_maintenance(settings))
        self._pauses = Pauses(data / "pauses.json", claim)
        self._gate = Gate(self._pauses, self._calendar, self._ledger)
        self._scheduler = Scheduler(self._sweep, self._skipped, settings.limits.concurrent_sweeps, refuse=self._refusal)
        self._probe_set = ProbeSet(self._board, self._scheduler)
        self._reloader = Reloader(config_path, loaded, self._discovery.probes_of, self._take, self._discovery.own)
        self._access = access
        self._on_demand = OnDemand(
            self._scheduler,
            self._running_probes,
            self._lender,
            self._sinks,
            pins=self._pins,
            ledger=self._ledger,
            leftovers=self._leftovers,
        )
        self._gates = Gates(data / "gates.json", self._running_probes, self._on_demand.sweep, claim)
        self._tasks: set[asyncio.Task[object]] = set()
        facts = self._facts()
        self._page = MetricsPage(self._board, facts, settings.limits.max_series)
        self._web = self._web_server(facts)

    async def run(self) -> bool:
        """Starts the pages, then, once it is this daemon's turn, all that measures; waits for a signal, drains. True if
        it is to begin again, since another daemon may measure."""
        asyncio.get_running_loop().set_exception_handler(LoopErrors())
        self._listen_to_signals()
        address = await self._web.start()
        about = fields(version=__version__, listen=address, probes=len(self._reloader.probes), shard=str(self._shard))
        self._spawn(self._reloader.watch())
        self._spawn(self._access.watch())
        if not self._standby.may_measure:
            log.info("standby", extra=about)
        keeping: asyncio.Task[None] | None = None
        try:
            if await self._standby.wait_for_turn(self._stop):
                keeping = asyncio.create_task(self._standby.keep(self._stop))
                await self._take_over()
                log.info("ready", extra=about)
                await self._stop.wait()
        finally:
            await self._drain()
            if keeping is not None:
                keeping.cancel()
            await self._standby.release()
            await self._web.stop()
            self._page.close()
        return self._standby.was_lost

    async def _take_over(self) -> None:
        """Reads what was kept, by this daemon or by another one, and begins to measure."""
        self._board.load()
        self._pauses.load()
        self._claim_data()
        if self._settings.archive.enabled:
            self._archive.start()
        self._history_file.start(self._history.restore)
        self._probe_set.start(self._reloader.probes)
        self._measures = True
        self._discovery.start()
        self._ready = True

    async def _drain(self) -> None:
        """No new sweeps, the running ones cancelled, what is known written, the endpoints closed: in this order, so
        that the last sweep's result is on the page and in the archive before they go."""
        started_s = time.monotonic()
        timeout_s = self._settings.limits.shutdown_timeout_ns / NS
        self._ready = False
        for task in self._tasks:
            task.cancel()
        log.info("draining", extra=fields(timeout_seconds=timeout_s))
        await self._discovery.stop()
        if self._measures:
            await self._gates.close()
        await self._scheduler.drain(timeout_s)
        await self._pool.close()
        left_s = max(1.0, timeout_s - (time.monotonic() - started_s))
        if self._settings.archive.enabled and self._measures:
            await asyncio.to_thread(self._archive.close, left_s)
        await asyncio.to_thread(self._board.close)
        await asyncio.to_thread(self._ledger_file.close)
        await asyncio.to_thread(self._history_file.close)
        await asyncio.to_thread(self._baselines.close)
        self._lock.release()
        log.info("stopped", extra=fields(seconds=round(time.monotonic() - started_s, 3)))

    async def _read_source(self, source: Source) -> Response:
        return await read_source(source, self._pool.ready_models)

    def _claim_data(self) -> None:
        """Logs at once if another daemon has the data directory; what is written there is tried again each time."""
        try:
            self._lock.acquire()
            for folder in (self._data, self._data / "baselines"):
                remove_leftovers(folder)
            self._ledger.load()
            self._gates.load()
        except OSError as error:
            path = self._settings.data_directory
            log.warning("data directory cannot be written", extra=fields(path=path, error=error))

    def _listen_to_signals(self) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._on_signal, number)
        loop.add_signal_handler(signal.SIGHUP, self._on_hang_up)

    def _on_signal(self, number: signal.Signals) -> None:
        if self._stop.is_set():
            # Asked twice: whoever asks has reasons not to wait. The workers end with this process.
            for line in put_back_now():
                log.error(line)
            os._exit(128 + number)
        log.info("signal received", extra=fields(signal=number.name))
        self._stop.set()

    def _on_hang_up(self) -> None:
        self._spawn(self._reloader.reload("SIGHUP"))

    def _spawn(self, work: Coroutine[None, None, object]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _take(self, loaded: Loaded) -> None:
        if loaded.settings.log != self._reloader.settings.log:
            configure(loaded.settings.log.level, loaded.settings.log.format)
        self._calendar.configure(build_maintenance(loaded.settings))
        if self._measures:
            self._probe_set.apply(loaded.probes)

    # --- sweeps ------------------------------------------------------------------------------------------------------

    async def _sweep(self, probe: Probe) -> None:
        allowed = self._ledger.allowed(probe)
        sweep = Sweep(
            probe,
            self._sinks,
            self._pins,
            judge=self._baselines.judge,
            allowed=allowed,
            leftovers=self._leftovers,
        )
        await sweep.run(self._lender(probe, sweep.id))

    def _refusal(self, probe: Probe) -> SkipReason | None:
        return self._gate.refusal(probe) if self._standby.may_measure else SkipReason.SHUTDOWN

    def _lender(self, probe: Probe, sweep_id: str) -> Borrow:
        note = sweep_note(sweep_id, probe, time.time())
        return lender(probe, self._pool, note=note, allowed_s=self._standby.seconds_left)

    async def _spawn_worker(self) -> LocalWorker:
        # A data directory that is another daemon's takes no account of ours.
        accounts = None if self._lock.refusal else self._accounts
        return await LocalWorker.spawn(
            log_format=self._settings.log.format, accounts=accounts, lease=self._standby.until_ns
        )

    def _running_probes(self) -> list[Probe]:
        return [view.probe for view in self._board.probes()]

    def _skipped(self, probe: Probe, reason: SkipReason) -> None:
        for sink in self._sinks:
            sink.sweep_skipped(probe, reason)

    def _discovered(self) -> None:
        self._spawn(self._reloader.refresh())

    # --- what the web side asks --------------------------------------------------------------------------------------

    def _web_server(self, facts: ExporterFacts) -> WebServer:
        """The pages, and the paths by which something is changed, each with what it acts on."""
        web = self._settings.web
        guard = TokenGuard(web.api_token_file)
        baseline_actions = BaselineActions(self._baselines, self._running_probes)
        probe_actions = ProbeActions(
            self._scheduler, self._gate, self._pauses, self._running_probes, lambda: patterns(self._reloader.settings)
        )
        sources = WebSources(
            self._board,
            self._page,
            facts,
            healthy=self._is_healthy,
            ready=lambda: self._ready or self._waits,
            routes=[
                *baseline_routes(baseline_actions, guard),
                *action_routes(probe_actions, guard),
                *page_action_routes(probe_actions, baseline_actions, self._running_probes, guard, __version__),
                *config_routes(self._reloader.reload, self._reloader.shown, guard),
                *gate_routes(self._gates, guard),
                *probe_routes(ProbePage(web.probe, self._on_demand.find, self._on_demand.run)),
            ],
            access=self._access,
            guard=guard,
            hosts=HostNames.of(web.host, web.allowed_hosts),
            day=self._history.day,
            grafana_url=web.grafana_url,
        )
        return WebServer(create_app(sources), web.host, web.port, self._access.endpoint)

    @property
    def _waits(self) -> bool:
        """Whether this is a standby, which is ready to take over."""
        return not self._measures and self._standby.keeper is not None and not self._stop.is_set()

    def _is_healthy(self) -> bool:
        return self._waits or self._scheduler.since_tick_s() < HEARTBEAT_LIMIT_SECONDS

    def _facts(self) -> ExporterFacts:
        return ExporterFacts(
            version=__version__,
            next_run=self._scheduler.next_run,
            last_tick_unix_s=lambda: self._scheduler.last_tick_unix_s,
            clock_jumps=lambda: self._scheduler.clock_jumps,
            workers=lambda: self._pool.alive,
            worker_restarts=lambda: self._pool.restarts,
            archive_rows=lambda: self._archive.rows_written,
            archive_write_errors=lambda: self._archive.write_errors + self._archive.dropped,
            archive_bytes=lambda: self._archive.bytes,
            archive_error=lambda: self._archive.last_error,
            data_error=self._data_error,
            config_hash=lambda: self._reloader.hash,
            config_reload_successful=lambda: self._reloader.error is None and self._access.error is None,
            config_reload_success_unix_s=lambda: self._reloader.success_unix_s,
            baseline_write_errors=lambda: self._baselines.write_errors,
            config_notices=self._config_notices,
            pause=self._gate.pause,
            pauses=self._gate.counts,
            load=self._ledger.caused,
            budgets_used=self._ledger.used_ratios,
            discovery=self._discovery.states,
            discovery_dropped=lambda: self._discovery.dropped,
            gates_running=lambda: self._gates.running,
            last_gate=self._gates.last,
            lease=self._standby.state,
        )

    def _data_error(self) -> str:
        if self._waits:  # it writes nothing, and its notice has why
            return ""
        return self._lock.refusal or self._board.state_write_problem or self._baselines.write_problem

    def _config_notices(self) -> list[str]:
        lease = self._standby.state()
        notices = [lease.notice] if lease and lease.notice else []
        notices += self._gate.notices()
        if (error := self._reloader.error) is not None:
            notices.append(f"The configuration was not reloaded; the old one is still in use: {summary(error)}")
        if (error := self._access.error) is not None:
            notices.append(f"The web configuration was not reloaded; the old one is still in use: {summary(error)}")
        if keys := self._reloader.restart_keys:
            notices.append(f"Changed, needs a restart: {', '.join(keys)}")
        return notices
