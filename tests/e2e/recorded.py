"""Series that no short run on a machine without a GPU and without TLS can make: recorded, and reported to be so.

A baseline takes days to pin, a certificate needs TLS, a stream a model that streams, and tokens a language model. They
are served as a page of their own, with the labels of the daemon's series; what the daemon makes of a baseline, rules of
Prometheus make here. GPUs are read by the daemon itself, through the real client library, from a fake of the
driver's.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml

FAKE_DRIVER = Path(__file__).parents[1] / "server" / "fake_nvml.c"
JOB = "triton-canary"


def recorded_page(
    instance: str, *, target: str, probe: str, model: str, latency_ms: dict[str, tuple[float, float]]
) -> str:
    """`latency_ms` is the baseline: p50 and p99 of each level."""
    where = f'job="{JOB}",instance="{instance}",target="{target}"'
    lines = [f"triton_canary_certificate_expiry_timestamp_seconds{{{where}}} {time.time() + 40 * 86400}"]
    for level, (p50, p99) in latency_ms.items():
        of = f'{where},probe="{probe}",model="{model}",mode="concurrency",level="{level}"'
        lines += [
            f'triton_canary_baseline_latency_seconds{{{of},percentile="50"}} {p50 / 1000}',
            f'triton_canary_baseline_latency_seconds{{{of},percentile="99"}} {p99 / 1000}',
            f'triton_canary_regression_component_seconds{{{of},component="compute_infer"}} 0.0041',
            f'triton_canary_regression_component_seconds{{{of},component="queue"}} 0.0006',
            f'triton_canary_first_response_seconds{{{of},percentile="99"}} 0.012',
            f'triton_canary_inter_response_seconds{{{of},percentile="99"}} 0.005',
            f"triton_canary_tls_handshake_seconds{{{of}}} 0.004",
            *_in_tokens(of),
        ]
    whole = f'{where},probe="{probe}",model="{model}"'
    lines += [
        f"triton_canary_{kind}_tokens_total{{{whole}}} 1000" for kind in ("prompt", "generation", "cached_prompt")
    ]
    return "\n".join(lines) + "\n"


def _in_tokens(of: str) -> list[str]:
    """A level of a language model: none is served in the chain."""
    times = {
        "time_to_stream_open": (5, 9),
        "time_to_first_token": (40, 90),
        "time_per_output_token": (8, 12),
        "inter_token_latency": (7, 30),
        "baseline_time_to_first_token": (38, 80),
        "baseline_time_per_output_token": (8, 11),
    }
    plain = {
        "output_tokens_per_second": 480,
        "output_chunks_per_second": 470,
        "goodput_requests_per_second": 7,
        "prompt_cached_ratio": 0.1,
        "early_end_ratio": 0.02,
        "server_running_requests_max": 4,
        "server_kv_cache_usage_ratio": 0.3,
    }
    lines = [
        f'triton_canary_{name}_seconds{{{of},percentile="{percentile}"}} {value / 1000}'
        for name, values in times.items()
        for percentile, value in zip(("50", "99"), values, strict=True)
    ]
    if 'level="1"' in of:
        del plain["output_tokens_per_second"]  # there, not counted
    return lines + [f"triton_canary_{name}{{{of}}} {value}" for name, value in plain.items()]


@contextmanager
def serving(page: str) -> Iterator[str]:
    """Serves the page at the address that it gives."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "text/plain; version=0.0.4")
            self.end_headers()
            self.wfile.write(page.encode())

        def log_message(self, *args: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


def scrape_job(address: str) -> dict[str, Any]:
    """The page's own labels of job and instance are kept: its series are next to the daemon's."""
    return {"job_name": "recorded", "honor_labels": True, "static_configs": [{"targets": [address]}]}


def verdict_rules(folder: Path) -> Path:
    """What the daemon's verdict is made of, as far as two panels need it."""
    on = "on (job, instance, target, probe, model, mode, level)"
    rules = [
        {
            "record": "triton_canary_baseline_ratio",
            "labels": {"signal": f"latency_p{percentile}"},
            "expr": f'sum without (percentile) (triton_canary_latency_seconds{{percentile="{percentile}"}}) / {on} '
            f'sum without (percentile) (triton_canary_baseline_latency_seconds{{percentile="{percentile}"}})',
        }
        for percentile in ("50", "99")
    ]
    tiers = {"page": ("latency_p50", 1.3), "warn": ("latency_p99", 1.15)}
    rules += [
        {
            "record": "triton_canary_regression",
            "labels": {"tier": tier},
            "expr": f'triton_canary_baseline_ratio{{signal="{signal}"}} > bool {limit}',
        }
        for tier, (signal, limit) in tiers.items()
    ]
    path = folder / "rules.yaml"
    path.write_text(yaml.safe_dump({"groups": [{"name": "recorded", "rules": rules}]}))
    return path


@contextmanager
def fake_driver(folder: Path) -> Iterator[None]:
    """Processes started meanwhile find the fake where they look for the GPU driver's library."""
    assert shutil.which("gcc") is not None, "gcc is not installed"
    library = folder / "libnvidia-ml.so.1"
    subprocess.run(["gcc", "-shared", "-fPIC", "-w", "-o", str(library), str(FAKE_DRIVER)], check=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LD_LIBRARY_PATH", str(folder), prepend=os.pathsep)
        yield
