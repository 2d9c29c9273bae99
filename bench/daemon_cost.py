"""What the daemon itself costs: start-up, idling with 1000 probes, scrapes of large pages, and what scraping does to a
sweep that runs meanwhile.

    python -m bench.daemon_cost [--idle-seconds 60] [--rounds 5]

Prints Markdown tables. The aims are those of the project's first issue: help 0.5 s, ready 2 s, idle 0.5 % of a core and
120 MB, a scrape of 10,000 series 0.1 s, of 50,000 0.5 s, one with nothing new 0.05 s, p50 within 2 % under scraping.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any

import yaml

from exporter.demo.triton import EmbeddedTriton, free_ports
from exporter.demo.triton_environment import make_environment

DAEMON = (sys.executable, "-m", "exporter", "serve", "--config")
NEVER = {"cron": "0 0 1 1 *"}
PATIENCE_SECONDS = 60.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--idle-seconds", type=float, default=60.0)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    print("| what | measured | aim |\n|---|---|---|")
    print(f"| `triton-canary --help`, median of {options.rounds} | {_help_seconds(options.rounds):.2f} s | 0.5 s |")
    for count in (1, 1000):
        print(f"| start to ready, {count} probes | {_ready_seconds(count, options.rounds):.2f} s | 2 s |", flush=True)
    cpu_ratio, megabytes = _idle(1000, options.idle_seconds)
    print(f"| idle cpu, 1000 probes, {options.idle_seconds:.0f} s | {cpu_ratio * 100:.2f} % of a core | 0.5 % |")
    print(f"| idle memory (RSS), 1000 probes | {megabytes:.0f} MB | 120 MB |", flush=True)
    for probes, aim in ((78, "0.1 s"), (390, "0.5 s")):
        _print_scrapes(probes, aim, options.rounds)
    _print_scraping_effect(options.rounds)


# --- start and idle --------------------------------------------------------------------------------------------------


def _help_seconds(rounds: int) -> float:
    times = []
    for _ in range(rounds):
        started = time.monotonic()
        subprocess.run([sys.executable, "-m", "exporter", "--help"], check=True, stdout=subprocess.DEVNULL)
        times.append(time.monotonic() - started)
    return median(times)


def _ready_seconds(probes: int, rounds: int) -> float:
    times = []
    for _ in range(rounds):
        started = time.monotonic()
        with daemon(_idle_configuration(probes)):
            times.append(time.monotonic() - started)
    return median(times)


def _idle(probes: int, seconds: float) -> tuple[float, float]:
    """Cpu in cores and RSS in MB of a daemon that has nothing to do, a settling time after its start."""
    with daemon(_idle_configuration(probes)) as (_, pid):
        time.sleep(5)
        before = cpu_seconds(pid)
        time.sleep(seconds)
        return (cpu_seconds(pid) - before) / seconds, rss_megabytes(pid)


def _idle_configuration(probes: int) -> dict[str, Any]:
    return {
        "targets": [{"name": "triton", "url": "http://127.0.0.1:9"}],
        "probes": [
            {"name": f"probe-{n}", "target": "triton", "model": f"model-{n}", "load": {"concurrency": 1}}
            for n in range(probes)
        ],
        "defaults": {"schedule": NEVER},
    }


def cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def rss_megabytes(pid: int) -> float:
    (line,) = [line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("VmRSS:")]
    return int(line.split()[1]) / 1024


@contextmanager
def daemon(configuration: dict[str, Any], *arguments: str) -> Iterator[tuple[int, int]]:
    """A daemon that is ready: its port and pid."""
    (port,) = free_ports(1)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "canary.yaml")
        settings = {"data_directory": folder, "web": {"listen": f"127.0.0.1:{port}"}, "log": {"level": "error"}}
        path.write_text(yaml.dump(settings | configuration, Dumper=yaml.CSafeDumper))
        process = subprocess.Popen([*DAEMON, str(path), *arguments])
        try:
            deadline = time.monotonic() + PATIENCE_SECONDS
            while get(port, "/-/ready") is None:
                if time.monotonic() > deadline or process.poll() is not None:
                    raise SystemExit("the daemon does not become ready")
                time.sleep(0.01)
            yield port, process.pid
        finally:
            process.terminate()
            process.wait()


def get(port: int, path: str, headers: dict[str, str] | None = None) -> bytes | None:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE_SECONDS)
    try:
        connection.request("GET", path, headers=headers or {})
        response = connection.getresponse()
        body = response.read()
        return body if response.status == 200 else None
    except OSError:
        return None
    finally:
        connection.close()


# --- scrapes ---------------------------------------------------------------------------------------------------------


def _print_scrapes(probes: int, aim: str, rounds: int) -> None:
    """Scrapes over HTTP of a page server with made-up results; gzip, as Prometheus asks."""
    with subprocess.Popen(
        [sys.executable, "-m", "bench.page_server", str(probes)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as server:
        assert server.stdin is not None
        assert server.stdout is not None
        port, series = map(int, server.stdout.readline().split())
        first = scrape_seconds(port)
        changed, quiet = [], []
        for _ in range(rounds):
            server.stdin.write("change\n")
            server.stdin.flush()
            server.stdout.readline()
            changed.append(scrape_seconds(port))
            quiet.append(scrape_seconds(port))
        server.stdin.close()
    print(f"| first scrape, {series} series | {first:.3f} s | {aim} |")
    print(f"| scrape after a probe changed, {series} series | {median(changed):.3f} s | {aim} |")
    print(f"| scrape with nothing new, {series} series | {median(quiet):.3f} s | 0.05 s |", flush=True)


def scrape_seconds(port: int) -> float:
    started = time.monotonic()
    body = get(port, "/metrics", {"Accept-Encoding": "gzip"})
    assert body
    return time.monotonic() - started


# --- a sweep under scraping ------------------------------------------------------------------------------------------


def _print_scraping_effect(rounds: int) -> None:
    """The p50 of sweeps with and without scrapes, in turns."""
    print("\n| sweep, p50 | without scrapes | a scrape a second | back to back |\n|---|---|---|---|")
    with EmbeddedTriton(make_environment(lambda text: print(text, file=sys.stderr))) as triton:
        for model, level in (("delay", 1), ("addsub", 1), ("addsub", 4)):
            configuration = {
                "targets": [{"name": "triton", "url": triton.http_url}],
                "probes": [
                    {
                        "name": "probe",
                        "target": "triton",
                        "model": model,
                        "load": {"concurrency": level},
                        "schedule": {"every": "5s"},
                        "measurement": {"window": "1s", "stability": "100%"},
                    }
                ],
            }
            with daemon(configuration) as (port, _):
                figures: dict[float | None, list[float]] = {None: [], 1.0: [], 0.0: []}
                for _ in range(rounds):
                    for pause_seconds, values in figures.items():
                        with _scraping(port, pause_seconds):
                            values.append(_next_p50(port))
            quiet = median(figures[None])
            cells = [f"{quiet * 1e6:.0f} us"]
            cells += [
                f"{median(figures[pause]) * 1e6:.0f} us ({median(figures[pause]) / quiet:.3f})" for pause in (1.0, 0.0)
            ]
            print(f"| `{model}`, concurrency {level}, {_spread(figures[None])} | {' | '.join(cells)} |", flush=True)


def _spread(values: Sequence[float]) -> str:
    return f"quiet rounds differ by {(max(values) / min(values) - 1) * 100:.1f} %"


@contextmanager
def _scraping(port: int, pause_seconds: float | None) -> Iterator[None]:
    """Scrapes with this pause between two; None does not scrape."""
    over = threading.Event()

    def scrape() -> None:
        while pause_seconds is not None and not over.wait(pause_seconds):
            get(port, "/metrics", {"Accept-Encoding": "gzip"})

    thread = threading.Thread(target=scrape)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def _next_p50(port: int) -> float:
    """The p50 of the next sweep that begins and ends from now on, in seconds."""
    started = time.time()
    while True:
        (probe,) = json.loads(get(port, "/api/status") or b"")["probes"]
        ended = time.time() - (probe["age_seconds"] or 1e9)
        # Three windows of a second: one that ended this late began after now.
        if probe["levels"] and ended > started + 4:
            return float(probe["levels"][0]["percentiles"]["50"])
        time.sleep(0.2)


if __name__ == "__main__":
    main()
