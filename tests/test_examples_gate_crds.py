"""The custom resources of examples/gate against the definitions of Flagger, Argo Rollouts and KServe, strictly: a key
that a definition does not have is an error.

The definitions are not ours to ship. `TRITON_CANARY_CRDS` names a folder that has them: Flagger's
artifacts/flagger/crd.yaml, Argo's manifests/crds/analysis-template-crd.yaml and rollout-crd.yaml, and KServe's
config/crd/full/serving.kserve.io_inferenceservices.yaml, by any names."""

from __future__ import annotations

import functools
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

FOLDER = Path(__file__).parents[1] / "examples" / "gate"
CRDS = os.environ.get("TRITON_CANARY_CRDS", "")
KINDS = ("Canary", "AnalysisTemplate", "Rollout", "InferenceService")

pytestmark = pytest.mark.skipif(not CRDS, reason="TRITON_CANARY_CRDS names no folder with the definitions")


def resources() -> Iterator[tuple[str, dict[str, Any]]]:
    for path in sorted(FOLDER.glob("*.yaml")):
        for document in yaml.safe_load_all(path.read_text()):
            if document.get("kind") in KINDS:
                yield f"{path.name}-{document['kind']}", document


@functools.cache
def schemas() -> dict[tuple[str, str], dict[str, Any]]:
    """By apiVersion and kind."""
    found = {}
    for path in Path(CRDS).glob("*.yaml"):
        for crd in yaml.load_all(path.read_text(), getattr(yaml, "CSafeLoader", yaml.SafeLoader)):
            if not crd or crd.get("kind") != "CustomResourceDefinition" or crd["spec"]["names"]["kind"] not in KINDS:
                continue
            for version in crd["spec"]["versions"]:
                schema = version["schema"]["openAPIV3Schema"]
                close(schema)
                schema["properties"]["metadata"] = {"type": "object"}
                found[f"{crd['spec']['group']}/{version['name']}", crd["spec"]["names"]["kind"]] = schema
    return found


def close(schema: Any) -> None:
    """Unknown keys, which a cluster drops silently, become errors."""
    if isinstance(schema, list):
        for each in schema:
            close(each)
    elif isinstance(schema, dict):
        if "properties" in schema and not schema.get("x-kubernetes-preserve-unknown-fields"):
            schema.setdefault("additionalProperties", False)
        if schema.get("x-kubernetes-int-or-string"):
            schema.pop("type", None)
        for each in list(schema.values()):
            close(each)


def problems(resource: dict[str, Any]) -> list[str]:
    validator = jsonschema.Draft7Validator(schemas()[resource["apiVersion"], resource["kind"]])
    return [f"{error.json_path}: {error.message}" for error in validator.iter_errors(resource)]


@pytest.mark.parametrize("resource", [each for _, each in resources()], ids=[name for name, _ in resources()])
def test_a_resource_is_as_its_definition_has_it(resource: dict[str, Any]) -> None:
    assert problems(resource) == []
    assert problems(resource | {"spec": resource["spec"] | {"notThere": 1}}) != []
