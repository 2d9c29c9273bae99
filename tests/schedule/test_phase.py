from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.core.units import NS
from exporter.schedule.phase import phase_seed, probe_key, probe_path, spread
from tests.builders import make_probe, make_target


def test_names_of_a_probe() -> None:
    probe = make_probe(name="delay", target=make_target(name="triton-grpc"))
    assert probe_key(probe) == ("triton-grpc", "delay")
    assert probe_path(probe) == "triton-grpc/delay"


def test_places_of_a_probe_share_its_slots() -> None:
    plain = make_probe(name="asr")
    zones = [make_probe(name=f"asr/{place}", place=place) for place in ("zone-a", "asr")]
    assert {phase_seed(probe) for probe in [plain, *zones]} == {"triton-http/asr"}
    replica = make_probe(name="asr/zone-a/zone-a/10.0.0.1:80", place="zone-a")
    assert phase_seed(replica) == "triton-http/asr/zone-a/10.0.0.1:80"


@pytest.mark.parametrize(
    ("seed", "width", "place"),
    [
        # First 8 bytes of sha256 as a fraction of 2**64, times the width; worked out with sha256sum and bc.
        ("triton-http/addsub", 60_000_000, 48_880_029),
        ("triton-grpc/addsub", 60_000_000, 31_400_628),
        ("triton-http/addsub", 1, 0),
        ("triton-http/addsub", 0, 0),
    ],
)
def test_place_is_the_same_in_every_process(seed: str, width: int, place: int) -> None:
    assert spread(seed, width) == place


@given(st.text(), st.integers(1, 10**18))
def test_place_is_inside_the_width(seed: str, width: int) -> None:
    assert 0 <= spread(seed, width) < width


def test_places_are_evenly_spread() -> None:
    tenths = Counter(spread(f"target-{i % 20}/probe-{i}", 60 * NS) // (6 * NS) for i in range(10_000))
    assert set(tenths) == set(range(10))
    assert all(900 <= count <= 1100 for count in tenths.values())
