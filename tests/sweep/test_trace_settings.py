"""Trace settings for the time of a sweep: set, and put back on every way out."""

from __future__ import annotations

import asyncio
import dataclasses
import shutil
import signal
import subprocess
import sys
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest

from exporter.core.errors import PreflightError
from exporter.core.outcome import Reason
from exporter.core.probe import Probe, ServerSettings
from exporter.core.units import NS
from exporter.demo.triton import MODELS, EmbeddedTriton
from exporter.services.base import TraceSettings
from exporter.services.triton.control import TritonControl
from exporter.sweep import trace_settings as module
from exporter.sweep.trace_settings import put_back_now, server_settings, trace_settings
from tests.builders import make_probe, make_target
from tests.conftest import TritonFactory
from tests.waiting import PATIENCE_SECONDS

WANTED = ServerSettings(trace_level=("TIMESTAMPS",), trace_rate=5, trace_count=100, log_frequency=0)
NAMES = ("trace_level", "trace_rate", "trace_count", "log_frequency")
AS_THE_SERVERS: TraceSettings = dict.fromkeys(NAMES)


@pytest.mark.parametrize(
    ("asked", "wanted"),
    [
        (None, {}),
        (ServerSettings(), {}),
        (ServerSettings(trace_rate=5), {"trace_rate": "5"}),
        (
            WANTED,
            {"trace_level": ["TIMESTAMPS"], "trace_rate": "5", "trace_count": "100", "log_frequency": "0"},
        ),
    ],
)
def test_what_is_asked_for_in_tritons_words(asked: ServerSettings | None, wanted: TraceSettings) -> None:
    assert trace_settings(make_probe(server_settings=asked)) == wanted


class Server:
    """A control plane that remembers; a call number in `fails` fails, in `hangs` never ends."""

    def __init__(self, fails: tuple[int, ...] = (), hangs: tuple[int, ...] = ()) -> None:
        self.now: dict[str, Any] = {"trace_rate": "1000"}
        self.calls = 0
        self.closed = False
        self._fails, self._hangs = fails, hangs

    async def _call(self) -> None:
        self.calls += 1
        if self.calls in self._fails:
            raise PreflightError(Reason.PROTOCOL, "trace is off")
        await asyncio.sleep(3600 if self.calls in self._hangs else 0)

    async def trace_settings(self, model: str, names: Any) -> TraceSettings:
        await self._call()
        return {name: self.now.get(name) for name in names}

    async def set_trace(self, model: str, settings: TraceSettings) -> None:
        await self._call()
        self.now |= settings

    async def close(self) -> None:
        self.closed = True


