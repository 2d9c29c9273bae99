"""What Grafana would ask Prometheus for a board, asked and written down for the page that draws it."""

from __future__ import annotations

import re
from typing import Any, Final

from tests.dashboards.boards import DOCUMENTS
from tests.dashboards.promql import EVERYTHING, filled
from tests.e2e.prometheus import Prometheus

STEP_SECONDS: Final = 2.0
RATE_INTERVAL: Final = "30s"
ANNOTATION_STEP_SECONDS: Final = 5.0


def gather(prometheus: Prometheus, name: str, chosen: dict[str, str], begin: float, end: float) -> dict[str, Any]:
    """The board with the results of its queries over this time; `chosen` are the variables that are one value."""
    board = DOCUMENTS[name]
    values = {**EVERYTHING, "__rate_interval": RATE_INTERVAL, **chosen}
    panels = [_panel(prometheus, panel, values, begin, end) for panel in board["panels"]]
    marks = [mark for entry in board["annotations"]["list"] for mark in _marks(prometheus, entry, values, begin, end)]
    variables = [
        {"label": variable["label"], "value": chosen.get(variable["name"], "All")}
        for variable in board["templating"]["list"]
        if variable["type"] != "datasource"
    ]
    return {
        "name": name,
        "title": board["title"],
        "variables": variables,
        "panels": panels,
        "annotations": marks,
        "from": begin * 1000,
        "to": end * 1000,
    }


def _panel(
    prometheus: Prometheus, panel: dict[str, Any], values: dict[str, str], begin: float, end: float
) -> dict[str, Any]:
    asked = {**panel, "title": filled(panel["title"], values), "results": []}
    for target in panel.get("targets", ()):
        expr = filled(target["expr"], values)
        if target.get("format") == "table":
            results = [
                {"labels": _labels(found["metric"]), "value": float(found["value"][1])}
                for found in prometheus.query(expr)
            ]
        else:
            results = [
                {"name": _legend(target["legendFormat"], found["metric"]), "points": found["values"]}
                for found in prometheus.query_range(expr, begin, end, STEP_SECONDS)
            ]
        asked["results"].append({"refId": target["refId"], "table": target.get("format") == "table", "found": results})
    return asked


def _marks(
    prometheus: Prometheus, annotation: dict[str, Any], values: dict[str, str], begin: float, end: float
) -> list[dict[str, Any]]:
    """The first moment of each: Grafana, too, makes one mark of neighbours. Some have their moment as their value."""
    own_time = annotation.get("useValueForTime", False)
    found = prometheus.query_range(filled(annotation["expr"], values), begin, end, ANNOTATION_STEP_SECONDS)
    return [
        {
            "time": float(series["values"][-1][1]) if own_time else float(series["values"][0][0]) * 1000,
            "color": annotation["iconColor"],
            "text": annotation["titleFormat"],
        }
        for series in found
    ]


def _labels(metric: dict[str, str]) -> dict[str, str]:
    return {name: value for name, value in metric.items() if name != "__name__"}


def _legend(template: str, metric: dict[str, str]) -> str:
    return re.sub(r"\{\{(\w+)\}\}", lambda found: metric.get(found[1], ""), template)
