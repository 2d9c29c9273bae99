"""TLS: from a target's options to an SSLContext, and the fields of a certificate.

Owns which files are read and when: a context is cached until one of its files changes; rotated certificates are used
from the next connection on. Knows nothing of sockets.
"""

from __future__ import annotations

import calendar
import logging
import os
import ssl
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass

from exporter.core.errors import TransportError
from exporter.core.outcome import Outcome
from exporter.core.target import Target, TlsOptions
from exporter.transport.tls_files import certificate_pem, der_element, key_pem, path_in_memory

_log = logging.getLogger(__name__)

_FileStamp = tuple[str, int, int, int]


@dataclass(frozen=True, slots=True)
class _Kept:
    stamps: tuple[_FileStamp, ...]
    context: ssl.SSLContext


_kept: dict[tuple[TlsOptions, tuple[str, ...]], _Kept] = {}
_warned: set[tuple[str, str]] = set()
_lock = threading.Lock()


def client_context(target: Target, alpn: Sequence[str]) -> ssl.SSLContext:
    """The context for a connection to `target` that offers `alpn`.

    Raises TransportError(TLS_ERROR) with the name of the unusable file. Warns once if the target is configured with
    less than full verification.
    """
    options = target.tls
    _warn_of_weakness(target)
    key = (options, tuple(alpn))
    with _lock:
        try:
            stamps = tuple(_stamp(path) for path in (options.ca_file, options.cert_file, options.key_file) if path)
            kept = _kept.get(key)
            if kept is None or kept.stamps != stamps:
                kept = _kept[key] = _Kept(stamps, _build(options, alpn))
        except OSError as error:
            raise TransportError(Outcome.TLS_ERROR, str(error)) from error
    return kept.context


def check_tls_files(options: TlsOptions) -> None:
    """Reads the files as a connection would. Raises OSError with the name of the unusable file."""
    _build(options, ())


def _stamp(path: str) -> _FileStamp:
    try:
        status = os.stat(path)
    except OSError as error:
        raise OSError(f"TLS file {path} cannot be read: {error.strerror}") from error
    return path, status.st_mtime_ns, status.st_size, status.st_ino


def _build(options: TlsOptions, alpn: Sequence[str]) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    # Any certificate in ca_file is trusted, also an intermediate CA's or the server's own, as in curl.
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.check_hostname = options.verify and options.verify_host
    if not options.verify:
        context.verify_mode = ssl.CERT_NONE
    elif options.ca_file:
        try:
            context.load_verify_locations(cafile=options.ca_file)
        except OSError as error:
            raise OSError(f"TLS ca_file {options.ca_file} holds no usable certificate") from error
    else:
        context.load_default_certs(ssl.Purpose.SERVER_AUTH)
    if options.cert_file:
        _load_own_certificate(context, options)
    if alpn:
        context.set_alpn_protocols(list(alpn))
    return context


def _load_own_certificate(context: ssl.SSLContext, options: TlsOptions) -> None:
    key = key_pem(options.key_file) if options.key_file else b""
    with path_in_memory(key + b"\n" + certificate_pem(options.cert_file)) as path:
        try:
            # An encrypted key must fail: a daemon has no terminal for a password prompt.
            context.load_cert_chain(path, password=lambda: "")
        except OSError as error:
            files = " and ".join(path for path in (options.cert_file, options.key_file) if path)
            raise OSError(f"TLS client certificate {files} cannot be used: {error.strerror or error}") from error


def _warn_of_weakness(target: Target) -> None:
    if not target.tls.verify:
        weakness = "the server's TLS certificate is not verified"
    elif not target.tls.verify_host:
        weakness = "the server's TLS certificate is verified, but not that it bears the server's name"
    else:
        return
    if (target.name, weakness) not in _warned:
        _warned.add((target.name, weakness))
        _log.warning("target %s: %s", target.name, weakness)


def certificate_expiry_unix_s(der: bytes) -> float | None:
    """When the certificate expires (its notAfter, RFC 5280 section 4.1.2.5); None if `der` is not a certificate.

    Parsed here, because `ssl` describes a certificate only after verification.
    """
    try:
        certificate = der_element(der, 0)[1]
        fields = der_element(certificate, 0)[1]
        position = 0
        if fields[0] == _TAG_VERSION:
            position = der_element(fields, position)[2]
        for _field in ("serialNumber", "signature", "issuer"):
            position = der_element(fields, position)[2]
        validity = der_element(fields, position)[1]
        not_before_end = der_element(validity, 0)[2]
        tag, text, _end = der_element(validity, not_before_end)
        digits = text.decode("ascii")
        if tag == _TAG_UTC_TIME:
            digits = ("19" if int(digits[:2]) >= 50 else "20") + digits
        return float(calendar.timegm(time.strptime(digits, "%Y%m%d%H%M%SZ")))
    except (ValueError, IndexError):
        return None


_TAG_VERSION = 0xA0
_TAG_UTC_TIME = 0x17


_OID_ALTERNATIVE_NAME = b"\x06\x03\x55\x1d\x11"
_TAG_OCTET_STRING = 0x04
_TAG_DNS_NAME = 0x82


def certificate_names(der: bytes) -> list[str]:
    """The DNS names in the certificate (its subjectAltName, RFC 5280 section 4.2.1.6)."""
    names: list[str] = []
    try:
        position = der.index(_OID_ALTERNATIVE_NAME) + len(_OID_ALTERNATIVE_NAME)
        tag, extension, end = der_element(der, position)
        if tag != _TAG_OCTET_STRING:  # the flag "critical" comes first
            extension = der_element(der, end)[1]
        entries = der_element(extension, 0)[1]
        position = 0
        while position < len(entries):
            tag, name, position = der_element(entries, position)
            if tag == _TAG_DNS_NAME:
                names.append(name.decode("ascii"))
    except (ValueError, IndexError):
        return names
    return names
