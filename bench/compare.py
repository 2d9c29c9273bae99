"""This project's load beside perf_analyzer, wrk and tritonclient, on one embedded Triton: the figures of
docs/performance.md.

    python -m bench.compare [--perf-analyzer PATH] [--rounds N] [--seconds S] [--only NAME,...] [--quick]
                            [--memory-requests N]

All tools meet the same server, model, tensor and length of measurement, in turns and in rounds; a ratio is of two
figures of one round. The page is written only by a whole run that went to its end. Exit status 2 if the server could
not be started.
"""

from __future__ import annotations

import argparse
import asyncio
import shutil
import sys
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench import page
from bench.client_cost import client_cpu, wire_time
from bench.layer_table import layers
from bench.machine import WATCH, shown
from bench.memory import AIM_REQUESTS, DEFAULT_REQUESTS, memory
from bench.models import ACCUMULATOR, REPEAT, identity_models
from bench.poisson import poisson_arrivals
from bench.programs import progress
from bench.rates import rates
from bench.requests import SWEEP, recogniser, requests
from bench.setting import Setting
from bench.stall import stall
from bench.throughput import large, throughput
from bench.workers import workers
from exporter.demo.triton import EmbeddedTriton
from exporter.demo.triton_environment import EmbeddedTritonError, TritonEnvironment, make_environment
from exporter.worker.local import LocalWorker

PAGE = Path(__file__).parent.parent / "docs" / "performance.md"


@dataclass(frozen=True, slots=True)
class Section:
    """A part of the comparison: its title, what is to be known of its figures, and what makes its table."""

    title: str
    note: str
    run: Callable[[Setting], Awaitable[str]]


SECTIONS = {
    "throughput": Section(
        "Throughput, 64-byte tensor",
        "Closed loop. wrk runs one thread, posts the very bytes that we send, and measures whole seconds. The model "
        "`identity` runs in a Python process, which bounds what any client can show: it has no aim.",
        throughput,
    ),
    "large": Section("Throughput, 1.28 MB tensor", "Closed loop; 320000 FP32 elements each way.", large),
    "requests": Section(
        "Throughput with each kind of request",
        "Concurrency 8, closed loop, 64-byte tensors; sequences of 20 requests. `accumulator` and `repeat` run in a "
        "Python process, as `identity` does, and a closed loop's requests meet in batches there: no aims. For shared "
        "memory perf_analyzer's wheel opens `libcudart.so`, which machines without CUDA lack: `LD_LIBRARY_PATH` "
        "may name a folder with the one of the wheel `nvidia-cuda-runtime-cu12` in it; else it has no figures.",
        requests,
    ),
    "recogniser": Section(
        "A streaming recogniser's sweep",
        f"`{SWEEP}`, once with each tool. perf_analyzer reports the rates that keep 100 ms and were stable; ours also "
        "reports the one that ended the search.",
        recogniser,
    ),
    "layers": Section(
        "What a request costs, layer by layer",
        "One process with a closed loop through more and more of the client, in turns (`bench.layers`): user and "
        "system time of it, for each request. The bare loop is the least that a client in Python can do. Clocked, it "
        "shows the cpu time of each send and each recv: on loopback a send does the receiver's work, too. What is left "
        "of the bare loop's time is epoll and the loop. gRPC has no bare loop, which would need its streams.",
        layers,
    ),
    "cpu": Section(
        "Client cpu time for each request",
        "User and system time of all threads. Ours: the worker process, from the first window's edge to the last "
        "one's. perf_analyzer: the difference of a run of twice and one of half the length, over the difference of "
        "the requests that the server counted.",
        client_cpu,
    ),
    "wire": Section(
        "Latency that was not on the wire",
        "Mean latency as measured, less the mean time from the request's first byte to the response's last in a packet "
        "capture on loopback, over the same requests.",
        wire_time,
    ),
    "rates": Section(
        "Request rate",
        "Open loop, evenly spaced. Achieved: requests sent, over the windows' length. Send lag: from the moment that "
        "a request was meant to go to its first byte given to the socket. A request that finds `max_in_flight` (256 by "
        "default) without a response waits its turn, and what has waited for the time-out is unsent. At 8000/s a pause "
        "of 32 ms of the server or the worker, which share the cores with whatever else runs, is enough for a wait. "
        "A sleeper is a process that does nothing but sleep until 1000 moments a second, in the same seconds: how late "
        "it wakes up is the machine's share in anyone's lag.",
        rates,
    ),
    "poisson": Section(
        "Poisson arrivals",
        "Kolmogorov-Smirnov's test against the exponential distribution with the rate asked for, one p-value for each "
        "seed. If the gaps are exponential, the p-values are uniform on [0, 1]; the last column tests that. The sends "
        "are those of real levels: where other work pauses the worker, what was due meanwhile goes at once.",
        poisson_arrivals,
    ),
    "stall": Section(
        "A server that stalls for 2 s",
        "100 requests a second for 9 s, evenly spaced; the server's process is stopped for 2 s in the middle. About "
        "200 of 900 requests then wait, the first of them 2 s and the last not at all, so that the 99th percentile is "
        "to be 1.91 s. From the sending: without the time that a request was due and not sent. Lost: moments at which "
        "a request was due and of which there is no record, unsent ones apart; both are sums over the rounds. "
        "perf_analyzer is asked to take any windows for stable; by default it measures on until the one with the stall "
        "is no longer among the last three, which alone it reports.",
        stall,
    ),
    "memory": Section(
        "Memory over a long run",
        "Ours: the worker process, idle once it has looked at the model; its peak in the first tenth of the run, in "
        "which buffers and windows get their sizes; and its peak in all of it. A short run unless "
        f"`--memory-requests {AIM_REQUESTS}` is given, which takes some 12 minutes; 64 streams get a 25th of the "
        "requests, tensors of 64 MB each way one in 25000. perf_analyzer: the peaks of a short run and of a longer "
        "one, and their difference over that of the requests.",
        memory,
    ),
    "workers": Section(
        "Two workers against one",
        "The fastest case. Cores: cpu time over the time that passed, medians over the rounds. The kernel's work for a "
        "loopback connection is mostly in the cpu time of the process that sends.",
        workers,
    ),
}
"""By the name that `--only` takes."""
QUICK = ("throughput", "large", "cpu", "layers")


