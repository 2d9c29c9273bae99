"""The server's side of real sweeps on a real Triton: what it reports, whose requests these were, and what breaks it."""

from __future__ import annotations

import asyncio
import dataclasses
import shutil
import time
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tritonclient.http
import tritonclient.http.aio

from exporter.core.outcome import Outcome, Reason
from exporter.core.probe import LoadLevel, MeasurementOptions, Probe, StopRules
from exporter.core.result import Measurement, SweepResult, WindowSummary
from exporter.core.units import MS, NS
from exporter.demo.triton import MODELS, EmbeddedTriton
from exporter.sweep.conductor import Sweep
from exporter.sweep.stability import Stability
from exporter.sweep.watcher import Watcher
from exporter.worker.local import LocalWorker
from tests.builders import concurrency, make_probe, make_target
from tests.conftest import TritonFactory
from tests.transport.scripted import serving
from tests.waiting import PATIENCE_SECONDS, patient


def probe_of(
    triton: EmbeddedTriton, model: str, *levels: int, window_ms: float = 300, scheme: str = "http", **changes: Any
) -> Probe:
    port = triton.grpc_port if scheme == "grpc" else triton.http_port
    target = make_target(scheme=scheme, port=port, metrics_url=triton.metrics_url, metrics_interval_ns=100 * MS)
    options = MeasurementOptions(window_ns=round(window_ms * MS), stability_ratio=1.0, request_timeout_ns=5 * NS)
    values: dict[str, Any] = {
        "target": target,
        "model": model,
        "levels": tuple(map(concurrency, levels)),
        "measurement": options,
        "stop": StopRules(max_in_flight=64),
    }
    return make_probe(**(values | changes))


async def swept(worker: LocalWorker, probe: Probe, watcher: Watcher | None = None) -> SweepResult:
    async with asyncio.timeout(PATIENCE_SECONDS):
        return await Sweep(probe, [], watchers=[watcher] if watcher else []).run(lambda: nullcontext(worker))


def mean_ns(measurement: Measurement) -> float:
    assert measurement.latency is not None
    return measurement.latency.mean_ns


@pytest.fixture
def own_triton(triton_factory: TritonFactory, tmp_path: Path) -> EmbeddedTriton:
    """A server with the delay model alone, of 100 ms: long beside what a busy machine adds. Without batches: two
    requests that a pause lets meet would get their responses together, and neither would wait for the other."""
    shutil.copytree(MODELS / "delay", tmp_path / "models" / "delay")
    config = tmp_path / "models" / "delay" / "config.pbtxt"
    config.write_text(config.read_text().replace('"10"', '"100"').replace("dynamic_batching { }", ""))
    server = triton_factory(models=tmp_path / "models", model_control=True)
    server.start()
    return server


async def test_the_breakdown_of_the_delay_model(worker: LocalWorker, own_triton: EmbeddedTriton) -> None:
    result = await swept(worker, probe_of(own_triton, "delay", 1, 2, window_ms=500))
    alone, queued = result.measurements
    for measurement in result.measurements:
        total_ns = sum(measurement.breakdown_ns.values()) - measurement.negative_remainder_ns
        assert total_ns == pytest.approx(mean_ns(measurement), rel=1e-9)
        assert measurement.foreign_requests == 0
        assert measurement.server_note == ""
    # Not below what the model sleeps; a busy machine adds to it.
    assert 99 * MS < alone.breakdown_ns["compute_infer"] < patient(140) * MS
    assert alone.breakdown_ns["queue"] < patient(50) * MS
    # One instance: each waits for the other.
    assert 80 * MS < queued.breakdown_ns["queue"] < patient(160) * MS
    assert alone.server is not None
    assert [batch.size for batch in alone.server.batches] == [1]
    assert alone.server.batches[0].executions == alone.server.execution_count


@pytest.mark.parametrize("scheme", ["http", "grpc"])
async def test_alone_at_32_there_is_no_foreign_request(
    worker: LocalWorker, triton: EmbeddedTriton, scheme: str
) -> None:
    (measurement,) = (await swept(worker, probe_of(triton, "addsub", 32, scheme=scheme))).measurements
    assert measurement.server is not None
    assert measurement.foreign_requests == 0
    assert "queue" in measurement.breakdown_ns


async def test_a_decoupled_model_is_counted_by_requests(worker: LocalWorker, triton: EmbeddedTriton) -> None:
    """As they begin, long before their last responses: no more are amiss than were in flight."""
    probe = probe_of(triton, "repeat", 8, scheme="grpc", streaming=True)
    (measurement,) = (await swept(worker, probe)).measurements
    assert measurement.server is not None
    assert measurement.server.success.count == pytest.approx(measurement.outcomes[Outcome.OK], abs=8)
    assert (measurement.foreign_requests, measurement.server_note) == (0, "")


