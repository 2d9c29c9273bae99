"""`triton-canary pause` and `resume`: stop everything that the running daemon measures, or all of a target, and let it
run again.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from urllib.parse import quote

from exporter.web.daemon_client import CommandError, DaemonClient


@dataclass(frozen=True, slots=True)
class Scope:
    """What is meant: a target, a probe, or everything (both empty)."""

    target: str = ""
    probe: str = ""


def run(action: str, scope: Scope, client: DaemonClient) -> str:
    """Does it; returns what is to be printed. Raises CommandError, also for a pause that is in force and would be
    forgotten by a restart."""
    if scope.probe:
        path = f"/api/probes/{quote(scope.probe, safe='')}/{action}"
    else:
        path = f"/api/{action}" + (f"?target={quote(scope.target, safe='')}" if scope.target else "")
    response = json.loads(client.call("POST", path))
    done = str(response["done"])
    if not_kept := response.get("not_kept"):
        raise CommandError(f"{done}; but {not_kept}")
    return done
