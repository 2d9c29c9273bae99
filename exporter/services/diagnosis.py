"""What is wrong with an endpoint that does not respond as its target is configured: the commonest mistakes, each with
its fix.

One module for all who show it: the preflight of a sweep asks here before it fails, so report, log, page and
check-config have the same sentence. `explained` looks at the endpoint again (`endpoint_look`); what it means is decided
by `advice`, which is pure.
"""

from __future__ import annotations

import asyncio
import datetime as dt
import re
import time
from dataclasses import dataclass, field, replace

from exporter.core.errors import PreflightError, TransportError
from exporter.core.kinds import KINDS
from exporter.core.outcome import Reason
from exporter.core.target import Target
from exporter.services.endpoint_look import HttpSeen, TlsSeen, ask_http, shake_hands, speaks_http2
from exporter.transport import resolve
from exporter.transport.dial import dial

LIMIT_SECONDS = 6.0
"""For all questions together: a sweep that fails anyway must not hold up others."""

_DOUBTFUL = frozenset(
    {
        Reason.UNREACHABLE,
        Reason.TLS,
        Reason.AUTH,
        Reason.PREFLIGHT_TIMEOUT,
        Reason.PROTOCOL,
        Reason.SERVER_NOT_LIVE,
        Reason.SERVER_NOT_READY,
    }
)
_HEALTH = {
    "triton": "/v2/health/live",
    "triton_generate": "/v2/health/live",
    "oip": "/v2/health/live",
    "torchserve": "/ping",
    "tfserving": "/v1/models",
    "openai": "/v1/models",
}
_NAMES = {
    "triton": "Triton",
    "triton_generate": "Triton",
    "oip": "a server of the Open Inference Protocol",
    "torchserve": "TorchServe",
    "tfserving": "TensorFlow Serving",
    "openai": "an OpenAI-compatible server",
}
_LOGIN = re.compile(r"log-?in|sign-?in|oauth|openid|oidc|saml|sso|/auth", re.IGNORECASE)
_REJECTED = re.compile(r"\b40[13]\b|unauthenticated|permission", re.IGNORECASE)
_METRICS = re.compile(rb"^# (HELP|TYPE) ", re.MULTILINE)
_MODEL_LIST = re.compile(rb'"object":\s*"list"')
_WITH_MODEL_LIST = frozenset({"openai", "tfserving"})
_NAMELESS = "a server that does not give its name"
_METRICS_PATH = "/metrics"


@dataclass(frozen=True, slots=True)
class Seen:
    """What an endpoint showed. `http` is the response at the target's own path, over TLS where `tls` is; `at_root` that
    at the same path without the target's prefix; `metrics` whether its /metrics is a metrics page; `openai` whether it
    lists models as OpenAI's API does."""

    http: HttpSeen | None = None
    http2: bool = False
    tls: TlsSeen | None = None
    metrics: bool = False
    at_root: HttpSeen | None = None
    openai: bool = False
    now_unix_s: float = field(default_factory=time.time)


async def explained(target: Target, error: PreflightError) -> PreflightError:
    """The same error; its text begins with what is wrong with the endpoint, where that can be found out."""
    if target.in_process or error.reason not in _DOUBTFUL:
        return error
    text = ""
    try:
        async with asyncio.timeout(LIMIT_SECONDS):
            text = await _found(target, error)
    except TimeoutError:
        return error
    if not text:
        return error
    return PreflightError(error.reason, f"{text} ({error})", error.status, error.problems)


async def _found(target: Target, error: PreflightError) -> str:
    try:
        if not resolve.is_numeric(target.address or target.host):
            await resolve.addresses(target)
    except (OSError, UnicodeError):
        return f"the host name '{target.host}' is unknown: check its spelling, and this machine's DNS"
    try:
        dialled = await dial(_plain(target), [])
    except TransportError:
        return _nobody(target, str(error))
    dialled.sock.close()
    return advice(target, await look(target), str(error))


def _plain(target: Target) -> Target:
    return replace(target, scheme="http")


def _nobody(target: Target, text: str) -> str:
    """A refused connection: where the kind's servers listen by default, if that is another port."""
    kind = KINDS[target.kind]
    default = kind.ports.get(target.scheme)
    if "refused" not in text or default is None or default == target.port:
        return ""
    whose = "https" if target.scheme == "https" else _named(target)
    return f"nothing listens on port {target.port} of {target.host} ({whose}'s default is {default})"