PROBE = make_probe(server_settings=ServerSettings(trace_rate=7), target=make_target(connect_timeout_ns=NS // 20))


async def test_nothing_asked_nothing_done() -> None:
    def never(target: Any) -> Any:
        raise AssertionError("no connection is made")

    async with server_settings(make_probe(), never):
        pass


@pytest.mark.parametrize("error", [None, ValueError("inside"), asyncio.CancelledError()])
async def test_they_are_put_back_however_the_sweep_ends(error: BaseException | None) -> None:
    server: Any = Server()
    with pytest.raises(type(error)) if error is not None else nullcontext():
        async with server_settings(PROBE, lambda target: server):
            assert server.now == {"trace_rate": "7"}
            if error is not None:
                raise error
    assert (server.now, server.closed) == ({"trace_rate": "1000"}, True)


async def test_they_are_put_back_when_their_setting_was_cut_off() -> None:
    """It may have reached the server."""
    server: Any = Server(hangs=(2,))
    with pytest.raises(PreflightError, match=r"got no response within 0\.05 s"):
        async with server_settings(PROBE, lambda target: server):
            raise AssertionError("the sweep must not run")
    assert (server.calls, server.closed) == (3, True)


async def test_a_server_that_refuses_fails_the_sweep() -> None:
    server: Any = Server(fails=(1,))
    with pytest.raises(PreflightError, match="trace is off"):
        async with server_settings(PROBE, lambda target: server):
            raise AssertionError("the sweep must not run")
    assert (server.calls, server.closed) == (1, True)


@pytest.mark.parametrize("server", [Server(fails=(3,)), Server(hangs=(3,))], ids=["refused", "no response"])
async def test_what_cannot_be_put_back_is_reported(
    server: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(module, "RESTORE_LIMIT_NS", NS // 20)
    async with server_settings(PROBE, lambda target: server):
        pass
    (record,) = caplog.records
    assert record.getMessage() == "the server's trace settings may not be as they were before the sweep"
    assert record.fields["settings"] == "trace_rate=1000"  # type: ignore[attr-defined]
    assert server.closed


@pytest.mark.parametrize(
    ("hangs", "fails", "lines"),
    [
        ((), (), 0),
        ((3,), (), 1),
        ((), (3,), 1),
    ],
    ids=["put back", "no response", "refused"],
)
async def test_a_process_that_ends_at_once_puts_them_back_or_states_what_to(
    hangs: tuple[int, ...], fails: tuple[int, ...], lines: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From inside the loop, as a signal's handler does."""
    monkeypatch.setattr(module, "HURRIED_LIMIT_NS", NS // 2)
    server: Any = Server(hangs=hangs, fails=fails)
    assert put_back_now() == []
    async with server_settings(PROBE, lambda target: server):
        left = put_back_now()
        assert server.now == {"trace_rate": "7" if lines else "1000"}
    assert (
        left
        == [
            "the trace settings of model 'addsub' at http://127.0.0.1:8000 may not be as they were before the sweep: "
            "put back trace_rate=1000"
        ][:lines]
    )
    assert put_back_now() == []


def real_probe(triton: EmbeddedTriton, scheme: str) -> Probe:
    port = triton.grpc_port if scheme == "grpc" else triton.http_port
    return make_probe(target=make_target(scheme=scheme, port=port), model="identity", server_settings=WANTED)


async def test_on_a_real_triton(triton_factory: TritonFactory, tmp_path: Path) -> None:
    shutil.copytree(MODELS / "identity", tmp_path / "models" / "identity")
    # Without a file it refuses to trace.
    traced = ["--trace-config=mode=triton", f"--trace-config=triton,file={tmp_path / 'trace.json'}"]
    triton = triton_factory(models=tmp_path / "models", extra_arguments=traced)
    triton.start()
    for scheme in ("http", "grpc"):
        await check_settings(real_probe(triton, scheme))
        await check_second_signal(real_probe(triton, scheme))


async def check_second_signal(probe: Probe) -> None:
    """Both signals come while the program has something else to do than to end in order."""
    endpoint = f"-i {probe.target.protocol} -u {probe.target.host}:{probe.target.port}"
    flags = f"-m identity --shape INPUT0:16 {endpoint} --trace-level TIMESTAMPS --trace-rate 5 -p 10000"
    command = [sys.executable, "-m", "exporter", "analyze", *flags.split()]
    control = TritonControl(probe.target, 5 * NS)
    process = await asyncio.create_subprocess_exec(*command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    try:
        async with asyncio.timeout(PATIENCE_SECONDS):
            while await control.trace_settings("identity", NAMES) == AS_THE_SERVERS:
                await asyncio.sleep(0.02)
            process.send_signal(signal.SIGINT)
            process.send_signal(signal.SIGTERM)
            _, error = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
    after = await control.trace_settings("identity", NAMES)
    await control.close()
    assert (process.returncode, error, after) in [(130, b"", AS_THE_SERVERS), (143, b"", AS_THE_SERVERS)]


async def test_a_triton_that_cannot_trace_fails_the_sweep(triton: EmbeddedTriton) -> None:
    with pytest.raises(PreflightError, match="start it with --trace-config triton,file=FILE"):
        async with server_settings(real_probe(triton, "http")):
            raise AssertionError("the sweep must not run")


async def check_settings(probe: Probe) -> None:
    control = TritonControl(probe.target, 5 * NS)
    before = await control.trace_settings("identity", NAMES)
    assert before == AS_THE_SERVERS
    async with server_settings(probe):
        now = await control.trace_settings("identity", NAMES)
        # Only what differs from the server's own is the model's.
        assert now == {"trace_level": ["TIMESTAMPS"], "trace_rate": "5", "trace_count": "100", "log_frequency": None}
    assert await control.trace_settings("identity", NAMES) == before
    # What was the model's own before comes back as such.
    own: TraceSettings = {"trace_rate": "9"}
    await control.set_trace("identity", own)
    try:
        async with server_settings(dataclasses.replace(probe, server_settings=ServerSettings(trace_rate=5))):
            assert await control.trace_settings("identity", ("trace_rate",)) == {"trace_rate": "5"}
        assert await control.trace_settings("identity", ("trace_rate",)) == own
    finally:
        await control.set_trace("identity", AS_THE_SERVERS)
        await control.close()
