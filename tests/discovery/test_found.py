"""Prometheus's lists of targets: what is taken, what is ignored, what is refused with its place."""

from __future__ import annotations

from typing import Any

import pytest

from exporter.config.text import parse_address
from exporter.discovery.found import DiscoveryError, Found, parse_groups


@pytest.mark.parametrize(
    ("given", "found"),
    [
        ("10.0.0.1:8001", ("10.0.0.1", 8001)),
        ("triton.example", ("triton.example", 0)),
        ("triton-0:8001", ("triton-0", 8001)),
        ("[fd00::1]:8001", ("fd00::1", 8001)),
        ("[fd00::1]", ("fd00::1", 0)),
        ("Triton-0.Example:8001", ("triton-0.example", 8001)),
        ("[FD00::A]:1", ("fd00::a", 1)),
    ],
)
def test_addresses(given: str, found: tuple[str, int]) -> None:
    assert parse_address(given) == found


@pytest.mark.parametrize(
    "given",
    ["", ":8001", "host:", "host:0", "host:65536", "host:80a", "http://host:1", "a b:1", "fd00::1", "[x]:1", 7, None],
)
def test_what_is_no_address(given: Any) -> None:
    with pytest.raises(ValueError, match="must be host:port"):
        parse_address(given)


def test_groups_as_prometheus_writes_them() -> None:
    content = [
        {"targets": ["b:1", "a:2"], "labels": {"zone": "x", "__meta_kubernetes_pod": "p", "team": "speech"}},
        {"targets": ["c"]},
        {"targets": ["a:2"], "labels": {"zone": "y"}},  # there already
        {"targets": [], "labels": None},
    ]
    assert parse_groups(content, ("zone", "__meta_kubernetes_pod")) == (
        Found("a", 2, labels=(("zone", "x"),)),
        Found("b", 1, labels=(("zone", "x"),)),
        Found("c"),
    )
    assert parse_groups([], ()) == ()


@pytest.mark.parametrize(
    ("content", "error"),
    [
        ({"targets": []}, "must be a list of target groups"),
        (None, "must be a list of target groups"),
        (["a:1"], "[0]: must be a mapping with a list of targets"),
        ([{"labels": {}}], "[0]: must be a mapping with a list of targets"),
        ([{"targets": ["a:1", "x y"]}], "[0].targets[1]: found 'x y': must be host:port"),
        ([{"targets": ["user:secret@a:1"]}], "[0].targets[0]: found '***@a:1': must be host:port"),
        ([{"targets": ["a:1"], "labels": ["zone"]}], "[0].labels: must be a mapping"),
        (
            [{"targets": ["a:1"], "labels": {"zone": 3}}],
            "[0].labels.zone: found 3: must be text of at most 128 characters",
        ),
        (
            [{"targets": [1, 2, 3, 4, 5, 6, 7]}],
            "; ".join(f"[0].targets[{n}]: found {n + 1}: must be host:port" for n in range(5)) + "; and 2 more",
        ),
    ],
)
def test_what_is_refused(content: Any, error: str) -> None:
    with pytest.raises(DiscoveryError) as caught:
        parse_groups(content, ("zone",))
    assert str(caught.value) == error
