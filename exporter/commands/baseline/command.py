"""`triton-canary baseline`: talks to the running daemon, which alone writes baselines."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote, urlencode

from exporter.commands.baseline.table import baseline_table
from exporter.web.daemon_client import CommandError, DaemonClient, read_text

__all__ = ["BaselineCommand", "CommandError", "run"]


@dataclass(frozen=True, slots=True)
class BaselineCommand:
    """One call. `level` "" is all levels; `file` is read by import; `since`, `dry_run` and `force` are of pin, `json`
    of show; the others are those of `DaemonClient`."""

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
    json: bool = False


def run(command: BaselineCommand) -> str:
    """Does it; returns what is to be printed. Raises CommandError."""
    client = DaemonClient(command.url, command.token_file, command.ca_file, command.cert_file, command.key_file)
    path = f"/api/baseline/{quote(command.probe, safe='')}"
    if command.action == "show":
        shown = json.loads(client.call("GET", path))
        return json.dumps(shown, indent=2) if command.json else baseline_table(shown)
    if command.action == "export":
        return client.call("GET", f"{path}/export").removesuffix("\n")
    asked = {"level": command.level, "since": command.since}
    asked |= {name: "true" for name in ("dry_run", "force") if getattr(command, name)}
    query = urlencode({name: value for name, value in asked.items() if value}, quote_via=quote)
    body = read_text(command.file) if command.action == "import" and command.file else ""
    response = client.call("POST", f"{path}/{command.action}{'?' if query else ''}{query}", body)
    return "\n".join(json.loads(response)["done"])
