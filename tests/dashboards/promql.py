"""The boards' queries with their variables filled in, and what they are made of."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

import promql_parser

EVERYTHING = {"job": ".+", "instance": ".+", "target": ".+", "model": ".+", "variant": ".+", "place": ".*"}
ANY = {
    **EVERYTHING,
    "probe": "p",
    "level": "1",
    "variant_group": "g",
    "reference": "r",
    "percentile": "99",
    "__rate_interval": "1m",
}


def filled(text: str, values: Mapping[str, str] = ANY) -> str:
    """Grafana's variables replaced; one that has no value is an error."""
    return re.sub(r"\$(\w+)", lambda found: values[found[1]], text)


def nodes(expr: str) -> Iterator[Any]:
    """The parsed expression and everything in it. Raises ValueError where it is no PromQL."""
    yield from _walk(promql_parser.parse(expr))


def _walk(node: Any) -> Iterator[Any]:
    yield node
    for name in ("expr", "lhs", "rhs", "vector_selector", "param"):
        child = getattr(node, name, None)
        if child is not None and not isinstance(child, str):
            yield from _walk(child)
    for argument in getattr(node, "args", None) or ():
        yield from _walk(argument)


def selectors(expr: str) -> list[Any]:
    return [node for node in nodes(expr) if isinstance(node, promql_parser.VectorSelector)]


def calls(expr: str) -> list[Any]:
    return [node for node in nodes(expr) if isinstance(node, promql_parser.Call)]
