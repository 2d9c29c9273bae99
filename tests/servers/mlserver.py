"""MLServer with two models: one adds and subtracts, one shouts and reports no inputs."""

from __future__ import annotations

import json
import subprocess
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from exporter.demo.triton import free_ports
from tests.servers.process import running

MODELS = """
from mlserver import MLModel
from mlserver.codecs import NumpyCodec, StringCodec
from mlserver.types import InferenceResponse


class AddSub(MLModel):
    async def predict(self, payload):
        a, b = (NumpyCodec.decode_input(entry) for entry in payload.inputs)
        outputs = [NumpyCodec.encode_output("SUM", a + b), NumpyCodec.encode_output("DIFFERENCE", a - b)]
        return InferenceResponse(model_name=self.name, outputs=outputs)


class Shout(MLModel):
    async def predict(self, payload):
        words = [word.upper() for word in StringCodec.decode_input(payload.inputs[0])]
        return InferenceResponse(model_name=self.name, outputs=[StringCodec.encode_output("LOUD", words)])
"""
TENSORS = {
    "inputs": [{"name": name, "datatype": "FP32", "shape": [-1, 4]} for name in ("A", "B")],
    "outputs": [{"name": name, "datatype": "FP32", "shape": [-1, 4]} for name in ("SUM", "DIFFERENCE")],
}


@dataclass(frozen=True)
class MlServer:
    """An MLServer that can be started, again and again, on the same ports."""

    environment: Path
    folder: Path
    http: int
    grpc: int
    metrics: int

    @classmethod
    def prepared(cls, environment: Path, folder: Path) -> Self:
        """Writes its files."""
        server = cls(environment, folder, *free_ports(3))
        settings = {
            "host": "127.0.0.1",
            "http_port": server.http,
            "grpc_port": server.grpc,
            "metrics_port": server.metrics,
            "parallel_workers": 0,
        }
        (folder / "settings.json").write_text(json.dumps(settings))
        for name, implementation, tensors in (("addsub", "AddSub", TENSORS), ("shout", "Shout", {})):
            model = folder / name
            model.mkdir()
            (model / "models.py").write_text(MODELS)
            (model / "model-settings.json").write_text(
                json.dumps({"name": name, "implementation": f"models.{implementation}", **tensors})
            )
        return server

    @property
    def metrics_url(self) -> str:
        return f"http://127.0.0.1:{self.metrics}/metrics"

    def running(self) -> AbstractContextManager[subprocess.Popen[bytes]]:
        """The server, once its endpoints are open."""
        command = [str(self.environment / "bin" / "mlserver"), "start", "."]
        return running(command, (self.http, self.grpc, self.metrics), self.folder)
