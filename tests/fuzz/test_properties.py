"""Whatever bytes come: every parser returns, or raises what is expected of it, and takes no long time about it."""

from __future__ import annotations

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.fuzz.targets import TARGETS, mutations
from tests.waiting import patient

EXAMPLES = 150
DEEP = (b"[" * 100_000, b'{"a":' * 50_000, b"(" * 100_000, b"\x0a\xff\xff\xff\x7f" * 1000, b"9" * 10_000)


@pytest.mark.parametrize("name", TARGETS)
def test_seeds_that_are_nearly_good(name: str) -> None:
    target = TARGETS[name]
    for seed in target.seeds:
        target.run(seed)
        for data in mutations(seed):
            target.run(data)


@pytest.mark.parametrize("name", TARGETS)
def test_deep_and_long(name: str) -> None:
    for data in DEEP:
        began_s = time.monotonic()
        TARGETS[name].run(data)
        assert time.monotonic() - began_s < patient(10), data[:10]


@pytest.mark.parametrize("name", TARGETS)
def test_any_bytes(name: str) -> None:
    target = TARGETS[name]

    @settings(max_examples=EXAMPLES)
    @given(st.one_of(st.binary(max_size=300), st.sampled_from(target.seeds).flatmap(_spliced)))
    def run(data: bytes) -> None:
        target.run(data)

    run()


def _spliced(seed: bytes) -> st.SearchStrategy[bytes]:
    """Bytes put into a good input somewhere."""
    return st.tuples(st.integers(0, len(seed)), st.integers(0, len(seed)), st.binary(max_size=20)).map(
        lambda parts: seed[: parts[0]] + parts[2] + seed[parts[1] :]
    )