async def look(target: Target) -> Seen:
    """Asks the endpoint what it speaks, in a few questions."""
    path = _HEALTH.get(target.kind, "/")
    tls = await shake_hands(target) if target.is_tls else None
    http = await ask_http(target, target.path + path, over_tls=tls is not None)
    http2 = http is None and tls is None and await speaks_http2(target)
    if http is None and not http2 and not target.is_tls:
        tls = await shake_hands(target)
        http = await ask_http(target, target.path + path, over_tls=True) if tls else None
    metrics, at_root, openai = False, None, False
    # Triton's metrics port responds with an empty 200 at every path.
    if http is not None and http.status in (200, 400, 404, 405):
        metrics = _is_metrics(await ask_http(target, _METRICS_PATH, over_tls=tls is not None))
        if target.path:
            at_root = await ask_http(target, path, over_tls=tls is not None)
    if http is not None and http.status == 404 and target.kind not in _WITH_MODEL_LIST:
        openai = _lists_models(await ask_http(target, _HEALTH["openai"], over_tls=tls is not None))
    return Seen(http, http2, tls, metrics, at_root, openai)


def _lists_models(page: HttpSeen | None) -> bool:
    return page is not None and page.status == 200 and _MODEL_LIST.search(page.body) is not None


def _is_metrics(page: HttpSeen | None) -> bool:
    return page is not None and page.status == 200 and _METRICS.search(page.body) is not None


def advice(target: Target, seen: Seen, error: str) -> str:
    """What is wrong, and what to write instead; "" where the endpoint speaks as the target is configured. `error` is
    the text of what failed."""
    if target.is_tls:
        return _of_tls(target, seen, error.lower())
    if seen.tls is not None or (seen.http is not None and b"HTTP request was sent to HTTPS port" in seen.http.body):
        is_grpc = target.is_grpc or (seen.tls is not None and seen.http is None and _takes(target, "grpcs"))
        return f"{_place(target)} speaks TLS: use {_url(target, 'grpcs' if is_grpc else 'https')}"
    if seen.http2:
        return "" if target.is_grpc else f"{_place(target)} speaks gRPC{_use_grpc(target, 'grpc')}"
    if seen.http is None:
        return ""
    return _of_http(target, seen, seen.http, error)


def _of_tls(target: Target, seen: Seen, error: str) -> str:
    if seen.tls is None:
        if seen.http2:
            return f"{_place(target)} speaks gRPC without TLS{_use_grpc(target, 'grpc')}"
        return f"{_place(target)} speaks HTTP without TLS: use {_url(target, 'http')}" if seen.http is not None else ""
    if certificate := _of_certificate(target, seen.tls, error, seen.now_unix_s):
        return certificate
    if seen.http is not None:
        return _of_http(target, seen, seen.http, error)
    is_grpc = seen.tls.alpn == "h2" and not target.is_grpc
    return f"{_place(target)} speaks gRPC{_use_grpc(target, 'grpcs')}" if is_grpc else ""


def _of_certificate(target: Target, tls: TlsSeen, error: str, now_unix_s: float) -> str:
    """Why the certificate was refused, by OpenSSL's words."""
    whose = f"the certificate of {target.authority}"
    names = ", ".join(tls.names) or "no DNS name"
    sentences = (
        ("has expired", f"{whose} expired{_since(tls.expiry_unix_s, now_unix_s)}: renew it on the server"),
        ("not yet valid", f"{whose} is not valid yet: check this machine's clock"),
        (
            "mismatch",
            f"{whose} is for {names}, not for {target.tls_name}: use its name in the url, or in tls.server_name",
        ),
        ("self-signed|self signed|issuer", f"{whose} is of an unknown authority: set tls.ca_file to that authority's"),
        (
            "certificate required|handshake failure",
            f"{target.authority} asks for a client certificate: set tls.cert_file and tls.key_file",
        ),
    )
    return next((sentence for words, sentence in sentences if re.search(words, error)), "")


