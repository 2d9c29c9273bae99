"""Runs the whole chain for some minutes, with a slower version of a model served midway, and draws the boards.

Triton, daemon and Prometheus are real. The models are the samples, with sleeps for work; GPUs, pinned baselines and
certificates are stand-ins (tests/e2e/recorded.py). Grafana's own server can't be had as a package: its chart components
draw, and a page of ours puts them where the boards place them.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import tempfile
import time
import urllib.request
from pathlib import Path
from typing import Final

from dashboards.pictures.gather import gather
from exporter.demo.triton import EmbeddedTriton
from exporter.demo.triton_environment import make_environment
from tests.e2e.chain import Chain, running_chain, write_models

HERE: Final = Path(__file__).parent
PICTURES: Final = HERE.parents[1] / "docs" / "pictures"
CHOSEN: Final = {
    "overview": {},
    "model": {"probe": "delay-http", "level": "2"},
    "compare": {
        "variant_group": "instances",
        "reference": "one instance",
        "level": "4",
        "percentile": "99",
    },
    "exporter": {},
}
GATE_AFTER: Final = 0.1
"""When a rollout gate begins, which takes its turns between the sweeps, as part of the time."""
SLOWED_AFTER: Final = 0.6
"""When the slower version comes."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=12.0, help="how long the chain runs (12)")
    parser.add_argument("--data", type=Path, help="keeps what Prometheus responded here; drawn again if it is there")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="triton-canary-") as folder:
        data: Path = arguments.data or Path(folder) / "boards.json"
        if not data.exists():
            data.write_text(json.dumps(_boards(Path(folder), 60 * arguments.minutes)))
        PICTURES.mkdir(exist_ok=True)
        subprocess.run(["node", str(HERE / "render.mjs"), str(data), str(PICTURES)], check=True)


def _boards(folder: Path, seconds: float) -> list[dict[str, object]]:
    models = write_models(folder)
    with (
        EmbeddedTriton(make_environment(print), models=models, model_control=True) as triton,
        running_chain(folder, triton, every="30s", window="500ms") as chain,
    ):
        begin = time.time()
        _sleep_until(begin + GATE_AFTER * seconds, chain)
        chain.start_gate(window="2s", max_pairs=12)
        _sleep_until(begin + SLOWED_AFTER * seconds, chain)
        _serve_slower(models / "delay", triton)
        _sleep_until(begin + seconds, chain)
        chain.wait_for_gate()
        # The first sweeps need a moment: the boards begin with data.
        first, end = begin + min(30.0, seconds / 10), time.time()
        return [gather(chain.prometheus, name, chosen, first, end) for name, chosen in CHOSEN.items()]


def _serve_slower(model: Path, triton: EmbeddedTriton) -> None:
    """A second version of the model, which takes 14 ms, not 10."""
    shutil.copytree(model / "1", model / "2")
    code = model / "2" / "model.py"
    slow = code.read_text().replace('float(parameters["delay_ms"]["string_value"])', "14.0")
    code.write_text(slow)
    load = f"{triton.http_url}/v2/repository/models/{model.name}/load"
    with urllib.request.urlopen(urllib.request.Request(load, data=b"{}", method="POST"), timeout=60):  # noqa: S310
        pass


def _sleep_until(moment: float, chain: Chain) -> None:
    while time.time() < moment:
        chain.daemon.status("delay-http")  # fails at once if the daemon is gone
        time.sleep(1.0)


if __name__ == "__main__":
    main()
