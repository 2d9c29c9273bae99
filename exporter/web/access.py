"""Who may read: the users and client certificates of the web configuration file, which is followed while it changes.

It owns the file's present state and the refusals to those who may not. It must not know what the paths show.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import hashlib
import hmac
import logging
import secrets
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path

import bcrypt
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send

from exporter.config.web_file import WebFile, load_web_file
from exporter.core.bounds import WAITING_PASSWORDS
from exporter.core.errors import ConfigError
from exporter.logs import fields
from exporter.web.auth import TokenGuard, address_of
from exporter.web.tls_endpoint import TlsEndpoint

_log = logging.getLogger("exporter.web")

HEALTH_PATHS = frozenset({"/-/healthy", "/-/ready"})
"""Open to all: their readers (a kubelet, for example) have neither password nor certificate, and they reveal
nothing."""

WATCH_SECONDS = 1.0
_KEPT_RESULTS = 1024


class WebAccess:
    """The web configuration as it is in force. Without a file everybody may read, over plain HTTP."""

    def __init__(self, path: Path | None = None) -> None:
        """Raises ConfigError."""
        self._path = path
        self.file = load_web_file(path) if path else WebFile()
        tls = self.file.tls_server_config
        self.endpoint = TlsEndpoint(tls) if tls else None
        self._digest = self._digest_now(self.file)
        self.passwords = Passwords()
        self.error: ConfigError | None = None
        """What is wrong with the file, or with those it names, as they are now; the last good ones are in force."""

    @property
    def headers(self) -> Mapping[str, str]:
        """What every response bears beside, or in the place of, our own."""
        return self.file.http_server_config.headers

    @property
    def requires_certificate(self) -> bool:
        tls = self.file.tls_server_config
        return tls is not None and tls.client_auth_type == "RequireAndVerifyClientCert"

    async def watch(self, seconds: float = WATCH_SECONDS) -> None:
        """Follows the file and those it names; runs until it is cancelled."""
        while self._path is not None:
            await asyncio.sleep(seconds)
            await asyncio.to_thread(self.refresh)

    def refresh(self) -> None:
        """Takes what the files hold now, if it changed and is good; else returns why it can't."""
        assert self._path is not None
        try:
            file = load_web_file(self._path)
            digest = self._digest_now(file)
            if digest == self._digest and self.error is None:
                return
            self._take(file)
        except ConfigError as error:
            if self.error is None or self.error.problems != error.problems:
                _log.error("web configuration not reloaded", extra=fields(error=str(error)))
            self.error = error
            return
        if digest != self._digest:
            _log.info("web configuration changed", extra=fields(users=len(file.basic_auth_users)))
        self._digest, self.error = digest, None

    def _take(self, file: WebFile) -> None:
        tls = file.tls_server_config
        if (tls is None) != (self.endpoint is None):
            raise ConfigError([f"{self._path}: tls_server_config came or went, which needs a restart"])
        if tls is not None and self.endpoint is not None:
            self.endpoint.change(tls)
        self.file = file

    def _digest_now(self, file: WebFile) -> str:
        """Of the file's whole content, and of the files that it names."""
        digest = hashlib.sha256(file.model_dump_json().encode())
        if tls := file.tls_server_config:
            for name in filter(None, (tls.cert_file, tls.key_file, tls.client_ca_file)):
                try:
                    digest.update(Path(name).read_bytes())
                except OSError as error:
                    raise ConfigError([f"{name}: cannot be read: {error.strerror or error}"]) from None
        return digest.hexdigest()


