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
from exporter.core.probe import InputOptions
from tests.builders import make_facts
from exporter.core.facts import TensorSpec
facts = make_facts(inputs=(TensorSpec("INPUT0", "FP32", (-1,)),))
peak_kb = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
before_kb = peak_kb()
dataset = make_dataset(facts, InputOptions(source="files", paths=(sys.argv[1],)))
print(sum(step.inputs["INPUT0"].size for step in dataset.steps), peak_kb() - before_kb)
"""


ENCODE = """
import resource, sys
import numpy as np
from exporter.core.facts import TensorSpec
from exporter.payload import Step, round_robin
from exporter.services.triton.service import TritonService
from tests.builders import make_facts, make_probe
facts = make_facts(max_batch_size=16, inputs=(TensorSpec("INPUT0", "FP32", (-1,)),))
steps = [Step({"INPUT0": np.full(20_000, number, np.float32)}) for number in range(21)]
encode = lambda steps, batch: TritonService().encode(
    make_probe(), facts, [step.inputs for step in round_robin(steps, facts, batch)], "sweep"
)
encode(steps[:1], 1)
peak_kb = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
before_kb = peak_kb()
requests = encode(steps, 16)
print(sum(len(request.body) for request in requests), peak_kb() - before_kb)
"""


def test_batches_take_what_their_copies_take_twice() -> None:
    """As tensors, and encoded; a third time while one of them is being encoded."""
    done = subprocess.run([sys.executable, "-c", ENCODE], capture_output=True, text=True, check=True)
    encoded_bytes, grown_kb = map(int, done.stdout.split())
    copies_bytes = 21 * 16 * 80_000
    assert copies_bytes < encoded_bytes < 1.01 * copies_bytes
    assert 1024 * grown_kb < 2.2 * copies_bytes + 4 * 16 * 80_000


def test_memory_is_bounded(tmp_path: Path) -> None:
    path = tmp_path / "large.json"
    step = '{"INPUT0": [' + ",".join(["0.125"] * ELEMENTS) + "]}"
    path.write_text('{"data": [' + ",".join([step] * STEPS) + "]}")
    done = subprocess.run([sys.executable, "-c", READ, str(path)], capture_output=True, text=True, check=True)
    elements, grown_kb = map(int, done.stdout.split())
    assert elements == STEPS * ELEMENTS
    # All of it as Python objects would be 128 MB.
    assert 1024 * grown_kb < PACKED_BYTES + 4 * ONE_ARRAY_BYTES
