"""Whether a response with a status of success is an inference: a proxy's login page, a gateway's error in a response of
status 200, and no body at all are none. Pure but for the client that holds the response.

How the body begins is judged, for each response of the load. Whether its tensors are right, the validation finds out.
"""

from __future__ import annotations

import re

from exporter.core.untrusted_text import clean_text
from exporter.services.error_body import error_message
from exporter.transport.event_errors import WEB_PAGE
from exporter.transport.http_channel import readable
from exporter.wire.codings import WINDOW_BITS
from exporter.wire.http1 import Http1Client

_USUAL = (b'{"model_name":', b'{"id":', b'{"outputs":', b'{\n    "outputs":', b'{"predictions":', b'{"model_version":')
"""How the servers at hand begin: no more is looked at then. Binary tensors come behind the same."""
_INFERENCE = re.compile(rb'\{(?!\s*"error"\s*:(?!\s*null))')
"""A JSON object that does not begin with an error."""
_LOOKED_AT = 4096
_SHOWN = 80
_READ = frozenset(["", "identity", "x-gzip", *WINDOW_BITS])


def no_inference(client: Http1Client) -> str:
    """Why the client's complete response with a status of success is no inference of the Open Inference Protocol or of
    TensorFlow Serving; "" if it is one."""
    if client.status != 200:
        return f"the response has status {client.status}, and an inference has 200"
    return "" if client.body_begins(_USUAL) else _described(client)


def _described(client: Http1Client) -> str:
    """As `no_inference`, whatever the body's framing, coding and order of keys."""
    body = client.body_start(_LOOKED_AT).lstrip()
    if _INFERENCE.match(body):
        return ""
    if not body:
        return "the response is an empty body, with status 200"
    if body.startswith(b"{"):
        return f"an error in a response of status 200: {error_message(body) or readable(body)}"
    if (client.header("content-encoding") or "").strip().lower() not in _READ:
        return ""
    shown = clean_text(readable(body), _SHOWN)
    if body.startswith(b"<"):
        return WEB_PAGE.replace("page", f"page ({shown})", 1) if shown else WEB_PAGE
    return f"the response is not JSON: {shown!r}"
