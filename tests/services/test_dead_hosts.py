"""A host that drops every packet is unreachable, whatever kind of server was expected there; one that accepts and is
silent is another matter."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from exporter.core.errors import PreflightError
from exporter.core.outcome import Reason
from exporter.core.units import NS
from exporter.services import SERVICES
from exporter.transport import resolve
from tests.builders import make_target

KINDS = [
    ("triton", "http"),
    ("triton", "grpc"),
    ("oip", "http"),
    ("tfserving", "http"),
    ("tfserving", "grpc"),
    ("torchserve", "http"),
]


@pytest.fixture
def dead_port() -> Iterator[int]:
    """Linux drops the SYNs to a listener whose backlog is full."""
    with ExitStack() as stack:
        listener = stack.enter_context(socket.socket())
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        for _ in range(4):
            filler = stack.enter_context(socket.socket())
            filler.setblocking(False)
            filler.connect_ex(listener.getsockname())
        yield listener.getsockname()[1]


async def reason_of(kind: str, scheme: str, port: int, **changes: Any) -> tuple[Reason, str]:
    target = make_target(kind=kind, scheme=scheme, port=port, connect_timeout_ns=NS // 2, **changes)
    control = SERVICES[kind]().control(target, target.connect_timeout_ns)
    with pytest.raises(PreflightError) as caught:
        await control.preflight("m", "")
    await control.close()
    return caught.value.reason, str(caught.value)


@pytest.mark.parametrize(("kind", "scheme"), KINDS)
async def test_packets_that_are_dropped(kind: str, scheme: str, dead_port: int) -> None:
    reason, text = await reason_of(kind, scheme, dead_port)
    assert reason is Reason.UNREACHABLE, text
    assert "no connection to" in text


@pytest.mark.parametrize(("kind", "scheme"), KINDS)
async def test_a_name_that_does_not_resolve(kind: str, scheme: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async def never(host: str, port: int) -> list[resolve.Address]:
        await asyncio.Event().wait()
        return []

    monkeypatch.setattr(resolve, "look_up", never)
    reason, text = await reason_of(kind, scheme, 8000, host="silent.test")
    assert reason is Reason.UNREACHABLE, text


@pytest.mark.parametrize(("kind", "scheme"), KINDS)
async def test_one_that_accepts_and_is_silent(kind: str, scheme: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        reason, text = await reason_of(kind, scheme, listener.getsockname()[1])
    assert reason is Reason.PREFLIGHT_TIMEOUT, text
