"""The model repositories that the benches serve. Knows the sample models; must not know who measures them."""

from __future__ import annotations

import re
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from exporter.demo.triton import MODELS

ACCUMULATOR = "accumulator"
DELAY = "delay"
IDENTITY = "identity"
REPEAT = "repeat"
CACHED_IDENTITY = "cached_identity"
"""The identity model, served from Triton's response cache from the second request on: no Python process and no
queue in the way, so the server is about as fast as its endpoints are."""


@contextmanager
def identity_models(*others: str) -> Iterator[Path]:
    """A model repository with the identity model as shipped, and with the response cache before it; and with these
    other sample models."""
    with tempfile.TemporaryDirectory() as path:
        folder = Path(path)
        for name in (IDENTITY, *others):
            _copy(folder, name, name)
        config = _copy(folder, IDENTITY, CACHED_IDENTITY)
        text = config.read_text(encoding="utf-8").replace(f'name: "{IDENTITY}"', f'name: "{CACHED_IDENTITY}"')
        config.write_text(f"{text}\nresponse_cache {{ enable: true }}\n", encoding="utf-8")
        yield folder


@contextmanager
def delay_models(*, batching: bool, instances: int) -> Iterator[Path]:
    """A model repository with the delay model: as shipped, or with no batches and so many instances."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        config = _copy(folder, DELAY, DELAY)
        text = config.read_text(encoding="utf-8")
        if not batching:
            text = re.sub(r"^dynamic_batching.*$", "", text, flags=re.MULTILINE)
            text = re.sub(r"\bcount: \d+", f"count: {instances}", text)
        config.write_text(text, encoding="utf-8")
        yield folder


@contextmanager
def delayed_models(delays_ms: Iterable[int], *, instances: int) -> Iterator[Path]:
    """A model repository with a delay model for each delay, `delay_<ms>`, with no batches and so many instances."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for delay_ms in delays_ms:
            model = f"{DELAY}_{delay_ms}"
            config = _copy(folder, DELAY, model)
            text = config.read_text(encoding="utf-8").replace(f'name: "{DELAY}"', f'name: "{model}"')
            text = re.sub(r"^dynamic_batching.*$", "", text, flags=re.MULTILINE)
            text = re.sub(r"\bcount: \d+", f"count: {instances}", text)
            text = re.sub(r'string_value: "\d+"', f'string_value: "{delay_ms}"', text)
            config.write_text(text, encoding="utf-8")
        yield folder


def _copy(folder: Path, source: str, name: str) -> Path:
    """Copies a sample model under a name of its own and gives the path of its configuration."""
    shutil.copytree(MODELS / source, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    return folder / name / "config.pbtxt"
