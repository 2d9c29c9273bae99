"""Names, label values, endpoints, addresses: what text may hold, and how a value is shown without giving a secret away.

Pure. Validators raise ValueError with what is allowed.
"""

from __future__ import annotations

import functools
import ipaddress
import re
import zoneinfo
from dataclasses import dataclass
from decimal import Decimal
from urllib.parse import SplitResult, urlsplit

MAX_LABEL_LENGTH = 128
_SCHEMES = ("http", "https", "grpc", "grpcs")

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_OBJECT_NAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,98}[a-z0-9])?")
_LABEL_NAME = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]*")
_HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_HOST_NAME = re.compile(r"(?!-)[A-Za-z0-9_-]{1,63}(\.[A-Za-z0-9_-]{1,63})*\.?")
_CONTENT = re.compile(r"[\x00-\x1f\x7f]|-----BEGIN ")
"""What is in no path, but in what is in a file: several lines, or a PEM document, whose lines YAML may have joined."""
_ADDRESS = re.compile(rf"{_HOST_NAME.pattern}(:(?P<port>[0-9]{{1,5}}))?(/[!-~]*)?")
_PORT = re.compile(r"^[a-z]+://[^/?#]*:([0-9]{1,9})(?=[/?#]|$)")
_MAX_PORT = 65535
_GRPC_PORTS = frozenset({"8001", "8081", "8500"})
"""The default gRPC ports of the service kinds."""
_USERINFO = re.compile(r"^([^/]*//|).+@", re.DOTALL)
_QUERY = re.compile(r"[?#].*", re.DOTALL)
_SHOWN_LENGTH = 60
_SHOWN_ENTRIES = 8

SECRET_HEADER = re.compile(r"authorization|token|api[-_]?key|secret|passw|credential|cookie|signature", re.IGNORECASE)
_COUNTED_TOKENS = frozenset(
    {
        *("tokens", "tokens_stddev", "output_tokens", "max_tokens", "tokenizer"),
        *("time_to_first_token", "time_per_output_token", "inter_token_latency"),
    }
)
"""Keys of ours that are of a language model's tokens: nothing secret."""
SECRET_SECTIONS = frozenset({"headers", "management_headers", "parameters", "string_data", "system", "template"})
"""Keys below which values are never shown: what is there, or is wrong there, may be a secret."""
KEY_FILE = "key_file"
"""A key of ours that names a file: what is wrong there may be the file's content, and is not shown."""
SECRET_VALUE = re.compile(r"(bearer|basic) ", re.IGNORECASE)

_HEADERS_OF_CLIENTS = """
    connection content-encoding content-length content-type expect grpc-encoding grpc-timeout host
    inference-header-content-length keep-alive proxy-connection te trailer transfer-encoding upgrade
"""
REFUSED_HEADERS = frozenset(_HEADERS_OF_CLIENTS.split())
"""Set by the clients themselves: another value would break the request."""

_LABELS_OF_PROMETHEUS = "job instance endpoint namespace pod container service node le quantile alertname severity"
_LABELS_OF_METRICS = """
    target probe model mode level percentile unit component gpu source composing_model slo signal tier counted outcome
    status reason collector metrics_instance hash
    url group kind protocol version served_version backend platform batch_size priority variant variant_group
    config_hash probe_config_hash model_config_hash
"""
REFUSED_LABELS = frozenset(f"{_LABELS_OF_PROMETHEUS} {_LABELS_OF_METRICS}".split())
"""Set by Prometheus and those around it, or by this exporter."""


def sounds_secret(key: str) -> bool:
    """Whether what a key names may be a secret."""
    return SECRET_HEADER.search(key) is not None and key not in _COUNTED_TOKENS


def as_number(value: float) -> str:
    """A number as a person writes it: 100 for 100.0, never an exponent."""
    return format(Decimal(repr(value)), "f").removesuffix(".0")


def name(given: str) -> str:
    """A name is a label value and part of a file's name."""
    if not _NAME.fullmatch(given) or len(given) > MAX_LABEL_LENGTH:
        raise ValueError(
            f"must be 1 to {MAX_LABEL_LENGTH} letters, digits, '.', '_' or '-', and begin with none of '._-'"
        )
    return given


