"""The pictures of the boards, and the responses that they are drawn from."""

from __future__ import annotations

import json
import re

import pytest

from dashboards.generate.boards import BOARDS
from dashboards.pictures.__main__ import CHOSEN, HERE, PICTURES
from dashboards.pictures.gather import gather
from tests.dashboards.boards import DOCUMENTS, panels_of
from tests.e2e.prometheus import Prometheus


class Scripted(Prometheus):
    """Responses every query with one series."""

    def __init__(self) -> None:
        super().__init__(port=0)
        self.asked: list[str] = []

    def query(self, expression: str) -> list[dict[str, object]]:
        self.asked.append(expression)
        return [{"metric": {"__name__": "x", "level": "1", "probe": "p"}, "value": [100.0, "0.5"]}]

    def query_range(self, expression: str, begin: float, end: float, step_seconds: float) -> list[dict[str, object]]:
        self.asked.append(expression)
        return [{"metric": {"target": "t", "probe": "p"}, "values": [[begin, "1"], [end, "2"]]}]


@pytest.mark.parametrize("name", BOARDS)
def test_everything_of_a_board_is_asked_for_once(name: str) -> None:
    prometheus = Scripted()
    gathered = gather(prometheus, name, CHOSEN.get(name, {"probe": "p", "level": "1"}), 100.0, 200.0)
    targets = [target for panel in panels_of(name) for target in panel["targets"]]
    assert len(prometheus.asked) == len(targets) + len(DOCUMENTS[name]["annotations"]["list"])
    assert not [expression for expression in prometheus.asked if "$" in expression]
    assert not [panel["title"] for panel in gathered["panels"] if "$" in panel["title"]]
    assert (gathered["from"], gathered["to"]) == (100_000.0, 200_000.0)
    # Marks whose value is their time are where that is.
    own_time = any(entry["useValueForTime"] for entry in DOCUMENTS[name]["annotations"]["list"])
    assert {mark["time"] for mark in gathered["annotations"]} == ({100_000.0, 2.0} if own_time else {100_000.0})


def test_series_and_rows_as_grafana_names_them() -> None:
    panels = {panel["title"]: panel for panel in gather(Scripted(), "overview", {}, 1.0, 2.0)["panels"]}
    (state,) = panels["State"]["results"]
    assert state == {"refId": "A", "table": False, "found": [{"name": "t · p", "points": [[1.0, "1"], [2.0, "2"]]}]}
    first = panels["Probes"]["results"][0]
    assert first == {"refId": "A", "table": True, "found": [{"labels": {"level": "1", "probe": "p"}, "value": 0.5}]}


def test_every_board_has_its_picture_and_it_is_small() -> None:
    sizes = {path.stem: path.stat().st_size for path in PICTURES.glob("*.webp")}
    # No language model is served in the chain of the pictures: all of that board would be recorded.
    assert set(sizes) == set(BOARDS) - {"llm"}
    assert max(sizes.values()) < 200_000


def test_packages_are_versions_alone() -> None:
    packages = json.loads((HERE / "package.json").read_text())["dependencies"]
    assert all(re.fullmatch(r"\d+\.\d+\.\d+", version) for version in packages.values())
    assert not list(HERE.glob("*lock*"))