class Passwords:
    """Compares passwords with bcrypt hashes, one at a time and in a thread: a comparison takes some 50 ms by design.
    Results are remembered, good and bad ones apart, under a keyed hash that is of no use outside this process.

    Clients take turns by address, and of one address the newest request goes first: a flood of wrong passwords waits
    behind itself, and who comes with the right one is next, or nearly so."""

    def __init__(self) -> None:
        self._key = secrets.token_bytes(32)
        self._known: dict[bool, OrderedDict[bytes, None]] = {True: OrderedDict(), False: OrderedDict()}
        self._waiting: OrderedDict[str, list[asyncio.Future[bool]]] = OrderedDict()
        self._comparing = False
        self.comparisons = 0
        """Made so far; remembered results need none."""

    async def matches(self, users: Mapping[str, str], name: str, password: bytes, address: str = "") -> bool | None:
        """Whether it is the user's password; None where too many others wait for such a result."""
        stored = (users.get(name) or self._instead(users, name)).encode()
        seal = hmac.digest(self._key, b"\0".join((name.encode(), stored, password)), "sha256")
        if (remembered := self._remembered(seal)) is not None:
            return remembered
        if not await self._turn(address):
            return None
        try:
            if (remembered := self._remembered(seal)) is not None:
                return remembered
            self.comparisons += 1
            good = bool(await asyncio.to_thread(_compare, password, stored)) and name in users
        finally:
            self._next_turn()
        results = self._known[good]
        results[seal] = None
        if len(results) > _KEPT_RESULTS:
            results.popitem(last=False)
        return good

    def _instead(self, users: Mapping[str, str], name: str) -> str:
        """What the password of an unknown user is compared with, so that the time taken does not show which names
        there are: the hash of some user, always the same for the same name."""
        hashes = sorted(users.values())
        chosen = hmac.digest(self._key, name.encode(), "sha256")
        return hashes[int.from_bytes(chosen[:8], "big") % len(hashes)]

    async def _turn(self, address: str) -> bool:
        """Waits until it may compare; False where it was crowded out."""
        if not self._comparing:
            self._comparing = True
            return True
        turn: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(address, []).append(turn)
        if sum(map(len, self._waiting.values())) > WAITING_PASSWORDS:
            most = max(self._waiting.values(), key=len)
            most.pop(0).set_result(False)
        try:
            return await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled() and turn.result():
                self._next_turn()
            raise

    def _next_turn(self) -> None:
        while self._waiting:
            address, turns = self._waiting.popitem(last=False)
            turn = turns.pop() if turns else None
            if turns:
                self._waiting[address] = turns
            if turn is not None and not turn.done():
                turn.set_result(True)
                return
        self._comparing = False

    def _remembered(self, seal: bytes) -> bool | None:
        for good, results in self._known.items():
            if seal in results:
                results.move_to_end(seal)
                return good
        return None


def _compare(password: bytes, stored: bytes) -> bool:
    try:
        return bcrypt.checkpw(password[:72], stored)  # bcrypt looks at no more
    except ValueError:
        return False


class AccessControl:
    """ASGI middleware: lets pass who may read. Who bears the token, by which things are changed, may read too: a
    request has one Authorization header, and can't bear both."""

    def __init__(self, app: ASGIApp, access: WebAccess, guard: TokenGuard) -> None:
        self._app = app
        self._access = access
        self._guard = guard

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["path"] not in HEALTH_PATHS:
            request = Request(scope)
            refusal = await self._refusal(request)
            if refusal is not None:
                if request.method == "POST":  # it would have changed something
                    self._guard.log_refusal(request, refusal.status_code, "who sent it may not even read")
                await refusal(scope, receive, send)
                return
        await self._app(scope, receive, send)

    async def _refusal(self, request: Request) -> Response | None:
        access = self._access
        if access.requires_certificate and not request.scope.get("state", {}).get("client_certificate"):
            return PlainTextResponse("an allowed client certificate is required\n", 403)
        users = access.file.basic_auth_users
        if not users:
            return None
        scheme, _, given = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() == "bearer":
            allowed: bool | None = await asyncio.to_thread(self._guard.refusal, f"Bearer {given}") is None
        else:
            name, password = _credentials(scheme, given)
            allowed = await access.passwords.matches(users, name, password, address_of(request)) if name else False
        if allowed is None:
            return PlainTextResponse("too many wrong passwords at once\n", 503, headers={"Retry-After": "1"})
        if allowed:
            return None
        return PlainTextResponse("Unauthorized\n", 401, headers={"WWW-Authenticate": 'Basic realm="triton-canary"'})


def _credentials(scheme: str, given: str) -> tuple[str, bytes]:
    """Name and password of a Basic authorization; empty for what is none."""
    if scheme.lower() != "basic":
        return "", b""
    try:
        name, _, password = base64.b64decode(given.strip(), validate=True).partition(b":")
        return name.decode(), password
    except (binascii.Error, ValueError):
        return "", b""
