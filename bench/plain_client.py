"""What people write themselves, as a peer: one request after the other, by tritonclient or by requests, in a process of
its own.

    python -m bench.plain_client oip-http|oip-grpc|torchserve ADDRESS SECONDS

Prints the process's cpu time for each request, in microseconds. Inputs are made once; what the client does with them at
each call is the client's.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable

import numpy as np

from bench.programs import run_program

WARM_UP_SECONDS = 0.3
SHAPE = (2, 4)
"""Of MLServer's tensors A and B."""
BODY = "[1, 2, 3, 4]"
"""What TorchServe is sent."""

Call = Callable[[], object]


async def run_plain_client(kind: str, address: str, seconds: float) -> float:
    """Starts this module as a program. Raises BenchError."""
    command = [sys.executable, "-m", "bench.plain_client", kind, address, str(seconds)]
    return float((await run_program(command)).printed)


def cpu_us_per_request(call: Call, seconds: float) -> float:
    """Of all threads of this process, between the end of the warm-up and the end of the run."""
    _calls_until(time.monotonic() + WARM_UP_SECONDS, call)
    before_ns = time.process_time_ns()
    count = _calls_until(time.monotonic() + seconds, call)
    return (time.process_time_ns() - before_ns) / 1000 / count


def _calls_until(end: float, call: Call) -> int:
    count = 0
    while True:
        call()
        count += 1
        if time.monotonic() >= end:
            return count


def oip_http(address: str) -> Call:
    """JSON both ways: MLServer's metadata list no binary tensors, so that our client sends none either."""
    from tritonclient.http import InferenceServerClient, InferInput, InferRequestedOutput

    client = InferenceServerClient(address)
    inputs = [InferInput(name, SHAPE, "FP32") for name in "AB"]
    for entry in inputs:
        entry.set_data_from_numpy(_tensor(), binary_data=False)
    outputs = [InferRequestedOutput(name, binary_data=False) for name in ("SUM", "DIFFERENCE")]
    return lambda: client.infer("addsub", inputs, outputs=outputs)


def oip_grpc(address: str) -> Call:
    """Tensors raw."""
    from tritonclient.grpc import InferenceServerClient, InferInput

    client = InferenceServerClient(address)
    inputs = [InferInput(name, SHAPE, "FP32") for name in "AB"]
    for entry in inputs:
        entry.set_data_from_numpy(_tensor())
    return lambda: client.infer("addsub", inputs)


def torchserve(address: str) -> Call:
    """A session, so that the connection is kept."""
    import requests

    session = requests.Session()
    session.trust_env = False
    url, headers = f"http://{address}/predictions/double", {"Content-Type": "application/json"}

    def call() -> bytes:
        response = session.post(url, data=BODY.encode(), headers=headers)
        response.raise_for_status()
        return response.content

    return call


CLIENTS = {"oip-http": oip_http, "oip-grpc": oip_grpc, "torchserve": torchserve}


def _tensor() -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    return np.random.default_rng(0).random(SHAPE, np.float32)


def main() -> None:
    """Runs the loop that the arguments ask for."""
    _, kind, address, seconds = sys.argv
    print(cpu_us_per_request(CLIENTS[kind](address), float(seconds)))


if __name__ == "__main__":
    main()
