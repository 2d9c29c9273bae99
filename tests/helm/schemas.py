"""Strict schemas: Kubernetes' own, and prometheus-operator's as models. Neither lets an unknown field pass."""

from __future__ import annotations

from functools import cache
from typing import Any

VERSIONS = ("1.28", "1.37")
"""The first one that the chart takes, and the latest with a schema here."""

MODELS = ("PrometheusRule", "ServiceMonitor")
BY_HAND = frozenset({"HTTPRoute"})
"""Kinds without a schema here, which a test compares whole."""


def check(document: dict[str, Any]) -> None:
    """Raises if the document is not what its kind may be."""
    kind = document["kind"]
    if kind in MODELS:
        from cloudcoil.models.prometheus_operator import v1

        model = getattr(v1, kind).model_validate(document)
        # The models let unknown fields pass, but do not keep them.
        kept = model.model_dump(mode="json", by_alias=True, exclude_unset=True)
        assert kept == document, differences(document, kept)
    elif kind not in BY_HAND:
        for version in VERSIONS:
            _validator().validate(document, version, strict=True)


@cache
def _validator() -> Any:
    """Its import takes seconds, which a run without these tests does without."""
    import kubernetes_validate
    import kubernetes_validate.utils

    # Megabytes of definitions, which it would read again for each document.
    kubernetes_validate.utils.schema_contents = cache(kubernetes_validate.utils.schema_contents)
    return kubernetes_validate


def differences(given: Any, kept: Any, path: str = "") -> list[str]:
    """Where two documents part."""
    if isinstance(given, dict) and isinstance(kept, dict):
        keys = sorted(given.keys() | kept.keys())
        return [text for key in keys for text in differences(given.get(key), kept.get(key), f"{path}.{key}")]
    if isinstance(given, list) and isinstance(kept, list) and len(given) == len(kept):
        pairs = enumerate(zip(given, kept, strict=True))
        return [text for index, (a, b) in pairs for text in differences(a, b, f"{path}[{index}]")]
    return [] if given == kept else [f"{path}: {given!r} became {kept!r}"]
