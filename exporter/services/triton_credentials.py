"""A target's TLS options as gRPC's credentials, for the control plane's official client."""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import Any

import grpc

from exporter.errors import TransportError
from exporter.model import Outcome
from exporter.probe import Target
from exporter.transport.dial import dial
from exporter.transport.tls import certificate_names

ChannelOptions = list[tuple[str, Any]]

_SYSTEM_CA_FILES = ("/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/cert.pem")


async def grpc_credentials(target: Target) -> tuple[Any, ChannelOptions]:
    """Credentials (None without TLS) and the channel options that belong to them. Files are read now. Raises
    TransportError."""
    if not target.is_tls:
        return None, []
    tls = target.tls
    name = tls.server_name
    if tls.verify:
        roots = _read(tls.ca_file) if tls.ca_file else _system_roots()
    else:
        roots, name = await _trust_what_is_there(target)
    credentials = grpc.ssl_channel_credentials(
        root_certificates=roots,
        private_key=_read(tls.key_file or tls.cert_file) if tls.cert_file else None,
        certificate_chain=_read(tls.cert_file) if tls.cert_file else None,
    )
    return credentials, [("grpc.ssl_target_name_override", name)] if name else []


def _read(path: str) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError as error:
        text = f"TLS file {path} cannot be read: {error.strerror}"
        raise TransportError(Outcome.TLS_ERROR, text) from error


def _system_roots() -> bytes | None:
    """The system's CAs; None (gRPC's own list) where they are not found."""
    paths = ssl.get_default_verify_paths()
    for path in (paths.cafile, paths.openssl_cafile, *_SYSTEM_CA_FILES):
        if path and Path(path).is_file():
            return _read(path)
    return None


async def _trust_what_is_there(target: Target) -> tuple[bytes, str]:
    """gRPC can't leave out verification. So the certificate that the server shows now is what is trusted, under a name
    of its own."""
    dialled = await dial(target, ("h2",))
    with dialled.sock as sock:
        assert isinstance(sock, ssl.SSLSocket)
        der = sock.getpeercert(binary_form=True) or b""
    names = certificate_names(der)
    return ssl.DER_cert_to_PEM_cert(der).encode(), names[0] if names else target.host
