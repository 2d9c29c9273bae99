"""Where a probe's server is: its address, how it is reached, and as whom.

The types are frozen and can be pickled. A name carries its unit: `_ns` is integer nanoseconds.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass

from exporter.core.kinds import KINDS, Kind
from exporter.core.units import NS

_UNKNOWN = Kind()


class Resolve(enum.StrEnum):
    """When a target's name is turned into an address: once for the daemon's life, once a sweep, or at each connection,
    all addresses in turn. Under the first two all connections of a sweep go to one address."""

    PIN = "pin"
    SWEEP = "sweep"
    CONNECTION = "connection"


@dataclass(frozen=True, slots=True)
class Header:
    """One HTTP header or gRPC metadata entry. Its value is given, or read at each use from an environment variable
    or a file, so that a rotated token is picked up and no secret is kept or printed."""

    name: str
    value: str = ""
    env: str = ""
    file: str = ""
    prefix: str = ""


@dataclass(frozen=True, slots=True)
class TlsOptions:
    """How a TLS server is verified, and the client certificate to present. Paths are PEM files (of our own certificate
    and key also DER); "" takes the system's CAs. `verify` is the chain of the server's certificate, `verify_host` the
    name in it, which is not checked without the chain."""

    ca_file: str = ""
    cert_file: str = ""
    key_file: str = ""
    server_name: str = ""
    verify: bool = True
    verify_host: bool = True


@dataclass(frozen=True, slots=True)
class Target:
    """A server endpoint. `scheme` is http, https, grpc or grpcs; `path` is a prefix ("" or "/x") of HTTP endpoints.
    `gpu` is auto (NVML is read where the server runs on this machine) or off. `management_url` is TorchServe's other
    endpoint, with headers of its own.

    A Triton in the worker's own process has no endpoint: its library is in `server_directory`, its models are in
    `model_repository`, and `scheme` is "".

    `host_header` is what every request, of the load and of the questions, names as its host (gRPC: `:authority`), ""
    for the url's; TLS asks for that name, too, unless `tls.server_name` is another. `max_response_bytes` is the most
    that one response may have; 0 is the protocol's default.

    `address` is the numeric address to which the host was resolved, for the length of a sweep; "" before that, and
    where `resolve` leaves it to each connection. `parent` is the name under which it was configured, where discovery
    made it; "" for one that is in the configuration itself.
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
        """Whether a request may have any number of responses there."""
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
        """host:port, with brackets round an IPv6 address."""
        return _joined(self.host, self.port)

    @property
    def sent_authority(self) -> str:
        """The same as requests name it."""
        return self.host_header or self.authority

    @property
    def tls_name(self) -> str:
        """The name that TLS asks for (SNI), and that the server's certificate must bear."""
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
