"""The lease as a Lease object of Kubernetes (coordination.k8s.io/v1), by its API.

The official client would do it, too: 25 packages and 104 MB, for three requests on one object. So this uses the session
that reads all other pages (`server.page_session`).

A Lease is replaced only in the version that was seen: of two writers one gets 409.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import requests
from urllib3.exceptions import HTTPError

from exporter.core.bounds import LEASE_BYTES
from exporter.core.causes import cause_of
from exporter.core.target import TlsOptions
from exporter.core.units import NS
from exporter.core.untrusted_text import clean_text, load_json
from exporter.server.page_session import PageSession, read_body
from exporter.standby.lease import MAX_DURATION_NS, LeaseRecord

SERVICE_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
"""Where a pod finds its token, its authorities and its namespace."""

_HOLDER_LIMIT = 128


class LeaseApiError(OSError):
    """The API server could not be asked, or refused; the text has the reason."""


@dataclass(frozen=True, slots=True)
class ApiServer:
    """Where the API server is. The token is read at each request, since it is replaced every hour."""

    url: str
    token_file: Path
    ca_file: Path

    @classmethod
    def of_pod(cls, environ: Mapping[str, str] = os.environ, folder: Path = SERVICE_ACCOUNT) -> ApiServer:
        """That of the cluster in which this runs. Raises LeaseApiError outside of one."""
        host, port = environ.get("KUBERNETES_SERVICE_HOST", ""), environ.get("KUBERNETES_SERVICE_PORT", "443")
        if not host:
            raise LeaseApiError("KUBERNETES_SERVICE_HOST is not set")
        shown = f"[{host}]" if ":" in host else host
        return cls(f"https://{shown}:{port}", folder / "token", folder / "ca.crt")


class KubernetesLease:
    """Implements `LeaseStore`; a request takes `limit_s` at most."""

    def __init__(self, server: ApiServer, namespace: str, name: str, limit_s: float) -> None:
        self._server = server
        self._namespace = namespace
        self._name = name
        self._limit_s = limit_s
        self._objects: dict[str, dict[str, Any]] = {}
        """The object that was seen last, by its version: what others wrote into it stays."""

    def read(self) -> LeaseRecord | None:
        """See `LeaseStore`."""
        status, found = self._call("GET", self._path(self._name))
        return None if status == 404 else self._record(found)

    def replace(self, seen: LeaseRecord | None, holder: str, duration_ns: int) -> LeaseRecord | None:
        """See `LeaseStore`."""
        if seen is None:
            metadata = {"name": self._name, "namespace": self._namespace}
            before = {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": metadata}
            method, path = "POST", self._path()
        else:
            before = self._objects.get(seen.token, {})
            method, path = "PUT", self._path(self._name)
        status, found = self._call(method, path, _written(before, holder, duration_ns))
        # 404: it was deleted meanwhile, and is made again after the next reading.
        return None if status in (404, 409) else self._record(found)

    def _record(self, found: Any) -> LeaseRecord:
        """Of an object of the API. Whatever is missing in it counts as if another held it."""
        try:
            version, spec = str(found["metadata"]["resourceVersion"]), found.get("spec") or {}
            holder = clean_text(str(spec.get("holderIdentity") or ""), _HOLDER_LIMIT)
            duration_ns = min(max(int(spec.get("leaseDurationSeconds") or 0) * NS, 0), MAX_DURATION_NS)
        except (TypeError, KeyError, ValueError, AttributeError, OverflowError):
            raise LeaseApiError(f"the API server sent no Lease for {self._name}") from None
        self._objects = {version: found}
        return LeaseRecord(holder, duration_ns, version)

    def _path(self, name: str = "") -> str:
        path = f"/apis/coordination.k8s.io/v1/namespaces/{self._namespace}/leases"
        return f"{path}/{name}" if name else path

    def _call(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> tuple[int, Any]:
        """Status and body. Raises LeaseApiError."""
        deadline_ns = time.monotonic_ns() + round(self._limit_s * NS)
        try:
            token = self._server.token_file.read_text(encoding="utf-8").strip()
            headers = {"Authorization": f"Bearer {token}", "Accept": "application/json"}
            data = None if body is None else json.dumps(body).encode()
            if data is not None:
                headers["Content-Type"] = "application/json"
            with (
                PageSession(TlsOptions(ca_file=str(self._server.ca_file))) as session,
                session.until(deadline_ns),
                session.request(
                    method, self._server.url + path, data=data, headers=headers, stream=True, timeout=self._limit_s
                ) as response,
            ):
                read = _bounded_body(response)
        except (requests.RequestException, HTTPError, OSError) as error:
            if isinstance(error, LeaseApiError):
                raise
            why = f"no response within {self._limit_s:g} s" if time.monotonic_ns() > deadline_ns else cause_of(error)
            raise LeaseApiError(f"{method} of the Lease {self._name} failed: {why}") from error
        if response.status_code not in (200, 201, 404, 409) or (response.status_code == 404 and method == "POST"):
            raise LeaseApiError(f"{method} of the Lease {self._name}: {response.status_code}: {_message(read)}")
        try:
            return response.status_code, load_json(read)
        except ValueError:
            raise LeaseApiError(f"the API server's response to {method} is not JSON") from None


def _written(before: Mapping[str, Any], holder: str, duration_ns: int) -> dict[str, Any]:
    """The object with our record; what others keep in it stays."""
    now = datetime.fromtimestamp(time.time(), UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    spec: dict[str, Any] = dict(before.get("spec") or {})
    if spec.get("holderIdentity") != holder and holder:
        spec["acquireTime"] = now
        transitions = spec.get("leaseTransitions")
        spec["leaseTransitions"] = transitions + 1 if isinstance(transitions, int) else 1
    # Stamps for people. No daemon compares them with its own clock.
    spec |= {"holderIdentity": holder, "leaseDurationSeconds": -(-duration_ns // NS), "renewTime": now}
    return {**before, "spec": spec}


def _bounded_body(response: requests.Response) -> bytes:
    body = read_body(response, LEASE_BYTES)
    if body is None:
        raise LeaseApiError(f"the API server's response is larger than {LEASE_BYTES >> 10} KiB")
    return body


def _message(body: bytes) -> str:
    """What a Status of the API reports, in short."""
    try:
        return clean_text(str(load_json(body)["message"]))
    except (ValueError, TypeError, KeyError):
        return clean_text(body.decode(errors="replace"))
