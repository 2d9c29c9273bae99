"""`triton-canary baseline`: talks to the running daemon, which alone writes baselines."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote, urlencode

import requests

from exporter.core.errors import TritonCanaryError
from exporter.web.auth import TOKEN_VARIABLE

_TIMEOUT_SECONDS = 30.0


class CommandError(TritonCanaryError):
    """The daemon could not be asked, or refused; says why."""


@dataclass(frozen=True, slots=True)
class Command:
    """One call. `url` is the daemon's; `level` "" is all levels; `file` is read by import; `ca_file` holds the
    authorities to trust, the system's by default; `cert_file` our own certificate, with its key or with that in
    `key_file`. `since`, `dry_run` and `force` are of pin."""

    action: str
    probe: str
    url: str
    level: str = ""
    file: Path | None = None
    token_file: Path | None = None
    ca_file: Path | None = None
    cert_file: Path | None = None
    key_file: Path | None = None
    since: str = ""
    dry_run: bool = False
    force: bool = False


def run(command: Command) -> str:
    """Does it; returns what is to be printed. Raises CommandError."""
    path = f"{command.url.rstrip('/')}/api/baseline/{quote(command.probe, safe='')}"
    if command.action == "show":
        return json.dumps(json.loads(_ask(command, "GET", path)), indent=2)
    if command.action == "export":
        return _ask(command, "GET", f"{path}/export").removesuffix("\n")
    asked = {"level": command.level, "since": command.since}
    asked |= {name: "true" for name in ("dry_run", "force") if getattr(command, name)}
    query = urlencode({name: value for name, value in asked.items() if value}, quote_via=quote)
    body = _read(command.file) if command.action == "import" and command.file else ""
    answer = _ask(command, "POST", f"{path}/{command.action}{'?' if query else ''}{query}", body)
    return "\n".join(json.loads(answer)["done"])


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise CommandError(f"{path} cannot be read: {error}") from error


def _token(path: Path | None) -> str:
    return _read(path).strip() if path else os.environ.get(TOKEN_VARIABLE, "").strip()


def _ask(command: Command, method: str, url: str, body: str = "") -> str:
    # To read needs no token, but where the daemon asks its readers for passwords the token stands for one.
    token = _token(command.token_file)
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    with requests.Session() as session:
        # A proxy is for the world outside; netrc must not put another authorization in the token's place.
        session.trust_env = False
        session.verify = str(command.ca_file) if command.ca_file else True
        if command.cert_file:
            session.cert = str(command.cert_file), str(command.key_file or command.cert_file)
        try:
            response = session.request(method, url, data=body.encode(), headers=headers, timeout=_TIMEOUT_SECONDS)
        except (requests.RequestException, OSError) as error:
            raise CommandError(f"the daemon cannot be asked at {url}: {error}") from error
    if not response.ok:
        raise CommandError(f"{response.status_code}: {response.text.strip()}")
    return response.text
