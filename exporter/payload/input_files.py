"""Files of input data: one directory, or JSON files.

Found where a configuration is checked and read where a sweep starts, so this knows neither configuration nor payload.
They are known by the digest of their content: what was checked is what is sent, or the sweep does not start.
"""

from __future__ import annotations

import functools
import hashlib
import os
import stat
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

MAX_FILES = 1000


@dataclass(frozen=True, slots=True)
class InputFiles:
    """What was `given`, and the files that it names, in the order in which they are read. `is_directory`: one for each
    tensor, named as it is."""

    given: tuple[str, ...]
    paths: tuple[Path, ...]
    is_directory: bool
    digest: str


def find_input_files(paths: Sequence[str]) -> InputFiles:
    """The files that `paths` name: those of one directory (hidden ones and folders left out), or the JSON files
    themselves. Raises ValueError if there is none, if they are mixed, or if one can't be read."""
    directories = [path for path in paths if Path(path).is_dir()]
    if directories and len(paths) > 1:
        raise ValueError(f"{directories[0]}: a directory excludes other paths; give one directory, or JSON files")
    files = _files_of(Path(directories[0])) if directories else [Path(path) for path in paths]
    if not 1 <= len(files) <= MAX_FILES:
        where = f"{directories[0]}: has" if directories else "has"
        raise ValueError(f"{where} {len(files)} files; from 1 to {MAX_FILES} are allowed")
    return InputFiles(tuple(paths), tuple(files), bool(directories), _digest(files))


def _files_of(directory: Path) -> list[Path]:
    try:
        entries = sorted(directory.iterdir())
    except OSError as error:
        raise ValueError(f"{directory}: cannot be read: {error.strerror}") from None
    return [entry for entry in entries if entry.is_file() and not entry.name.startswith(".")]


def digest_of(files: Iterable[tuple[str, bytes]]) -> str:
    """That of files with these names, each with the SHA-256 digest of its content."""
    whole = hashlib.sha256()
    for name, content in files:
        whole.update(os.fsencode(name) + b"\0" + content)
    return whole.hexdigest()


def _digest(files: Sequence[Path]) -> str:
    """SHA-256 over the files' names and contents."""
    contents = []
    for file in files:
        try:
            status = file.stat()
            if not stat.S_ISREG(status.st_mode):  # a pipe would be waited for
                raise ValueError(f"{file}: is not a file")
            content = _content_digest(str(file), status.st_mtime_ns, status.st_size, status.st_ino)
        except OSError as error:
            raise ValueError(f"{file}: cannot be read: {error.strerror}") from None
        contents.append((file.name, content))
    return digest_of(contents)


@functools.lru_cache(4 * MAX_FILES)
def _content_digest(path: str, _mtime_ns: int, _size: int, _inode: int) -> bytes:
    """Probes share files: one that has not changed is read once."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").digest()
