"""A pair of daemons on one shared folder, and the server that both are configured for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path

from tests.daemon.running import QUICK, RunningDaemon
from tests.standby.named_server import NamedServer

GAP_SECONDS = 2.0
"""What lies at least between the last request of the one and the first of the other, where the lease ran out: the
margin of 3 s, less a renewal of it that the other saw late."""


class Pair:
    """Daemons "a" and "b", which share a data directory, and the server that both are configured for."""

    def __init__(
        self,
        folder: Path,
        server: NamedServer,
        stack: ExitStack,
        *,
        every: str = "1s",
        duration: str = "10s",
        lease: str = "file",
        wrappers: Mapping[str, Sequence[str]] | None = None,
    ) -> None:
        """`wrappers` has a command for each that becomes the daemon."""
        self.server = server
        self._every = every
        self._lease = {"lease": lease, "duration": duration}
        self._wrappers = wrappers or {}
        self.data = folder / "shared"
        (self.data / "lease").mkdir(parents=True)
        self.mounts: dict[str, Path] = {}
        self.daemons = {name: self._make(folder, name) for name in "ab"}
        for daemon in self.daemons.values():
            stack.callback(daemon.stop)
        self.a, self.b = self.daemons.values()

    def cut_off(self) -> None:
        """As when the mount of "a" is gone: where the shared folder was is an empty one, in which it can write."""
        self.mounts["a"].unlink()
        self.mounts["a"].mkdir()

    def _make(self, folder: Path, name: str) -> RunningDaemon:
        own = folder / name
        own.mkdir()
        self.mounts[name] = own / "mount"
        self.mounts[name].symlink_to(self.data)
        url = f"http://127.0.0.1:{self.server.port}"
        configuration = {
            "data_directory": str(self.mounts[name]),
            "standby": self._lease,
            "targets": [{"name": "t", "url": url, "headers": {"x-daemon": name}}],
            "defaults": QUICK | {"schedule": {"every": self._every}},
            "limits": {"group_duty": "100%"},
            "probes": [{"name": "p", "target": "t", "model": "m", "load": {"concurrency": 2}}],
        }
        return RunningDaemon(own, configuration, wrapper=self._wrappers.get(name, ()))

    def start(self) -> None:
        """ "a" measures, "b" is the standby."""
        self.a.start()
        self.b.launch()
        self.b.address = self.b.wait_for_log("standby", shard="0/1")["listen"]
        self.b.wait_for(lambda: "Standby" in self.notice(self.b) and self.server.sent_by("a") > 20)

    def notice(self, daemon: RunningDaemon) -> str:
        return daemon.get("/api/status")[1].decode()

    def taken_over(self) -> None:
        """Waits until "b" measures, and checks that it began after "a" had ended."""
        self.b.wait_for(lambda: self.server.sent_by("b") > 20)
        (_, _, last_s), (_, first_s, _) = self.server.turns()[:2]
        assert [name for name, _, _ in self.server.turns()] == ["a", "b"]
        assert first_s - last_s > GAP_SECONDS
        print(f"nothing was sent for {first_s - last_s:.1f} s")  # shown by `pytest -s`
