"""A client of the running daemon's own web side, for commands that show or change something there.

It must not know what they ask.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import requests

from exporter.core.causes import cause_of, no_daemon
from exporter.core.errors import TritonCanaryError
from exporter.core.target import TlsOptions
from exporter.server.page_session import PageSession, TlsFileError
from exporter.web.auth import TOKEN_VARIABLE

_TIMEOUT_SECONDS = 30.0


class CommandError(TritonCanaryError):
    """The daemon could not be asked, or refused; the text has the reason."""


@dataclass(frozen=True, slots=True)
class DaemonClient:
    """Where the daemon is and what it is shown: `ca_file` holds the authorities to trust, the system's by default;
    `cert_file` a certificate of ours, with its key or with that in `key_file`; `token_file` the token, in the place of
    the environment's."""

    url: str
    token_file: Path | None = None
    ca_file: Path | None = None
    cert_file: Path | None = None
    key_file: Path | None = None

    def call(self, method: str, path: str, body: str = "") -> str:
        """The response's text. Raises CommandError."""
        # To read needs no token, but where the daemon asks its readers for passwords the token stands for one.
        token = self._token()
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        url = self.url.rstrip("/") + path
        ca_file, cert_file, key_file = (str(path or "") for path in (self.ca_file, self.cert_file, self.key_file))
        tls = TlsOptions(ca_file=ca_file, cert_file=cert_file, key_file=key_file)
        with PageSession(tls) as session:
            try:
                response = session.request(method, url, data=body.encode(), headers=headers, timeout=_TIMEOUT_SECONDS)
            except TlsFileError as error:
                raise CommandError(str(error)) from error
            except (requests.RequestException, OSError) as error:
                raise CommandError(no_daemon(self.url, cause_of(error))) from error
        if response.status_code not in (200, 202):
            raise CommandError(f"{response.status_code}: {response.text.strip()}")
        return response.text

    def _token(self) -> str:
        return read_text(self.token_file).strip() if self.token_file else os.environ.get(TOKEN_VARIABLE, "").strip()


def read_text(path: Path) -> str:
    """A file's text. Raises CommandError."""
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise CommandError(f"{path} cannot be read: {error}") from error
