"""A metrics page, good and hostile: right figures, or one clear line; within bounds of memory and time."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import resource
import threading
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from exporter.core.bounds import PAGE_BYTES, PAGE_LABELS, PAGE_LINE, PAGE_LINES
from exporter.core.facts import GpuReading, GpuSource, ServerReading
from exporter.core.target import TlsOptions
from exporter.core.units import NS
from exporter.server import metrics
from exporter.server.metrics import PageError, PageReader, parse_page
from tests.builders import make_target
from tests.transport.certificates import Certificates
from tests.transport.scripted import Script, serving
from tests.waiting import PATIENCE_SECONDS

PAGE = (Path(__file__).parent / "triton-2gpu-written.txt").read_text()
"""Written by hand, with each family that we take; commands/analyze/report/test_gpus.py has one that a server wrote."""


def test_the_page_of_a_triton_with_two_gpus() -> None:
    reading = parse_page(PAGE, 7, "resnet")
    assert (reading.at_ns, reading.from_page, reading.error) == (7, True, "")
    assert reading.gpus == (
        GpuReading("GPU-1a2b", GpuSource.TRITON, 0.85, 312.5, 17179869184.0, 85520809984.0, 123456.789),
        GpuReading("GPU-3c4d", GpuSource.TRITON, 0.0, 71.25, 536870912.0, 85520809984.0, 5000.0),
    )
    assert reading.gauges == {
        "pending_requests": 5.0,
        "request_seconds_p50": pytest.approx(0.0017),
        "request_seconds_p99.9": pytest.approx(0.009),
        "pinned_memory_total_bytes": 268435456.0,
        "pinned_memory_used_bytes": 1048576.0,
        "cpu_utilization_ratio": 0.125,
        "cpu_memory_total_bytes": 137438953472.0,
        "cpu_memory_used_bytes": 34359738368.0,
    }
    assert reading.counters == {
        "requests_succeeded": 1750.0,
        "requests_failed": 7.0,
        "inferences": 8000.0,
        "queue_seconds": pytest.approx(2.5),
        "first_responses": 10.0,
        "first_response_seconds": pytest.approx(0.25),
        "first_responses_within_0.1_seconds": 9.0,
        "first_responses_within_inf_seconds": 10.0,
    }


def test_one_version_alone() -> None:
    reading = parse_page(PAGE, 0, "resnet", "2")
    assert (reading.counters, reading.gauges["pending_requests"]) == ({"requests_succeeded": 250.0}, 2.0)


def test_a_dcgm_exporters_page() -> None:
    labels = 'gpu="0",UUID="GPU-1a2b",device="nvidia0",modelName="NVIDIA H100"'
    page = f"""# TYPE DCGM_FI_DEV_GPU_UTIL gauge
