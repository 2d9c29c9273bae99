"""pythie-serving, a server of TensorFlow Serving's Predict, with a table of prices for a model."""

from __future__ import annotations

import json
import subprocess
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from exporter.demo.triton import free_ports
from tests.servers.process import running

CONFIG = 'model_config_list { config { name: "prices" base_path: "table" model_platform: "table" } }'
METADATA = {
    "feature_names": ["size", "fruit"],
    "target_name": "price",
    "data_type": {"size": "int", "fruit": "str", "price": "int"},
    "default_value": -1,
}
TABLE = "size,fruit,price\n1,apple,10\n2,apple,25\n2,Äpfel,5000000000\n"


@dataclass(frozen=True)
class PythieServing:
    """A pythie-serving that can be started, again and again, on the same port."""

    environment: Path
    folder: Path
    port: int

    @classmethod
    def prepared(cls, environment: Path, folder: Path) -> Self:
        """Writes its files."""
        (folder / "models.config").write_text(CONFIG)
        (folder / "table").mkdir()
        (folder / "table" / "metadata.json").write_text(json.dumps(METADATA))
        (folder / "table" / "prices.csv").write_text(TABLE)
        return cls(environment, folder, *free_ports(1))

    def running(self) -> AbstractContextManager[subprocess.Popen[bytes]]:
        """The server, once its endpoint is open."""
        command = [str(self.environment / "bin" / "pythie-serving"), "models.config", "--port", str(self.port)]
        return running([*command, "--maximum-concurrent-rpcs", "-1"], [self.port], self.folder)
