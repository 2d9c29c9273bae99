"""Where a probe's server is, how to reach it, and which credentials to use.

The types are frozen and can be pickled. Names carry the unit: `_ns` is integer nanoseconds.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass, field

from exporter.core.kinds import KINDS, Kind
from exporter.core.units import NS

_UNKNOWN = Kind()


class Resolve(enum.StrEnum):
    """When a target's name is resolved: once per daemon lifetime, once per sweep, or at each connection, which rotates
    through all addresses. With the first two, all connections of a sweep go to one address."""

    PIN = "pin"
    SWEEP = "sweep"
    CONNECTION = "connection"


@dataclass(frozen=True, slots=True)
class Header:
    """One HTTP header or gRPC metadata entry. The value is given, or read at each use from an environment variable or a
    file: rotated tokens take effect, and no secret is stored or printed."""

    name: str
    value: str = field(default="", repr=False)
    env: str = ""
    file: str = ""
    prefix: str = ""


@dataclass(frozen=True, slots=True)
class TlsOptions:
    """How to verify a TLS server, and the client certificate to present. Paths are PEM files (client certificate and
    key: also DER); "" uses the system's CAs. `verify` checks the certificate chain; `verify_host` also checks the host
    name, and needs `verify`."""

    ca_file: str = ""
    cert_file: str = ""
    key_file: str = ""
    server_name: str = ""
    verify: bool = True
    verify_host: bool = True


@dataclass(frozen=True, slots=True)
class Target:
    """A server endpoint. `scheme` is http, https, grpc or grpcs; `path` is the prefix ("" or "/x") of HTTP endpoints.
    `gpu` is auto (read NVML if the server runs on this machine) or off. `management_url` is TorchServe's management
    endpoint, with its own headers.

    An in-process Triton has no endpoint: `server_directory` has its library, `model_repository` its models, and
    `scheme` is "".

    `host_header` is the host (gRPC: `:authority`) of all requests, control calls included; "" uses the url's. It is
    also the TLS server name, unless `tls.server_name` is set. `max_response_bytes` limits one response; 0 is the
    protocol's default.

    `address` is the host's resolved numeric address, set for one sweep; "" before, and if `resolve` is `connection`.
    `parent` is the configured name of a target that discovery made; "" for a target in the configuration itself.
    """

    name: str
    kind: str
    scheme: str
    host: str
    port: int
    group: str
    path: str = ""
    metrics_url: str = ""
    headers: tuple[Header, ...] = ()
    tls: TlsOptions = TlsOptions()
    connect_timeout_ns: int = 5 * NS
    resolve: Resolve = Resolve.SWEEP
    streams_per_connection: int = 32
    address: str = ""
    metrics_interval_ns: int = NS
    gpu: str = "auto"
    parent: str = ""
    server_directory: str = ""
    model_repository: str = ""
    management_url: str = ""
    management_headers: tuple[Header, ...] = ()
    host_header: str = ""
    max_response_bytes: int = 0

    @property
    def in_process(self) -> bool:
        return bool(self.model_repository)

    @property
    def can_stream(self) -> bool:
        """Whether a request may have several responses."""
        return self.is_grpc or self.in_process or self.takes_prompts

    @property
    def takes_prompts(self) -> bool:
        """Whether requests are prompts and responses are tokens (see `Kind.takes_prompts`)."""
        return KINDS.get(self.kind, _UNKNOWN).takes_prompts

    @property
    def protocol(self) -> str:
        """http, grpc or in_process."""
        if self.in_process:
            return "in_process"
        return "grpc" if self.is_grpc else "http"

    @property
    def is_grpc(self) -> bool:
        return self.scheme in ("grpc", "grpcs")

    @property
    def is_tls(self) -> bool:
        return self.scheme in ("https", "grpcs")

    @property
    def authority(self) -> str:
        """host:port, with brackets around an IPv6 address."""
        return _joined(self.host, self.port)

    @property
    def sent_authority(self) -> str:
        """The authority that requests send."""
        return self.host_header or self.authority

    @property
    def tls_name(self) -> str:
        """The server name for SNI and for certificate verification."""
        return self.tls.server_name or _host(self.host_header) or self.host

    @property
    def url(self) -> str:
        if self.in_process:
            return f"file://{self.model_repository}"
        return f"{self.scheme}://{self.authority}{self.path}"


def _host(authority: str) -> str:
    """The host of `host:port` or `host`."""
    if authority.startswith("["):
        return authority[1:].partition("]")[0]
    return authority.partition(":")[0]


def _joined(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
