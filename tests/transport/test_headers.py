"""Header values: read late, never with a line end, and never shown."""

from __future__ import annotations

from pathlib import Path

import pytest

from exporter.core.errors import TransportError
from exporter.core.outcome import Outcome
from exporter.core.target import Header
from exporter.transport.headers import read_headers


def test_given_environment_and_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TOKEN", "from-environment")
    (tmp_path / "token").write_text("from-file\n")
    headers = (
        Header("X-A", value="given"),
        Header("X-B", env="TOKEN"),
        Header("Authorization", file=str(tmp_path / "token"), prefix="Bearer "),
        Header("X-Empty"),
    )
    assert read_headers(headers) == (
        ("X-A", "given"),
        ("X-B", "from-environment"),
        ("Authorization", "Bearer from-file"),
        ("X-Empty", ""),
    )
    (tmp_path / "token").write_text("rotated")
    assert read_headers(headers)[2] == ("Authorization", "Bearer rotated")


@pytest.mark.parametrize(
    ("header", "content", "text"),
    [
        (Header("A", value="x\r\nB: secret"), None, "header 'A': the value holds characters"),
        (Header("A", value="x\0secret"), None, "the value holds characters"),
        (Header("A", file="FILE"), "one secret\r\ntwo", "the value holds characters"),
        (Header("A\nB", value="secret"), None, "the name holds characters"),
        (Header("", value="secret"), None, "the name holds characters"),
        (Header("A", env="NO_SUCH_VARIABLE"), None, "the environment variable NO_SUCH_VARIABLE is not set"),
        (Header("A", file="FILE"), None, "token cannot be read: No such file"),
        (Header("A", file="FILE"), " \n", "token is empty"),
    ],
)
def test_errors_name_the_header_and_not_its_value(
    header: Header, content: str | None, text: str, tmp_path: Path
) -> None:
    path = tmp_path / "token"
    if content is not None:
        path.write_text(content)
    if header.file:
        header = Header(header.name, file=str(path))
    with pytest.raises(TransportError, match=text) as caught:
        read_headers([header])
    assert caught.value.outcome is Outcome.AUTH_ERROR
    assert "secret" not in str(caught.value)
