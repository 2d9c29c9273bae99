"""Which probes somebody paused, kept over a restart: who paused a probe because a server suffers does not want it back
because the daemon was moved to another machine.

It owns the file. It must not know what a pause does.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from exporter.core.errors import ConfigError
from exporter.schedule.phase import ProbeKey
from exporter.storage.atomic_file import replace_file

_FORMAT_VERSION = 1


class Pauses:
    """Names (target, probe), of probes or of patterns of the configuration, in one JSON file, replaced atomically at
    each change. For one thread. `claim` is asked before each write, and raises OSError while the file is another
    daemon's."""

    def __init__(self, path: Path, claim: Callable[[], object] = lambda: None) -> None:
        """Raises ConfigError if there is a file that can't be read: pauses that are lost without a word are load that
        somebody did not want."""
        self._path = path
        self._claim = claim
        self._paused = _read(path)

    def __contains__(self, key: ProbeKey) -> bool:
        return key in self._paused

    def __iter__(self) -> Iterator[ProbeKey]:
        return iter(self._paused)

    def add(self, key: ProbeKey) -> None:
        """Raises OSError, with nothing changed, if it can't be kept."""
        self._write(self._paused | {key})

    def discard_all(self, keys: Iterable[ProbeKey]) -> None:
        """Likewise."""
        self._write(self._paused.difference(keys))

    def _write(self, paused: frozenset[ProbeKey]) -> None:
        if paused == self._paused:
            return
        self._claim()
        rows = [{"target": target, "probe": probe} for target, probe in sorted(paused)]
        replace_file(self._path, json.dumps({"version": _FORMAT_VERSION, "paused": rows}, indent=1))
        self._paused = paused


def _read(path: Path) -> frozenset[ProbeKey]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if content["version"] != _FORMAT_VERSION:
            raise ValueError(f"version {content['version']!r}, not {_FORMAT_VERSION}")
        return frozenset((str(row["target"]), str(row["probe"])) for row in content["paused"])
    except FileNotFoundError:
        return frozenset()
    except (OSError, ValueError, KeyError, TypeError) as error:
        cure = "mend it, or remove it to have no probe paused"
        raise ConfigError([f"{path}: the paused probes cannot be read ({error}); {cure}"]) from error
