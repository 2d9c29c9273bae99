"""wrk as a peer: posts one request, given as bytes, over and over.

Its script defines no function, so that wrk makes the request once and runs at its full speed.
"""

from __future__ import annotations

import math
import re
import tempfile

from bench.programs import BenchError, run_program
from exporter.transport.call import EncodedRequest

_OWN_HEADERS = ("host", "content-length")
"""wrk makes these itself."""


def script(request: EncodedRequest) -> str:
    """The lua script that posts the body with the same headers; numbers stand for bytes that lua would misread."""
    lines = ['wrk.method = "POST"', f'wrk.body = "{_quoted(request.body)}"']
    for line in request.head.decode("latin-1").split("\r\n")[1:]:
        name, _, value = line.partition(": ")
        if name and name.lower() not in _OWN_HEADERS:
            lines.append(f'wrk.headers["{_quoted(name.encode())}"] = "{_quoted(value.encode())}"')
    return "\n".join(lines) + "\n"


async def run_wrk(program: str, url: str, request: EncodedRequest, connections: int, seconds: float) -> float:
    """Requests a second, from one thread, over whole seconds (wrk knows no others). Raises BenchError."""
    path = request.head.split(b" ", 2)[1].decode("ascii")
    with tempfile.NamedTemporaryFile("w", encoding="ascii", suffix=".lua") as file:
        file.write(script(request))
        file.flush()
        command = [program, "-t1", f"-c{connections}", f"-d{math.ceil(seconds)}s", "-s", file.name, f"{url}{path}"]
        return parse((await run_program(command)).printed)


def parse(printed: str) -> float:
    """The rate in wrk's report. Raises BenchError if requests failed."""
    rate = re.search(r"^Requests/sec:\s+([\d.]+)", printed, re.MULTILINE)
    if rate is None or "Non-2xx" in printed or "Socket errors" in printed:
        raise BenchError(f"wrk had failed requests or no figures:\n{printed}")
    return float(rate[1])


def _quoted(data: bytes) -> str:
    return "".join(f"\\{byte:03d}" for byte in data)
