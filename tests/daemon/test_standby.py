"""A pair of daemons on one shared folder: which one measures, and that never both do."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.daemon.running import RunningDaemon
from tests.daemon.standby_pair import Pair
from tests.standby.named_server import NamedServer

STOPPED_SECONDS = float(os.environ.get("STANDBY_STOPPED_SECONDS", "0"))
"""How much longer a stopped daemon stays so; 600 for the figures of docs/standby.md."""


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[Pair]:
    with NamedServer() as server, ExitStack() as stack:
        yield Pair(tmp_path, server, stack)


def held(daemon: RunningDaemon) -> float | None:
    return daemon.value("triton_canary_exporter_lease_held", lease="triton-canary", shard="0/1")


def test_a_standby_shows_what_it_is_and_takes_over_at_once_from_one_that_ends_in_order(pair: Pair) -> None:
    pair.start()
    assert (held(pair.a), held(pair.b)) == (1, 0)
    assert pair.b.get("/-/ready")[0] == pair.b.get("/-/healthy")[0] == 200
    assert "measures; this daemon takes over" in pair.notice(pair.b)
    assert pair.b.value("triton_canary_up") is None, "a probe has one daemon's series"
    assert pair.server.sent_by("b") == 0
    pair.a.stop()
    pair.b.wait_for_log("ready")
    pair.b.wait_for(lambda: pair.server.sent_by("b") > 20)
    assert [name for name, _, _ in pair.server.turns()] == ["a", "b"]
    assert held(pair.b) == 1


def test_one_that_is_killed_is_replaced_once_its_lease_ran_out(pair: Pair) -> None:
    pair.start()
    pair.a.stop(signal.SIGKILL)
    pair.taken_over()


def test_one_that_is_stopped_sends_nothing_when_it_continues_and_is_the_standby_then(pair: Pair) -> None:
    pair.start()
    os.kill(pair.a.pid, signal.SIGSTOP)
    try:
        pair.taken_over()
        time.sleep(STOPPED_SECONDS)
    finally:
        os.kill(pair.a.pid, signal.SIGCONT)
    pair.a.wait_for_log("begins again, as a standby")
    pair.a.wait_for(lambda: pair.a.log_events()[-1].get("msg") == "standby")
    pair.b.stop()
    pair.a.wait_for(lambda: pair.server.turns()[-1][0] == "a")
    assert [name for name, _, _ in pair.server.turns()] == ["a", "b", "a"]


def test_one_that_is_cut_off_from_the_folder_stops_before_the_other_begins(pair: Pair) -> None:
    pair.start()
    pair.cut_off()
    pair.taken_over()
    assert "is the share mounted" in pair.a.wait_for_log("lease lost")["reason"]
    pair.a.wait_for(lambda: pair.a.log_events()[-1].get("msg") == "the lease cannot be read or renewed")
    assert held_of_log(pair.a) == "standby"
    assert [name for name, _, _ in pair.server.turns()] == ["a", "b"]


def held_of_log(daemon: RunningDaemon) -> str:
    """ "ready" or "standby": what it became last."""
    return [event["msg"] for event in daemon.log_events() if event.get("msg") in ("ready", "standby")][-1]
