"""A large file takes memory for its numbers, packed, and for one array as Python objects, not for all of them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

STEPS, ELEMENTS = 20, 200_000
PACKED_BYTES = STEPS * ELEMENTS * 8
"""The file's numbers until all of it was read: it does not know its tensors' datatypes."""
ONE_ARRAY_BYTES = ELEMENTS * 32
"""A list's place and a float's object for each element."""

READ = """
import resource, sys
from exporter.payload import make_dataset
from exporter.probe import InputOptions
from tests.builders import make_facts
from exporter.facts import TensorSpec
facts = make_facts(inputs=(TensorSpec("INPUT0", "FP32", (-1,)),))
peak_kb = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
before_kb = peak_kb()
dataset = make_dataset(facts, InputOptions(source="files", paths=(sys.argv[1],)))
print(sum(step.inputs["INPUT0"].size for step in dataset.steps), peak_kb() - before_kb)
"""


def test_memory_is_bounded(tmp_path: Path) -> None:
    path = tmp_path / "large.json"
    step = '{"INPUT0": [' + ",".join(["0.125"] * ELEMENTS) + "]}"
    path.write_text('{"data": [' + ",".join([step] * STEPS) + "]}")
    done = subprocess.run([sys.executable, "-c", READ, str(path)], capture_output=True, text=True, check=True)
    elements, grown_kb = map(int, done.stdout.split())
    assert elements == STEPS * ELEMENTS
    # All of it as Python objects would be 128 MB.
    assert 1024 * grown_kb < PACKED_BYTES + 4 * ONE_ARRAY_BYTES
