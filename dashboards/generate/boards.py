"""All boards by name, and their JSON."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from grafana_foundation_sdk.cog.encoder import JSONEncoder

from dashboards.generate import compare, health, llm, model, overview
from dashboards.generate.board import Board

FOLDER: Final = Path(__file__).parents[1]

BOARDS: Final[dict[str, Callable[[], Board]]] = {
    "overview": overview.board,
    "model": model.board,
    "compare": compare.board,
    "llm": llm.board,
    "exporter": health.board,
}


def as_document(name: str) -> dict[str, Any]:
    """The board as Grafana reads it."""
    board = BOARDS[name]()
    document: dict[str, Any] = _pruned(json.loads(json.dumps(board.build(), cls=JSONEncoder)))
    document["annotations"] = {"list": [annotation.document() for annotation in board.annotations]}
    # The kit writes an id of zeros, which Grafana would take for a real one.
    for variable in document["templating"]["list"]:
        del variable["id"]
    for number, panel in enumerate(document["panels"], start=1):
        panel["id"] = number
    return document


def as_json(name: str) -> str:
    return json.dumps(as_document(name), indent=1, sort_keys=True, ensure_ascii=False) + "\n"


def _pruned(value: Any) -> Any:
    """Without nulls: Grafana has its defaults for what is left out, not for what is null."""
    if isinstance(value, dict):
        return {key: _pruned(inner) for key, inner in value.items() if inner is not None}
    return [_pruned(inner) for inner in value] if isinstance(value, list) else value
