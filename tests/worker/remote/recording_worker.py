"""A worker process as the product's own, that also keeps the rows of each window in the folder TRITON_RECORDED_WINDOWS,
before they are sent anywhere."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from exporter.core.window import Window
from exporter.services import SERVICES
from exporter.worker import main as worker_main
from exporter.worker.ipc import Reply, encode


def recorded(message: object) -> list[bytes | memoryview]:
    if isinstance(message, Reply) and isinstance(message.what, Window):
        window = message.what
        path = Path(os.environ["TRITON_RECORDED_WINDOWS"]) / f"{os.getpid()}-{message.serial}-{window.index}.npz"
        columns = window.columns
        np.savez(
            path,
            end_ns=window.end_ns,
            warm_up=window.warm_up,
            intended_ns=columns.intended_ns,
            sent_ns=columns.sent_ns,
            last_ns=columns.last_ns,
            outcome=columns.outcome,
        )
    return encode(message)


if __name__ == "__main__":
    vars(worker_main)["encode"] = recorded
    worker_main.main({kind: make() for kind, make in SERVICES.items()})
