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
    """One header's value: plain text, or read at each use from an environment variable or a file."""

    env: StrictStr = Field(default="", description="The environment variable that holds the value.")
    file: PathText = Field(default="", description="The file that holds the value; a newline at its end is left out.")
    prefix: Annotated[StrictStr, AfterValidator(text.header_value)] = Field(
        default="", description='Text put before the value, as `"Bearer "`.'
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
    cert_file: PathText = Field(default="", description="PEM or DER file of our own certificate; needs `key_file`.")
    key_file: PathText = Field(default="", description="PEM or DER file of its key.")
    server_name: LabelValue = Field(
        default="",
        description="The name that is asked for in the handshake (SNI), and that the server's certificate must bear; "
        "`host_header`'s or else the url's host by default.",
    )
    verify: Annotated[str, OneOf(VERIFY), BeforeValidator(_truth_as_text)] = Field(
        default="full",
        description="What is verified of the server's certificate: `full`, or only its chain and not its name "
        "(`peer`), or nothing (`none`). `true` is `full`, `false` is `none`.",
    )


class HttpSdSettings(Section):
    """A page with a list of addresses."""

    url: Annotated[StrictStr, AfterValidator(text.web_page)] = Field(description="The page, as Prometheus reads it.")
    headers: dict[str, HeaderSettings] = Field(
        default={}, description="Headers of the request, by name; a secret comes from `env` or `file`."
    )
    ca_file: PathText = Field(default="", description="PEM file of the authorities to trust; the system's by default.")
    proxy_url: Annotated[StrictStr, AfterValidator(text.proxy)] = Field(
        default="",
        description="The proxy, `http://host:port`, that the page is read through. By default there is none: "
        "`HTTP_PROXY` and its like are ignored.",
    )


class DiscoverSettings(Section):
    """Where the addresses of a target come from, each a target of its own: `dns`, `file_sd` or `http_sd`."""

    dns: StrictBool = Field(default=False, description="Whether they are all addresses of the url's host.")
    file_sd: tuple[PathText, ...] = Field(
        default=(), description="Files, or patterns of them, in the format of Prometheus's `file_sd_configs`."
    )
    http_sd: HttpSdSettings | None = Field(
        default=None, description="A page in the format of Prometheus's `http_sd_configs`."
    )
    refresh_ns: Annotated[int, duration("1s", "1d")] = Field(default=30 * NS, description="How often they are read.")
    labels: Annotated[tuple[StrictStr, ...], Field(max_length=5)] = Field(
        default=(),
        description="Which labels of the lists go to `triton_canary_probe_info`, as a probe's own `labels` do.",
    )


class TargetSettings(Section):
    """One server endpoint."""

    name: Name = Field(description="Its name, a label value: letters, digits, `.`, `_`, `-`.")
    kind: Annotated[str, OneOf(tuple(KINDS))] = Field(
        default="triton",
        description="What serves there: Triton, Triton as a library in our own process (`triton_in_process`), another "
        "server of the Open Inference Protocol (`oip`), TensorFlow Serving, TorchServe, or a server of "
        "OpenAI's HTTP API (`openai`) or Triton's generate extension (`triton_generate`). See "
        "[service kinds](service-kinds.md).",
    )
    url: Annotated[text.Endpoint, PlainValidator(text.parse_endpoint)] | None = Field(
        default=None,
        description="`scheme://host[:port][/path]`; the scheme is http, https, grpc or grpcs. The port is by default "
        "443 with https, and else the kind's own: Triton's 8000 and 8001 (gRPC), of `oip` 8080 and 8081, of TensorFlow "
        "Serving 8501 and 8500, TorchServe's 8080. Required, but for `triton_in_process`, which has none.",
    )
    group: LabelValue = Field(
        default="",
        description="Targets of one group share a server, and are never measured at once; the url's host by default.",
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
        description="The Host header (gRPC: `:authority`) of every request, `host` or `host:port`, for servers behind "
        "a gateway that routes by name; the url's host and port by default. TLS asks for this name, too, unless "
        "`tls.server_name` is another.",
    )
    tls: TlsSettings = Field(default_factory=TlsSettings, description="TLS, for https and grpcs.")
    connect_timeout_ns: Annotated[int, duration("10ms", "5m")] = Field(
        default=5 * NS,
        description="How long a connection may take; for `triton_in_process`, whose default is 1m, the loading of the "
        "model.",
    )
    resolve: Literal["pin", "sweep", "connection"] = Field(
        default="sweep",
        description="When the url's host is turned into an address: once for the daemon's life (`pin`), once a sweep, "
        "or again at each `connection`, all addresses in turn.",
    )
    streams_per_connection: Annotated[StrictInt, Field(ge=1, le=65_536)] = Field(
        default=32, description="gRPC: how many requests share one connection. Over HTTP each has its own."
    )
    max_response_bytes: Annotated[int, MAX_RESPONSE] | None = Field(
        default=None,
        description="The most that one response may have; 128MiB over gRPC and 1GiB over HTTP by default. A worker "
        "needs as much memory for each request in flight whose response is validated.",
    )
    metrics_interval_ns: Annotated[int, METRICS_INTERVAL] = Field(
        default=NS, description="How often `metrics_url`, and the driver, are read while a level runs."
    )
    gpu: Literal["auto", "off"] = Field(
        default="auto",
        description="`auto` asks NVIDIA's driver for GPU figures where the server runs on this machine.",
    )
    discover: DiscoverSettings | None = Field(
        default=None,
        description="Makes this a pattern for many targets: `url` has scheme, path and default port, its host is "
        "also that of `metrics_url` which each of them has for its own.",
    )
    server_directory: PathText = Field(
        default="",
        description="For `triton_in_process`: where Triton is installed, as `/opt/tritonserver`: a folder with "
        "`lib/libtritonserver.so` and `backends`.",
    )
    model_repository: PathText = Field(
        default="", description="For `triton_in_process`: the folder of the models; only the probe's own are loaded."
    )
    management_url: Annotated[StrictStr, AfterValidator(text.web_page)] | None = Field(
        default=None,
        description="TorchServe: its management endpoint, as `http://host:8081`, which shows whether a model has "
        "workers.",
    )
    management_headers: dict[str, HeaderSettings] = Field(
        default={}, description="TorchServe: headers for that endpoint, whose token is another one."
    )

    @property
    def scheme(self) -> str:
        """The url's; "" without one."""
        return self.url.scheme if self.url else ""
