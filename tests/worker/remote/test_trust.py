"""Who may use a pool: mutual TLS between client, scheduler and workers; and one version on all sides."""

from __future__ import annotations

import contextlib
import re
import socket
import ssl
from collections.abc import Iterator, Mapping
from contextlib import AsyncExitStack
from pathlib import Path

import distributed  # noqa: F401 - its defaults are set at its import, not within a test's settings
import pytest
from dask import config as dask_config

from exporter.core.errors import WorkerLostError
from exporter.core.window import LevelEnd, Window
from exporter.worker.remote import pool
from exporter.worker.remote.pool import lend_remote
from exporter.worker.remote.schema import schema
from tests.transport.certificates import Certificates
from tests.waiting import PATIENCE_SECONDS
from tests.worker.remote.cluster import Cluster
from tests.worker.remote.test_pool import plan
from tests.worker.test_local import FAKE_WORKER, probe

TLS_ALERT = b"\x15"
OTHER_VERSION = "import exporter\nexporter.__version__ = '0.0.1'\n"
OTHER_PLAN = """
from dataclasses import make_dataclass
from exporter.engine import plan
plan.Added = make_dataclass("Added", [("field", int)])
plan.Added.__module__ = plan.__name__
"""


def tls(ca: Path, certificate: Path | None = None, key: Path | None = None) -> dict[str, str]:
    """Dask's settings of one side, by the names of the environment."""
    prefix = "DASK_DISTRIBUTED__COMM__"
    found = {f"{prefix}REQUIRE_ENCRYPTION": "True", f"{prefix}TLS__CA_FILE": str(ca)}
    for role in ("CLIENT", "SCHEDULER", "WORKER"):
        if certificate is not None and key is not None:
            found |= {f"{prefix}TLS__{role}__CERT": str(certificate), f"{prefix}TLS__{role}__KEY": str(key)}
    return found


@pytest.fixture(scope="module")
def secured(tmp_path_factory: pytest.TempPathFactory, certificates: Certificates) -> Iterator[Cluster]:
    """A scheduler and two workers that demand a certificate of the tests' authority."""
    environment = tls(certificates.ca, certificates.server, certificates.server_key)
    folder = tmp_path_factory.mktemp("secured")
    with Cluster(folder, 2, protocol="tls", environment=environment) as cluster:
        yield cluster


async def use(address: str, settings: Mapping[str, str]) -> int:
    """Borrows two workers as a client with these settings does, and measures; gives the requests sent."""
    named = {name.removeprefix("DASK_").lower().replace("__", "."): value for name, value in settings.items()}
    with dask_config.set(named):
        async with lend_remote(address, 2, module=FAKE_WORKER) as worker:
            await worker.preflight(probe())
            async for event in worker.run_level(plan()):
                if isinstance(event, Window):
                    await worker.stop_level()
                elif isinstance(event, LevelEnd):
                    return event.sent
    return 0


async def test_a_client_with_a_certificate_measures(secured: Cluster, certificates: Certificates) -> None:
    settings = tls(certificates.ca, certificates.client, certificates.client_key)
    assert await use(secured.address, settings) > 0


@pytest.mark.parametrize(
    ("who", "reported"),
    [
        ("no certificate", "check your TLS configuration"),
        ("another authority's", "SSL|certificate|reset|closed"),  # its side closes: what is read before that varies
        ("trusts another", "certificate does not match"),
        ("plain", "reset|closed"),
    ],
)
async def test_any_other_client_is_refused(
    who: str, reported: str, secured: Cluster, certificates: Certificates, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pool, "CONNECT_SECONDS", 5.0)
    settings = settings_of(who, certificates)
    address = secured.address.replace("tls://", "tcp://") if who == "plain" else secured.address
    with pytest.raises(WorkerLostError, match=r"the Dask scheduler at .* cannot be used: ") as refused:
        await use(address, settings)
    assert re.search(reported, str(refused.value))


def settings_of(who: str, certificates: Certificates) -> dict[str, str]:
    """Of one that is to be refused."""
    return {
        "no certificate": tls(certificates.ca),
        "another authority's": tls(certificates.ca, certificates.other_ca, certificates.other_ca_key),
        "trusts another": tls(certificates.other_ca, certificates.client, certificates.client_key),
        "plain": {},
    }[who]


@pytest.mark.parametrize("who", ["no certificate", "another authority's", "trusts another", "plain"])
def test_any_other_worker_is_refused(who: str, secured: Cluster, certificates: Certificates) -> None:
    name, protocol = who.split(maxsplit=1)[0], "tcp" if who == "plain" else "tls"
    stranger = secured.start_worker(
        name, protocol=protocol, environment=settings_of(who, certificates), arguments=["--death-timeout", "3"]
    )
    stranger.wait(PATIENCE_SECONDS)
    assert "Registered to" not in secured.log(name)
    assert secured.log("scheduler").count("Register worker") == 2


@pytest.mark.parametrize("side", ["scheduler", "worker"])
@pytest.mark.parametrize("who", ["no certificate", "plain"])
def test_no_port_takes_a_stranger(who: str, side: str, secured: Cluster, certificates: Certificates) -> None:
    """The workers' own ports, too: it is there that code runs."""
    address = secured.address if side == "scheduler" else secured.worker_address("w0")
    host, _, port = address.removeprefix("tls://").rpartition(":")
    with socket.create_connection((host, int(port)), timeout=PATIENCE_SECONDS) as plain:
        if who == "plain":
            plain.sendall(bytes(64))
            with contextlib.suppress(ConnectionError):
                assert plain.recv(1000)[:1] in (b"", TLS_ALERT)
            return
        context = ssl.create_default_context(cafile=certificates.ca)
        # The handshake ends here before the other side has looked for a certificate.
        with contextlib.suppress(OSError), context.wrap_socket(plain, server_hostname="localhost") as secure:
            assert secure.recv(1) == b""


@pytest.mark.parametrize("change", [OTHER_VERSION, OTHER_PLAN], ids=["version", "plan"])
async def test_a_worker_of_another_version_is_refused_by_name(change: str, tmp_path: Path) -> None:
    preload = tmp_path / "change.py"
    preload.write_text(change)
    async with AsyncExitStack() as stack:
        cluster = stack.enter_context(Cluster(tmp_path, 1, worker_arguments=["--preload", str(preload)]))
        with pytest.raises(WorkerLostError) as refused:
            await stack.enter_async_context(lend_remote(cluster.address, 1, module=FAKE_WORKER))
        there = cluster.worker_address("w0")
    assert re.fullmatch(
        rf"worker {there} cannot be used: this worker has triton-canary (\S+), its client (\S+): install the same",
        str(refused.value),
    )
    found = re.search(r"canary (\S+), its client (\S+):", str(refused.value))
    assert found is not None
    assert found[2] == schema() != found[1]
