"""The bounds of metrics pages."""

from __future__ import annotations

import asyncio
import time

import pytest

from exporter.server.metrics import PageError, parse_page
from tests.hostile.exceed.registry import exceeds
from tests.server.test_metrics import endless, read_from, trickle
from tests.transport.scripted import serving

LINE = 'nv_inference_count{model="m",version="1"} 1\n'


def refused(page: str, text: str) -> None:
    with pytest.raises(PageError, match=text):
        parse_page(page, 0, "m")


@exceeds("PAGE_BYTES")
async def page_bytes() -> None:
    async with serving(endless) as port:
        assert (await read_from(port)).error == "is larger than 8 MiB"


@exceeds("PAGE_MS")
async def page_ms() -> None:
    async with serving(trickle) as port:
        began = time.monotonic()
        async with asyncio.timeout(60):
            assert (await read_from(port)).error == "was not there within 2 s"
        assert time.monotonic() - began >= 2


@exceeds("PAGE_LINES")
def page_lines() -> None:
    refused(LINE * 2001, "has more than 2000 lines")
    refused(LINE * 150_000, "has more than 2000 lines")


@exceeds("PAGE_LINE")
def page_line() -> None:
    refused(LINE[:-3] + " " * 8192 + "1\n", "line 1 has more than 8192 characters")
    refused(LINE[:-3] + " " * (8 << 20) + "1\n", "line 1 has more than 8192 characters")


@exceeds("PAGE_LABELS")
def page_labels() -> None:
    labels = ",".join(f'l{number}="v"' for number in range(64))
    refused(f'nv_inference_count{{model="m",{labels}}} 1\n', "line 1 has more than 64 labels")


@exceeds("PAGE_PARSE_MS")
def page_parse_ms() -> None:
    """Lines within their bounds whose escapes are slow to read."""
    line = 'nv_inference_count{model="m",x="' + r"\\" * 4000 + '"} 1\n'
    began = time.thread_time()
    refused(line * ((8 << 20) // len(line)), "takes more than 500 ms to parse")
    assert time.thread_time() - began < 5


@exceeds("PAGE_GPUS")
def page_gpus() -> None:
    page = "".join(f'nv_gpu_utilization{{gpu_uuid="{number}"}} 0.5\n' for number in range(1500))
    assert len(parse_page(page, 0, "m").gpus) == 16
