"""The command `assets`: writes what belongs to a release beside its code into a folder."""

from __future__ import annotations

import shutil
from collections import Counter
from pathlib import Path

from exporter.assets import assets
from exporter.core.errors import ConfigError


def write_assets(folder: Path) -> str:
    """Writes boards, rules, runbooks and examples below `folder`; returns what was written, in a line each. Files that
    are there are replaced, others stay. Raises ConfigError where it can't be written."""
    written = Counter[str]()
    try:
        for name, source in assets().items():
            place = folder / name
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, place)
            written[name.partition("/")[0]] += 1
    except OSError as error:
        raise ConfigError([f"{error.filename or folder}: cannot write: {error.strerror or error}"]) from error
    return "\n".join(f"{folder / kind}: {count} files" for kind, count in written.items())
