"""TorchServe with a model that doubles numbers, and fails when it is told to."""

from __future__ import annotations

import json
import os
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from exporter.demo.triton import free_ports
from tests.servers.process import running

READY_SECONDS = 60
"""How long a worker may take to import torch on a busy machine."""

HANDLER = """
import json

import torch
from ts.torch_handler.base_handler import BaseHandler


class Double(BaseHandler):
    def initialize(self, context):
        self.initialized = True

    def handle(self, data, context):
        answers = []
        for row in data:
            content = row.get("data") or row.get("body")
            if isinstance(content, (bytes, bytearray)):
                content = json.loads(bytes(content))
            if content == "fail":
                raise RuntimeError("as asked")
            answers.append((torch.tensor(content) * 2).tolist())
        return answers
"""
CONFIG = """\
inference_address=http://127.0.0.1:{inference}
management_address=http://127.0.0.1:{management}
metrics_address=http://127.0.0.1:{metrics}
grpc_inference_port={grpc[0]}
grpc_management_port={grpc[1]}
default_workers_per_model=1
load_models=double.mar
metrics_mode=prometheus
"""


@dataclass(frozen=True)
class TorchServe:
    """A TorchServe that can be started, again and again, on the same ports. With `tokens` its doors ask for one."""

    environment: Path
    folder: Path
    inference: int
    management: int
    metrics: int
    tokens: bool = False

    @classmethod
    def prepared(cls, environment: Path, folder: Path, *, tokens: bool = False) -> Self:
        """Writes its files."""
        inference, management, metrics = free_ports(3)
        server = cls(environment, folder, inference, management, metrics, tokens)
        (folder / "handler.py").write_text(HANDLER)
        (folder / "config.properties").write_text(
            CONFIG.format(
                inference=server.inference,
                management=server.management,
                metrics=server.metrics,
                grpc=free_ports(2),  # nobody asks there, but two servers would both open the usual ports
            )
        )
        archiver = str(environment / "bin" / "torch-model-archiver")
        arguments = ["--model-name", "double", "--version", "1.0", "--handler", "handler.py", "--export-path", "."]
        subprocess.run([archiver, *arguments], cwd=folder, check=True)
        return server

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.inference}"

    @property
    def management_url(self) -> str:
        return f"http://127.0.0.1:{self.management}"

    @property
    def metrics_url(self) -> str:
        return f"http://127.0.0.1:{self.metrics}/metrics"

    @contextmanager
    def running(self) -> Iterator[subprocess.Popen[bytes]]:
        """The server, once its model has a worker."""
        programs = self.environment / "bin"
        command = [str(programs / "torchserve"), "--start", "--foreground", "--ncs", "--model-store", "."]
        command += ["--ts-config", "config.properties", *([] if self.tokens else ["--disable-token-auth"])]
        variables = {"PATH": f"{programs}:{os.environ['PATH']}", "TEMP": str(self.folder)}
        ports = (self.inference, self.management, self.metrics)
        with running(command, ports, self.folder, variables) as process:
            deadline = time.monotonic() + READY_SECONDS
            while not self._has_worker():
                log = (self.folder / "server.log").read_text()
                assert process.poll() is None, log
                assert time.monotonic() < deadline, log
                time.sleep(0.1)
            yield process

    def _has_worker(self) -> bool:
        """Whether a request to the model would be answered: importing torch takes its worker long."""
        headers = {"Authorization": f"Bearer {self.token('management')}"} if self.tokens else {}
        with urllib.request.urlopen(
            urllib.request.Request(f"{self.management_url}/models/double", headers=headers), timeout=10
        ) as answer:
            [entry] = json.load(answer)
        return any(worker["status"] == "READY" for worker in entry["workers"])

    def token(self, door: str) -> str:
        """The token of the inference or management door, as the server wrote it down when it started."""
        key: str = json.loads((self.folder / "key_file.json").read_text())[door]["key"]
        return key
