"""KServe's own OpenAI routes before a language model: its `OpenAIProxyModel`, with llama.cpp's server behind it."""

from __future__ import annotations

import subprocess
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from exporter.demo.triton import free_ports
from tests.servers.process import running

LAST_PYTHON = (3, 12)
LACKING = "the last KServe whose OpenAI routes need no vLLM is not for this Python"
PROGRAM = """
import sys

import httpx
from kserve import ModelServer
from kserve.protocol.rest.openai import OpenAIProxyModel

if __name__ == "__main__":
    model, url = sys.argv.pop(), sys.argv.pop()
    # llama.cpp closes a connection after each stream, and the proxy may ask on it meanwhile: each request has its own.
    client = httpx.AsyncClient(timeout=300, limits=httpx.Limits(max_keepalive_connections=0))
    # The proxy's own checks want fields of the response that llama.cpp leaves out where they are null.
    ModelServer().start([OpenAIProxyModel(model, url, client, skip_upstream_validation=True)])
"""


@dataclass(frozen=True)
class KServeOpenAi:
    """A KServe that can be started on its port."""

    environment: Path
    packages: Path
    folder: Path
    port: int

    @classmethod
    def prepared(cls, environment: Path, older: Path, folder: Path) -> Self:
        """Writes its program. `older` is the environment with the KServe that has the routes."""
        (folder / "serve.py").write_text(PROGRAM)
        (packages,) = older.glob("lib/python3*/site-packages")
        return cls(environment, packages, folder, *free_ports(1))

    def running(self, model: str, upstream: str) -> AbstractContextManager[subprocess.Popen[bytes]]:
        """The server, once its port is open; the model has this name, and is at the url `upstream`."""
        command = [str(self.environment / "bin" / "python"), "serve.py", "--workers", "1", "--enable_grpc", "false"]
        command += ["--http_port", str(self.port), upstream, model]
        return running(command, (self.port,), self.folder, {"PYTHONPATH": str(self.packages)})
