"""The commonest mistakes with an endpoint, each with a real peer: Triton's three ports, nginx as other services and
proxies, certificates of openssl's."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from exporter.demo.triton import EmbeddedTriton, free_ports
from tests.transport.certificates import Certificates, make_expired
from tests.transport.nginx import nginx_serving


@dataclass(frozen=True)
class Mistake:
    """What a user writes as a target's url, and how the sentence on it begins."""

    name: str
    url: str
    sentence: str
    ca_file: str = ""


@contextmanager
def mistakes(triton: EmbeddedTriton, certificates: Certificates, folder: Path) -> Iterator[dict[str, Mistake]]:
    """The peers run meanwhile."""
    names = ("other", "login", "form", "prefix", "tls", "expired", "basic", "dead", "moved", "grpcs")
    *ports, unused = free_ports(len(names) + 1)
    port = dict(zip(names, ports, strict=True))
    http, grpc, metrics = triton.http_port, triton.grpc_port, triton.metrics_port
    expired = make_expired(folder, certificates)
    (folder / "users").write_text("admin:{PLAIN}x\n")

    def server(name: str, body: str, more: str = "", certificate: Path | None = None) -> str:
        chain = certificate or certificates.server
        tls = f"ssl_certificate {chain}; ssl_certificate_key {certificates.server_key};" if "ssl" in more else ""
        return f"server {{ listen 127.0.0.1:{port[name]}{more}; {tls} {body} }}\n"

    to_triton = f"location / {{ proxy_pass http://127.0.0.1:{http}; }}"
    form = '<html><form action="/login"><input type="password" name="p"></form></html>'
    servers = (
        server("other", "location / { return 404; }")
        + server("login", "location / { return 302 https://sso.example/login?ticket=hunter2; }")
        + server("form", f"location / {{ default_type text/html; return 200 '{form}'; }}")
        + server("prefix", f"location /triton/ {{ proxy_pass http://127.0.0.1:{http}/; }}")
        + server("tls", to_triton, f" ssl; listen 127.0.0.2:{port['tls']} ssl")
        + server("expired", to_triton, " ssl", expired)
        + server("basic", f'auth_basic "models"; auth_basic_user_file {folder}/users; {to_triton}')
        + server("dead", f"location / {{ proxy_pass http://127.0.0.1:{unused}; }}")
        + server("moved", "return 301 https://$host$request_uri;")
        + server("grpcs", f"location / {{ grpc_pass grpc://127.0.0.1:{grpc}; }}", " ssl http2")
    )
    ca = str(certificates.ca)

    def at(name: str) -> str:
        return f"127.0.0.1:{port[name]}"

    table = [
        Mistake(
            "HTTP on the gRPC port",
            f"http://127.0.0.1:{grpc}",
            f"port {grpc} of 127.0.0.1 speaks gRPC: use grpc://127.0.0.1:{grpc} (",
        ),
        Mistake(
            "gRPC on the HTTP port",
            f"grpc://127.0.0.1:{http}",
            f"port {http} of 127.0.0.1 speaks HTTP: use http://127.0.0.1:{http} (",
        ),
        Mistake(
            "TLS on the plain HTTP port",
            f"https://127.0.0.1:{http}",
            f"port {http} of 127.0.0.1 speaks HTTP without TLS: use http://127.0.0.1:{http} (",
        ),
        Mistake(
            "TLS on the plain gRPC port",
            f"grpcs://127.0.0.1:{grpc}",
            f"port {grpc} of 127.0.0.1 speaks gRPC without TLS: use grpc://127.0.0.1:{grpc} (",
        ),
        Mistake(
            "plain HTTP on a TLS port",
            f"http://{at('tls')}",
            f"port {port['tls']} of 127.0.0.1 speaks TLS: use https://{at('tls')} (",
        ),
        Mistake(
            "plain gRPC on a TLS port",
            f"grpc://{at('grpcs')}",
            f"port {port['grpcs']} of 127.0.0.1 speaks TLS: use grpcs://{at('grpcs')} (",
        ),
        Mistake(
            "HTTP on the metrics port",
            f"http://127.0.0.1:{metrics}",
            f"port {metrics} of 127.0.0.1 serves metrics, no inference: use http://127.0.0.1:8000, and "
            f"http://127.0.0.1:{metrics}/metrics as metrics_url (",
        ),
        Mistake(
            "gRPC on the metrics port",
            f"grpc://127.0.0.1:{metrics}",
            f"port {metrics} of 127.0.0.1 serves metrics, no inference: use grpc://127.0.0.1:8001, and ",
        ),
        Mistake(
            "another service",
            f"http://{at('other')}",
            f"port {port['other']} of 127.0.0.1 is served by nginx/",
        ),
        Mistake(
            "gRPC at another service",
            f"grpc://{at('other')}",
            f"port {port['other']} of 127.0.0.1 speaks HTTP (nginx/",
        ),
        Mistake(
            "a login page by redirect",
            f"http://{at('login')}",
            f"a login page responds at http://{at('login')} (redirect to https://sso.example/login): give the proxy a ",
        ),
        Mistake(
            "a login form",
            f"http://{at('form')}",
            f"a login page responds at http://{at('form')} (nginx/",
        ),
        Mistake(
            "a password is asked for",
            f"http://{at('basic')}",
            f'http://{at("basic")} asks for credentials (Basic realm="models")',
        ),
        Mistake(
            "a proxy without its server",
            f"http://{at('dead')}",
            f"port {port['dead']} of 127.0.0.1 is a proxy (nginx/",
        ),
        Mistake(
            "a redirect to https",
            f"http://{at('moved')}",
            f"http://{at('moved')} redirects to https://127.0.0.1/v2/health/live: use https in the url (",
        ),
        Mistake(
            "an expired certificate",
            f"https://{at('expired')}",
            f"the certificate of {at('expired')} expired on 2025-06-01 00:00 UTC, ",
            ca,
        ),
        Mistake(
            "an unknown authority",
            f"https://{at('tls')}",
            f"the certificate of {at('tls')} is of an unknown authority: set tls.ca_file",
        ),
        Mistake(
            "a certificate for another name",
            f"https://127.0.0.2:{port['tls']}",
            f"the certificate of 127.0.0.2:{port['tls']} is for localhost, canary.test",
            ca,
        ),
        Mistake(
            "an unknown host name",
            "http://trtion.invalid:8000",
            "the host name 'trtion.invalid' is unknown: check its spelling",
        ),
        Mistake(
            "a missing path prefix",
            f"http://{at('prefix')}",
            f"port {port['prefix']} of 127.0.0.1 is served by nginx/",
        ),
        Mistake(
            "a path prefix too many",
            f"http://127.0.0.1:{http}/triton",
            f"the server responds without the path /triton: use http://127.0.0.1:{http} (",
        ),
        Mistake(
            "a port without a server",
            f"http://127.0.0.1:{unused}",
            f"nothing listens on port {unused} of 127.0.0.1 (Triton's default is 8000) (",
        ),
    ]
    with nginx_serving(folder, port["other"], servers):
        yield {mistake.name: mistake for mistake in table}
