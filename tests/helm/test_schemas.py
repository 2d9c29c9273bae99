"""The checks themselves: each of them refuses what a cluster would refuse, or drop without a word."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import pytest

from tests.helm.chart import one, render, values_of
from tests.helm.schemas import check


@pytest.mark.parametrize(
    ("name", "kind", "path", "value"),
    [
        ("monitoring", "ServiceMonitor", ("spec", "endpoints", 0, "intervall"), "30s"),
        ("monitoring", "ServiceMonitor", ("spec", "endpoints", 0, "interval"), "half a minute"),
        ("monitoring", "ServiceMonitor", ("spec", "selector"), None),
        ("monitoring", "PrometheusRule", ("spec", "groups", 1, "rules", 0, "expression"), "up"),
        ("monitoring", "PrometheusRule", ("spec", "groups", 1, "rules", 0, "expr"), None),
        ("default", "StatefulSet", ("spec", "strategy"), {"type": "Recreate"}),
        ("default", "StatefulSet", ("spec", "replicas"), "1"),
        ("default", "Service", ("spec", "ports", 0, "port"), None),
        ("networkpolicy", "NetworkPolicy", ("spec", "egress", 0, "ports", 0, "proto"), "UDP"),
    ],
)
def test_what_no_cluster_would_take(name: str, kind: str, path: tuple[str | int, ...], value: Any) -> None:
    document = deepcopy(one(render(values_of(name)), kind))
    check(document)
    place: Any = document
    for key in path[:-1]:
        place = place[key]
    if value is None:
        del place[path[-1]]
    else:
        place[path[-1]] = value
    with pytest.raises(Exception, match=r".+"):
        check(document)
