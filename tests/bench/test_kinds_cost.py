"""The table of what clients cost, from figures that were not measured, and the peers' loop."""

from __future__ import annotations

import time
from pathlib import Path

from bench.kinds_cost import make_loads, row
from bench.plain_client import CLIENTS, cpu_us_per_request
from bench.rounds import OURS, Case
from exporter.services import SERVICES
from tests.servers.mlserver import MlServer
from tests.servers.torchserve import TorchServe


async def no_figures() -> float:
    raise AssertionError("nothing is measured here")


def test_rows_have_ratios_of_one_round() -> None:
    case = Case(("MLServer", "HTTP"), {OURS: no_figures, "tritonclient": no_figures})
    case.figures.update({(OURS, 0): 100.0, ("tritonclient", 0): 400.0, (OURS, 1): 900.0, ("tritonclient", 2): 600.0})
    assert row(case) == [
        "MLServer",
        "HTTP",
        "500 (100 to 900)",
        "tritonclient",
        "500 (400 to 600)",
        "0.25 (0.25 to 0.25)",
    ]


def test_loads_are_of_endpoints_that_are_there() -> None:
    loads = make_loads(MlServer(Path(), Path(), 1, 2, 3), TorchServe(Path(), Path(), 4, 5, 6))
    found = [(load.probe(3.0).target.url, load.kind, load.client) for load in loads]
    assert found == [
        ("http://127.0.0.1:1", "oip", "oip-http"),
        ("grpc://127.0.0.1:2", "oip", "oip-grpc"),
        ("http://127.0.0.1:4", "torchserve", "torchserve"),
    ]
    assert {kind for _, kind, _ in found} <= SERVICES.keys()
    assert {client for _, _, client in found} == CLIENTS.keys()


def test_cpu_time_is_what_the_calls_took() -> None:
    calls = []

    def call() -> None:
        """A millisecond of work, of this thread's own cpu time."""
        calls.append(1)
        end_ns = time.process_time_ns() + 1_000_000
        while time.process_time_ns() < end_ns:
            pass

    found = cpu_us_per_request(call, 0.05)
    assert found >= 1000
    assert len(calls) > 2
