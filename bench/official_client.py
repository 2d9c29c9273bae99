"""tritonclient as a peer: a closed loop over Triton's own Python client, in a process of its own.

    python -m bench.official_client http|grpc URL MODEL ELEMENTS CONCURRENCY SECONDS

Prints the responses a second. Over HTTP the requests in flight are greenlets, over gRPC asyncio tasks: what each
client is made for.
"""

from __future__ import annotations

import asyncio
import sys
import time

import numpy as np
import numpy.typing as npt

from bench.programs import run_program

WARM_UP_SECONDS = 0.3

Tensor = npt.NDArray[np.float32]


async def run_official_client(
    endpoint: str, url: str, model: str, *, elements: int, concurrency: int, seconds: float
) -> float:
    """Starts this module as a program. Raises BenchError."""
    arguments = [endpoint, url, model, str(elements), str(concurrency), str(seconds)]
    return float((await run_program([sys.executable, "-m", "bench.official_client", *arguments])).printed)


class Clock:
    """Counts the responses between the end of the warm-up and the end of the run."""

    def __init__(self, seconds: float) -> None:
        self.count = 0
        self.begin = time.monotonic() + WARM_UP_SECONDS
        self.end = self.begin + seconds

    def responded(self) -> bool:
        """Takes note of a response. False: it was the last."""
        now = time.monotonic()
        self.count += self.begin <= now < self.end
        return now < self.end


def run_http(url: str, model: str, tensor: Tensor, count: int, seconds: float) -> Clock:
    """Greenlets that share one client with a connection for each."""
    import gevent
    from tritonclient.http import InferenceServerClient, InferInput

    client = InferenceServerClient(url, concurrency=count)
    entry = InferInput("INPUT0", list(tensor.shape), "FP32")
    entry.set_data_from_numpy(tensor)
    clock = Clock(seconds)

    def loop() -> None:
        client.infer(model, [entry])
        while clock.responded():
            client.infer(model, [entry])

    gevent.joinall([gevent.spawn(loop) for _ in range(count)], raise_error=True)
    return clock


async def run_grpc(url: str, model: str, tensor: Tensor, count: int, seconds: float) -> Clock:
    """Tasks that share one client."""
    from tritonclient.grpc import InferInput
    from tritonclient.grpc.aio import InferenceServerClient

    entry = InferInput("INPUT0", list(tensor.shape), "FP32")
    entry.set_data_from_numpy(tensor)
    async with InferenceServerClient(url) as client:
        clock = Clock(seconds)

        async def loop() -> None:
            await client.infer(model, [entry])
            while clock.responded():
                await client.infer(model, [entry])

        await asyncio.gather(*(loop() for _ in range(count)))
    return clock


def main() -> None:
    """Runs the load that the arguments ask for."""
    _, endpoint, url, model, elements, concurrency, seconds = sys.argv
    tensor = np.random.default_rng(0).random((1, int(elements)), np.float32)
    if endpoint == "http":
        clock = run_http(url, model, tensor, int(concurrency), float(seconds))
    else:
        clock = asyncio.run(run_grpc(url, model, tensor, int(concurrency), float(seconds)))
    print(clock.count / float(seconds))


if __name__ == "__main__":
    main()
