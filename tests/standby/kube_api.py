"""A real API server of Kubernetes with its etcd, on this machine alone: kube-apiserver with RBAC, and tokens that it
issues for service accounts.

Debian has etcd-server, and of kube-apiserver only the source: `KUBE_APISERVER` names the program.
CONTRIBUTING.md describes how it is built.
"""

from __future__ import annotations

import base64
import json
import os
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import httpx2
import pytest
from lightkube import ApiError, Client, KubeConfig, SingleConfig
from lightkube.codecs import from_dict
from lightkube.config.models import Cluster, User
from lightkube.generic_resource import create_namespaced_resource
from lightkube.models.authentication_v1 import TokenRequestSpec
from lightkube.models.meta_v1 import ObjectMeta
from lightkube.resources.core_v1 import Namespace, ServiceAccountToken

from tests.helm.chart import Document, render, values_of
from tests.programs import find, need
from tests.transport.certificates import Certificates, openssl
from tests.waiting import becomes_true

PROGRAM = os.environ.get("KUBE_APISERVER", "")
NAMESPACE = "canary"
LEASE: Any = create_namespaced_resource("coordination.k8s.io", "v1", "Lease", "leases")
_ADMIN = "of-the-administrator"
_ISSUER = "https://kubernetes.default.svc"


def need_kube_apiserver() -> None:
    """Skips the test where there is none."""
    if not PROGRAM:
        pytest.skip("KUBE_APISERVER names no kube-apiserver")
    need("etcd", "openssl")


def of_the_chart() -> dict[str, Document]:
    """What the chart makes for a standby, by its kind: of one shard, with the names that daemons have by default."""
    values = values_of("standby") | {"shards": 1, "fullnameOverride": "triton-canary"}
    kinds = ("Lease", "Role", "RoleBinding", "ServiceAccount")
    found = [document for document in render(values) if document["kind"] in kinds]
    by_kind = {document["kind"]: document for document in found}
    assert len(found) == len(by_kind) == len(kinds)
    return by_kind