DCGM_FI_DEV_GPU_UTIL{{{labels}}} 85
DCGM_FI_DEV_POWER_USAGE{{{labels}}} 312.5
DCGM_FI_DEV_FB_USED{{{labels}}} 1024
DCGM_FI_DEV_FB_FREE{{{labels}}} 3000
DCGM_FI_DEV_FB_RESERVED{{{labels}}} 72
DCGM_FI_DEV_GPU_TEMP{{{labels}}} 61
DCGM_FI_DEV_SM_CLOCK{{{labels}}} 1410
# TYPE DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION counter
DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION{{{labels}}} 5000000
DCGM_FI_DEV_FB_USED{{{labels},GPU_I_PROFILE="1g.10gb",GPU_I_ID="7"}} 10
"""
    assert parse_page(page, 0, "m").gpus == (
        GpuReading("GPU-1a2b", GpuSource.DCGM, 0.85, 312.5, 2.0**30, 2.0**32, 5000.0, 61.0, 1.41e9),
        GpuReading("GPU-1a2b/7", GpuSource.DCGM, memory_used_bytes=10 * 2.0**20),
    )


@pytest.mark.parametrize(
    "line",
    [
        "nv_cpu_utilization NaN",
        "nv_cpu_utilization +Inf",
        "nv_cpu_utilization -1",
        "nv_cpu_utilization 1e300",
        'nv_gpu_utilization{gpu_uuid="G"} NaN',
        "nv_gpu_utilization 0.5",
        'nv_gpu_utilization{gpu_uuid=""} 0.5',
        'nv_gpu_utilization{uuid="G"} 0.5',
        f'nv_gpu_utilization{{gpu_uuid="{"x" * 200}"}} 0.5',
        'nv_inference_count{version="1"} 5',
        'nv_inference_count{model="mm",version="1"} 5',
        'nv_inference_request_summary_us{model="m",quantile="half"} 5',
        'nv_inference_first_response_histogram_ms_bucket{model="m"} 5',
        "something_else 5",
    ],
)
def test_what_cannot_be_a_figure_is_left_out(line: str) -> None:
    assert parse_page(f"{line}\n", 0, "m") == ServerReading(0, True)


def test_a_utilization_above_one_is_left_out_and_the_gpu_is_not() -> None:
    (gpu,) = parse_page('nv_gpu_utilization{gpu_uuid="G"} 85\nnv_gpu_power_usage{gpu_uuid="G"} 3\n', 0, "m").gpus
    assert gpu == GpuReading("G", GpuSource.TRITON, None, 3.0)


def test_more_labels_exponents_and_time_stamps_are_fine() -> None:
    page = 'nv_gpu_memory_used_bytes{host="a",gpu_uuid="G",x="{}\\""} 1.7e+10 1395066363000\n'
    assert parse_page(page, 0, "m").gpus[0].memory_used_bytes == 1.7e10


def test_a_name_with_quotes_is_found() -> None:
    page = 'nv_inference_count{model="a \\"b\\"",version="1"} 5\n'
    assert parse_page(page, 0, 'a "b"').counters == {"inferences": 5.0}


def test_at_most_16_gpus() -> None:
    page = "".join(f'nv_gpu_utilization{{gpu_uuid="{number}"}} 0.5\n' for number in range(20))
    assert [gpu.uuid for gpu in parse_page(page, 0, "m").gpus] == [str(number) for number in range(16)]


@pytest.mark.parametrize(
    ("page", "text"),
    [
        ("<html>\n<body>no</body>\n", None),
        ('nv_cpu_utilization "half"\n', "line 1 cannot be parsed: 'nv_cpu_utilization \"half\"'"),
        (
            '# x\nnv_gpu_utilization{gpu_uuid="G} 0.5\n',
            "line 2 cannot be parsed: 'nv_gpu_utilization{gpu_uuid=\"G} 0.5'",
        ),
        ('nv_inference_count{model="m"} \n', "line 1 cannot be parsed: 'nv_inference_count{model=\"m\"}'"),
        ("# HELP only\n", "holds no samples"),
        ('nv_inference_count{model="m"} 1\n' * (PAGE_LINES + 1), "has more than 2000 lines that may concern the model"),
    ],
)
def test_pages_of_no_use(page: str, text: str | None) -> None:
    if text is None:  # not ours to judge: it holds nothing that we know
        assert parse_page(page, 0, "m") == ServerReading(0, True)
        return
    with pytest.raises(PageError) as caught:
        parse_page(page, 0, "m")
    assert str(caught.value) == text


@pytest.mark.parametrize("name", ["m{}", "my_model_{}", "my-model.v2_{}", "{} of many"])
def test_a_page_of_ten_thousand_models_is_read_in_no_time(name: str) -> None:
    families = [f"nv_inference_{what}" for what in ("request_success", "count", "exec_count", "queue_duration_us")]
    models = [name.format(number) for number in range(10_000)]
    page = "".join(f'{family}{{model="{model}",version="1"}} 5\n' for family in families for model in models)
    assert parse_page(page, 0, name.format(77)).counters == {
        "requests_succeeded": 5.0,
        "inferences": 5.0,
        "executions": 5.0,
        "queue_seconds": pytest.approx(5e-6),
    }


# --- fetching --------------------------------------------------------------------------------------------------------


def response(body: bytes, *headers: str, status: str = "200 OK", length: int | None = None) -> Script:
    length = len(body) if length is None else length
    head = "".join(f"{line}\r\n" for line in (f"HTTP/1.1 {status}", f"Content-Length: {length}", *headers))

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(head.encode() + b"\r\n" + body)
        await writer.drain()

    return script


async def trickle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.readuntil(b"\r\n\r\n")
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
    while True:
        writer.write(b"#")
        await writer.drain()
        await asyncio.sleep(0.02)


async def trickled_head(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.readuntil(b"\r\n\r\n")
    writer.write(b"HTTP/1.1 200 OK\r\nX: ")
    while True:
        writer.write(b"x")
        await writer.drain()
        await asyncio.sleep(0.02)


async def trickled_status(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.readuntil(b"\r\n\r\n")
    while True:
        writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        await writer.drain()
        await asyncio.sleep(0.02)


async def trickled_without_length(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.readuntil(b"\r\n\r\n")
    writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
    while True:
        writer.write(b"#\n")
        await writer.drain()
        await asyncio.sleep(0.02)


async def endless(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """50 MB and more, in chunks, without stating how much."""
    await reader.readuntil(b"\r\n\r\n")
    writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    line = b'nv_inference_count{model="other"} 1\n' * 1800
    for _ in range(800):
        writer.write(f"{len(line):x}\r\n".encode() + line + b"\r\n")
        await writer.drain()


async def silence(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read()


async def close_at_once(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.close()


async def read_from(port: int, scheme: str = "http") -> ServerReading:
    page = PageReader(make_target(metrics_url=f"{scheme}://127.0.0.1:{port}/metrics"), "resnet", "")
    reading = await asyncio.to_thread(page.read)
    page.close()
    return reading


@asynccontextmanager
async def in_time(seconds: float) -> AsyncIterator[None]:
    async with asyncio.timeout(seconds):
        yield


GOOD = PAGE.encode()
BOMB = gzip.compress(b"#" * (64 << 20))


@pytest.mark.parametrize(
    ("script", "error"),
    [
        pytest.param(response(GOOD), "", id="good"),
        pytest.param(response(b""), "", id="empty"),
        pytest.param(response(GOOD, status="404 Not Found"), "responded 404", id="404"),
        pytest.param(response(GOOD[:-9]), "is cut off: its last line has no end", id="no last line feed"),
        pytest.param(response(GOOD, length=len(GOOD) + 5), "is cut off", id="truncated"),
        pytest.param(
            response(BOMB, "Content-Encoding: gzip"), "is compressed (gzip), though asked not to be", id="bomb"
        ),
        pytest.param(response(b"\xff\xfe\n"), "is not UTF-8 text: invalid start byte at byte 0", id="no text"),
        pytest.param(
            response(b"nv_cpu_utilization x\n"), "line 1 cannot be parsed: 'nv_cpu_utilization x'", id="garbage"
        ),
        pytest.param(endless, "is larger than 8 MiB", id="50 MB"),
        pytest.param(trickle, "was not there within 0.3 s", id="trickle"),
        pytest.param(trickled_head, "was not there within 0.3 s", id="trickled head"),
        pytest.param(trickled_status, "was not there within 0.3 s", id="status after status"),
        pytest.param(trickled_without_length, "was not there within 0.3 s", id="trickled, without its length"),
        pytest.param(silence, "was not there within 0.3 s", id="silence"),
        pytest.param(close_at_once, "cannot connect: ", id="closes"),
    ],
)
async def test_every_server_gives_figures_or_one_clear_line(
    script: Script, error: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(metrics, "TIMEOUT_NS", 3 * NS // 10)
    if script is endless:
        monkeypatch.setattr(metrics, "TIMEOUT_NS", 5 * NS)
    before_kb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    async with serving(script) as port, in_time(PATIENCE_SECONDS):
        reading = await read_from(port)
    assert error in reading.error if error else reading.error == ""
    assert "\n" not in reading.error
    assert bool(reading.gpus) is (script is not None and not error and reading.counters != {})
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before_kb < 64 << 10


async def test_a_trickled_head_ends_over_tls_and_a_kept_connection_too(
    certificates: Certificates, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(metrics, "TIMEOUT_NS", 3 * NS // 10)
    open_connections = 0

    async def good_then_trickled(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal open_connections
        open_connections += 1
        try:
            await response(GOOD)(reader, writer)
            await trickled_head(reader, writer)
        finally:
            open_connections -= 1

    async with serving(good_then_trickled, certificates.server_context()) as port, in_time(PATIENCE_SECONDS):
        url = f"https://127.0.0.1:{port}/metrics"
        page = PageReader(make_target(metrics_url=url, tls=TlsOptions(ca_file=str(certificates.ca))), "resnet", "")
        errors = [(await asyncio.to_thread(page.read)).error for _ in range(3)]
        page.close()
        while open_connections:
            await asyncio.sleep(0.01)
    assert errors == ["", "was not there within 0.3 s", ""]
    assert not [thread for thread in threading.enumerate() if thread.name == "page-deadline"]


async def test_its_connection_is_closed_at_once_whoever_has_an_earlier_error() -> None:
    """An exception has its frames, and they have urllib3's pool: what waits for the pool's end waits for long."""
    hung_up, ended = False, asyncio.Event()

    async def hang_up_once(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal hung_up
        if not hung_up:
            hung_up = True
            return
        await response(GOOD)(reader, writer)
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            await reader.readuntil(b"\r\n\r\n")
        ended.set()

    async with serving(hang_up_once) as port, in_time(PATIENCE_SECONDS):
        page = PageReader(make_target(metrics_url=f"http://127.0.0.1:{port}/metrics"), "resnet", "")
        with pytest.raises(PageError, match="cannot connect: ") as earlier:
            await asyncio.to_thread(page.fetch)
        assert (await asyncio.to_thread(page.read)).error == ""
        assert not ended.is_set()
        page.close()
        await ended.wait()
    assert earlier.tb is not None


async def test_nothing_listens(unused_tcp_port: int) -> None:
    assert (await read_from(unused_tcp_port)).error == "cannot connect: connection refused"


async def test_an_untrusted_server(certificates: Certificates) -> None:
    async with serving(response(GOOD), certificates.server_context()) as port:
        assert (await read_from(port, "https")).error.startswith("TLS failed: ")


@pytest.mark.parametrize("of", ["certificates", "plain_certificates"])
async def test_our_own_authority_is_trusted(of: str, request: pytest.FixtureRequest) -> None:
    certificates: Certificates = request.getfixturevalue(of)
    async with serving(response(GOOD), certificates.server_context()) as port:
        target = make_target(
            metrics_url=f"https://127.0.0.1:{port}/metrics", tls=TlsOptions(ca_file=str(certificates.ca))
        )
        page = PageReader(target, "resnet", "")
        before_ns = time.monotonic_ns()
        reading = await asyncio.to_thread(page.read)
        page.close()
    assert (reading.error, len(reading.gpus)) == ("", 2)
    assert before_ns < reading.at_ns < time.monotonic_ns()


# --- what may not happen ---------------------------------------------------------------------------------------------


def line_of(labels: int, length: int = 0) -> str:
    others = ",".join(f'l{number}="v"' for number in range(labels - 1))
    return f'nv_inference_count{{model="resnet",{others}}} 1{" " * length}\n'


@pytest.mark.parametrize(
    ("page", "text"),
    [
        pytest.param(line_of(PAGE_LABELS + 1), "line 1 has more than 64 labels", id="labels"),
        pytest.param(line_of(40_000), "line 1 has more than 8192 characters", id="very many labels"),
        pytest.param(line_of(2, PAGE_LINE), "line 1 has more than 8192 characters", id="a long line"),
        pytest.param(
            'nv_inference_count{model="resnet",x="' + r"\\" * 4000 + '"} 1\n',
            "takes more than 500 ms to parse",
            id="escapes",
        ),
        pytest.param("\n", "takes more than 500 ms to parse|holds no samples", id="empty lines"),
    ],
)
def test_a_page_is_parsed_in_bounded_time(page: str, text: str) -> None:
    """A page of 2.6 MiB in one line took 23 s, and on in a thread of the worker when the sweep was over."""
    begin_ns = time.thread_time_ns()
    with pytest.raises(PageError, match=text):
        parse_page(page * (PAGE_BYTES // len(page)), 0, "resnet")
    assert time.thread_time_ns() - begin_ns < 7 * NS // 10


def test_the_labels_that_are_allowed_are_read() -> None:
    assert parse_page(line_of(PAGE_LABELS), 0, "resnet").counters == {"inferences": 1.0}


async def test_a_page_being_parsed_is_let_go_when_the_sweep_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metrics, "PAGE_PARSE_MS", 60_000)
    page = ('nv_inference_count{model="resnet",x="' + r"\\" * 4000 + '"} 1\n') * 1000
    async with serving(response(page.encode())) as port, in_time(10):
        reader = PageReader(make_target(metrics_url=f"http://127.0.0.1:{port}/metrics"), "resnet", "")
        reading = asyncio.create_task(asyncio.to_thread(reader.read))
        await asyncio.sleep(0.3)
        assert not reading.done()
        reader.stop()
        begin_ns = time.monotonic_ns()
        assert (await reading).error == "is not read to its end: the sweep is over"
        assert time.monotonic_ns() - begin_ns < NS
        reader.close()


async def test_a_silent_page_is_let_go_when_the_sweep_ends() -> None:
    async with serving(silence) as port, in_time(10):
        reader = PageReader(make_target(metrics_url=f"http://127.0.0.1:{port}/metrics"), "resnet", "")
        reading = asyncio.create_task(asyncio.to_thread(reader.read))
        await asyncio.sleep(0.3)
        reader.stop()
        begin_ns = time.monotonic_ns()
        assert (await reading).error
        assert time.monotonic_ns() - begin_ns < NS
        reader.close()


async def test_a_redirect_is_an_error_that_shows_where_to() -> None:
    async with serving(response(GOOD)) as elsewhere:
        moved = response(b"", f"Location: http://127.0.0.1:{elsewhere}/m", status="302 Found")
        async with serving(moved) as port:
            error = (await read_from(port)).error
    assert error == f"got 302, a redirect to http://127.0.0.1:{elsewhere}/m, which is not followed"


async def test_nothing_of_the_environment_reaches_a_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither a password in ~/.netrc, nor a proxy, nor a list of authorities."""
    (tmp_path / ".netrc").write_text("machine 127.0.0.1 login me password s3cret\n")
    monkeypatch.setenv("NETRC", str(tmp_path / ".netrc"))
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    seen: list[bytes] = []

    async def good(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        seen.append(head)
        replay = asyncio.StreamReader()
        replay.feed_data(head)
        await response(GOOD)(replay, writer)

    async with serving(good) as port, in_time(10):
        assert (await read_from(port)).error == ""
    assert b"authorization" not in seen[0].lower()
