"""What a user may configure of a target: its url, headers and TLS. What holds between keys is in `checks`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    ModelWrapValidatorHandler,
    PlainValidator,
    PrivateAttr,
    StrictBool,
    StrictInt,
    StrictStr,
    model_validator,
)

from exporter.config import text
from exporter.config.fields import LabelValue, Name, OneOf, PathText, Section, exactly_one
from exporter.config.quantities import duration, size
from exporter.core.kinds import KINDS
from exporter.core.units import NS


class HeaderSettings(Section):
    """The value of a header: plain text, or read at each use from an environment variable or a file."""

    env: StrictStr = Field(default="", description="The environment variable with the value.")
    file: PathText = Field(default="", description="The file with the value; a newline at its end is removed.")
    prefix: Annotated[StrictStr, AfterValidator(text.header_value)] = Field(
        default="", description='Text before the value, such as `"Bearer "`.'
    )
    _plain: str = PrivateAttr("")

    @property
    def plain(self) -> str:
        """The value where it is in the configuration itself."""
        return self._plain

    @model_validator(mode="wrap")
    @classmethod
    def _read(cls, given: Any, handler: ModelWrapValidatorHandler[Self]) -> Self:
        if not isinstance(given, str | Mapping):
            raise ValueError("must be text, {env: VARIABLE} or {file: PATH}")
        if not isinstance(given, str):
            header = handler(given)
            exactly_one({"env": header.env, "file": header.file})
            return header
        header = handler({})
        header._plain = text.header_value(given)
        return header


VERIFY = ("full", "peer", "none")
MAX_RESPONSE = size("1KiB", "2GiB")
METRICS_INTERVAL = duration("100ms", "5m")


def _truth_as_text(given: object) -> object:
    return ("full" if given else "none") if isinstance(given, bool) else given


class TlsSettings(Section):
    """How a TLS server is verified, and the client certificate to present."""

    ca_file: PathText = Field(default="", description="PEM file of the authorities to trust; the system's by default.")
    cert_file: PathText = Field(default="", description="PEM or DER file of the client certificate; needs `key_file`.")
    key_file: PathText = Field(default="", description="PEM or DER file of its key.")
    server_name: LabelValue = Field(
        default="",
        description="The name that the handshake requests (SNI) and the server's certificate must contain; by "
        "default `host_header`'s, or else the URL's host.",
    )
    verify: Annotated[str, OneOf(VERIFY), BeforeValidator(_truth_as_text)] = Field(
        default="full",
        description="What is verified: the server's certificate chain and name (`full`), only the chain (`peer`), "
        "or nothing (`none`). `true` is `full`, `false` is `none`.",
    )


class HttpSdSettings(Section):
    """A page with a list of addresses."""

    url: Annotated[StrictStr, AfterValidator(text.web_page)] = Field(description="The URL of the page.")
    headers: dict[str, HeaderSettings] = Field(
        default={}, description="Headers of the request, by name; a secret comes from `env` or `file`."
    )
    ca_file: PathText = Field(default="", description="PEM file of the authorities to trust; the system's by default.")
    proxy_url: Annotated[StrictStr, AfterValidator(text.proxy)] = Field(
        default="",
        description="The proxy for the page, `http://host:port`. By default none: `HTTP_PROXY` and the like are "
        "ignored.",
    )


class DiscoverSettings(Section):
    """The source of a target's addresses, each of which becomes a target: `dns`, `file_sd` or `http_sd`."""

    dns: StrictBool = Field(default=False, description="Uses all addresses of the URL's host.")
    file_sd: tuple[PathText, ...] = Field(
        default=(), description="Files, or file patterns, in the format of Prometheus's `file_sd_configs`."
    )
    http_sd: HttpSdSettings | None = Field(
        default=None, description="A page in the format of Prometheus's `http_sd_configs`."
    )
    refresh_ns: Annotated[int, duration("1s", "1d")] = Field(
        default=30 * NS, description="How often the source is read."
    )
    labels: Annotated[tuple[StrictStr, ...], Field(max_length=5)] = Field(
        default=(),
        description="Labels of the lists that are added to `triton_canary_probe_info`, like a probe's own `labels`.",
    )


