"""What a command line becomes: a configuration in the making, values by key with the flag that each came from, and the
options of this one run. Pure."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from exporter.commands.analyze.flags.fail_on import Condition
from exporter.config.environment import Overlay, Path

_TARGET = "target."
_FIRST = ("name", "target", "kind", "url", "model", "version", "schedule", "load")
"""In this order they are read most easily; the others follow as they were given."""


class Draft:
    """Collects what flags set; errors are in `faults`, remarks about them in
    `notices`."""

    def __init__(self) -> None:
        self.parts: dict[str, Any] = {}
        self.environment: dict[str, str] = {}
        self.problems: list[str] = []
        self.notices: list[str] = []
        self._values: dict[Path, object] = {}
        self._sources: dict[Path, str] = {}

    def default(self, key: str, value: object) -> None:
        """Sets a key where no flag did."""
        self._values.setdefault(_path(key), value)

    def put(self, name: str, key: str, value: object) -> None:
        """Sets a key, as the flag `name` asks."""
        self._sources[_path(key)] = name
        self._values[_path(key)] = value

    def put_part(self, name: str, key: str, convert: Callable[[Any], object] | None = None) -> None:
        """Sets a key to what the flag `name` reported, if it was given."""
        if name in self.parts:
            value = self.parts[name]
            self.put(name, key, convert(value) if convert else value)

    def value(self, key: str) -> Any:
        """What a key is set to, None if it is not."""
        return self._values.get(_path(key))

    @property
    def assumed(self) -> frozenset[str]:
        """The keys of the probe that no flag set, as `stop.max_requests`."""
        given = [path for path in self._values if path[0] == "probes" and path not in self._sources]
        return frozenset(".".join(map(str, path[2:])) for path in given)

    def problem(self, name: str, problem: str) -> None:
        """Something is wrong with the flag `name`."""
        self.problems.append(f"{name}: {problem}")

    @property
    def document(self) -> dict[str, Any]:
        """The configuration that the daemon would take."""
        document: dict[str, Any] = {"targets": [{}], "probes": [{}]}
        for path, value in sorted(self._values.items(), key=lambda item: _rank(item[0])):
            inner: Any = document[str(path[0])][0]
            for key in path[2:-1]:
                inner = inner.setdefault(key, {})
            inner[path[-1]] = value
        return document

    @property
    def overlay(self) -> Overlay:
        """The document as values over an empty file, so that its errors name the flags."""
        return Overlay(self.document, dict(self._sources))


def _path(key: str) -> Path:
    if key.startswith(_TARGET):
        return ("targets", 0, *key.removeprefix(_TARGET).split("."))
    return ("probes", 0, *key.split("."))


def _rank(path: Path) -> int:
    return _FIRST.index(str(path[2])) if path[2] in _FIRST else len(_FIRST)


@dataclass(frozen=True, slots=True)
class RunOptions:
    """How the run is reported and judged. Paths are "" where nothing is to be written; `verbosity` has an entry for
    each time that more was asked for. `asynchronous` and `synchronous` change words of the report alone."""

    output_path: str = ""
    verbose_csv: bool = False
    profile_export_path: str = ""
    json_path: str = ""
    plot_path: str = ""
    include_unstable: bool = False
    fail_on: tuple[Condition, ...] = ()
    verbosity: tuple[bool, ...] = ()
    asynchronous: bool = False
    synchronous: bool = False
    print_probe: bool = False
    version: bool = False
    help: bool = False
