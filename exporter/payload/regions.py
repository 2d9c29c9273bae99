"""Regions of shared memory that hold tensors: made, filled, and gone on every way out, even after a kill.

A region is a file in /dev/shm whose maker holds a lock on it for as long as it lives. The kernel takes the lock away
when that process ends, however it ends: so a region without a lock is an orphan, whoever made it and wherever that was
(process ids mean nothing between containers that share /dev/shm).
"""

from __future__ import annotations

import contextlib
import fcntl
import mmap
import os
import secrets
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from exporter.core.errors import InputError

FOLDER = Path("/dev/shm")  # noqa: S108 - where POSIX shared memory lives on Linux
PREFIX = "triton-canary-tensors-"
CLAIMED_PREFIX = "triton-canary-server-"
"""Of regions that a Triton in this process makes itself, and does not lock."""

Part = tuple[int, bytes]
"""Bytes and where in the region they go."""


class Region(Protocol):
    """Memory that a server on this machine can map."""

    name: str
    size: int

    def write(self, parts: Iterable[Part]) -> None:
        """Fills the region; what is not written is zero."""

    def close(self) -> None:
        """Gives the memory back. Never raises."""


class SystemRegion:
    """POSIX shared memory, by its name. Raises InputError if there is no space for it."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.name, self._descriptor = _make_file()
        try:
            # All of it now: without the space, the first write to a page that is not there would be a fatal signal.
            os.posix_fallocate(self._descriptor, 0, size)
            self._map = mmap.mmap(self._descriptor, size)
        except OSError as error:
            self._remove()
            raise InputError(f"input.shared_memory: {size} bytes in {FOLDER}: {error.strerror}") from error

    @property
    def key(self) -> str:
        """The name for shm_open."""
        return f"/{self.name}"

    def write(self, parts: Iterable[Part]) -> None:
        """See `Region`."""
        for offset, data in parts:
            self._map[offset : offset + len(data)] = data

    def read(self, offset: int, size: int) -> bytes:
        """What is there now."""
        return self._map[offset : offset + size]

    def close(self) -> None:
        """See `Region`."""
        self._map.close()
        self._remove()

    def _remove(self) -> None:
        with contextlib.suppress(OSError):
            (FOLDER / self.name).unlink()
        os.close(self._descriptor)


class CudaRegion:
    """Memory of a GPU of this machine, through tritonclient's own module. A small system region bears its name, so that
    it can be distinguished from an orphan. Raises InputError where there is no GPU."""

    def __init__(self, size: int) -> None:
        cuda = _cuda_module()
        self.size = size
        self._marker = SystemRegion(mmap.PAGESIZE)
        self.name = self._marker.name
        try:
            self._handle: Any = cuda.create_shared_memory_region(self.name, size, CUDA_DEVICE)
        except cuda.CudaSharedMemoryException as error:
            self._marker.close()
            raise InputError(f"input.shared_memory: cuda, and no GPU can be used: {_cause(error)}") from error

    @property
    def raw_handle(self) -> str:
        """What the server opens it by, in base64."""
        handle: bytes = _cuda_module().get_raw_handle(self._handle)
        return handle.decode()

    def write(self, parts: Iterable[Part]) -> None:
        """See `Region`."""
        whole = np.zeros(self.size, np.uint8)
        for offset, data in parts:
            whole[offset : offset + len(data)] = np.frombuffer(data, np.uint8)
        _cuda_module().set_shared_memory_region(self._handle, [whole])

    def close(self) -> None:
        """See `Region`."""
        cuda = _cuda_module()
        with contextlib.suppress(cuda.CudaSharedMemoryException):
            cuda.destroy_shared_memory_region(self._handle)
        self._marker.close()


class Claim:
    """A name with which regions begin that others make for us: they are gone when we are. Raises InputError."""

    def __init__(self) -> None:
        self._lock, self._descriptor = _make_file()
        self.name = _claimed(self._lock)

    def close(self) -> None:
        """Removes what is there under the name. Never raises."""
        _remove_with_claimed(self._lock)
        os.close(self._descriptor)


CUDA_DEVICE = 0
"""The GPU that is used: the first that the process can see."""


def remove_orphans() -> None:
    """Removes the regions whose makers are gone. Never raises."""
    for path in FOLDER.glob(f"{PREFIX}*"):
        with contextlib.suppress(OSError), _opened(path) as descriptor:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            _remove_with_claimed(path.name)


def exists(name: str) -> bool:
    """Whether there is a region of this name."""
    return (FOLDER / name).exists()


def _claimed(name: str) -> str:
    return CLAIMED_PREFIX + name.removeprefix(PREFIX)


def _remove_with_claimed(name: str) -> None:
    """Removes a region, after those that its maker's Triton has made: it is the sign that there may be some."""
    for path in (*FOLDER.glob(f"{_claimed(name)}*"), FOLDER / name):
        with contextlib.suppress(OSError):
            path.unlink()


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[int]:
    descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _make_file() -> tuple[str, int]:
    while True:
        name = PREFIX + secrets.token_hex(12)
        try:
            descriptor = os.open(FOLDER / name, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise InputError(f"input.shared_memory: no file can be made in {FOLDER}: {error.strerror}") from error
        with contextlib.suppress(OSError):
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if exists(name):
                return name, descriptor
        # Another process that looked for orphans came between.
        os.close(descriptor)


def _cuda_module() -> Any:
    try:
        from tritonclient.utils import cuda_shared_memory
    except ImportError as error:
        raise InputError(f"input.shared_memory: cuda, and its module cannot be used: {error}") from error
    return cuda_shared_memory


def _cause(error: BaseException) -> str:
    return str(error.__cause__ or error)
