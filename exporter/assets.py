"""What belongs to a release beside its code: boards, alert rules, runbooks and examples. Reads files, knows no HTTP.

In a checkout they lie where they are kept; the wheel has a copy, made by setup.py.
"""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

SOURCES = {
    "boards": ("dashboards", "*.json"),
    "rules": ("dashboards/rules", "*.yaml"),
    "runbooks": ("docs/runbooks", "*.md"),
    "examples": ("examples", "*"),
}
"""By the folder that each is written to: the folder of the repository, and which files of it."""
_INSTALLED = Path(__file__).parent / "assets_data"
_CHECKOUT = Path(__file__).parents[1]
_RUNBOOK = re.compile(r"[A-Za-z]{1,64}")


@cache
def assets() -> dict[str, Path]:
    """Each file by where it is written, as `rules/triton-canary.rules.yaml`, sorted."""
    found: dict[str, Path] = {}
    for kind, (folder, pattern) in SOURCES.items():
        installed = _INSTALLED / kind
        place = installed if installed.is_dir() else _CHECKOUT / folder
        found |= {f"{kind}/{path.name}": path for path in sorted(place.glob(pattern)) if path.is_file()}
    return found


def runbook(name: str) -> str | None:
    """The runbook of an alert as Markdown; None where there is none of this name."""
    path = assets().get(f"runbooks/{name}.md") if _RUNBOOK.fullmatch(name) else None
    return path.read_text(encoding="utf-8") if path else None