async def test_the_parts_of_an_ensemble(worker: LocalWorker, triton: EmbeddedTriton) -> None:
    result = await swept(worker, probe_of(triton, "pipeline", 2))
    assert result.facts is not None
    assert [key.name for key in result.facts.composing] == ["addsub", "identity"]
    (measurement,) = result.measurements
    server, parts = measurement.server, measurement.composing
    assert server is not None
    assert [part.name for part in parts] == ["addsub", "identity"]
    for part in parts:
        # They are asked one after the other, which takes longer on a machine that is in use.
        assert part.success.count == pytest.approx(server.success.count, abs=8, rel=0.02)
    # Triton's own account of the ensemble is the sum of its parts' own statistics.
    for name in ("compute_input", "compute_infer", "compute_output"):
        total_ns = sum(getattr(part, name).ns for part in parts)
        assert getattr(server, name).ns == pytest.approx(total_ns, rel=0.05)
    breakdown = measurement.breakdown_ns
    assert not {"compute_infer", "compute_input", "compute_output"} & breakdown.keys()
    assert 0 < breakdown["composing"] <= server.success.ns / server.success.count
    assert sum(breakdown.values()) - measurement.negative_remainder_ns == pytest.approx(mean_ns(measurement))


async def test_named_composing_models_are_followed(worker: LocalWorker, triton: EmbeddedTriton) -> None:
    named = ("pipeline:1", "vad", "addsub:1")
    result = await swept(worker, probe_of(triton, "delay", 1, composing_models=named))
    assert result.facts is not None
    followed = [("pipeline", "1"), ("vad", ""), ("addsub", "1"), ("addsub", ""), ("identity", "")]
    assert [(key.name, key.version) for key in result.facts.composing] == followed
    # None of them was called: nothing is informed of them, and the delay model is no ensemble.
    (measurement,) = result.measurements
    assert measurement.composing == ()
    assert "compute_infer" in measurement.breakdown_ns
    for name, reported in (("nosuch", "nosuch"), ("addsub:7", "version 7")):
        unknown = await swept(worker, probe_of(triton, "delay", 1, composing_models=(name,)))
        assert unknown.measurements == ()
        assert reported in unknown.reason_text


@pytest.mark.parametrize("scheme", ["http", "grpc"])
async def test_a_second_client_is_foreign_traffic(worker: LocalWorker, triton: EmbeddedTriton, scheme: str) -> None:
    ended_unix_s: list[float] = []

    async def second_client() -> None:
        inputs = [tritonclient.http.InferInput(name, [1, 16], "FP32") for name in ("INPUT0", "INPUT1")]
        for entry in inputs:
            entry.set_data_from_numpy(np.zeros((1, 16), np.float32))
        async with tritonclient.http.aio.InferenceServerClient(f"127.0.0.1:{triton.http_port}") as client:
            while True:
                await client.infer("addsub", inputs)
                ended_unix_s.append(time.time())

    other = asyncio.create_task(second_client())
    try:
        (measurement,) = (await swept(worker, probe_of(triton, "addsub", 1, window_ms=700, scheme=scheme))).measurements
    finally:
        other.cancel()
        await asyncio.gather(other, return_exceptions=True)
    server, foreign = measurement.server, measurement.foreign_requests
    assert server is not None
    assert foreign is not None
    judged = [window for window in measurement.window_summaries if window.judged]
    begin_s = judged[0].start_unix_s
    end_s = judged[-1].start_unix_s + judged[-1].duration_ns / NS
    truth = sum(begin_s < at_s <= end_s for at_s in ended_unix_s)
    assert truth > 100
    assert foreign / server.success.count == pytest.approx(truth / server.success.count, abs=0.03)
    # More than 5 %: the server's means are not of our requests alone.
    assert set(measurement.breakdown_ns) == {"client_send", "client_receive"}


async def test_the_metrics_page_of_a_real_server(worker: LocalWorker, triton: EmbeddedTriton) -> None:
    (measurement,) = (await swept(worker, probe_of(triton, "delay", 4))).measurements
    page = measurement.server_metrics
    assert page is not None
    assert (page.up, page.failed, page.error) == (True, 0, "")
    assert page.readings >= 4
    assert page.cpu_utilization_ratio is not None
    assert 0 <= page.cpu_utilization_ratio <= 1
    assert page.cpu_memory_used_bytes is not None
    assert page.cpu_memory_used_bytes > 1 << 20
    assert page.pinned_memory_used_bytes is not None
    assert page.pending_requests_max is not None
    assert 0 <= page.pending_requests_max <= 4
    assert page.rates["requests_succeeded"] == pytest.approx(measurement.throughput, rel=0.15)
    assert page.rates["compute_infer_seconds"] == pytest.approx(measurement.throughput * 0.01, rel=0.2)
    assert measurement.gpu == ()


async def test_a_dead_metrics_page_is_no_failure(
    worker: LocalWorker, triton: EmbeddedTriton, unused_tcp_port: int
) -> None:
    probe = probe_of(triton, "delay", 1)
    url = f"http://127.0.0.1:{unused_tcp_port}/metrics"
    probe = dataclasses.replace(probe, target=dataclasses.replace(probe.target, metrics_url=url))
    result = await swept(worker, probe)
    assert result.usable
    (measurement,) = result.measurements
    page = measurement.server_metrics
    assert page is not None
    assert (page.up, page.error, page.rates) == (False, "cannot connect: connection refused", {})
    assert page.failed == page.readings >= 4
    assert "queue" in measurement.breakdown_ns


