"""The chart as Helm itself renders it: its SDK, the same code as the command."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

import yaml
from helm_python import Chart, values_from_yaml

ROOT = Path(__file__).parents[2]
CHART = ROOT / "helm" / "triton-canary"
NAMES = sorted(path.name.removesuffix("-values.yaml") for path in (CHART / "ci").glob("*-values.yaml"))

Document = dict[str, Any]


@cache
def _chart() -> Chart:
    return Chart.load(CHART)


def values_of(name: str) -> Document:
    """The values of a file in ci/, over those of the default one."""
    texts = [(CHART / "ci" / f"{part}-values.yaml").read_text() for part in ("default", name)]
    return values_from_yaml(texts[0]) | values_from_yaml(texts[1])


def render(values: Document) -> list[Document]:
    """What would be installed as release `rel` in namespace `canary`; the same list for the same values. Raises
    HelmRenderError or HelmValuesError."""
    return _render(json.dumps(values))


@cache
def _render(values: str) -> list[Document]:
    manifests = _chart().render(json.loads(values), name="rel", namespace="canary")
    return [
        document
        for path, text in sorted(manifests.items())
        if not path.endswith("NOTES.txt")
        for document in yaml.load_all(text, Loader=yaml.CSafeLoader)
        if document is not None
    ]


def notes(values: Document) -> str:
    """What is reported after an installation."""
    return _chart().render(values, name="rel", namespace="canary")["triton-canary/templates/NOTES.txt"]


def one(documents: list[Document], kind: str) -> Document:
    """The only object of this kind, or of several the one with the release's own name."""
    found = [document for document in documents if document["kind"] == kind]
    if len(found) > 1:
        found = [document for document in found if document["metadata"]["name"] == "rel-triton-canary"]
    (it,) = found
    return it


def container(documents: list[Document]) -> Document:
    """The daemon's."""
    found: Document = one(documents, "StatefulSet")["spec"]["template"]["spec"]["containers"][0]
    return found
