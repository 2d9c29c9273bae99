"""Environment variables as configuration: TRITON_CANARY_WEB__LISTEN sets `web.listen`.

Pure: the variables are handed in. Their values are read as YAML would read them in the file.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

from exporter.config.document import parse_value

PREFIX = "TRITON_CANARY_"
DELIMITER = "__"
OTHER_VARIABLES = frozenset({"TRITON_CANARY_CACHE", "TRITON_CANARY_API_TOKEN"})
"""Variables of this program that are no configuration of the daemon."""

_SERVICE_LINK = re.compile(r"(\w+_)?(SERVICE_HOST|SERVICE_PORT(_\w+)?|PORT|PORT_\d+_(TCP|UDP|SCTP)(_\w+)?)")
"""Kubernetes gives every container such variables for each Service of its namespace, ours among them."""

Path = tuple[str | int, ...]


@dataclass(slots=True)
class Overlay:
    """What the environment sets: nested values, the variable behind each path, and variables that contradict."""

    values: dict[str, Any] = field(default_factory=dict)
    variables: dict[Path, str] = field(default_factory=dict)
    problems: list[tuple[str, str]] = field(default_factory=list)


def read_environment(environ: Mapping[str, str], known: Collection[str], lists: Collection[str]) -> Overlay:
    """The variables that begin with our prefix, as an overlay over the file. `known` are the top-level keys, `lists`
    those of them that hold lists, which one variable gives whole."""
    overlay = Overlay()
    found = [name for name in environ if name.startswith(PREFIX)]
    for name in sorted(found, key=lambda name: (name.count(DELIMITER), name)):
        keys = tuple(name.removeprefix(PREFIX).lower().split(DELIMITER))
        if keys[0] not in known and _SERVICE_LINK.fullmatch(name.removeprefix(PREFIX)):
            continue
        if keys[0] in lists and len(keys) > 1:
            whole = f"{PREFIX}{keys[0].upper()}"
            overlay.problems.append((name, f"'{keys[0]}' is a list; give it whole, as JSON, in {whole}"))
        elif not _put(overlay.values, keys, parse_value(environ[name])):
            overlay.problems.append((name, "another variable gives a part of this path, or the whole, otherwise"))
        else:
            overlay.variables[keys] = name
    return overlay


def _put(values: dict[str, Any], keys: tuple[str, ...], value: Any) -> bool:
    """Sets a nested value; False where it would have to go into something that is no mapping."""
    inner: Any = values
    for key in keys[:-1]:
        inner = inner.setdefault(key, {})
        if not isinstance(inner, dict):
            return False
    if keys[-1] in inner:
        return False
    inner[keys[-1]] = value
    return True
