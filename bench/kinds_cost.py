"""What our client costs at servers of other kinds, beside what people would write themselves: cpu time for each
request, at MLServer beside tritonclient's and at TorchServe beside requests'.

    python -m bench.kinds_cost [--rounds N] [--seconds S]

One request in flight, in interleaved rounds; a ratio is of two figures of one round. The servers are installed into the
cache once (1.4 GB); TorchServe needs java. Exit status 2 if a tool gave no figures or a server could not be started.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

from bench import own_load
from bench.plain_client import BODY, SHAPE, run_plain_client
from bench.programs import progress
from bench.rounds import OURS, Case, measure, ratio_cells, spread, table
from exporter.core.probe import InputOptions, Probe
from exporter.demo.triton import ADDRESS
from exporter.services import torchserve
from exporter.worker.local import LocalWorker
from tests.servers.environment import MLSERVER, TORCHSERVE, ServerEnvironmentError
from tests.servers.mlserver import MlServer
from tests.servers.torchserve import TorchServe

TRITONCLIENT, REQUESTS = "tritonclient", "requests"
WINDOWS = 3


@dataclass(frozen=True, slots=True)
class Load:
    """An endpoint of a server, what we send to it, and what our peer is."""

    cells: tuple[str, str]
    kind: str
    model: str
    port: int
    inputs: InputOptions
    peer: str
    client: str

    def probe(self, seconds: float) -> Probe:
        """Ours, for windows that take so long together."""
        base = own_load.make_probe(
            endpoint="grpc" if self.client == "oip-grpc" else "http",
            port=self.port,
            model=self.model,
            level=own_load.concurrency(1),
            window_seconds=seconds / WINDOWS,
        )
        return replace(base, target=replace(base.target, kind=self.kind, gpu="off"), input=self.inputs)


def make_loads(mlserver: MlServer, server: TorchServe) -> list[Load]:
    """All that is compared."""
    tensors = InputOptions(shapes=(("A", SHAPE), ("B", SHAPE)))
    body = InputOptions(shapes=((torchserve.BODY, (1,)),), string_data=BODY)
    return [
        Load(("MLServer", "HTTP"), "oip", "addsub", mlserver.http, tensors, TRITONCLIENT, "oip-http"),
        Load(("MLServer", "gRPC"), "oip", "addsub", mlserver.grpc, tensors, TRITONCLIENT, "oip-grpc"),
        Load(("TorchServe", "HTTP"), "torchserve", "double", server.inference, body, REQUESTS, "torchserve"),
    ]


def make_case(load: Load, worker: LocalWorker, seconds: float) -> Case[float]:
    """The load, and who measures it: microseconds of cpu time for each request."""

    async def ours() -> float:
        return (await own_load.run_level(worker, [worker.pid], load.probe(seconds), WINDOWS)).cpu_us_per_request

    async def theirs() -> float:
        return await run_plain_client(load.client, f"{ADDRESS}:{load.port}", seconds)

    return Case(load.cells, {OURS: ours, load.peer: theirs})


def row(case: Case[float]) -> list[str]:
    """Both figures and their ratio."""
    ours, peer = case.tools
    ratio, *_ = ratio_cells(case.pairs(ours, peer), None)
    return [*case.cells, spread(case.of(ours), 0), peer, spread(case.of(peer), 0), ratio]


async def run(options: argparse.Namespace, mlserver: MlServer, server: TorchServe) -> int:
    """Measures and prints; gives the exit status."""
    worker = await LocalWorker.spawn()
    try:
        cases = [make_case(load, worker, options.seconds) for load in make_loads(mlserver, server)]
        await measure("cpu time", options.rounds, cases)
    finally:
        await worker.kill()
    print(table(["server", "endpoint", "ours us (range)", "peer", "peer us (range)", "ratio (range)"], map(row, cases)))
    return 0 if all(case.of(tool) for case in cases for tool in case.tools) else 2


def main() -> int:
    """Runs the comparison."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=3.0, help="the length of one measurement")
    options = parser.parse_args()
    with ExitStack() as stack:
        try:
            folders = [Path(stack.enter_context(tempfile.TemporaryDirectory())) for _ in range(2)]
            mlserver = MlServer.prepared(MLSERVER.make(progress), folders[0])
            server = TorchServe.prepared(TORCHSERVE.make(progress), folders[1])
            stack.enter_context(mlserver.running())
            stack.enter_context(server.running())
        except (ServerEnvironmentError, AssertionError) as error:
            progress(str(error))
            return 2
        return asyncio.run(run(options, mlserver, server))


if __name__ == "__main__":
    sys.exit(main())
