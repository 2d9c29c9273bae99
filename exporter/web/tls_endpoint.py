"""TLS of the web side: a context from the web configuration file, and an endpoint whose context can be changed while
it listens. Knows no HTTP."""

from __future__ import annotations

import ssl
from collections.abc import Callable
from typing import Any

from exporter.config.web_file import CIPHERS, TlsServerSettings
from exporter.core.errors import ConfigError

_VERSIONS = {
    "TLS10": ssl.TLSVersion.TLSv1,
    "TLS11": ssl.TLSVersion.TLSv1_1,
    "TLS12": ssl.TLSVersion.TLSv1_2,
    "TLS13": ssl.TLSVersion.TLSv1_3,
}


class TlsEndpoint(ssl.SSLContext):
    """A context for a listening socket. Each new connection is made with the context that `change` gave last: of one
    and the same context the authorities, for one, could only be added to."""

    def __new__(cls, settings: TlsServerSettings) -> TlsEndpoint:  # noqa: ARG004 (what __init__ takes comes here, too)
        return super().__new__(cls, ssl.PROTOCOL_TLS_SERVER)

    def __init__(self, settings: TlsServerSettings) -> None:
        """Raises ConfigError for files that can't be used."""
        self.on_change: Callable[[], object] = lambda: None
        self.change(settings)

    def change(self, settings: TlsServerSettings) -> None:
        """New connections are made by these settings and by what is in their files now; `on_change` ends those that
        were made before. Raises ConfigError, and then nothing has changed."""
        self._current = make_context(settings)
        self.allowed_names = frozenset(settings.client_allowed_sans)
        self.on_change()

    def wrap_bio(self, *arguments: Any, **named: Any) -> ssl.SSLObject:
        return self._current.wrap_bio(*arguments, **named)


def make_context(settings: TlsServerSettings) -> ssl.SSLContext:
    """A server's context. A client's certificate is asked for and verified, but one that shows none is not turned away
    here: the health paths are for probes that have none, and the application refuses them all others."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = _VERSIONS[settings.min_version]
    context.maximum_version = _VERSIONS[settings.max_version]
    if settings.prefer_server_cipher_suites:
        context.options |= ssl.OP_CIPHER_SERVER_PREFERENCE
    if names := [CIPHERS[suite] for suite in settings.cipher_suites if CIPHERS[suite]]:
        context.set_ciphers(":".join(names))
    try:
        # Without a password of ours OpenSSL would ask at the terminal for that of an encrypted key.
        context.load_cert_chain(settings.cert_file, settings.key_file, password=b"")
    except (OSError, ValueError) as error:
        raise ConfigError([f"{settings.cert_file}, {settings.key_file}: cannot be used: {_words(error)}"]) from None
    if settings.client_ca_file:
        try:
            context.load_verify_locations(settings.client_ca_file)
        except (OSError, ValueError) as error:
            raise ConfigError([f"{settings.client_ca_file}: cannot be used: {_words(error)}"]) from None
        context.verify_mode = ssl.CERT_OPTIONAL
    return context


def _words(error: Exception) -> str:
    if isinstance(error, ssl.SSLError):
        return (error.reason or "not PEM").replace("_", " ").lower()
    return getattr(error, "strerror", None) or str(error)