class TargetSettings(Section):
    """One server endpoint."""

    name: Name = Field(description="Its name, a label value: letters, digits, `.`, `_`, `-`.")
    kind: Annotated[str, OneOf(tuple(KINDS))] = Field(
        default="triton",
        description="The kind of server: Triton, Triton as a library in the worker process (`triton_in_process`), "
        "another server of the Open Inference Protocol (`oip`), TensorFlow Serving, TorchServe, or a "
        "server of OpenAI's HTTP API (`openai`) or Triton's generate extension (`triton_generate`). See "
        "[service kinds](service-kinds.md).",
    )
    url: Annotated[text.Endpoint, PlainValidator(text.parse_endpoint)] | None = Field(
        default=None,
        description="`scheme://host[:port][/path]`; the scheme is http, https, grpc or grpcs. The default port is "
        "443 with https, else the kind's: 8000 and 8001 (gRPC) for Triton, 8080 and 8081 for `oip`, "
        "8501 and 8500 for TensorFlow Serving, 8080 for TorchServe. Required, except for "
        "`triton_in_process`, which has none.",
    )
    group: LabelValue = Field(
        default="",
        description="Targets of one group share a server and are never measured at the same time; by default the "
        "URL's host.",
    )
    metrics_url: Annotated[StrictStr, AfterValidator(text.web_page)] | None = Field(
        default=None, description="The page with the server's own metrics, or a DCGM exporter's."
    )
    headers: dict[str, HeaderSettings] = Field(
        default={},
        description="Headers (gRPC: metadata) of every request, by name; a secret comes from `env` or `file`.",
    )
    host_header: Annotated[StrictStr, AfterValidator(text.host_header)] = Field(
        default="",
        description="The Host header (gRPC: `:authority`) of every request, `host` or `host:port`, for servers "
        "behind a gateway that routes by name; by default the URL's host and port. TLS uses this name, "
        "too, unless `tls.server_name` is set.",
    )
    tls: TlsSettings = Field(default_factory=TlsSettings, description="TLS, for https and grpcs.")
    connect_timeout_ns: Annotated[int, duration("10ms", "5m")] = Field(
        default=5 * NS,
        description="The time limit for a connection; for `triton_in_process`, whose default is 1m, for loading the "
        "model.",
    )
    resolve: Literal["pin", "sweep", "connection"] = Field(
        default="sweep",
        description="When the URL's host is resolved: once in the daemon's lifetime (`pin`), once per sweep, or at "
        "each `connection`, using all addresses in turn.",
    )
    streams_per_connection: Annotated[StrictInt, Field(ge=1, le=65_536)] = Field(
        default=32, description="gRPC: how many requests share one connection. Over HTTP each request has its own."
    )
    max_response_bytes: Annotated[int, MAX_RESPONSE] | None = Field(
        default=None,
        description="The largest size of a response; 128MiB over gRPC and 1GiB over HTTP by default. A worker needs "
        "this much memory for each request in flight whose response is validated.",
    )
    metrics_interval_ns: Annotated[int, METRICS_INTERVAL] = Field(
        default=NS, description="How often `metrics_url` and the driver are read while a level runs."
    )
    gpu: Literal["auto", "off"] = Field(
        default="auto",
        description="`auto` reads GPU figures from NVIDIA's driver if the server runs on this machine.",
    )
    discover: DiscoverSettings | None = Field(
        default=None,
        description="Makes this target a pattern for many: `url` gives scheme, path and default port; its host "
        "stands for each found address, also in `metrics_url`.",
    )
    server_directory: PathText = Field(
        default="",
        description="For `triton_in_process`: Triton's installation directory, such as `/opt/tritonserver`, with "
        "`lib/libtritonserver.so` and `backends`.",
    )
    model_repository: PathText = Field(
        default="", description="For `triton_in_process`: the folder of the models; only the probe's own are loaded."
    )
    management_url: Annotated[StrictStr, AfterValidator(text.web_page)] | None = Field(
        default=None,
        description="TorchServe: its management endpoint, such as `http://host:8081`, which shows whether a model "
        "has workers.",
    )
    management_headers: dict[str, HeaderSettings] = Field(
        default={}, description="TorchServe: headers for that endpoint, which has a token of its own."
    )

    @property
    def scheme(self) -> str:
        """The url's; "" without one."""
        return self.url.scheme if self.url else ""
