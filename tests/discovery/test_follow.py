"""Following sources: last good lists, changes, sources that come and go with the settings."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from exporter.discovery.follow import Discovery, sources_of
from exporter.discovery.found import DiscoveryError, Found
from exporter.discovery.sources import Response, Source
from tests.discovery.test_expand import ASR, FLEET, settings_of
from tests.waiting import PATIENCE_SECONDS

EVERY = {"name": "every", "target": "fleet", "models": "all-ready"}
DISCOVER = {"discover": {"dns": True, "refresh": "1s"}}


def at(*numbers: int) -> tuple[Found, ...]:
    return tuple(Found("triton.example", 9001, f"10.0.0.{number}") for number in numbers)


class Stage:
    """A discovery whose sources state what a test puts here, and the probes that came of it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.responses: dict[str, Response | Exception] = {}
        self.readings: list[str] = []
        self.settings = settings_of(folder, ASR, target=FLEET | DISCOVER)
        self.changes = 0
        self.names: list[str] = []
        self.discovery = Discovery(self._changed, self._read)
        self.apply()

    def apply(self) -> None:
        self.names = [probe.name for probe in self.discovery.probes_of(self.settings)]

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(PATIENCE_SECONDS):
            while not condition():
                await asyncio.sleep(0.005)

    async def read_again(self) -> None:
        """As if the interval had passed."""
        readings = len(self.readings)
        for task in list(self.discovery._tasks.values()):
            task.cancel()
        self.discovery._tasks.clear()
        self.discovery._follow()
        await self.until(lambda: len(self.readings) > readings)
        await asyncio.sleep(0)

    def _changed(self) -> None:
        self.changes += 1
        self.apply()

    async def _read(self, source: Source) -> Response:
        key = f"models of {source.target.name}" if source.is_index else source.target.name
        self.readings.append(key)
        response = self.responses.get(key, ())
        if isinstance(response, Exception):
            raise response
        return response


@pytest.fixture
async def stage(tmp_path: Path) -> AsyncIterator[Stage]:
    stage = Stage(tmp_path)
    yield stage
    await stage.discovery.stop()


async def test_a_list_that_fails_keeps_its_last_good_one(stage: Stage, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "exporter.discovery")
    stage.responses["fleet"] = at(1, 2)
    assert stage.names == []
    stage.discovery.start()
    await stage.until(lambda: stage.names == ["asr/10.0.0.1:9001", "asr/10.0.0.2:9001"])
    assert stage.discovery.states() == {"addresses of fleet": (True, 2)}
    for _ in range(2):
        stage.responses["fleet"] = DiscoveryError("no response")
        await stage.read_again()
        assert stage.discovery.states() == {"addresses of fleet": (False, 2)}
    assert (stage.changes, len(stage.names)) == (1, 2)
    stage.responses["fleet"] = at(2)
    await stage.read_again()
    assert stage.names == ["asr/10.0.0.2:9001"]
    reported = [(r.getMessage(), r.fields) for r in caplog.records]  # type: ignore[attr-defined]
    source = {"source": "addresses of fleet"}
    assert reported == [
        ("discovered", {**source, "found": 2}),
        ("discovery failed", {**source, "error": "no response", "kept": 2}),  # once
        ("discovery works again", source),
        ("discovered", {**source, "found": 1}),
    ]


async def test_an_empty_list_is_good(stage: Stage) -> None:
    stage.responses["fleet"] = at(1)
    stage.discovery.start()
    await stage.until(lambda: len(stage.names) == 1)
    stage.responses["fleet"] = ()
    await stage.read_again()
    assert stage.names == []


async def test_a_source_that_raises_otherwise_continues(stage: Stage, caplog: pytest.LogCaptureFixture) -> None:
    stage.responses["fleet"] = RuntimeError("a bug")
    stage.discovery.start()
    await stage.until(lambda: "internal error in a discovery source" in caplog.text)
    assert stage.discovery.states() == {"addresses of fleet": (False, 0)}
    stage.responses["fleet"] = at(1)
    await stage.until(lambda: len(stage.names) == 1)  # a second later, by itself


