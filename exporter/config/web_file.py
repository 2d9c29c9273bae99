"""The web configuration file, of the form that Prometheus and its exporters read: TLS, users, headers.

https://prometheus.io/docs/prometheus/latest/configuration/https/ describes it; `promtool check web-config` reads it.
What we can't do as Go does it is refused with words, never ignored.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, StrictBool, StrictStr, ValidationError, model_validator

from exporter.config import text
from exporter.config.document import Block, decoded_document
from exporter.config.fields import PathText, Section
from exporter.core.errors import ConfigError

_BCRYPT = re.compile(r"\$2[abxy]\$(0[4-9]|1[0-6])\$[./A-Za-z0-9]{53}")
_NOT_HERE = {
    "cert": "give it as a file, in cert_file",
    "key": "give it as a file, in key_file",
    "client_ca": "give it as a file, in client_ca_file",
    "curve_preferences": "is not supported; OpenSSL's own preferences hold",
    "rate_limit": "is not supported",
}
_SHORT = {"extra_forbidden": "unknown key", "missing": "is required", "literal_error": "must be {expected}"}

Version = Literal["TLS13", "TLS12", "TLS11", "TLS10"]
HEADERS = (
    "Content-Security-Policy",
    "Strict-Transport-Security",
    "X-Content-Type-Options",
    "X-Frame-Options",
    "X-XSS-Protection",
)
CIPHERS = {
    "TLS_AES_128_GCM_SHA256": "",
    "TLS_AES_256_GCM_SHA384": "",
    "TLS_CHACHA20_POLY1305_SHA256": "",
    "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256": "ECDHE-ECDSA-AES128-GCM-SHA256",
    "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384": "ECDHE-ECDSA-AES256-GCM-SHA384",
    "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256": "ECDHE-ECDSA-CHACHA20-POLY1305",
    "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256": "ECDHE-RSA-AES128-GCM-SHA256",
    "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384": "ECDHE-RSA-AES256-GCM-SHA384",
    "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256": "ECDHE-RSA-CHACHA20-POLY1305",
    "TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA": "ECDHE-ECDSA-AES128-SHA",
    "TLS_ECDHE_ECDSA_WITH_AES_256_CBC_SHA": "ECDHE-ECDSA-AES256-SHA",
    "TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA": "ECDHE-RSA-AES128-SHA",
    "TLS_ECDHE_RSA_WITH_AES_256_CBC_SHA": "ECDHE-RSA-AES256-SHA",
    "TLS_RSA_WITH_AES_128_GCM_SHA256": "AES128-GCM-SHA256",
    "TLS_RSA_WITH_AES_256_GCM_SHA384": "AES256-GCM-SHA384",
    "TLS_RSA_WITH_AES_128_CBC_SHA": "AES128-SHA",
    "TLS_RSA_WITH_AES_256_CBC_SHA": "AES256-SHA",
}
"""Go's names of cipher suites, which the file uses, and OpenSSL's; those of TLS 1.3 can't be chosen in either."""


def _one_of(choices: Collection[str]) -> AfterValidator:
    def validate(given: str) -> str:
        if given not in choices:
            raise ValueError(f"must be one of {', '.join(choices)}")
        return given

    return AfterValidator(validate)


def _hash(given: str) -> str:
    if not _BCRYPT.fullmatch(given):
        raise ValueError("must be a bcrypt hash of cost 4 to 16, as `htpasswd -nBC 10 NAME` makes it")
    return given


def _user(given: str) -> str:
    if not given or ":" in given or not given.isprintable():
        raise ValueError("a user's name is printable and has no colon")
    return given


class TlsServerSettings(Section):
    """How we serve over TLS. Paths are relative to the file's folder."""

    cert_file: Annotated[StrictStr, AfterValidator(text.filled_path_text)]
    key_file: Annotated[StrictStr, AfterValidator(text.filled_path_text)]
    client_auth_type: Literal["NoClientCert", "VerifyClientCertIfGiven", "RequireAndVerifyClientCert"] = "NoClientCert"
    client_ca_file: PathText = ""
    client_allowed_sans: tuple[StrictStr, ...] = ()
    min_version: Version = "TLS12"
    max_version: Version = "TLS13"
    cipher_suites: tuple[Annotated[StrictStr, _one_of(CIPHERS)], ...] = ()
    prefer_server_cipher_suites: StrictBool = True

    @model_validator(mode="after")
    def _belong_together(self) -> TlsServerSettings:
        asks = self.client_auth_type != "NoClientCert"
        if asks != bool(self.client_ca_file):
            raise ValueError("client_ca_file, and a client_auth_type that verifies against it, go together")
        if self.client_allowed_sans and self.client_auth_type != "RequireAndVerifyClientCert":
            raise ValueError("client_allowed_sans needs client_auth_type: RequireAndVerifyClientCert")
        if self.min_version > self.max_version:
            raise ValueError("min_version is above max_version")
        return self


class HttpServerSettings(Section):
    """Headers of every response. We serve HTTP/1.1 alone, which `http2` does not change."""

    http2: StrictBool = True
    headers: dict[Annotated[StrictStr, _one_of(HEADERS)], Annotated[StrictStr, AfterValidator(text.header_value)]] = (
        Field(default={})
    )


class WebFile(Section):
    """The whole file."""

    tls_server_config: TlsServerSettings | None = None
    http_server_config: HttpServerSettings = Field(default_factory=HttpServerSettings)
    basic_auth_users: dict[Annotated[StrictStr, AfterValidator(_user)], Annotated[StrictStr, AfterValidator(_hash)]] = (
        Field(default={})
    )


def load_web_file(path: Path) -> WebFile:
    """Reads the file; an empty one asks for nothing. Raises ConfigError with every problem; none shows a value."""
    try:
        data = path.read_bytes()
    except (OSError, ValueError) as error:
        raise ConfigError([f"{path}: cannot be read: {getattr(error, 'strerror', None) or error}"]) from None
    if not data.strip():
        return WebFile()
    document = decoded_document(data)
    if document.problems:
        raise ConfigError([f"{path}:{line}: {problem}" for line, problem in document.problems])
    try:
        return _resolved(WebFile.model_validate(document.root), path.parent)
    except ValidationError as error:
        problems = [_problem(path, document.root, details) for details in error.errors(include_url=False)]
        raise ConfigError(problems) from None


def _resolved(file: WebFile, folder: Path) -> WebFile:
    tls = file.tls_server_config
    if tls is None:
        return file
    given = {key: getattr(tls, key) for key in ("cert_file", "key_file", "client_ca_file")}
    paths = {key: str(folder / value) for key, value in given.items() if value}
    return file.model_copy(update={"tls_server_config": tls.model_copy(update=paths)})


def _problem(path: Path, root: Block, details: Any) -> str:
    keys = [str(key) for key in details["loc"] if key != "[key]"]
    problem = _SHORT.get(details["type"], details["msg"]).format(**details.get("ctx", {}))
    problem = problem.removeprefix("Value error, ")
    if details["type"] == "extra_forbidden":
        problem = _NOT_HERE.get(keys[-1], problem)
    return f"{path}:{_line(root, keys)}: {'.'.join(keys)}: {problem}"


def _line(root: Block, keys: list[str]) -> int:
    value: Any = root
    line = root.line
    for key in keys:
        if not isinstance(value, Block) or key not in value:
            break
        line, value = value.lines[key], value[key]
    return line
