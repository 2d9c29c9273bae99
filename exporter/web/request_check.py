"""What is refused before authentication: a body with two lengths, and a host that we are not.

A web site can have its own name resolve to our address, and a browser then lets its script read our pages as that
site's own: the Host header alone shows it (DNS rebinding). It must not know what the paths show.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Collection
from dataclasses import dataclass

from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send

from exporter.core.untrusted_text import clean_name
from exporter.web.access import HEALTH_PATHS

_CLOSE = {"Connection": "close"}


@dataclass(frozen=True, slots=True)
class HostNames:
    """The names by which the web side may be called, in lower case; not `checked`: by any."""

    names: frozenset[str] = frozenset()
    checked: bool = False

    @classmethod
    def of(cls, listen_host: str, names: Collection[str]) -> HostNames:
        """Those configured. Without any, names are checked where only this machine's own programs can connect: there
        no other name than `localhost` leads here."""
        allowed = frozenset(name.lower().rstrip(".") for name in names)
        return cls(allowed, bool(allowed) or _is_loopback(listen_host))

    def allow(self, host: str) -> bool:
        """Whether a Host header's value is one of ours. Numeric addresses and names without a dot always are, since no
        web site can be called so; HTTP/1.0 may send none."""
        if not self.checked or not host:
            return True
        name = _without_port(host).lower().rstrip(".")
        return name in self.names or "." not in name or name.endswith(".localhost") or _address(name) is not None


class RequestCheck:
    """ASGI middleware. The health paths are open to all."""

    def __init__(self, app: ASGIApp, hosts: HostNames) -> None:
        self._app = app
        self._hosts = hosts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        refusal = self._refusal(Request(scope)) if scope["type"] == "http" else None
        await (refusal or self._app)(scope, receive, send)

    def _refusal(self, request: Request) -> Response | None:
        headers = request.headers
        if "transfer-encoding" in headers and "content-length" in headers:
            # A proxy before us may have found another end of this request: what follows on the connection is no
            # request of its sender (RFC 9112, 6.3).
            return PlainTextResponse("a body must have one length: Content-Length or Transfer-Encoding\n", 400, _CLOSE)
        host = headers.get("host", "")
        if request.scope["path"] in HEALTH_PATHS or self._hosts.allow(host):
            return None
        text = f"this host name is not allowed: {clean_name(host)!r}; web.allowed_hosts lists the allowed names\n"
        return PlainTextResponse(text, 421, _CLOSE)


def _is_loopback(host: str) -> bool:
    address = _address(host.lower())
    return host.lower() == "localhost" or (address is not None and address.is_loopback)


def _without_port(host: str) -> str:
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.partition(":")[0]


def _address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None