def object_name(given: str) -> str:
    """The name of an object of Kubernetes, short enough that more can be appended."""
    if _OBJECT_NAME.fullmatch(given) is None:
        raise ValueError("must be 1 to 100 of a-z, 0-9 and -, and begin and end with a letter or digit")
    return given


def label_value(given: str) -> str:
    """A label value: short, printable, without blanks at its ends that are not visible."""
    if len(given) > MAX_LABEL_LENGTH or not given.isprintable() or given != given.strip():
        raise ValueError(f"must be at most {MAX_LABEL_LENGTH} printable characters, without blanks at its ends")
    return given


def filled_label_value(given: str) -> str:
    """A label value that is not empty."""
    if not given:
        raise ValueError("must not be empty")
    return label_value(given)


def label_name(given: str) -> str:
    """A label name that a user may add."""
    if not _LABEL_NAME.fullmatch(given) or given.startswith("__") or len(given) > MAX_LABEL_LENGTH:
        raise ValueError("not a label name: letters, digits and '_', and none begins with a digit or '__'")
    if given in REFUSED_LABELS:
        raise ValueError("a label of this name is set by Prometheus or by this exporter; choose another")
    return given


def header_name(given: str) -> str:
    """A header that a user may add."""
    if not _HEADER_NAME.fullmatch(given):
        raise ValueError("not a header's name")
    if given.lower() == "host":
        raise ValueError("this header has a key of its own: the target's host_header")
    if given.lower() in REFUSED_HEADERS:
        raise ValueError("this header is set by the client itself")
    return given


def header_value(given: str) -> str:
    """A header's value, or the part before a secret."""
    if not (given.isascii() and given.isprintable()):
        raise ValueError("must be printable ASCII characters")
    return given


def path_text(given: str) -> str:
    """A file's path as text; not what is in the file, which may be a secret."""
    if _CONTENT.search(given):
        raise ValueError("must be a path, without control characters; the file's content does not belong here")
    return given


def filled_path_text(given: str) -> str:
    """A file's path that is not empty."""
    if not given:
        raise ValueError("must not be empty")
    return path_text(given)


@functools.cache
def timezone(given: str) -> str:
    """The name of a time zone that this machine's database knows."""
    try:
        zoneinfo.ZoneInfo(given)
    except (ValueError, OSError, zoneinfo.ZoneInfoNotFoundError):
        raise ValueError("must be a time zone that this machine knows, as 'UTC' or 'Europe/Berlin'") from None
    return given


@dataclass(frozen=True, slots=True)
class Endpoint:
    """The parts of a url. `port` is 0 where there is none; `path` is "" or begins with "/" and ends with none."""

    scheme: str
    host: str
    port: int
    path: str


def parse_endpoint(given: object) -> Endpoint:
    """A target's url: `http|https|grpc|grpcs://host[:port][/path]`."""
    parts, port = _split(given, _SCHEMES)
    path = parts.path.rstrip("/")
    if path and parts.scheme.startswith("grpc"):
        raise ValueError("a gRPC url has no path; write scheme://host:port")
    return Endpoint(parts.scheme, (parts.hostname or "").rstrip("."), port or 0, path)


def web_page(given: str) -> str:
    """The url of a page that is read as it is."""
    _split(given, ("http", "https"))
    return given


def proxy(given: str) -> str:
    """The url of a proxy that speaks HTTP, with its port."""
    if "@" in given:
        raise ValueError("a url must not hold a user or password: a proxy that asks for one can't be used")
    parts, port = _split(given, ("http",))
    if not port or parts.path.strip("/"):
        raise ValueError("must be http://host:port")
    return given


def parse_address(given: object) -> tuple[str, int]:
    """Host, in lower case, and port of `host:port`, `[::1]:port` or `host`; port 0 where there is none."""
    if not isinstance(given, str) or not given.isascii():
        raise ValueError("must be host:port")
    host, colon, port = given.rpartition(":") if not given.endswith("]") else (given, "", "")
    if not colon:
        host = given
    bare = host[1:-1] if host.startswith("[") and host.endswith("]") else host
    known = _is_ipv6(bare) if bare != host else _HOST_NAME.fullmatch(host)
    if not known or (colon and not (port.isdigit() and 0 < int(port[:6]) <= 65535)):
        raise ValueError("must be host:port")
    return bare.lower(), int(port) if colon else 0


