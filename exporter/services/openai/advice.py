"""What to change where a server rejects a request to a language model, by what it reports. Pure."""

from __future__ import annotations

import re
from typing import Final

from exporter.core.outcome import Outcome
from exporter.core.untrusted_text import clean_text

_FEWER_TOKENS: Final = "lower input.prompt.tokens or input.prompt.output_tokens, or give shorter prompts"
_NOT_TAKEN: Final = (
    r"(unrecogni[sz]ed|unknown|unexpected|unsupported|extra\b|invalid|not (permitted|allowed|supported))"
)
_BY_TEXT: Final = (
    (rf"{_NOT_TAKEN}.{{0,60}}ignore_eos|ignore_eos.{{0,60}}{_NOT_TAKEN}", "set input.prompt.fixed_output: false"),
    (r"max_completion_tokens\W{0,3}instead", "set input.parameters: {max_completion_tokens: …}"),
    (r"context.{0,20}(length|size|window)|(length|size|window).{0,20}context", _FEWER_TOKENS),
    (r"max_(model|seq|sequence|input)_len|(exceed|maximum|longer than).{0,60}\btokens|too many tokens", _FEWER_TOKENS),
    (r"\bmodel\b.{0,200}(not (exist|found)|unknown|no access)|no such model|unknown model", "check the probe's model"),
)
_PATTERNS: Final = tuple((re.compile(pattern, re.IGNORECASE | re.DOTALL), fix) for pattern, fix in _BY_TEXT)
_AUTHORIZATION: Final = b"\r\nauthorization:"


def advice(outcome: Outcome, text: str, head: bytes, endpoint_key: str = "") -> str:
    """What to change after a request with this `head` was rejected with this text; "" if that is not known.
    `endpoint_key` is the key that sets the path, beside the target's url."""
    if outcome is Outcome.AUTH_ERROR:
        has_token = _AUTHORIZATION in head.lower()
        return "check the token in the target's headers" if has_token else "set authorization in the target's headers"
    if outcome is Outcome.OVERLOAD and text.startswith("HTTP 429"):
        return "lower the load, or raise the server's limit"
    if outcome is not Outcome.CLIENT_ERROR:
        return ""
    if found := next((fix for pattern, fix in _PATTERNS if pattern.search(text)), ""):
        return found
    if text.startswith(("HTTP 404", "HTTP 405")):
        path = clean_text(head.partition(b"\r\n")[0].split(b" ")[1].decode("latin-1"))
        key = f" and {endpoint_key}" if endpoint_key else ""
        return f"the server does not take POST {path}: check the target's url{key}"
    return ""
