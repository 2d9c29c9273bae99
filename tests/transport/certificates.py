"""A certificate authority of the tests' own, made by the openssl command."""

from __future__ import annotations

import ssl
import subprocess
from dataclasses import dataclass
from pathlib import Path

from tests.programs import need
from tests.waiting import PATIENCE_SECONDS


@dataclass(frozen=True)
class Certificates:
    """PEM files. The server's certificate is for `localhost`, `canary.test` and 127.0.0.1, and lives for 30 days."""

    ca: Path
    ca_key: Path
    server: Path
    server_key: Path
    client: Path
    client_key: Path
    second_client: Path
    second_client_key: Path
    other_ca: Path
    other_ca_key: Path

    def server_context(self, *, mutual: bool = False, alpn: str = "") -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.server, self.server_key)
        if mutual:
            context.verify_mode = ssl.CERT_REQUIRED
            context.load_verify_locations(self.ca)
        if alpn:
            context.set_alpn_protocols([alpn])
        return context


def openssl(folder: Path, *arguments: str) -> None:
    subprocess.run(["openssl", *arguments], cwd=folder, check=True, capture_output=True, timeout=PATIENCE_SECONDS)


def make_certificates(folder: Path, *, plain: bool = False) -> Certificates:
    """`plain` as many a private authority's are: without what VERIFY_X509_STRICT asks for, which Python's own clients
    take by default from 3.13 on."""
    need("openssl")

    def key(name: str) -> tuple[str, ...]:
        return "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-keyout", f"{name}.key"

    for name in ("ca", "other"):
        subject = ("-days", "30", "-subj", f"/CN=canary {name}")
        usage = () if plain else ("-addext", "keyUsage=critical,keyCertSign,cRLSign,digitalSignature")
        openssl(folder, "req", "-x509", *key(name), "-out", f"{name}.pem", *subject, *usage)
    identifier = "" if plain else "authorityKeyIdentifier=keyid\n"
    (folder / "names").write_text(f"subjectAltName=DNS:localhost,DNS:canary.test,IP:127.0.0.1\n{identifier}")
    for name in ("server", "client", "second"):
        openssl(folder, "req", "-new", *key(name), "-out", f"{name}.csr", "-subj", f"/CN=canary {name}")
        signing = ("-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-days", "30", "-extfile", "names")
        openssl(folder, "x509", "-req", "-in", f"{name}.csr", "-out", f"{name}.pem", *signing)
    return Certificates(
        ca=folder / "ca.pem",
        ca_key=folder / "ca.key",
        server=folder / "server.pem",
        server_key=folder / "server.key",
        client=folder / "client.pem",
        client_key=folder / "client.key",
        second_client=folder / "second.pem",
        second_client_key=folder / "second.key",
        other_ca=folder / "other.pem",
        other_ca_key=folder / "other.key",
    )


def make_expired(folder: Path, certificates: Certificates) -> Path:
    """A certificate of the server's key, by the tests' authority, that expired on 2025-06-01."""
    (folder / "index.txt").touch()
    (folder / "ca.cnf").write_text(
        "[ca]\ndefault_ca=own\n[own]\ndatabase=index.txt\nnew_certs_dir=.\ndefault_md=sha256\nrand_serial=yes\n"
        "policy=any\nunique_subject=no\n[any]\ncommonName=supplied\n"
    )
    (folder / "names").write_text("subjectAltName=DNS:localhost,IP:127.0.0.1\n")
    request = ("-new", "-key", str(certificates.server_key), "-out", "expired.csr", "-subj", "/CN=expired")
    openssl(folder, "req", *request)
    authority = ("-cert", str(certificates.ca), "-keyfile", str(certificates.ca_key), "-extfile", "names")
    dates = ("-startdate", "250101000000Z", "-enddate", "250601000000Z")
    files = ("-in", "expired.csr", "-out", "expired.pem", "-notext", "-batch", "-config", "ca.cnf")
    openssl(folder, "ca", *authority, *dates, *files)
    return folder / "expired.pem"
