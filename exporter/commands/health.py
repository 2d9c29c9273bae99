"""`triton-canary health`: asks a running daemon whether it is well, for container engines without an HTTP client.

By the standard library alone: it runs every half minute, so its start must cost little.
"""

from __future__ import annotations

import ssl
import urllib.error
import urllib.request

from exporter.core.causes import cause_of, no_daemon
from exporter.core.errors import TritonCanaryError

PATH = "/-/healthy"
_TIMEOUT_SECONDS = 4.0


class UnhealthyError(TritonCanaryError):
    """The daemon does not respond, or reports that it is unhealthy; the text has which."""


def check(url: str) -> str:
    """The health of the daemon at this address. Raises UnhealthyError."""
    # It only asks whether a daemon responds here, and sends no secret: whose certificate that is, scrapers verify.
    context = ssl._create_unverified_context()  # noqa: S323
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=context))
    try:
        with opener.open(f"{url.rstrip('/')}{PATH}", timeout=_TIMEOUT_SECONDS) as response:
            return str(response.read(200).decode(errors="replace")).strip()
    except urllib.error.HTTPError as error:
        with error:
            text = error.read(200).decode(errors="replace").strip()
        raise UnhealthyError(f"{error.code}: {text}") from error
    except (OSError, ValueError) as error:
        raise UnhealthyError(no_daemon(url, cause_of(error))) from error
