"""A configuration in the making: values by key, and the flag that each came from. Pure."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from exporter.config.environment import Overlay, Path
from exporter.config.faults import fields_by_key, model_at

_TARGET = "target."


class Draft:
    """Collects what flags say; what is wrong with them is in `faults`, what is to be said of them in `notices`."""

    def __init__(self) -> None:
        self.document: dict[str, Any] = {"targets": [{}], "probes": [{}]}
        self.parts: dict[str, Any] = {}
        self.environment: dict[str, str] = {}
        self.faults: list[str] = []
        self.notices: list[str] = []
        self._sources: dict[Path, str] = {}

    def default(self, key: str, value: object) -> None:
        """Sets a key where no flag did."""
        path = _path(key)
        if path not in self._sources:
            self._set(path, value)

    def put(self, name: str, key: str, value: object) -> None:
        """Sets a key, as the flag `name` says."""
        path = _path(key)
        if not _is_known(path):
            self.faults.append(f"{name}: this version does not have it yet; leave it out, or use perf_analyzer for it")
            return
        self._sources[path] = name
        self._set(path, value)

    def put_part(self, name: str, key: str, convert: Callable[[Any], object] | None = None) -> None:
        """Sets a key to what the flag `name` said, if it was given."""
        if name in self.parts:
            value = self.parts[name]
            self.put(name, key, convert(value) if convert else value)

    def fault(self, name: str, problem: str) -> None:
        """Something is wrong with the flag `name`."""
        self.faults.append(f"{name}: {problem}")

    @property
    def overlay(self) -> Overlay:
        """The document as values over an empty file, so that its faults are told of the flags."""
        return Overlay(self.document, dict(self._sources))

    def _set(self, path: Path, value: object) -> None:
        inner: Any = self.document[str(path[0])][0]
        for key in path[2:-1]:
            inner = inner.setdefault(key, {})
        inner[path[-1]] = value


def _path(key: str) -> Path:
    if key.startswith(_TARGET):
        return ("targets", 0, *key.removeprefix(_TARGET).split("."))
    return ("probes", 0, *key.split("."))


def _is_known(path: Path) -> bool:
    model = model_at(path[:-1])
    return model is not None and path[-1] in fields_by_key(model)
