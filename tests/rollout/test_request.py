"""Requests for gates: what is read, and that everything else is an error with its key."""

from __future__ import annotations

import contextlib
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.core.errors import ConfigError
from exporter.core.rollout import DEFAULT_MARGINS, GateOptions, Margin
from exporter.core.units import NS
from exporter.rollout.request import flagger_token, read_flagger, read_request

LEAST = {"id": "release-7", "stable": "old", "candidate": "new"}


def test_the_least_and_all() -> None:
    assert read_request(LEAST).options == GateOptions(DEFAULT_MARGINS)
    more = {
        "level": "4",
        "margins": ["p50=5%", "throughput=0.1"],
        "max_error_ratio": "1%",
        "min_pairs": "12",
        "max_pairs": 30,
        "max_duration": "5m",
        "window": "500ms",
        "output_tolerance": "0.01",
    }
    request = read_request(LEAST | more)
    assert (request.id, request.stable, request.candidate, request.level) == ("release-7", "old", "new", "4")
    margins = (Margin("p50", 0.05), Margin("throughput", 0.1))
    assert request.options == GateOptions(margins, 0.01, 12, 30, 300 * NS, NS // 2, 0.01)
    assert read_request(json.loads(json.dumps(request.to_json()))) == request


@pytest.mark.parametrize(
    ("document", "problems"),
    [
        ([], ["the body must be a JSON object"]),
        ({}, ["id: is missing", "stable: is missing", "candidate: is missing"]),
        (LEAST | {"id": "a b"}, ["id: must be letters, digits"]),
        (LEAST | {"id": "../x"}, ["id: must be letters, digits"]),
        (LEAST | {"stable": 3}, ["stable: must be text"]),
        (LEAST | {"candidate": "x" * 201}, ["candidate: must be text"]),
        (LEAST | {"margin": "p99=1%"}, ["margin: unknown key"]),
        (LEAST | {"margins": {"p99": 1}}, ["margins: must be a list"]),
        (LEAST | {"margins": ["p99=ten"]}, ["margins: 'ten' is not a ratio"]),
        (
            LEAST | {"margins": ["p99=0%", "foo=1%", "p50=5%", "p50=9%"], "min_pairs": 1, "max_pairs": 0},
            [
                "margins: the margin of p99",
                "margins: unknown figure 'foo'",
                "margins: 'p50' is given twice",
                "min_pairs: ",
                "max_pairs: ",
            ],
        ),
        (
            LEAST | {"margins": ["p99=0%"], "min_pairs": 5, "max_pairs": 6},
            ["margins: ", "max_pairs: 6 pairs are too few"],
        ),
        (LEAST | {"min_pairs": "x", "max_pairs": 6}, ["min_pairs: must be a whole number"]),
        (LEAST | {"output_tolerance": "x", "window": 1}, ["window: ", "output_tolerance: must be a number"]),
        (LEAST | {"min_pairs": 1.5, "max_pairs": True}, ["min_pairs: must be a whole", "max_pairs: must be a whole"]),
        (LEAST | {"min_pairs": None}, ["min_pairs: "]),
        (LEAST | {"max_duration": 30}, ["max_duration: a duration needs a unit"]),
        (LEAST | {"window": "1h", "max_error_ratio": "100%"}, ["max_error_ratio: must be", "window: must be"]),
        (LEAST | {"output_tolerance": float("nan")}, ["output_tolerance: must be"]),
    ],
)
def test_all_that_is_wrong(document: Any, problems: list[str]) -> None:
    with pytest.raises(ConfigError) as caught:
        read_request(document)
    assert len(caught.value.problems) == len(problems)
    for found, expected in zip(caught.value.problems, problems, strict=True):
        assert found.startswith(expected)


JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
KEYS = [*LEAST, "level", "margins", "max_error_ratio", "min_pairs", "max_duration", "window", "output_tolerance"]


@given(st.dictionaries(st.sampled_from(KEYS), JSON))
def test_whatever_comes_is_a_request_or_an_error(document: dict[str, Any]) -> None:
    for body, read in ((document, read_request), ({"metadata": document}, read_flagger)):
        with contextlib.suppress(ConfigError):
            request = read(body)
            assert read_request(json.loads(json.dumps(request.to_json()))) == request
    assert isinstance(flagger_token({"metadata": document}), str)


def test_flaggers_body() -> None:
    metadata = {"stable": "old", "candidate": "new", "margins": "p99=10%, throughput=5%", "token": "secret"}
    body = {"name": "resnet", "namespace": "ml", "phase": "WaitingPromotion", "checksum": "7d9", "metadata": metadata}
    request = read_flagger(body)
    assert (request.id, request.stable, request.options.margins) == ("ml/resnet/7d9", "old", DEFAULT_MARGINS)
    assert flagger_token(body) == "secret"
    assert "secret" not in json.dumps(request.to_json())
    named = body | {"checksum": "", "metadata": metadata | {"id": "r7"}}
    assert read_flagger(named).id == "r7"


def test_a_flagger_without_checksum_must_name_the_release() -> None:
    body = {"name": "resnet", "namespace": "ml", "phase": "Progressing", "metadata": {"stable": "a", "candidate": "b"}}
    with pytest.raises(ConfigError, match=r"metadata\.id: is needed where the request has no checksum"):
        read_flagger(body)
    with pytest.raises(ConfigError, match="metadata: must hold stable and candidate"):
        read_flagger({"name": "resnet", "namespace": "ml", "metadata": None})
