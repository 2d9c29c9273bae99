"""The web configuration file: what it may state, and that no error shows a value."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from exporter.config.web_file import WebFile, load_web_file
from exporter.core.errors import ConfigError
from tests.programs import need
from tests.transport.certificates import make_certificates
from tests.waiting import PATIENCE_SECONDS

HASH = "$2b$04$abcdefghijklmnopqrstuuG1n1S8J1vT2nq9kN5bQ5sZ5rW0h1x2a"
TLS = "tls_server_config: {cert_file: s.pem, key_file: s.key"

GOOD = {
    "empty": "",
    "only a comment": "# nothing yet\n{}\n",
    "users": f"basic_auth_users: {{alice: {HASH}}}\n",
    "tls": f"{TLS}}}\n",
    "mutual": f"{TLS}, client_auth_type: RequireAndVerifyClientCert, client_ca_file: ca.pem}}\n",
    "versions": f"{TLS}, min_version: TLS13, max_version: TLS13}}\n",
    "ciphers": f"{TLS}, cipher_suites: [TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256], prefer_server_cipher_suites: false}}\n",
    "headers": "http_server_config: {http2: false, headers: {X-Frame-Options: deny}}\n",
}


@pytest.mark.parametrize("text", GOOD.values(), ids=GOOD)
def test_what_it_may_state(text: str, tmp_path: Path) -> None:
    path = tmp_path / "web.yml"
    path.write_text(text)
    load_web_file(path)


@pytest.mark.parametrize("text", GOOD.values(), ids=GOOD)
def test_prometheus_takes_it_too(text: str, tmp_path: Path) -> None:
    need("promtool")
    certificates = make_certificates(tmp_path)
    path = tmp_path / "web.yml"
    files = {"s.pem": certificates.server, "s.key": certificates.server_key}
    path.write_text(re.sub(r"s\.(pem|key)", lambda name: str(files[name.group()]), text))
    subprocess.run(["promtool", "check", "web-config", path], check=True, capture_output=True, timeout=PATIENCE_SECONDS)


def test_paths_are_relative_to_the_file(tmp_path: Path) -> None:
    path = tmp_path / "web.yml"
    path.write_text("tls_server_config: {cert_file: certs/s.pem, key_file: /etc/s.key}\n")
    tls = load_web_file(path).tls_server_config
    assert tls is not None
    assert (tls.cert_file, tls.key_file, tls.client_ca_file) == (str(tmp_path / "certs/s.pem"), "/etc/s.key", "")


def test_an_empty_file_asks_for_nothing(tmp_path: Path) -> None:
    path = tmp_path / "web.yml"
    path.touch()
    assert load_web_file(path) == WebFile()


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("basic_auth_users: {alice: s3cret}", "1: basic_auth_users.alice: must be a bcrypt hash of cost 4 to 16"),
        (f"basic_auth_users: {{alice: {HASH.replace('$04$', '$31$')}}}", "must be a bcrypt hash of cost 4 to 16"),
        (f"basic_auth_users: {{'a:b': {HASH}}}", "has no colon"),
        ("tls_server_config: {cert_file: s3cret}", "tls_server_config.key_file: is required"),
        (f"\n{TLS}, client_ca_file: ca.pem}}", "2: tls_server_config: client_ca_file, and a client_auth_type"),
        (f"{TLS}, client_auth_type: RequireAnyClientCert}}", "client_auth_type: must be 'NoClientCert', "),
        (f"{TLS}, client_allowed_sans: [a]}}", "needs client_auth_type: RequireAndVerifyClientCert"),
        (f"{TLS}, min_version: TLS13, max_version: TLS12}}", "min_version is above max_version"),
        (f"{TLS}, cipher_suites: [s3cret]}}", "must be one of TLS_AES_128_GCM_SHA256"),
        (f"{TLS}, curve_preferences: [X25519]}}", "curve_preferences: is not supported"),
        ("tls_server_config: {cert: s3cret}", "cert: give it as a file, in cert_file"),
        ("http_server_config: {headers: {X-Mine: s3cret}}", "must be one of Content-Security-Policy"),
        ("tls_servre_config: {}", "tls_servre_config: unknown key"),
        ("- s3cret", "must be a mapping of keys, and is a list"),
        ("basic_auth_users: [", "is not YAML"),
    ],
)
def test_what_is_wrong_is_reported_without_its_value(text: str, problem: str, tmp_path: Path) -> None:
    path = tmp_path / "web.yml"
    path.write_text(text)
    with pytest.raises(ConfigError) as caught:
        load_web_file(path)
    assert problem in str(caught.value)
    assert "s3cret" not in str(caught.value)
    assert str(path) in str(caught.value)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"cannot be read: No such file or directory$"):
        load_web_file(tmp_path / "none.yml")
