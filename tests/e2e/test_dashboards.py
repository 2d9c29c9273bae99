"""Every query of every panel, on a real Prometheus that scrapes the real daemon that probes the real Triton."""

from __future__ import annotations

import itertools
import re
import time
from collections.abc import Iterator
from typing import Any

import pytest

from dashboards.generate.boards import BOARDS
from exporter.demo.triton import EmbeddedTriton
from exporter.demo.triton_environment import TritonEnvironment
from tests.dashboards.boards import DOCUMENTS, panels_of
from tests.dashboards.promql import EVERYTHING, filled
from tests.e2e.chain import Chain, running_chain, write_models
from tests.e2e.prometheus import SCRAPE_SECONDS
from tests.programs import need

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]

WATCHED_SECONDS = 20
"""The interval between two sweeps: something was measured in it."""
GATE_ENDED = "triton_canary_exporter_gate_end_timestamp_seconds"
PROBES = ("delay-http", "delay-one", "delay-two", "pipeline-http", "vad-rate", "vad-streams")


@pytest.fixture(scope="module")
def chain(tmp_path_factory: pytest.TempPathFactory, triton_environment: TritonEnvironment) -> Iterator[Chain]:
    need("prometheus", "gcc")
    folder = tmp_path_factory.mktemp("chain")
    with (
        EmbeddedTriton(triton_environment, models=write_models(folder)) as triton,
        running_chain(folder, triton, every=f"{WATCHED_SECONDS}s", window="300ms") as chain,
    ):
        for probe in PROBES:
            chain.daemon.wait_for_state(probe, "", "unstable")
        chain.start_gate(window="200ms", max_pairs=10)
        chain.wait_for_gate()
        # Two scrapes of every counter that has moved, and the rules after them.
        time.sleep(5 * SCRAPE_SECONDS)
        yield chain


def choices(chain: Chain, board: str) -> Iterator[dict[str, str]]:
    """Values for the board's variables, as its own queries of variables give them; those that may be all values are."""
    known = {**EVERYTHING, "__rate_interval": f"{4 * SCRAPE_SECONDS}s"}
    yield from _chosen(chain, DOCUMENTS[board]["templating"]["list"], known)


def _chosen(chain: Chain, variables: list[dict[str, Any]], values: dict[str, str]) -> Iterator[dict[str, str]]:
    if not variables:
        yield values
        return
    first, *rest = variables
    if first["type"] == "query" and not first["includeAll"]:
        found = re.fullmatch(r"label_values\((.+), (\w+)\)", first["query"])
        assert found is not None
        options = chain.prometheus.label_values(filled(found[1], values), found[2])
    elif first["type"] == "custom":
        options = [first["current"]["value"]]
    else:
        options = [values.get(first["name"], "")]
    for option in options:
        yield from _chosen(chain, rest, {**values, first["name"]: option})


@pytest.mark.parametrize("board", BOARDS)
def test_every_query_has_data(chain: Chain, board: str) -> None:
    """For at least one choice of the variables; in a panel's own kind of query."""
    tried = list(choices(chain, board))
    assert tried
    empty = []
    for panel, target in itertools.chain.from_iterable(
        ((panel, target) for target in panel["targets"]) for panel in panels_of(board)
    ):
        if not any(_has_data(chain, target, values) for values in tried):
            empty.append(f"{panel['title']}, {target['refId']}: {target['expr']}")
    assert not empty, "\n".join(["no data:", *empty])


def _has_data(chain: Chain, target: dict[str, Any], values: dict[str, str]) -> bool:
    expr = filled(target["expr"], values)
    if target.get("format") == "table":
        return bool(chain.prometheus.query(expr))
    now = time.time()
    return bool(chain.prometheus.query_range(expr, now - WATCHED_SECONDS, now, SCRAPE_SECONDS))


@pytest.mark.parametrize("board", BOARDS)
def test_every_annotation_can_be_asked_for(chain: Chain, board: str) -> None:
    values = next(choices(chain, board))
    now = time.time()
    for annotation in DOCUMENTS[board]["annotations"]["list"]:
        chain.prometheus.query_range(filled(annotation["expr"], values), now - WATCHED_SECONDS, now, SCRAPE_SECONDS)


def test_every_variable_has_values(chain: Chain) -> None:
    for board, document in DOCUMENTS.items():
        values = next(choices(chain, board))
        for variable in document["templating"]["list"]:
            if variable["type"] == "query":
                found = re.fullmatch(r"label_values\((.+), (\w+)\)", variable["query"])
                assert found is not None
                has_values = bool(chain.prometheus.label_values(filled(found[1], values), found[2]))
                # No probe of the chain has places, and the label is only where they are used.
                assert has_values == (variable["name"] != "place"), (board, variable["name"])
