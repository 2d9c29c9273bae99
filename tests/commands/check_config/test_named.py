"""Files, certificates and variables that a configuration names: each that cannot be used is an error with its place."""

from __future__ import annotations

import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from exporter.cli import run
from exporter.commands.check_config import named
from exporter.commands.check_config.named import named_problems
from exporter.config import load
from exporter.config.fields import is_section
from exporter.config.problems import bare_type, fields_by_key
from exporter.config.settings import Settings
from exporter.config.text import path_text
from tests.transport.certificates import Certificates, make_expired

PROBE = "probes: [{name: p, target: t, model: m, schedule: {every: 5m}, load: {concurrency: 1}}]\n"


def written(folder: Path, target: str, more: str = "") -> Path:
    path = folder / "canary.yaml"
    path.write_text(f"targets:\n  - {{name: t, {target}}}\n{PROBE}{more}")
    return path


def problems(folder: Path, target: str, more: str = "", **environ: str) -> list[str]:
    settings = load(written(folder, target, more), {})
    return [f"{'.'.join(map(str, path))}: {text}" for path, text in named_problems(settings, environ)]


def test_what_is_not_there(tmp_path: Path, certificates: Certificates) -> None:
    (tmp_path / "empty").write_text(" \n")
    (tmp_path / "token").write_text("hunter2\n")
    here = str(tmp_path)
    files = f"c: {{file: {here}/empty}}, d: {{file: {here}/token}}, e: {{file: {here}/no}}"
    headers = f"{{a: {{env: SET}}, b: {{env: UNSET}}, {files}}}"
    tls = f"{{ca_file: {here}/no.pem, cert_file: {certificates.client}, key_file: {here}}}"
    found = problems(
        tmp_path, f'url: "https://h", headers: {headers}, tls: {tls}', f"web: {{api_token_file: {here}/none}}", SET="x"
    )
    assert found == [
        "targets.0.headers.b: the environment variable UNSET is not set",
        f"targets.0.headers.c: the file '{here}/empty' is empty",
        f"targets.0.headers.e: the file '{here}/no' cannot be read: No such file or directory",
        f"targets.0.tls.ca_file: the file '{here}/no.pem' cannot be read: No such file or directory",
        f"targets.0.tls.key_file: '{here}' is not a file",
        f"web.api_token_file: the file '{here}/none' cannot be read: No such file or directory",
    ]


def test_certificates(tmp_path: Path, certificates: Certificates) -> None:
    def of(tls: str) -> list[str]:
        return problems(tmp_path, f'url: "https://h", tls: {{{tls}}}')

    expired = make_expired(tmp_path, certificates)
    own = f"cert_file: {certificates.client}, key_file: {certificates.client_key}"
    assert of(f"ca_file: {certificates.ca}, {own}") == []
    assert of(f"ca_file: {certificates.ca}, verify: none") == []
    assert of(f"ca_file: {certificates.ca_key}") == [
        f"targets.0.tls.ca_file: the file '{certificates.ca_key}' contains no certificate"
    ]
    assert of(f"cert_file: {expired}, key_file: {certificates.server_key}") == [
        f"targets.0.tls.cert_file: the certificate in '{expired}' expired on 2025-06-01 00:00 UTC"
    ]
    [mixed] = of(f"cert_file: {certificates.client}, key_file: {certificates.server_key}")
    assert mixed.startswith(f"targets.0.tls: TLS client certificate {certificates.client} and ")
    both = tmp_path / "both.pem"
    both.write_bytes(expired.read_bytes() + certificates.ca.read_bytes())
    assert of(f"ca_file: {both}") == [], "one of them holds"


def test_discovery_and_folders(tmp_path: Path) -> None:
    url = 'url: "http://h"'
    assert problems(tmp_path, f"{url}, discover: {{file_sd: ['{tmp_path}/*.json']}}") == [
        f"targets.0.discover.file_sd.0: found '{tmp_path}/*.json': no file matches"
    ]
    sd = "{url: 'http://sd', headers: {x: {env: NO}}, ca_file: /no}"
    assert problems(tmp_path, f"{url}, discover: {{http_sd: {sd}}}") == [
        "targets.0.discover.http_sd.headers.x: the environment variable NO is not set",
        "targets.0.discover.http_sd.ca_file: the file '/no' cannot be read: No such file or directory",
    ]
    (tmp_path / "models").mkdir()
    kind = f"kind: triton_in_process, server_directory: {tmp_path}, model_repository: {tmp_path}/models"
    assert problems(tmp_path, kind) == [
        f"targets.0.server_directory: found '{tmp_path}': it has no lib/libtritonserver.so",
        f"targets.0.model_repository: found '{tmp_path}/models': it holds no model 'm'",
    ]


def test_the_command_names_file_and_line_and_can_leave_it_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = written(tmp_path, 'url: "http://h", headers: {authorization: {env: NO_SUCH_TOKEN}}')
    assert run(["check-config", str(path)]) == 1
    out, error = capsys.readouterr()
    assert (out, error) == (
        "",
        f"{path}:2: targets[0] (t).headers.authorization: the environment variable NO_SUCH_TOKEN is not set\n",
    )
    assert run(["check-config", str(path), "--no-files"]) == 0


def paths_of(shape: Any, prefix: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """The keys of the configuration that hold a file's path."""
    shape = bare_type(shape)
    if typing.get_origin(shape) in (tuple, dict):
        yield from paths_of(typing.get_args(shape)[-1 if typing.get_origin(shape) is dict else 0], prefix)
    elif is_section(shape):
        for key, field in fields_by_key(shape).items():
            holds = [each for each in field.metadata if getattr(each, "func", None) is path_text]
            inner = [part for part in typing.get_args(field.annotation) if "path_text" in repr(part)]
            if holds or inner:
                yield (*prefix, key)
            yield from paths_of(field.annotation, (*prefix, key))


def test_every_key_that_names_a_file_is_known_to_the_check() -> None:
    """A new one is added to `named`, or here with the reason why not."""
    elsewhere = {"directory"}  # the archive's own, which the daemon makes
    keys = {path[-1] for path in paths_of(Settings)} - elsewhere
    source = Path(named.__file__).read_text()
    assert {"ca_file", "cert_file", "key_file", "api_token_file", "file", "tokenizer", "model_repository"} <= keys
    assert [key for key in keys if f".{key}" not in source] == []
