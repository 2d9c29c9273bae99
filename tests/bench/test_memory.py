from __future__ import annotations

import os

from bench.memory import Growth
from bench.programs import memory_bytes


def test_growth() -> None:
    growth = Growth(requests=1000, first_bytes=5_000_000, last_bytes=7_000_000)
    assert (growth.megabytes, growth.bytes_per_request) == (2.0, 2000.0)


def test_memory_of_a_process() -> None:
    held, peak = (memory_bytes(os.getpid(), name) for name in ("VmRSS", "VmHWM"))
    assert 1_000_000 < held <= peak


def test_a_process_that_is_gone_has_none() -> None:
    assert memory_bytes(1 << 30, "VmHWM") == 0


def test_only_a_run_of_full_length_is_judged() -> None:
    assert [Growth(n, 0, 11_000_000).verdict(1000) for n in (999, 1000)] == ["", "**no**"]
