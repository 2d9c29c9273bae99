"""One writer for a folder: daemons that share one by mistake must not undo each other's work, and must log it."""

from __future__ import annotations

import fcntl
import os
import threading
from pathlib import Path
from typing import Protocol


class LockHeldError(OSError):
    """Another process writes here."""


class FolderClaim(Protocol):
    """Whether this process may write a folder now. For any thread."""

    @property
    def refusal(self) -> str:
        """Why not, "" where it may."""

    def acquire(self) -> bool:
        """Returns whether it may since just now. LockHeldError names who may."""

    def release(self) -> None:
        """Gives it up."""


class DirectoryLock:
    """Held by the one process that writes a folder. The kernel lets go of it when that process ends, however it ends;
    the process id inside the file is for people. For any thread. `what` is what the folder is called."""

    def __init__(self, directory: Path, what: str, name: str = ".lock") -> None:
        self._path = directory / name
        self._what = what
        self._fd: int | None = None
        self._guard = threading.Lock()
        self._refusal = ""

    @property
    def refusal(self) -> str:
        """Why it was not ours when it was last asked for: who had it, or what the system reported; "" if it was."""
        return self._refusal

    def acquire(self) -> bool:
        """Takes the lock if it is not ours already; returns whether it was taken just now. LockHeldError names who has
        it."""
        with self._guard:
            if self._still_held():
                return False
            self._let_go()
            try:
                self._take()
            except LockHeldError as error:
                self._refusal = str(error)
                raise
            except OSError as error:
                where = self._path.parent
                self._refusal = f"the {self._what} {where} cannot be written: {error.strerror or error}"
                raise
            self._refusal = ""
            return True

    def release(self) -> None:
        """Lets go of the lock if it is held."""
        with self._guard:
            self._let_go()

    def _take(self) -> None:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        fd = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.ftruncate(fd, 0)
            os.pwrite(fd, f"{os.getpid()} {os.uname().nodename}\n".encode(), 0)
        except BlockingIOError:
            holder = os.pread(fd, 300, 0).decode(errors="replace").strip()
            os.close(fd)
            raise LockHeldError(f"another process writes this {self._what}: {holder or 'unknown'}") from None
        except OSError:
            os.close(fd)
            raise
        self._fd = fd

    def _still_held(self) -> bool:
        """Whether we have the lock, and on the file that another process would find: not if it was removed."""
        if self._fd is None:
            return False
        try:
            return os.path.samestat(os.fstat(self._fd), self._path.stat())
        except FileNotFoundError:
            return False

    def _let_go(self) -> None:
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None