class KubeApi:
    """Within the block it serves; `stop` and `start` are for tests of what happens while it is gone."""

    def __init__(self, folder: Path, certificates: Certificates) -> None:
        self._folder = folder
        self._certificates = certificates
        self.port, self._etcd_port, self._peer_port = _free_ports(3)
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        openssl(folder, "genrsa", "-out", "accounts.key", "2048")
        openssl(folder, "rsa", "-in", "accounts.key", "-pubout", "-out", "accounts.pub")
        (folder / "tokens.csv").write_text(f'{_ADMIN},admin,admin,"system:masters"\n')
        (folder / "admin").write_text(_ADMIN)

    def __enter__(self) -> Self:
        url = f"http://127.0.0.1:{self._etcd_port}"
        peer = f"http://127.0.0.1:{self._peer_port}"
        self._launch(
            *(find("etcd") or "etcd", "--data-dir", str(self._folder / "etcd"), "--name", "one"),
            *("--listen-client-urls", url, "--advertise-client-urls", url),
            *("--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer, "--initial-cluster", f"one={peer}"),
        )
        self.start()
        self.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}})
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
        self._end("etcd")

    def start(self) -> None:
        """Returns once it serves."""
        own = self._folder
        self._launch(
            *(PROGRAM, "--bind-address", "127.0.0.1", "--advertise-address", "127.0.0.1"),
            *("--secure-port", str(self.port), "--cert-dir", str(own / "certificates")),
            *("--tls-cert-file", str(self._certificates.server)),
            *("--tls-private-key-file", str(self._certificates.server_key)),
            *("--etcd-servers", f"http://127.0.0.1:{self._etcd_port}", "--endpoint-reconciler-type", "none"),
            *("--authorization-mode", "RBAC", "--token-auth-file", str(own / "tokens.csv")),
            *("--service-account-issuer", _ISSUER, "--service-account-key-file", str(own / "accounts.pub")),
            *("--service-account-signing-key-file", str(own / "accounts.key")),
            *("--service-cluster-ip-range", "10.0.0.0/24"),
        )
        if not becomes_true(self._is_ready, 120):
            raise AssertionError(f"kube-apiserver is not ready:\n{self._log('kube-apiserver')[-4000:]}")

    def stop(self) -> None:
        """Kills it: no connection ends in order."""
        self._end("kube-apiserver")

    @contextmanager
    def admin(self) -> Iterator[Client]:
        """A client with all rights."""
        with Client(self.config(self._folder / "admin"), trust_env=False) as client:
            yield client

    def config(self, token_file: Path) -> SingleConfig:
        """Of a client with this token."""
        cluster = Cluster(server=f"https://127.0.0.1:{self.port}", certificate_auth=str(self._certificates.ca))
        config = KubeConfig.from_one(cluster=cluster, user=User(token_file=str(token_file)), namespace=NAMESPACE).get()
        assert config is not None
        return config

    def apply(self, *documents: Document) -> None:
        """Makes these objects, in the namespace that they name."""
        with self.admin() as client:
            for document in documents:
                client.create(from_dict(document))

    def account(self, name: str, *rights: str) -> None:
        """A service account with these rights to all leases of the namespace."""
        metadata, group = {"name": name, "namespace": NAMESPACE}, "rbac.authorization.k8s.io"
        rule = {"apiGroups": ["coordination.k8s.io"], "resources": ["leases"], "verbs": list(rights)}
        self.apply(
            {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": metadata},
            {"apiVersion": f"{group}/v1", "kind": "Role", "metadata": metadata, "rules": [rule]},
            {
                "apiVersion": f"{group}/v1",
                "kind": "RoleBinding",
                "metadata": metadata,
                "roleRef": {"apiGroup": group, "kind": "Role", "name": name},
                "subjects": [{"kind": "ServiceAccount", "name": name, "namespace": NAMESPACE}],
            },
        )

    def lease(self, name: str) -> Any:
        """As the server keeps it."""
        with self.admin() as client:
            return client.get(LEASE, name)

    def change(self, lease: Any) -> None:
        """Another client writes it."""
        with self.admin() as client:
            client.replace(lease)

    def delete(self, name: str) -> None:
        """Another client deletes the lease, if it is there."""
        with self.admin() as client, suppress(ApiError):
            client.delete(LEASE, name)

    def token(self, account: str) -> str:
        """A token of this service account, as a pod gets it."""
        asked = ServiceAccountToken(
            metadata=ObjectMeta(namespace=NAMESPACE),
            spec=TokenRequestSpec(audiences=[_ISSUER], expirationSeconds=3600),
        )
        with self.admin() as client:
            made: Any = client.create(asked, account)
        return str(made.status.token)

    def expired(self, token: str) -> str:
        """The same token as issued so long ago that it has expired by now, signed with the server's own key."""
        head, claims, _ = token.split(".")
        values: dict[str, Any] = json.loads(base64.urlsafe_b64decode(claims + "=="))
        for key in ("iat", "nbf", "exp"):
            values[key] -= 7200
        signed = f"{head}.{_base64(json.dumps(values).encode())}"
        (self._folder / "signed").write_text(signed)
        openssl(self._folder, "dgst", "-sha256", "-sign", "accounts.key", "-out", "signature", "signed")
        return f"{signed}.{_base64((self._folder / 'signature').read_bytes())}"

    # --- inside ------------------------------------------------------------------------------------------------------

    def _launch(self, program: str, *arguments: str) -> None:
        name = Path(program).name
        with (self._folder / f"{name}.log").open("ab") as log:
            self._processes[name] = subprocess.Popen([program, *arguments], stdout=log, stderr=log)

    def _end(self, name: str) -> None:
        if process := self._processes.pop(name, None):
            process.kill()
            process.wait()

    def _log(self, name: str) -> str:
        return (self._folder / f"{name}.log").read_text(errors="replace")

    def _is_ready(self) -> bool:
        if self._processes["kube-apiserver"].poll() is not None:
            raise AssertionError(f"kube-apiserver ended:\n{self._log('kube-apiserver')[-4000:]}")
        with self.admin() as client, suppress(httpx2.HTTPError, ApiError):
            # Only once its own roles are there are those of others of any use.
            client.get(Namespace, "kube-system")
            return True
        return False


def _free_ports(count: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


def _base64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")
