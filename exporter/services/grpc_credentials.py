"""A target's TLS options as gRPC's credentials, for the control plane's official client."""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import Any

import grpc

from exporter.core.errors import TransportError
from exporter.core.outcome import Outcome
from exporter.core.target import Target
from exporter.transport.dial import dial
from exporter.transport.tls import certificate_names
from exporter.transport.tls_files import certificate_pem, key_pem, read_file

ChannelOptions = list[tuple[str, Any]]

_DIRECT = ("grpc.enable_http_proxy", 0)
"""The load goes by no proxy that the environment names, and nor do the questions about it."""
_SYSTEM_CA_FILES = ("/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/cert.pem")


async def grpc_credentials(target: Target) -> tuple[Any, ChannelOptions]:
    """Credentials (None without TLS) and the channel options that belong to them. Files are read now. Raises
    TransportError."""
    if not target.is_tls:
        return None, [_DIRECT, ("grpc.default_authority", target.authority)]
    try:
        credentials, options = await _tls_credentials(target)
        return credentials, [_DIRECT, *options]
    except OSError as error:
        raise TransportError(Outcome.TLS_ERROR, str(error)) from error


async def _tls_credentials(target: Target) -> tuple[Any, ChannelOptions]:
    tls = target.tls
    name = tls.server_name or target.host
    roots = read_file(tls.ca_file) if tls.ca_file else _system_roots()
    if not (tls.verify and tls.verify_host):
        shown, name = await _certificate_shown(target)
        roots = roots if tls.verify else shown
    credentials = grpc.ssl_channel_credentials(
        root_certificates=roots,
        private_key=key_pem(tls.key_file or tls.cert_file) if tls.cert_file else None,
        certificate_chain=certificate_pem(tls.cert_file) if tls.cert_file else None,
    )
    return credentials, [("grpc.ssl_target_name_override", name)]


def _system_roots() -> bytes | None:
    """The system's CAs; None (gRPC's own list) where they are not found."""
    paths = ssl.get_default_verify_paths()
    for path in (paths.cafile, paths.openssl_cafile, *_SYSTEM_CA_FILES):
        if path and Path(path).is_file():
            return read_file(path)
    return None


async def _certificate_shown(target: Target) -> tuple[bytes, str]:
    """The certificate that the server shows now, and a name of its own: gRPC can't leave out verification, so without
    it this certificate is what is trusted, and where any name will do, this one is asked for."""
    dialled = await dial(target, ("h2",))
    with dialled.sock as sock:
        assert isinstance(sock, ssl.SSLSocket)
        der = sock.getpeercert(binary_form=True) or b""
    names = certificate_names(der)
    return ssl.DER_cert_to_PEM_cert(der).encode(), names[0] if names else target.host
