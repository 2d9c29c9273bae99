"""Which probes an operator paused, kept over a restart: a probe paused because a server suffers must not come back
because the daemon was moved to another machine.

It owns the file. It must not know what a pause does.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Final

from exporter.core.errors import ConfigError
from exporter.schedule.phase import ProbeKey
from exporter.storage.atomic_file import replace_file

_FORMAT_VERSION = 1
_FORMAT_WITH_SCOPES = 2
"""Where everything or a target is paused: a release that does not know of this must not read half of it."""

EVERYTHING: Final[ProbeKey] = "", ""
"""The key under which all probes are paused."""


def whole_target(target: str) -> ProbeKey:
    """The key under which all probes of a target are paused, and of all targets discovered by it."""
    return target, ""


class Pauses:
    """Names (target, probe), of probes or of patterns of the configuration, or the keys of a whole target and of
    everything, in one JSON file, replaced atomically at each change. For one thread. `claim` is asked before each
    write, and raises OSError while the file is another daemon's."""

    def __init__(self, path: Path, claim: Callable[[], object] = lambda: None) -> None:
        """Raises ConfigError if there is a file that can't be read: pauses that are lost without a word are load that
        the operator did not want."""
        self._path = path
        self._claim = claim
        self._paused = _read(path)

    def load(self) -> None:
        """Reads the file again: another daemon has written it since. Raises ConfigError."""
        self._paused = _read(self._path)

    def __contains__(self, key: ProbeKey) -> bool:
        return key in self._paused

    def __iter__(self) -> Iterator[ProbeKey]:
        return iter(self._paused)

    def add(self, key: ProbeKey) -> None:
        """Raises OSError, with nothing changed, if it can't be kept."""
        self._write(self._paused | {key})

    def add_at_once(self, key: ProbeKey) -> None:
        """It is paused in any case. Raises OSError if that can't be kept over a restart."""
        paused = self._paused | {key}
        try:
            self._write(paused)
        finally:
            self._paused = paused

    def discard_all(self, keys: Iterable[ProbeKey]) -> None:
        """Likewise."""
        self._write(self._paused.difference(keys))

    def _write(self, paused: frozenset[ProbeKey]) -> None:
        if paused == self._paused:
            return
        self._claim()
        rows = [{"target": target, "probe": probe} for target, probe in sorted(paused)]
        version = _FORMAT_VERSION if all(probe for _, probe in paused) else _FORMAT_WITH_SCOPES
        replace_file(self._path, json.dumps({"version": version, "paused": rows}, indent=1))
        self._paused = paused


def _read(path: Path) -> frozenset[ProbeKey]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if content["version"] not in (_FORMAT_VERSION, _FORMAT_WITH_SCOPES):
            raise ValueError(f"version {content['version']!r}, not {_FORMAT_WITH_SCOPES}")
        return frozenset((str(row["target"]), str(row["probe"])) for row in content["paused"])
    except FileNotFoundError:
        return frozenset()
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        fix = "correct it, or remove it to resume all probes"
        raise ConfigError([f"{path}: the paused probes cannot be read ({error}); {fix}"]) from error
