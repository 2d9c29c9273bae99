"""A large file takes memory for its numbers, packed, and for one array as Python objects, not for all of them."""

from __future__ import annotations

import subprocess
import sys
import tracemalloc
from pathlib import Path

import pytest

from exporter.core.bounds import REQUEST_BYTES
from exporter.core.errors import InputError
from exporter.core.facts import TensorSpec
from exporter.core.probe import InputOptions
from exporter.payload.generate import generate
from tests.builders import make_facts

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


@pytest.mark.parametrize(
    ("datatype", "elements", "most"),
    [("BOOL", 20_000_000, 1.5), ("INT8", 20_000_000, 1.5), ("FP16", 10_000_000, 1.7), ("BYTES", 200_000, 2.0)],
)
def test_random_values_take_little_more_than_themselves(datatype: str, elements: int, most: float) -> None:
    """They took nine times as much: the generator's own numbers are of 64 bits."""
    facts = make_facts(max_batch_size=0, inputs=(TensorSpec("T", datatype, (elements,)),))
    tracemalloc.start()
    dataset = generate(facts, InputOptions(string_length=128))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    tensor = dataset.streams[0][0].inputs["T"]
    size = sum(map(len, tensor)) + 50 * elements if datatype == "BYTES" else tensor.nbytes
    assert peak < most * size + (16 << 20)


def test_short_strings_count_as_what_they_take_in_memory() -> None:
    facts = make_facts(max_batch_size=0, inputs=(TensorSpec("T", "BYTES", (REQUEST_BYTES // 51 + 1,)),))
    with pytest.raises(InputError, match=f"expected at most {REQUEST_BYTES}"):
        generate(facts, InputOptions(string_length=1))
