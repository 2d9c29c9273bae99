"""KServe's own model server with one model, which adds and subtracts."""

from __future__ import annotations

import subprocess
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from exporter.demo.triton import free_ports
from tests.servers.process import running

PROGRAM = """
from kserve import InferOutput, InferResponse, Model, ModelServer


class AddSub(Model):
    def load(self):
        self.ready = True
        return True

    async def predict(self, payload, headers=None, response_headers=None):
        a, b = (entry.as_numpy() for entry in payload.inputs)
        outputs = []
        for name, tensor in (("SUM", a + b), ("DIFFERENCE", a - b)):
            output = InferOutput(name=name, shape=list(tensor.shape), datatype="FP32")
            output.set_data_from_numpy(tensor, binary_data=False)
            outputs.append(output)
        return InferResponse(response_id=payload.id, model_name=self.name, infer_outputs=outputs)


if __name__ == "__main__":
    model = AddSub("addsub")
    model.load()
    ModelServer().start([model])
"""


@dataclass(frozen=True)
class KServe:
    """A KServe that can be started, again and again, on the same ports."""

    environment: Path
    folder: Path
    http: int
    grpc: int

    @classmethod
    def prepared(cls, environment: Path, folder: Path) -> Self:
        """Writes its program."""
        (folder / "serve.py").write_text(PROGRAM)
        return cls(environment, folder, *free_ports(2))

    @property
    def metrics_url(self) -> str:
        return f"http://127.0.0.1:{self.http}/metrics"

    def running(self) -> AbstractContextManager[subprocess.Popen[bytes]]:
        """The server, once its endpoints are open."""
        command = [str(self.environment / "bin" / "python"), "serve.py", "--workers", "1"]
        command += ["--http_port", str(self.http), "--grpc_port", str(self.grpc)]
        return running(command, (self.http, self.grpc), self.folder)