def pool_address(given: str) -> str:
    """A Dask scheduler's, or "": `tls://host:port` or `tcp://host:port`."""
    if given:
        scheme, separator, rest = given.partition("://")
        if not separator or scheme not in ("tls", "tcp") or "/" in rest:
            raise ValueError("must be tls://host:port or tcp://host:port")
        if parse_address(rest)[1] == 0:
            raise ValueError("must have a port, as tls://host:8786")
    return given


def host_name(given: str) -> str:
    """A host's name, in lower case; or a numeric address."""
    host, port = parse_address(given)
    if port:
        raise ValueError("must be a host's name, without a port")
    return host


def host_header(given: str) -> str:
    """What a request names as its host: as `parse_address` reads it."""
    if given:
        try:
            parse_address(given)
        except ValueError:
            raise ValueError("must be host or host:port") from None
    return given


def parse_listen(given: str) -> tuple[str, int]:
    """Host and port of `host:port`, `[::]:port` or `:port` (all addresses); port 0 takes a free one."""
    host, colon, port = given.rpartition(":")
    bare = host[1:-1] if host.startswith("[") and host.endswith("]") else host
    known = not host or (_is_ipv6(bare) if bare != host else _HOST_NAME.fullmatch(host))
    if not colon or not known or not (port.isascii() and port.isdigit()) or int(port[:6]) > 65535:
        raise ValueError("must be host:port, [::]:port or :port, with a port from 0 to 65535")
    return bare, int(port)


def listen_text(given: str) -> str:
    """An address that `parse_listen` reads."""
    parse_listen(given)
    return given


def shown(given: object) -> str:
    """A value as an error message shows it: short, on one line, without the secrets that a url can hold."""
    if given is None:
        return "nothing"
    if isinstance(given, dict):
        return "a mapping"
    if isinstance(given, list):
        plain = len(given) <= _SHOWN_ENTRIES and not any(isinstance(entry, dict | list) for entry in given)
        return f"[{', '.join(map(shown, given))}]" if plain else "a list"
    if isinstance(given, bool):
        return str(given).lower()
    if not isinstance(given, str):
        return as_number(given) if isinstance(given, int | float) else repr(given)
    return _shown_text(given)


def _shown_text(given: str) -> str:
    if _CONTENT.search(given):
        return "text with several lines, or the content of a file"
    text = without_url_secrets(given)
    return repr(text if len(text) <= _SHOWN_LENGTH else f"{text[:_SHOWN_LENGTH]}…")


def without_url_secrets(given: str) -> str:
    """The text without user, password and query, where it looks like a url."""
    return _QUERY.sub("?***", _USERINFO.sub(r"\1***@", given)) if "@" in given or "://" in given else given


def _split(given: object, schemes: tuple[str, ...]) -> tuple[SplitResult, int | None]:
    allowed = f"must be {'|'.join(schemes)}://host[:port][/path]"
    if isinstance(given, str) and "@" in given:
        raise ValueError("a url must not hold a user or password; give them as a header from {env: …} or {file: …}")
    if not isinstance(given, str) or not given.isascii() or not given.isprintable() or " " in given:
        raise ValueError(allowed)
    if "://" not in given and (address := _ADDRESS.fullmatch(given)):
        scheme = "grpc" if "grpc" in schemes and address["port"] in _GRPC_PORTS else "http"
        raise ValueError(f"a url needs its scheme; write '{scheme}://{given}'")
    if (port_text := _PORT.search(given)) and int(port_text[1]) > _MAX_PORT:
        raise ValueError(f"port {port_text[1]} is above {_MAX_PORT}")
    try:
        parts = urlsplit(given)
        port = parts.port
    except ValueError:
        raise ValueError(allowed) from None
    host = parts.hostname or ""
    if parts.scheme not in schemes or not given.lower().startswith(f"{parts.scheme}://") or port == 0:
        raise ValueError(allowed)
    if not (_is_ipv6(host) if "[" in parts.netloc else _HOST_NAME.fullmatch(host)) or parts.netloc.endswith(":"):
        raise ValueError(allowed)
    if "?" in given or "#" in given:
        raise ValueError("a url here has neither a query nor a fragment")
    return parts, port


def _is_ipv6(host: str) -> bool:
    try:
        ipaddress.IPv6Address(host)
    except ValueError:
        return False
    return True