async def compare(setting: Setting, names: Sequence[str]) -> list[str]:
    """Runs the sections and returns them as Markdown."""
    parts = []
    for name in names:
        section = SECTIONS[name]
        paragraphs = [f"## {section.title}", section.note, await section.run(setting), WATCH.take()]
        parts.append("\n\n".join(filter(None, paragraphs)) + "\n")
        progress(f"\n{parts[-1]}")
    return parts


async def run(environment: TritonEnvironment, options: argparse.Namespace) -> str:
    """Starts what is needed, runs the sections, and returns the page."""
    began = time.monotonic()
    with identity_models(ACCUMULATOR, REPEAT) as models, EmbeddedTriton(environment, models=models) as server:
        worker = await LocalWorker.spawn()
        try:
            program = options.perf_analyzer.resolve() if options.perf_analyzer else None
            setting = Setting(
                server=server,
                worker=worker,
                program=program,
                wrk=shutil.which("wrk"),
                rounds=options.rounds,
                seconds=options.seconds,
                memory_requests=options.memory_requests,
            )
            await setting.warm_up()
            slept = await WATCH.begin()
            head = await page.head(setting, shown(slept))
            parts = await compare(setting, options.only)
        finally:
            await worker.kill()
    took_minutes = (time.monotonic() - began) / 60
    return "\n".join([head, *parts, f"The whole run took about {took_minutes:.0f} min.\n", page.kept_notes(PAGE)])


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line; `quick` has changed the lengths by then."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--perf-analyzer", type=Path, help="the program; without it its rows are left out")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=2.0, help="the length of one measurement")
    parser.add_argument("--only", type=_names, help=f"sections to run, of {', '.join(SECTIONS)}")
    parser.add_argument(
        "--memory-requests", type=int, default=DEFAULT_REQUESTS, help="of the memory section; its aim is for 5000000"
    )
    parser.add_argument(
        "--quick", action="store_true", help="two minutes: two rounds of half seconds of the main sections, and no page"
    )
    parser.add_argument("--output", type=Path, help="where to write the page, also of a run that is not whole")
    options = parser.parse_args(arguments)
    if options.quick:
        options.rounds, options.seconds, options.memory_requests = 2, 0.5, 10_000
        options.only = options.only or list(QUICK)
    if options.output is None and options.only is None and not options.quick:
        options.output = PAGE
    options.only = options.only or list(SECTIONS)
    return options


def _names(text: str) -> list[str]:
    names = text.split(",")
    if unknown := [name for name in names if name not in SECTIONS]:
        raise argparse.ArgumentTypeError(f"no section {', '.join(unknown)}; there are {', '.join(SECTIONS)}")
    return names


def main() -> int:
    """Runs the comparison, prints the page and writes it."""
    options = parse()
    try:
        text = asyncio.run(run(make_environment(progress), options))
    except EmbeddedTritonError as error:
        progress(str(error))
        return 2
    except KeyboardInterrupt:
        progress("interrupted: nothing is written")
        return 130
    print(text)
    if options.output is not None:
        options.output.write_text(text, encoding="utf-8")
        progress(f"written: {options.output}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