async def test_models_of_replicas_are_followed_as_replicas_come(stage: Stage) -> None:
    stage.settings = settings_of(stage.folder, EVERY, target=FLEET | DISCOVER)
    stage.apply()
    stage.responses = {
        "fleet": at(1, 2),
        "models of fleet/10.0.0.1:9001": ("asr", "vad"),
        "models of fleet/10.0.0.2:9001": ("asr",),
    }
    stage.discovery.start()
    await stage.until(
        lambda: stage.names == ["every/asr/10.0.0.1:9001", "every/vad/10.0.0.1:9001", "every/asr/10.0.0.2:9001"]
    )
    stage.responses["fleet"] = at(2)
    await stage.read_again()
    await stage.until(lambda: len(stage.discovery.states()) == 2)
    assert stage.names == ["every/asr/10.0.0.2:9001"]
    assert set(stage.discovery.states()) == {"addresses of fleet", "models of fleet/10.0.0.2:9001"}


async def test_new_settings_keep_the_lists_of_sources_that_are_the_same(stage: Stage) -> None:
    stage.responses["fleet"] = at(1)
    stage.discovery.start()
    await stage.until(lambda: len(stage.names) == 1)
    readings = len(stage.readings)
    stage.settings = settings_of(stage.folder, ASR | {"name": "other"}, target=FLEET | DISCOVER)
    await asyncio.to_thread(stage.apply)  # a reload reads its file off the loop
    assert stage.names == ["other/10.0.0.1:9001"]
    await asyncio.sleep(0.01)
    assert len(stage.readings) == readings
    stage.settings = settings_of(stage.folder, ASR, target=FLEET | {"discover": {"dns": True, "refresh": "2s"}})
    stage.apply()
    await stage.until(lambda: len(stage.readings) == readings + 1)
    stage.apply()
    assert stage.names == ["asr/10.0.0.1:9001"]  # it was never gone


async def test_the_cap_is_reported(stage: Stage, caplog: pytest.LogCaptureFixture) -> None:
    stage.settings = settings_of(stage.folder, ASR, target=FLEET | DISCOVER, limits={"max_discovered": 2})
    stage.apply()
    stage.responses["fleet"] = at(*range(1, 100))
    stage.discovery.start()
    await stage.until(lambda: len(stage.names) == 2)
    assert stage.discovery.dropped == 97
    assert "limits.max_discovered keeps probes out" in caplog.text


def test_sources(tmp_path: Path) -> None:
    page = {"url": "http://sd.example/list", "headers": {"X-Token": {"env": "TOKEN"}}, "ca_file": "ca.pem"}
    page["proxy_url"] = "http://proxy.example:3128"
    target = FLEET | {"discover": {"http_sd": page, "labels": ["zone"], "refresh": "1m"}}
    settings = settings_of(tmp_path, ASR, EVERY | {"target": "alone"}, target=target)
    addresses, models = sources_of(settings, {})
    assert (addresses.url, addresses.ca_file, addresses.labels) == ("http://sd.example/list", "ca.pem", ("zone",))
    assert addresses.headers[0].env == "TOKEN"
    assert addresses.proxy_url == "http://proxy.example:3128"
    assert (models.target.name, models.is_index) == ("alone", True)


def test_a_shard_asks_its_own_servers_for_their_models(tmp_path: Path) -> None:
    settings = settings_of(tmp_path, EVERY, EVERY | {"name": "all", "target": "alone"}, target=FLEET | DISCOVER)
    sources = sources_of(settings, {"fleet": at(1, 2)}, lambda group: group == "10.0.0.2")
    assert [source.target.name for source in sources] == ["fleet", "fleet/10.0.0.2:9001"]


async def test_no_more_addresses_are_asked_than_there_may_be_probes(stage: Stage) -> None:
    """Each is asked for its models, with the target's headers: a list must not make the daemon call all the world."""
    stage.settings = settings_of(stage.folder, EVERY, target=FLEET | DISCOVER, limits={"max_discovered": 5})
    stage.responses["fleet"] = at(*range(600))
    stage.apply()
    stage.discovery.start()
    await stage.until(lambda: len(set(stage.readings)) >= 6)
    await asyncio.sleep(0.05)
    assert len(set(stage.readings)) == 6
    assert len(stage.discovery.states()) == 6
    stage.apply()
    assert stage.discovery.dropped == 595
    # Those that are asked stay, also where others come before them in the list.
    asked = set(stage.discovery.states())
    stage.responses["fleet"] = at(*range(999, -1, -1))
    await stage.read_again()
    await asyncio.sleep(0.05)
    assert set(stage.discovery.states()) == asked
