"""The embedded Triton with numpy 1: the one whose arrays of strings its Python backend can read and make.

A tensor of strings is no matter for DLPack, by which the sample models exchange theirs with any numpy. For Python 3.13
and later there is no numpy 1: tests of models with strings are skipped there.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable

from exporter.demo.cache import locked
from exporter.demo.triton_environment import MADE_MARKER, EmbeddedTritonError, TritonEnvironment

NUMPY = "numpy==1.26.4"
LAST_PYTHON = (3, 12)
LACKING = "models with strings need numpy 1, which the embedded Triton's Python backend reads, and Python 3.12 at most"


def make_with_numpy_1(environment: TritonEnvironment, progress: Callable[[str], None]) -> TritonEnvironment:
    """A copy of the environment, in links as far as it is the same. Raises EmbeddedTritonError if it can't be made."""
    made = TritonEnvironment(environment.root.with_name(f"{environment.root.name}-numpy-1"))
    with locked(made.root.with_suffix(".lock"), "the embedded Triton's environment with numpy 1", progress):
        if not made.made:
            progress(f"making the same with {NUMPY} in {made.root} (once; about 70 MB)")
            shutil.rmtree(made.root, ignore_errors=True)
            shutil.copytree(environment.root, made.root, symlinks=True, copy_function=os.link)
            (made.root / MADE_MARKER).unlink()
            for folder in made.site_packages.glob("numpy*"):
                shutil.rmtree(folder)
            _install(made)
            (made.root / MADE_MARKER).touch()
    return made


def _install(environment: TritonEnvironment) -> None:
    command = [str(environment.python), "-m", "pip", "--disable-pip-version-check", "--no-input", "install", "-q"]
    command += ["--no-deps", "--only-binary", ":all:", NUMPY]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise EmbeddedTritonError(f"{NUMPY} could not be installed: {done.stderr[-500:]}")