def _since(expiry_unix_s: float | None, now_unix_s: float) -> str:
    if expiry_unix_s is None:
        return ""
    days = int((now_unix_s - expiry_unix_s) // 86_400)
    ago = f"{days} days ago" if days > 1 else "1 day ago" if days == 1 else "today"
    return f" on {dt.datetime.fromtimestamp(expiry_unix_s, dt.UTC).strftime('%Y-%m-%d %H:%M UTC')}, {ago}"


def _of_http(target: Target, seen: Seen, http: HttpSeen, error: str) -> str:
    """The first that fits."""
    scheme = "https" if seen.tls is not None else "http"
    base = f"{scheme}://{target.authority}"
    return (
        _openai(target, seen)
        or _metrics_page(target, seen, base)
        or _login(target, http, base, error)
        or _redirect(http, base)
        or _proxy_alone(target, http)
        or (_not_grpc(target, http, scheme) if target.is_grpc else _another_service(target, seen, http, base))
    )


def _openai(target: Target, seen: Seen) -> str:
    if not seen.openai:
        return ""
    return f"{_place(target)} serves OpenAI's API, and {_named(target)} was expected: set kind: openai"


def _metrics_page(target: Target, seen: Seen, base: str) -> str:
    is_json = seen.http is not None and seen.http.status == 200 and seen.http.content_type == "application/json"
    if not seen.metrics or is_json:  # many servers have their metrics beside their API
        return ""
    own = f"{target.scheme}://{target.host}:{KINDS[target.kind].ports.get(target.scheme, target.port)}"
    return f"{_place(target)} serves metrics, no inference: use {own}, and {base}{_METRICS_PATH} as metrics_url"


def _login(target: Target, http: HttpSeen, base: str, error: str) -> str:
    how = "give the proxy a token by the target's headers, or use a url that does not go through it"
    if 300 <= http.status < 400 and _LOGIN.search(http.location):
        return f"a login page responds at {base} (redirect to {http.location}): {how}"
    body = http.body.lower()
    is_form = b'type="password"' in body or b"type=password" in body or (b"<form" in body and b"login" in body)
    if http.content_type == "text/html" and is_form:
        return f"a login page responds at {base} ({http.server or 'a web page'}): {how}"
    if http.status != 401:
        return ""
    asks = f"{base} asks for credentials{f' ({http.challenge})' if http.challenge else ''}"
    if not any(header.name.lower() == "authorization" for header in target.headers):
        return f"{asks}: set the target's headers, as authorization"
    # This look has none of them: they may be right, and something else wrong.
    return f"{asks} and rejects the target's: check its header authorization" if _REJECTED.search(error) else ""


def _redirect(http: HttpSeen, base: str) -> str:
    if not (300 <= http.status < 400 and http.location):
        return ""
    to_tls = http.location.startswith("https://") and base.startswith("http://")
    return f"{base} redirects to {http.location}: use {'https' if to_tls else 'that server'} in the url"


def _proxy_alone(target: Target, http: HttpSeen) -> str:
    if http.status not in (502, 503, 504) or not http.server:
        return ""
    return f"{_place(target)} is a proxy ({http.server}) whose own server does not respond: {http.status}"


def _not_grpc(target: Target, http: HttpSeen, scheme: str) -> str:
    if http.status == 200 and not http.server:
        return f"{_place(target)} speaks HTTP: use {_url(target, scheme)}"
    return f"{_place(target)} speaks HTTP ({http.server or _NAMELESS}), not gRPC"


def _another_service(target: Target, seen: Seen, http: HttpSeen, base: str) -> str:
    is_page = http.status == 200 and http.content_type == "text/html"
    # An empty 400 is Triton's own way to report that it is not live.
    is_triton = http.status == 400 and not http.server and not http.body
    if is_triton or (http.status not in (400, 403, 404, 405) and not is_page):
        return ""
    if seen.at_root is not None and seen.at_root.status == 200:
        return f"the server responds without the path {target.path}: use {base}"
    kind = _named(target)
    below = f"check the path {target.path}" if target.path else f"if {kind} is behind it, add the path: {base}/PATH"
    return f"{_place(target)} is served by {http.server or _NAMELESS}, not by {kind}; {below}"


def _named(target: Target) -> str:
    return _NAMES.get(target.kind, target.kind)


def _place(target: Target) -> str:
    return f"port {target.port} of {target.host}"


def _takes(target: Target, scheme: str) -> bool:
    return scheme in KINDS[target.kind].ports


def _use_grpc(target: Target, scheme: str) -> str:
    if _takes(target, scheme):
        return f": use {_url(target, scheme)}"
    default = KINDS[target.kind].ports[target.scheme]
    return f", which kind {target.kind} does not use: give the server's HTTP port (by default {default})"


def _url(target: Target, scheme: str) -> str:
    return f"{scheme}://{target.authority}{'' if scheme.startswith('grpc') else target.path}"