async def test_a_silent_metrics_page_is_down_however_short_the_windows(
    worker: LocalWorker, triton: EmbeddedTriton
) -> None:
    async def silence(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
        await reader.read()

    probe = probe_of(triton, "delay", 1, window_ms=300)
    async with serving(silence) as port:
        target = dataclasses.replace(probe.target, metrics_url=f"http://127.0.0.1:{port}/metrics")
        (measurement,) = (await swept(worker, dataclasses.replace(probe, target=target))).measurements
    page = measurement.server_metrics
    assert page is not None
    assert (page.up, page.failed) == (False, page.readings)
    assert page.error in ("was not there at the window's edge", "was not there within 2 s")
    assert "queue" in measurement.breakdown_ns


async def reload(triton: EmbeddedTriton) -> None:
    client = tritonclient.http.aio.InferenceServerClient(f"127.0.0.1:{triton.http_port}")
    await client.unload_model("delay")
    await client.load_model("delay")
    await client.close()


async def restart(triton: EmbeddedTriton) -> None:
    await asyncio.to_thread(triton.kill)
    await asyncio.to_thread(triton.start)


class FirstWindow(Watcher):
    """Waits for the end of the first measured window."""

    def __init__(self) -> None:
        self.ended = asyncio.Event()

    def window_judged(self, level: LoadLevel, summary: WindowSummary, verdict: Stability) -> None:
        self.ended.set()


async def test_reload_and_restart_in_mid_window_give_a_reason_and_no_figure(
    worker: LocalWorker, own_triton: EmbeddedTriton
) -> None:
    cases = ((reload, 1500, "http"), (reload, 1500, "grpc"), (restart, 4000, "http"))
    for breaks, window_ms, scheme in cases:
        options = MeasurementOptions(window_ns=window_ms * MS, stability_windows=2, max_windows=2)
        stop = StopRules(max_in_flight=2, max_error_ratio=1.0)
        probe = probe_of(own_triton, "delay", 2, measurement=options, stop=stop, scheme=scheme)
        # So that its counters are not 0 before.
        await swept(worker, probe_of(own_triton, "delay", 2))
        watcher = FirstWindow()
        sweep = asyncio.create_task(swept(worker, probe, watcher))
        await asyncio.wait_for(watcher.ended.wait(), 60)
        await breaks(own_triton)
        (measurement,) = (await sweep).measurements
        assert measurement.server is None
        assert "restarted" in measurement.server_note
        assert measurement.foreign_requests is None
        assert set(measurement.breakdown_ns) == {"client_send", "client_receive"}
        page = measurement.server_metrics
        assert page is not None
        # A rate is between readings of one life of the server, or there is none.
        assert all(0 <= rate < 1000 for rate in page.rates.values())


@pytest.mark.parametrize("scheme", ["http", "grpc"])
async def test_a_new_version_in_mid_sweep_is_not_measured_as_the_old_one(
    worker: LocalWorker, own_triton: EmbeddedTriton, tmp_path: Path, scheme: str
) -> None:
    """Triton loads the new version, and moves all requests to it without an error."""
    models = tmp_path / "models" / "delay"
    options = MeasurementOptions(window_ns=2 * NS, stability_windows=3, stability_ratio=1.0)
    probe = probe_of(own_triton, "delay", 2, measurement=options, scheme=scheme)
    watcher = FirstWindow()
    sweep = asyncio.create_task(swept(worker, probe, watcher))
    await asyncio.wait_for(watcher.ended.wait(), PATIENCE_SECONDS)
    shutil.copytree(models / "1", models / "2")
    client = tritonclient.http.aio.InferenceServerClient(f"127.0.0.1:{own_triton.http_port}")
    await client.load_model("delay")
    await client.close()
    result = await sweep
    assert (result.reason, result.measurements) == (Reason.MODEL_CHANGED, ()), result.reason_text
    assert "from version 1 to 2" in result.reason_text
    assert result.sent == sum(result.outcomes.values()) > 0
    after = await swept(worker, probe_of(own_triton, "delay", 2, scheme=scheme))
    assert after.facts is not None
    assert (after.facts.version, len(after.measurements)) == ("2", 1)
    assert after.measurements[0].server is not None
    assert after.measurements[0].server.version == "2"


async def test_summaries_of_a_real_server_are_shown_and_never_joined(
    worker: LocalWorker, triton_factory: TritonFactory
) -> None:
    """They are of a window of the server's own: its first requests, ten at once, are still in its p99 when those that
    are measured never wait."""
    server = triton_factory(extra_arguments=("--metrics-config=summary_latencies=true",))
    server.start()
    await swept(worker, probe_of(server, "delay", 10))
    result = await swept(worker, probe_of(server, "delay", 1))
    (measurement,) = result.measurements
    page = measurement.server_metrics
    assert page is not None
    assert page.gauges["queue_seconds_p99"] > 0.005
    assert measurement.breakdown_ns["queue"] < page.gauges["queue_seconds_p99"] * NS / 2
    # This server has no histogram, and a summary is none.
    assert page.percentiles == {}
