from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator

import numpy as np
import pytest

from exporter.core.window import Window
from exporter.worker.ipc import Command, EndSweep, Reply, encode, receive
from tests.builders import make_window


@pytest.fixture
def ends() -> Iterator[tuple[socket.socket, socket.socket]]:
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    theirs.setblocking(False)
    with ours, theirs:
        yield ours, theirs


async def test_a_window_comes_over_in_pieces(ends: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = ends
    window = make_window(3, [1.0, 2.5, 4.0], error_text="timeout: no response")
    data = b"".join(encode(Reply(7, window, last=False)))
    receiving = asyncio.create_task(receive(ours))
    for byte in data:
        theirs.send(bytes([byte]))
        await asyncio.sleep(0)
    response = await receiving
    assert isinstance(response, Reply)
    assert (response.serial, response.last) == (7, False)
    assert isinstance(response.what, Window)
    assert response.what.error_text == "timeout: no response"
    np.testing.assert_array_equal(response.what.columns.last_ns, window.columns.last_ns)
    np.testing.assert_array_equal(response.what.columns.outcome, window.columns.outcome)


async def test_messages_keep_their_order_and_their_borders(ends: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = ends
    for serial in range(3):
        theirs.sendall(b"".join(encode(Command(serial, EndSweep()))))
    assert [await receive(ours) for _ in range(3)] == [Command(serial, EndSweep()) for serial in range(3)]


def test_arrays_are_written_from_where_they_are() -> None:
    window = make_window()
    buffers = [part for part in encode(window) if isinstance(part, memoryview)]
    assert any(np.shares_memory(np.asarray(part), window.columns.sent_ns.view(np.uint8)) for part in buffers)


@pytest.mark.parametrize("keep", [0, 5, 40, -1])
async def test_the_end_of_the_stream(ends: tuple[socket.socket, socket.socket], keep: int) -> None:
    ours, theirs = ends
    theirs.sendall(b"".join(encode(Reply(1, make_window(), last=True)))[:keep])
    theirs.close()
    with pytest.raises(EOFError):
        await receive(ours)
