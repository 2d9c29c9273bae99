"""What is reported of a stream of events that did not end well. Pure: times and counts in, text out."""

from __future__ import annotations

from exporter.core.units import NS
from exporter.transport.call import Call

EVENT_STREAM = "text/event-stream"

WEB_PAGE = "the response is a web page, not JSON, as of a proxy's login or of another service: check the target's url"
"""In place of a document."""
_STALLED = 0.5
"""A stream that was silent for so much of its time has stalled; another one was merely too long for the time-out."""


def not_a_stream(content_type: str, status_text: str = "") -> str:
    """A response to a streamed request that is no stream; `status_text` is the error that it reports, if any."""
    kind = content_type.partition(";")[0].strip().lower()
    shown = f"the response is not {EVENT_STREAM} but {content_type or 'of no content type'}"
    if status_text:
        return f"{shown}, and reports an error: {status_text}"
    if kind == "text/html":
        return f"{shown}: a web page, as of a proxy's login or of another service; check the target's url"
    if kind == "application/json":
        return f"{shown}: this server or model does not stream; set streaming: false"
    return f"{shown}: check the target's url, or set streaming: false"


def unfinished(call: Call, *, is_complete: bool) -> str:
    """Why a stream that had begun ended by the time-out. `is_complete`: its events were all there."""
    total_s = (call.last_ns - call.sent_ns) / NS
    if not call.response_ns:
        opened_s = (call.opened_ns - call.sent_ns) / NS
        return f"no token within {total_s:.3g} s: the stream opened after {opened_s:.3g} s, without content"
    silent_s = (call.last_ns - call.response_ns[-1]) / NS
    received = events(call)
    if is_complete:
        return f"the stream was left open: all of it came, {received}, but not its end within {total_s:.3g} s"
    if silent_s < _STALLED * total_s:
        fix = "raise measurement.request_timeout, or lower input.prompt.output_tokens"
        return f"the stream was not complete within {total_s:.3g} s, after {received}: {fix}"
    return f"the stream stalled: {received}, then none for {silent_s:.3g} s, until measurement.request_timeout"


def cut_off(text: str, call: Call) -> str:
    """A response whose end is missing, with what had come of it."""
    received = events(call) if call.opened_ns else "no byte of a response"
    return f"{text}, after {received} (the log of the server, or of a proxy, may show why)"


def events(call: Call) -> str:
    """How many events with content have come."""
    count = len(call.response_ns)
    return f"{count} {'event' if count == 1 else 'events'} with content"
