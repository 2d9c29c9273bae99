"""The committed boards as tests and pictures read them."""

from __future__ import annotations

import json
from typing import Any

from dashboards.generate.boards import BOARDS, FOLDER

DOCUMENTS: dict[str, dict[str, Any]] = {name: json.loads((FOLDER / f"{name}.json").read_text()) for name in BOARDS}


def panels_of(name: str) -> list[dict[str, Any]]:
    """A board's panels, without the headings."""
    return [panel for panel in DOCUMENTS[name]["panels"] if panel["type"] != "row"]
