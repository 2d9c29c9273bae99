"""A file system and an environment as in a pod: with the token of a service account, and where the API server is."""

from __future__ import annotations

from pathlib import Path

from tests.programs import need, need_right


def need_pods() -> None:
    """Skips the test where this machine can't make such a file system."""
    need("mount", "unshare")
    need_right("unshare", "--mount", "mount", "-t", "tmpfs", "none", "/run")


def in_pod(folder: Path, token: str, port: int, ca: Path) -> list[str]:
    """A command that becomes the one that follows it, in a pod of the namespace `canary`. The folder is new."""
    folder.mkdir()
    (folder / "token").write_text(token)
    (folder / "namespace").write_text("canary")
    (folder / "ca.crt").write_bytes(ca.read_bytes())
    secrets = "/run/secrets/kubernetes.io"
    mount = f"mount -t tmpfs none /run && mkdir -p {secrets} && ln -s {folder} {secrets}/serviceaccount"
    variables = f"KUBERNETES_SERVICE_HOST=127.0.0.1 KUBERNETES_SERVICE_PORT={port}"
    return ["unshare", "--mount", "sh", "-c", f'{mount} && exec env {variables} "$@"', "sh"]
