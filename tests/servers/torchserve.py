"""TorchServe with a model that doubles numbers, and fails when it is asked to."""

from __future__ import annotations

import json
import os
import subprocess
import time
import urllib.error
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
        responses = []
        for row in data:
            content = row.get("data") or row.get("body")
            if isinstance(content, (bytes, bytearray)):
                content = json.loads(bytes(content))
            if content == "fail":
                raise RuntimeError("as asked")
            responses.append((torch.tensor(content) * 2).tolist())
        return responses
"""
BROKEN = "raise ImportError('this model has no worker, ever')\n"
BROKEN_SETTINGS = "minWorkers: 1\nmaxWorkers: 1\nmaxRetryTimeoutInSec: 2\n"
"""The server calls itself healthy while it tries to start a worker again: five minutes, by default."""
CONFIG = """\
inference_address=http://127.0.0.1:{inference}
management_address=http://127.0.0.1:{management}
metrics_address=http://127.0.0.1:{metrics}
grpc_inference_port={grpc[0]}
grpc_management_port={grpc[1]}
default_workers_per_model=1
load_models={models}
metrics_mode=prometheus
"""


@dataclass(frozen=True)
class TorchServe:
    """A TorchServe that can be started, again and again, on the same ports. With `tokens` its endpoints ask for one;
    with `broken` it has a second model, `broken`, whose workers end as they start; with `hidden` one of the packages
    that all workers need cannot be imported, and none ever responses."""

    environment: Path
    folder: Path
    inference: int
    management: int
    metrics: int
    tokens: bool = False
    broken: bool = False
    hidden: str = ""

    @classmethod
    def prepared(
        cls, environment: Path, folder: Path, *, tokens: bool = False, broken: bool = False, hidden: str = ""
    ) -> Self:
        """Writes its files."""
        inference, management, metrics = free_ports(3)
        server = cls(environment, folder, inference, management, metrics, tokens, broken, hidden)
        models = {"double": HANDLER} | ({"broken": BROKEN} if broken else {})
        (folder / "config.properties").write_text(
            CONFIG.format(
                inference=server.inference,
                management=server.management,
                metrics=server.metrics,
                models=",".join(f"{model}.mar" for model in models),
                grpc=free_ports(2),  # unused, but two servers would both open the usual ports
            )
        )
        for model, handler in models.items():
            (folder / f"{model}_handler.py").write_text(handler)
            archiver = str(environment / "bin" / "torch-model-archiver")
            arguments = ["--model-name", model, "--version", "1.0", "--handler", f"{model}_handler.py"]
            if model == "broken":
                (folder / "broken.yaml").write_text(BROKEN_SETTINGS)
                arguments += ["--config-file", "broken.yaml"]
            subprocess.run([archiver, *arguments, "--export-path", "."], cwd=folder, check=True)
        if hidden:
            (folder / "hiding").mkdir()
            (folder / "hiding" / f"{hidden}.py").write_text(f"raise ImportError('no module named {hidden}')\n")
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
        """The server, once its model has a worker, or, where that can never be, once it reports that it is healthy."""
        programs = self.environment / "bin"
        command = [str(programs / "torchserve"), "--start", "--foreground", "--ncs", "--model-store", "."]
        command += ["--ts-config", "config.properties", *([] if self.tokens else ["--disable-token-auth"])]
        variables = {"PATH": f"{programs}:{os.environ['PATH']}", "TEMP": str(self.folder)}
        if self.hidden:
            variables["PYTHONPATH"] = str(self.folder / "hiding")
        ready = self.reports_healthy if self.hidden else self._has_worker
        ports = (self.inference, self.management, self.metrics)
        with running(command, ports, self.folder, variables) as process:
            deadline = time.monotonic() + READY_SECONDS
            while not ready():
                log = (self.folder / "server.log").read_text()
                assert process.poll() is None, log
                assert time.monotonic() < deadline, log
                time.sleep(0.1)
            yield process

    def reports_healthy(self) -> bool:
        """Its own word, of all its models."""
        try:
            with urllib.request.urlopen(f"{self.url}/ping", timeout=10) as response:
                return bool(json.load(response)["status"] == "Healthy")
        except urllib.error.HTTPError:
            return False

    def _has_worker(self) -> bool:
        """Whether a request to the model would get a response: importing torch takes its worker long."""
        headers = {"Authorization": f"Bearer {self.token('management')}"} if self.tokens else {}
        with urllib.request.urlopen(
            urllib.request.Request(f"{self.management_url}/models/double", headers=headers), timeout=10
        ) as response:
            [entry] = json.load(response)
        return any(worker["status"] == "READY" for worker in entry["workers"])

    def token(self, endpoint: str) -> str:
        """The token of the inference or management endpoint, as the server wrote it down when it started."""
        key: str = json.loads((self.folder / "key_file.json").read_text())[endpoint]["key"]
        return key
