"""Whether the files, certificates and environment variables that a configuration names are here, and can be used.

Reads files and the environment, asks no server. A problem is a path of the configuration and a text without any secret.
"""

from __future__ import annotations

import glob
import os
import ssl
import time
from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from exporter.config.environment import Path as KeyPath
from exporter.config.probes import build_target
from exporter.config.settings import Settings
from exporter.config.target_settings import HeaderSettings, HttpSdSettings, TargetSettings
from exporter.core.kinds import IN_PROCESS
from exporter.transport.tls import certificate_expiry_unix_s, check_tls_files

Found = Iterator[tuple[KeyPath, str]]
_MAX_BYTES = 1 << 20
"""Of a file with a token or certificates."""


def named_problems(
    settings: Settings, environ: Mapping[str, str] = os.environ, now_unix_s: float | None = None
) -> Found:
    """Everything that the configuration names and that cannot be used, in its order."""
    now_unix_s = time.time() if now_unix_s is None else now_unix_s
    for index, target in enumerate(settings.targets):
        for path, problem in _of_target(settings, target, environ, now_unix_s):
            yield ("targets", index, *path), problem
    for index, probe in enumerate(settings.probes):
        if probe.input.prompt.tokenizer:
            yield from _file(("probes", index, "input", "prompt", "tokenizer"), probe.input.prompt.tokenizer)
    yield from _secret_file(("web", "api_token_file"), settings.web.api_token_file)


def _of_target(settings: Settings, target: TargetSettings, environ: Mapping[str, str], now_unix_s: float) -> Found:
    yield from _headers(("headers",), target.headers, environ)
    yield from _headers(("management_headers",), target.management_headers, environ)
    yield from _tls(target, now_unix_s)
    if target.discover is not None:
        for index, pattern in enumerate(target.discover.file_sd):
            if not glob.glob(pattern):
                yield ("discover", "file_sd", index), f"found '{pattern}': no file matches"
        if target.discover.http_sd is not None:
            yield from _http_sd(target.discover.http_sd, environ, now_unix_s)
    if target.kind == IN_PROCESS:
        yield from _in_process(settings, target)


def _headers(path: KeyPath, headers: Mapping[str, HeaderSettings], environ: Mapping[str, str]) -> Found:
    for name, header in headers.items():
        if header.env and not environ.get(header.env, "").strip():
            yield (*path, name), f"the environment variable {header.env} is not set"
        yield from _secret_file((*path, name), header.file)


def _secret_file(path: KeyPath, given: str) -> Found:
    """A file that holds one secret: what is in it is never shown."""
    if not given:
        return
    problems = list(_file(path, given))
    yield from problems
    if not problems and not Path(given).read_bytes()[:_MAX_BYTES].strip():
        yield path, f"the file '{given}' is empty"


def _file(path: KeyPath, given: str) -> Found:
    if not given:
        return
    try:
        if not Path(given).is_file():
            Path(given).stat()  # raises for one that is not there
            yield path, f"'{given}' is not a file"
            return
        with Path(given).open("rb"):
            pass
    except OSError as error:
        yield path, f"the file '{given}' cannot be read: {error.strerror or error}"


def _http_sd(settings: HttpSdSettings, environ: Mapping[str, str], now_unix_s: float) -> Found:
    path = ("discover", "http_sd")
    yield from _headers((*path, "headers"), settings.headers, environ)
    yield from _certificates((*path, "ca_file"), settings.ca_file, now_unix_s)


def _tls(target: TargetSettings, now_unix_s: float) -> Found:
    tls = target.tls
    problems = [
        *_certificates(("tls", "ca_file"), tls.ca_file, now_unix_s),
        *_certificates(("tls", "cert_file"), tls.cert_file, now_unix_s),
        *_file(("tls", "key_file"), tls.key_file),
    ]
    yield from problems
    if problems or not (tls.ca_file or tls.cert_file):
        return
    try:
        check_tls_files(replace(build_target(target).tls, verify=True))
    except OSError as error:
        yield ("tls",), str(error)


def _certificates(path: KeyPath, given: str, now_unix_s: float) -> Found:
    """The file can be read, and the certificates in it hold today."""
    if not given:
        return
    problems = list(_file(path, given))
    yield from problems
    if problems:
        return
    data = Path(given).read_bytes()[:_MAX_BYTES]
    ends = [end for der in _ders(data) if (end := certificate_expiry_unix_s(der)) is not None]
    if not ends:
        yield path, f"the file '{given}' contains no certificate"
    # Of several authorities one that holds is enough; which of them is needed only the server knows.
    elif max(ends) < now_unix_s:
        on = datetime.fromtimestamp(max(ends), UTC).strftime("%Y-%m-%d %H:%M UTC")
        yield path, f"the certificate in '{given}' expired on {on}"


def _ders(data: bytes) -> Iterator[bytes]:
    if b"-----BEGIN " not in data:
        yield data
        return
    for part in data.split(b"-----BEGIN CERTIFICATE-----")[1:]:
        body = part.partition(b"-----END CERTIFICATE-----")[0].decode("ascii", "replace")
        try:
            yield ssl.PEM_cert_to_DER_cert(f"{ssl.PEM_HEADER}\n{body.strip()}\n{ssl.PEM_FOOTER}\n")
        except ValueError:
            continue


def _in_process(settings: Settings, target: TargetSettings) -> Found:
    library = Path(target.server_directory, "lib", "libtritonserver.so")
    if not library.is_file():
        yield ("server_directory",), f"found '{target.server_directory}': it has no lib/libtritonserver.so"
    if not Path(target.model_repository).is_dir():
        yield ("model_repository",), f"found '{target.model_repository}': is not a folder"
        return
    for probe in settings.probes:
        if probe.target == target.name and probe.model and not Path(target.model_repository, probe.model).is_dir():
            yield ("model_repository",), f"found '{target.model_repository}': it holds no model '{probe.model}'"
