"""Pods of a rendered chart, run from the image as a kubelet runs them: each with an address of its own, with the
chart's commands, variables and volumes, and with no more rights than its security context leaves."""

from __future__ import annotations

import os
import signal
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tests.e2e.image import USER, Buildah, Hardened
from tests.helm.chart import Document
from tests.waiting import PATIENCE_SECONDS
from tests.worker.remote.namespaces import Namespace

RIGHTS = {"allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]}}
"""What `Hardened` leaves."""
IMAGE_VOLUME = "/var/lib/triton-canary"


def make_volume(folder: Path, files: Mapping[str, str | Path]) -> Path:
    """Files as a kubelet mounts those of a Secret with `defaultMode: 0440`: root's, and the group's to read."""
    folder.mkdir()
    for name, content in files.items():
        path = folder / name
        path.write_bytes(content.read_bytes() if isinstance(content, Path) else content.encode())
        os.chown(path, 0, USER)
        path.chmod(0o440)
    return folder


@dataclass(frozen=True)
class Node:
    """What all pods have: the image, the command that it runs by itself, the folders of volumes by their names, and the
    file with the addresses of Services."""

    buildah: Buildah
    container: str
    entrypoint: list[str]
    volumes: Mapping[str, Path]
    hosts: Path


class Pod:
    """A pod of one container, from its rendered spec. Leaving the context kills it."""

    def __init__(self, node: Node, spec: Document, namespace: Namespace, log: Path) -> None:
        """Starts it."""
        (ours,) = spec["containers"]
        assert ours["securityContext"] == RIGHTS
        assert spec["securityContext"]["runAsUser"] == spec["securityContext"]["runAsGroup"] == USER
        self.address = namespace.address
        self._namespace = namespace
        self._log = log
        temporary = {
            volume["name"]: volume["emptyDir"]["sizeLimit"].removesuffix("i")
            for volume in spec["volumes"]
            if "emptyDir" in volume
        }
        volumes, before = [f"{node.hosts}:/etc/hosts:ro"], []
        for mount in ours["volumeMounts"]:
            name, path = mount["name"], mount["mountPath"]
            if name in temporary:
                before.append(f"mount -t tmpfs -o size={temporary[name]},mode=1777 none {path}")
            else:
                volumes.append(f"{node.volumes[name]}:{path}:{'ro' if mount.get('readOnly') else 'rw'}")
        if IMAGE_VOLUME not in [mount["mountPath"] for mount in ours["volumeMounts"]]:
            # Container engines mount a folder for the image's VOLUME, or none.
            before.append(f"mount -o remount,bind,ro {IMAGE_VOLUME}")
        self._running = Hardened(
            node.buildah,
            node.container,
            [
                *ours.get("command", node.entrypoint),
                *(each.replace("$(POD_IP)", self.address) for each in ours["args"]),
            ],
            log,
            environment={entry["name"]: entry.get("value", self.address) for entry in ours["env"]},
            volumes=volumes,
            before=before,
            enter=namespace.enter,
        )

    def __enter__(self) -> Pod:
        return self

    def __exit__(self, *_: object) -> None:
        self._running.close()

    @property
    def log(self) -> str:
        """What it has written."""
        return self._log.read_text()

    @property
    def pid(self) -> int:
        """Of the container's first process."""
        return self._running.pid

    def end(self, number: int = signal.SIGTERM) -> int:
        """Sends a signal, waits for the end, returns the exit status."""
        os.kill(self.pid, number)
        return self.wait()

    def wait(self) -> int:
        """The exit status of one that ends by itself."""
        return self._running.process.wait(PATIENCE_SECONDS)

    def processes(self) -> set[int]:
        """All that run in it."""
        return self._namespace.processes() - {self._namespace.pid}
