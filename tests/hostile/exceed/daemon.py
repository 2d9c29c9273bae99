"""The bounds of the daemon's own sides: its pages, its lists, its archive."""

from __future__ import annotations

import asyncio
import json
import tempfile
from pathlib import Path

import bcrypt
import pytest

from exporter.archive.archive import CsvArchive
from exporter.core.bounds import SEGMENT_BYTES
from exporter.core.units import NS
from exporter.discovery.found import DiscoveryError, parse_groups
from exporter.discovery.sources import Source, read
from exporter.metrics.collector import _size
from exporter.metrics.families import UP
from exporter.standby.kubernetes_lease import KubernetesLease, LeaseApiError
from exporter.web.access import Passwords
from exporter.web.client_connection import MAX_CONNECTIONS, connection_limit
from exporter.web.http_server import WebServer
from tests.archive.archive_samples import make_failed_sweep
from tests.builders import make_target
from tests.hostile.exceed.registry import exceeds
from tests.standby.api_server import ScriptedApi
from tests.web.test_client_connection import APP, Crowd, scrape


async def list_error(path: Path) -> str:
    async def no_models(_target: object) -> tuple[str, ...]:
        raise AssertionError("it is no index")

    with pytest.raises(DiscoveryError) as caught:
        await read(Source(make_target(), 30 * NS, files=(str(path),)), no_models)
    return str(caught.value)


@exceeds("LIST_BYTES")
async def list_bytes() -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "list.json")
        path.write_bytes(b" " * (8 << 20) + b"[]")
        assert "is larger than 8 MiB" in await list_error(path)


@exceeds("LIST_FILES")
async def list_files() -> None:
    with tempfile.TemporaryDirectory() as folder:
        for number in range(1001):
            Path(folder, f"{number}.json").write_text("[]")
        assert "there are more than 1000 such files" in await list_error(Path(folder, "*.json"))


@exceeds("LIST_ADDRESSES")
def list_addresses() -> None:
    content = [{"targets": [f"10.0.{number // 256}.{number % 256}:1"]} for number in range(20_001)]
    with pytest.raises(DiscoveryError, match="has more than 20000 addresses"):
        parse_groups(content, ())
    assert len(parse_groups(content[1:], ())) == 20_000


@exceeds("CLIENTS")
async def clients() -> None:
    """More than there are places, none of which states anything; a scraper comes through."""
    assert MAX_CONNECTIONS == 512
    server = WebServer(APP, "127.0.0.1", 0)
    address = await server.start()
    places = connection_limit()
    async with Crowd(address) as crowd:
        await crowd.come(places + 50)
        assert await scrape(f"http://{address}") == 200
        assert await crowd.ended() >= 50
    await server.stop()


@exceeds("WAITING_PASSWORDS")
async def waiting_passwords() -> None:
    users = {"alice": bcrypt.hashpw(b"open sesame", bcrypt.gensalt(4)).decode()}
    passwords = Passwords()
    waiting = [passwords.matches(users, "alice", b"%d" % number) for number in range(500)]
    results = await asyncio.gather(*waiting)
    assert results.count(None) >= 500 - 64 - 2
    assert results.count(True) == 0


@exceeds("SEGMENT_BYTES")
def segment_bytes() -> None:
    """A file starts again after so many bytes, and the oldest go."""
    assert SEGMENT_BYTES == 64 << 20
    with tempfile.TemporaryDirectory() as folder:
        archive = CsvArchive(Path(folder), 10**9 * NS, 2 << 30)
        assert archive._segment_bytes == 64 << 20
        small = CsvArchive(Path(folder), 10**9 * NS, 1 << 20)
        small.start()
        for number in range(400):
            small.sweep_ended(make_failed_sweep(id=str(number), reason_text="x" * 5000))
        small.close(60)
        assert 500_000 < sum(path.stat().st_size for path in Path(folder).rglob("*.csv")) <= 1 << 20


@exceeds("SERIES_BYTES")
def series_bytes() -> None:
    """A series whose line is 10 kB takes the capacity of 20."""
    assert _size({UP: f'triton_canary_up{{probe="{"x" * 10_000}"}} 1\n'}) == 19
    assert _size({UP: 'triton_canary_up{probe="x"} 1\n'}) == 1


@exceeds("LEASE_BYTES")
async def lease_bytes() -> None:
    """All of what comes is valid but its size: blanks about a Lease."""
    lease = json.dumps({"metadata": {"resourceVersion": "1"}}).encode()
    with tempfile.TemporaryDirectory() as folder, ScriptedApi(Path(folder)) as api:
        store = KubernetesLease(api.config, "canary-0", 60.0)
        api.reply = 200, lease.ljust(256 << 10)
        assert await asyncio.to_thread(store.read) is not None
        api.reply = 200, lease.ljust((256 << 10) + 1)
        with pytest.raises(LeaseApiError, match="is larger than 256 KiB"):
            await asyncio.to_thread(store.read)
