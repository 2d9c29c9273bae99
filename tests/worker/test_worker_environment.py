"""A worker's environment: what libraries need, and the secrets of its own sweep."""

from __future__ import annotations

from pathlib import Path

import pytest

from exporter.core.errors import PreflightError
from exporter.core.outcome import Reason
from exporter.core.target import Header
from exporter.transport.headers import read_headers
from exporter.worker.local import LocalWorker
from exporter.worker.worker_environment import (
    HeaderVariables,
    base_environment,
    header_environment,
    without_header_files,
)
from tests.builders import make_probe, make_target

SECRETS = {
    "TRITON_CANARY_API_TOKEN": "token-of-changes",
    "AWS_SECRET_ACCESS_KEY": "of-another",
    "ASR_TOKEN": "of-this-target",
    "http_proxy": "http://me:password@proxy:3128",
}
NEEDED = {"PATH": "/bin", "LC_ALL": "C.UTF-8", "CUDA_VISIBLE_DEVICES": "0", "TRITON_SERVER_CPU_ONLY": "1"}


def test_what_a_worker_is_started_with() -> None:
    assert base_environment({**SECRETS, **NEEDED}) == NEEDED


def test_the_variables_of_headers() -> None:
    target = make_target(
        headers=(Header("A", env="ASR_TOKEN"), Header("B", env="NO_SUCH"), Header("C", value="x")),
        management_headers=(Header("D", env="AWS_SECRET_ACCESS_KEY"),),
    )
    assert header_environment(target, SECRETS) == {"ASR_TOKEN": "of-this-target", "AWS_SECRET_ACCESS_KEY": "of-another"}


def test_they_are_forgotten_and_nothing_else_is() -> None:
    environ = {"PATH": "/bin"}
    variables = HeaderVariables(environ)
    variables.set({"ASR_TOKEN": "a", "PATH": "/other"})
    variables.set({"ASR_TOKEN": "b"})
    assert environ == {"PATH": "/other", "ASR_TOKEN": "b"}
    variables.clear()
    assert environ == {"PATH": "/other"}


async def test_a_worker_has_them_for_its_sweep_alone(monkeypatch: pytest.MonkeyPatch, unused_tcp_port: int) -> None:
    for name, value in SECRETS.items():
        monkeypatch.setenv(name, value)
    worker = await LocalWorker.spawn()
    try:
        started_with = Path(f"/proc/{worker.pid}/environ").read_text()
        assert not [value for value in SECRETS.values() if value in started_with]
        for name, reason in {"ASR_TOKEN": Reason.UNREACHABLE, "NO_SUCH_TOKEN": Reason.AUTH}.items():
            target = make_target(port=unused_tcp_port, headers=(Header("X", env=name),), scheme="grpc")
            with pytest.raises(PreflightError) as caught:
                await worker.preflight(make_probe(target=target))
            assert caught.value.reason is reason, caught.value
    finally:
        await worker.kill()


def test_headers_from_files_travel_as_variables(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    token, other = tmp_path / "token", tmp_path / "other"
    token.write_text("of-a-file\n")
    other.write_text("of-another\n")
    given = make_target(
        headers=(
            Header("Authorization", file=str(token), prefix="Bearer "),
            Header("X", env="ASR_TOKEN"),
            Header("Y", value="y"),
        ),
        management_headers=(Header("Authorization", file=str(other)),),
    )
    there, variables = without_header_files(given, SECRETS)
    assert not [header for header in (*there.headers, *there.management_headers) if header.file]
    assert set(variables.values()) == {"of-a-file", "of-another", "of-this-target"}
    for path in (token, other):
        path.unlink()
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert read_headers(there.headers) == (("Authorization", "Bearer of-a-file"), ("X", "of-this-target"), ("Y", "y"))
    assert read_headers(there.management_headers) == (("Authorization", "of-another"),)
    with pytest.raises(PreflightError, match=rf"header 'Authorization': the file {token} cannot be read") as caught:
        without_header_files(given, SECRETS)
    assert caught.value.reason is Reason.AUTH
