"""A real Chromium over the real application, for tests of the pages and for the pictures in docs/."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from selenium import webdriver
from selenium.webdriver.chrome.service import Service

from exporter.baseline.actions import BaselineActions
from exporter.baseline.store import BaselineStore
from exporter.core.limits import GroupBudget
from exporter.schedule.actions import ProbeActions
from exporter.schedule.gate import Gate
from exporter.schedule.ledger import Ledger
from exporter.schedule.maintenance import MaintenanceCalendar
from exporter.schedule.pauses import Pauses
from exporter.schedule.scheduler import Scheduler
from exporter.web.app import create_app
from exporter.web.auth import TokenGuard
from exporter.web.http_server import WebServer
from exporter.web.page_routes import page_action_routes
from tests.programs import find
from tests.web.fleet import Fleet

TOKEN = "open sesame"


class LiveSite:
    """The real application over a real socket, in a thread of its own; pauses are real, too."""

    def __init__(self, fleet: Fleet, folder: Path) -> None:
        (folder / "token").write_text(TOKEN)
        self.fleet = fleet
        self._folder = folder
        self._started = threading.Event()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_until_complete, args=(self._serve(),))
        self._end = asyncio.Event()
        self.address = ""
        self._thread.start()
        assert self._started.wait(60)

    async def _serve(self) -> None:
        fleet, folder = self.fleet, self._folder
        pauses, ledger = Pauses(folder / "pauses.json"), Ledger(GroupBudget(1000, 1.0))
        gate = Gate(pauses, MaintenanceCalendar(()), ledger)
        scheduler = Scheduler(lambda _probe: asyncio.sleep(0), lambda _probe, _reason: None, 1)
        store = BaselineStore(folder / "baselines")
        routes = page_action_routes(
            ProbeActions(scheduler, gate, pauses, lambda: fleet.probes, list),
            BaselineActions(store, lambda: fleet.probes),
            lambda: fleet.probes,
            TokenGuard(str(folder / "token"), {}),
            "0.1.0",
        )
        sources = fleet.sources()
        made = sources.facts.pause
        facts = replace(sources.facts, pause=lambda probe: gate.pause(probe) or made(probe))
        server = WebServer(create_app(replace(sources, facts=facts, routes=routes)), "127.0.0.1", 0)
        self.address = f"http://{await server.start()}"
        self._started.set()
        await self._end.wait()
        await server.stop()
        store.close()
        sources.metrics.close()

    def change(self, call: Callable[[], object]) -> None:
        """Something happens in the daemon's own thread."""
        done = threading.Event()
        self._loop.call_soon_threadsafe(call)
        self._loop.call_soon_threadsafe(done.set)
        assert done.wait(60)

    def stop(self) -> None:
        if self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._end.set)
            self._thread.join()
            self._loop.close()


class Browser:
    """A Chromium, and what tests ask of it."""

    def __init__(self, driver: webdriver.Chrome) -> None:
        self.driver = driver

    def open(self, url: str, width: int = 1280, scheme: str = "light", *, script: bool = True) -> None:
        self.command("Emulation.setDeviceMetricsOverride", width=width, height=900, deviceScaleFactor=1, mobile=False)
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        self.command("Emulation.setEmulatedMedia", features=features)
        self.command("Emulation.setScriptExecutionDisabled", value=not script)
        self.driver.get(url)

    def command(self, name: str, **arguments: Any) -> Any:
        return self.driver.execute_cdp_cmd(name, arguments)

    def js(self, script: str, *arguments: Any) -> Any:
        return self.driver.execute_script(script, *arguments)

    def texts(self, selector: str) -> list[str]:
        """Read at once: the page may replace its elements at any time."""
        return list(self.js("return [...document.querySelectorAll(arguments[0])].map((e) => e.innerText)", selector))

    def problems(self) -> list[str]:
        """What the browser's console has: broken markup, and what the content security policy refused."""
        return [entry["message"] for entry in self.driver.get_log("browser")]  # type: ignore[no-untyped-call]


@contextlib.contextmanager
def open_browser() -> Iterator[Browser]:
    """A Chromium without a window, for the time of the block."""
    options = webdriver.ChromeOptions()
    options.binary_location = find("chromium") or ""
    for argument in ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--hide-scrollbars"):
        options.add_argument(argument)
    driver = webdriver.Chrome(options=options, service=Service(find("chromedriver")))
    driver.set_script_timeout(600)  # a busy machine is slow, not wrong
    try:
        yield Browser(driver)
    finally:
        driver.quit()
