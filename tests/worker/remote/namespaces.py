"""Network namespaces that end with the processes that hold them: two that one cable joins, for tests that cut it, or a
node with pods."""

from __future__ import annotations

import ctypes
import os
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from tests.programs import find, need, refused

_CLONE_NEWNET = 0x40000000
_NO_STATION = "02:00:00:00:00:01"
"""A hardware address that no side has."""


class Namespace:
    """One side of the cable. `enter` goes before a command that is to run in it."""

    def __init__(self, address: str) -> None:
        """Raises OSError without the right to make one."""
        self.address = address
        # It has its namespace once it has written, and keeps it until its input ends.
        self._holder = subprocess.Popen(
            ["unshare", "--net", "sh", "-c", "echo; exec cat"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        assert self._holder.stdout is not None
        if not self._holder.stdout.readline():
            _, problem = self._holder.communicate()
            raise OSError(problem.decode().strip())

    @property
    def pid(self) -> int:
        """A process in it."""
        return self._holder.pid

    @property
    def enter(self) -> list[str]:
        return ["nsenter", f"--net=/proc/{self.pid}/ns/net"]

    def ip(self, *arguments: str) -> None:
        """Runs `ip` in it. Raises CalledProcessError."""
        subprocess.run([*self.enter, str(find("ip")), *arguments], check=True, capture_output=True)

    def move_this_thread(self) -> None:
        """Sockets that this thread makes from now on are in it."""
        descriptor = os.open(f"/proc/{self.pid}/ns/net", os.O_RDONLY)
        try:
            if ctypes.CDLL(None, use_errno=True).setns(descriptor, _CLONE_NEWNET) != 0:
                raise OSError(ctypes.get_errno(), "setns")
        finally:
            os.close(descriptor)

    def processes(self) -> set[int]:
        """All that are in it."""
        found, ours = set(), os.stat(f"/proc/{self.pid}/ns/net").st_ino
        for entry in Path("/proc").glob("[0-9]*"):
            with suppress(OSError):  # it has just ended
                if (entry / "ns" / "net").stat().st_ino == ours:
                    found.add(int(entry.name))
        return found

    def close(self) -> None:
        self._holder.communicate()


class Cable:
    """`here` and `there`, and a cable between them that is whole."""

    def __init__(self, here: Namespace, there: Namespace) -> None:
        """Raises OSError where the kernel makes none."""
        self.here, self.there = here, there
        try:
            here.ip("link", "add", "cable", "type", "veth", "peer", "name", "cable", "netns", str(there.pid))
        except subprocess.CalledProcessError as error:
            raise OSError(error.stderr.decode().strip()) from None
        for side in (here, there):
            side.ip("address", "add", f"{side.address}/24", "dev", "cable")
            side.ip("link", "set", "cable", "up")

    def cut(self) -> None:
        """Nothing comes through any more, and neither side is notified: what is sent is lost."""
        for side, other in ((self.here, self.there), (self.there, self.here)):
            side.ip("neighbour", "replace", other.address, "lladdr", _NO_STATION, "nud", "permanent", "dev", "cable")


@contextmanager
def cable() -> Iterator[Cable]:
    """Where the kernel refuses namespaces or cables, the test is skipped."""
    with namespace("10.111.0.1") as here, namespace("10.111.0.2") as there:
        try:
            made = Cable(here, there)
        except OSError as error:
            refused(f"no cable between network namespaces: {error}")
        yield made


@contextmanager
def node_with_pods(count: int) -> Iterator[tuple[Namespace, list[Namespace]]]:
    """A node, and so many pods: each reaches the node and the other pods; likewise."""
    with ExitStack() as stack:
        node = stack.enter_context(namespace("10.112.0.1"))
        pods = [stack.enter_context(namespace(f"10.112.0.{number + 2}")) for number in range(count)]
        try:
            node.ip("link", "add", "name", "pods", "type", "bridge")
            node.ip("address", "add", f"{node.address}/24", "dev", "pods")
            node.ip("link", "set", "pods", "up")
            for number, pod in enumerate(pods):
                end = f"pod{number}"
                node.ip("link", "add", end, "type", "veth", "peer", "name", "eth0", "netns", str(pod.pid))
                node.ip("link", "set", end, "master", "pods", "up")
                pod.ip("address", "add", f"{pod.address}/24", "dev", "eth0")
                pod.ip("link", "set", "eth0", "up")
        except subprocess.CalledProcessError as error:
            refused(f"no bridge between network namespaces: {error.stderr.decode().strip()}")
        yield node, pods


@contextmanager
def namespace(address: str) -> Iterator[Namespace]:
    """One with its loopback alone; likewise."""
    need("ip", "nsenter", "unshare")
    try:
        made = Namespace(address)
    except OSError as error:
        refused(f"no network namespaces: {error}")
    try:
        made.ip("link", "set", "lo", "up")
        yield made
    finally:
        made.close()
