"""The demo's configuration file: the shipped `demo.yaml` with this run's addresses and folders filled in."""

from __future__ import annotations

import importlib.resources
import json
import string
from pathlib import Path

from exporter.demo.triton import EmbeddedTriton


def demo_config(triton: EmbeddedTriton, data_directory: Path, listen: str) -> str:
    """The configuration as YAML text. `listen` is host:port of the daemon's web side."""
    values = {
        "data_directory": data_directory,
        "archive_directory": archive_folder(data_directory),
        "http_url": triton.http_url,
        "grpc_url": triton.grpc_url,
        "metrics_url": triton.metrics_url,
        "listen": listen,
    }
    template = string.Template((importlib.resources.files(__package__) / "demo.yaml").read_text(encoding="utf-8"))
    # A JSON string is a YAML string, whatever is in it.
    return template.substitute({name: json.dumps(str(value)) for name, value in values.items()})


def archive_folder(data_directory: Path) -> Path:
    """Where the demo's daemon writes its CSV files."""
    return data_directory / "archive"
