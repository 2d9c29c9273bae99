"""Makes, once, the virtual environments of servers that are tested against. They live in the cache of the embedded
Triton, outside of the checkout: what they need must not be mixed with what the product needs."""

from __future__ import annotations

import fcntl
import hashlib
import shutil
import subprocess
import sys
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from exporter.demo.cache import cache_folder
from tests.programs import find

LINES_KEPT = 12
MADE = ".made"


class ServerEnvironmentError(Exception):
    """An environment can't be made here; the text states why."""


@dataclass(frozen=True)
class ServerPackages:
    """What is installed for a server: all that `NAME.txt` beside this file lists, and nothing else. `size` is what it
    takes on disk, for people who wait; `program` the program or shared library that it needs beside Python."""

    name: str
    size: str
    program: str = ""

    @property
    def requirements(self) -> Path:
        return Path(__file__).with_name(f"{self.name}.txt")

    @property
    def root(self) -> Path:
        key = hashlib.sha256(f"{self.requirements.read_text()}{sys.version}".encode()).hexdigest()[:16]
        return cache_folder() / f"{self.name}-{key}"

    def make(self, progress: Callable[[str], None]) -> Path:
        """The finished environment's folder. Several processes may call this at once. Raises ServerEnvironmentError."""
        if self.program and find(self.program) is None:
            raise ServerEnvironmentError(f"{self.name} needs {self.program}, which this machine lacks")
        if (self.root / MADE).exists():
            return self.root
        self.root.parent.mkdir(parents=True, exist_ok=True)
        with self.root.with_suffix(".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not (self.root / MADE).exists():
                progress(f"making {self.name}'s environment in {self.root} (once; about {self.size})")
                shutil.rmtree(self.root, ignore_errors=True)
                _run([sys.executable, "-m", "venv", str(self.root)], progress)
                pip = [str(self.root / "bin" / "python"), "-m", "pip", "--disable-pip-version-check", "--no-input"]
                options = ["--no-deps", "--progress-bar", "off", "--requirement", str(self.requirements)]
                _run([*pip, "install", *options], progress)
                (self.root / MADE).touch()
        return self.root


KSERVE = ServerPackages("kserve", "450 MB")
KSERVE_OPENAI = ServerPackages("kserve-openai", "20 MB")
LLAMACPP = ServerPackages("llamacpp", "150 MB", "libgomp.so.1")
TOKENIZERS = ServerPackages("tokenizers", "12 MB")
MLSERVER = ServerPackages("mlserver", "330 MB")
PYTHIE_SERVING = ServerPackages("pythie-serving", "130 MB")
TENSORFLOW_PROTOBUF = ServerPackages("tensorflow-protobuf", "5 MB")
TORCHSERVE = ServerPackages("torchserve", "1.1 GB", program="java")
FIXTURES = {
    "kserve": KSERVE,
    "kserve_openai": KSERVE_OPENAI,
    "llamacpp": LLAMACPP,
    "mlserver": MLSERVER,
    "pythie_serving": PYTHIE_SERVING,
    "tensorflow_protobuf": TENSORFLOW_PROTOBUF,
    "tokenizers": TOKENIZERS,
    "torchserve": TORCHSERVE,
}
"""By the names of the fixtures that give their folders."""


def _run(command: list[str], progress: Callable[[str], None]) -> None:
    lines: deque[str] = deque(maxlen=LINES_KEPT)
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        assert process.stdout is not None
        for line in map(str.strip, process.stdout):
            lines.append(line)
            if line.startswith(("Downloading", "Installing")):
                progress(line[:100])
    if process.returncode:
        raise ServerEnvironmentError("\n".join([f"{' '.join(command[:4])} … failed:", *lines]))
