"""The lease as a Lease object of Kubernetes (coordination.k8s.io/v1), by the client lightkube.

The object stays a mapping, as the API sends it: the client's model of it would drop what a newer Kubernetes adds, and
the fraction of a whole second, without which the API takes no time stamp. A Lease is replaced only in the version that
was seen: of two writers one gets 409.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Collection, Mapping
from datetime import UTC, datetime
from typing import Any, cast

import httpx2
from lightkube import AsyncClient, ConfigError, KubeConfig, SingleConfig
from lightkube.config.kubeconfig import SERVICE_ACCOUNT
from lightkube.generic_resource import create_namespaced_resource

from exporter.core.bounds import LEASE_BYTES
from exporter.core.causes import cause_of
from exporter.core.target import TlsOptions
from exporter.core.units import NS
from exporter.core.untrusted_text import clean_text
from exporter.server.page_session import tls_context
from exporter.standby.lease import MAX_DURATION_NS, LeaseRecord

_HOLDER_LIMIT = 128
_LEASE: Any = create_namespaced_resource("coordination.k8s.io", "v1", "Lease", "leases")
_NO_TIMEOUT = httpx2.Timeout(None)
"""The limit is for all of a request."""


class LeaseApiError(OSError):
    """The API server could not be asked, or refused; the text has the reason."""


def pod_config(folder: str = SERVICE_ACCOUNT) -> SingleConfig:
    """The API server of the cluster in which this runs, and this pod's account. Raises OSError outside of one."""
    try:
        return cast(SingleConfig, KubeConfig.from_service_account(folder).get())
    except KeyError as error:
        raise LeaseApiError(f"{error.args[0]} is not set") from None
    except (ConfigError, ValueError) as error:
        raise LeaseApiError(str(error)) from None


class KubernetesLease:
    """Implements `LeaseStore`; a request takes `limit_s` at most."""

    def __init__(self, config: SingleConfig, name: str, limit_s: float) -> None:
        self._config = config
        self._name = name
        self._limit_s = limit_s
        self._objects: dict[str, dict[str, Any]] = {}
        """The object that was seen last, by its version: what others wrote into it stays."""

    def read(self) -> LeaseRecord | None:
        """See `LeaseStore`."""
        return self._ask("get", lambda client: client.get(_LEASE, self._name), (404,))

    def replace(self, seen: LeaseRecord | None, holder: str, duration_ns: int) -> LeaseRecord | None:
        """See `LeaseStore`."""
        if seen is None:
            lease = _written({"metadata": {"name": self._name}}, holder, duration_ns)
            return self._ask("create", lambda client: client.create(lease), (409,))
        if seen.token not in self._objects:  # a newer one was seen
            return None
        lease = _written(self._objects[seen.token], holder, duration_ns)
        # Also where it was deleted: the object that is sent has a uid, so this makes none.
        return self._ask("update", lambda client: client.replace(lease), (409,))

    def _ask(
        self, verb: str, request: Callable[[AsyncClient], Awaitable[Any]], refusals: Collection[int]
    ) -> LeaseRecord | None:
        """None for one of these refusals. Raises LeaseApiError for whatever else goes wrong."""
        try:
            return self._record(asyncio.run(self._in_time(request)))
        except TimeoutError:
            why = f"no response within {self._limit_s:g} s"
        except httpx2.HTTPStatusError as error:
            if error.response.status_code in refusals:
                return None
            why = f"{error.response.status_code}: {error}"
        except httpx2.HTTPError as error:
            why = cause_of(error)
        except (ConfigError, OSError) as error:  # of a file, or ours
            why = str(error)
        except (AttributeError, KeyError, RecursionError, TypeError, ValueError):  # of whatever was decoded
            why = "the API server sent neither a Lease nor a Status"
        raise LeaseApiError(f"{verb} of the Lease {self._name}: {clean_text(why)}")

    async def _in_time(self, request: Callable[[AsyncClient], Awaitable[Any]]) -> Any:
        """A connection for each: no connection outlives a partition, and a token that was replaced is read again."""
        config = self._config
        async with asyncio.timeout(self._limit_s):
            transport = _BoundedTransport(verify=tls_context(TlsOptions(ca_file=config.cluster.certificate_auth or "")))
            async with AsyncClient(config, timeout=_NO_TIMEOUT, trust_env=False, transport=transport) as client:
                return await request(client)

    def _record(self, found: Any) -> LeaseRecord:
        """Of an object of the API. What is missing in it counts as if no one held it."""
        version, spec = str(found["metadata"]["resourceVersion"]), found.get("spec") or {}
        holder = clean_text(str(spec.get("holderIdentity") or ""), _HOLDER_LIMIT)
        duration_ns = min(max(int(spec.get("leaseDurationSeconds") or 0) * NS, 0), MAX_DURATION_NS)
        self._objects = {version: found}
        return LeaseRecord(holder, duration_ns, version)


class _BoundedTransport(httpx2.AsyncHTTPTransport):
    """Reads responses up to a size, as they come: what is small on the wire must not be huge here."""

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        """As in the base class."""
        request.headers["Accept-Encoding"] = "identity"
        response = await super().handle_async_request(request)
        body = bytearray()
        async for piece in response.aiter_raw():
            body += piece
            if len(body) > LEASE_BYTES:
                raise LeaseApiError(f"the API server's response is larger than {LEASE_BYTES >> 10} KiB")
        kind = {"Content-Type": response.headers.get("Content-Type", "")}
        return httpx2.Response(response.status_code, headers=kind, content=bytes(body))


def _written(before: Mapping[str, Any], holder: str, duration_ns: int) -> Any:
    """The object with our record; what others keep in it stays."""
    now = datetime.fromtimestamp(time.time(), UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    spec: dict[str, Any] = dict(before.get("spec") or {})
    if spec.get("holderIdentity") != holder and holder:
        spec["acquireTime"] = now
        transitions = spec.get("leaseTransitions")
        spec["leaseTransitions"] = transitions + 1 if isinstance(transitions, int) else 1
    # Stamps for people. No daemon compares them with its own clock.
    spec |= {"holderIdentity": holder, "leaseDurationSeconds": -(-duration_ns // NS), "renewTime": now}
    return _LEASE({**before, "spec": spec})
