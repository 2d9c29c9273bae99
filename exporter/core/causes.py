"""Why a peer could not be reached, in a few words: the root cause of a client library's exception. Pure."""

from __future__ import annotations

import errno
import socket
import ssl

_WORDS = {
    errno.ECONNREFUSED: "connection refused",
    errno.ECONNRESET: "the connection was reset",
    errno.EHOSTUNREACH: "no route to the host",
    errno.ENETUNREACH: "the network is unreachable",
    errno.ETIMEDOUT: "the connection timed out",
}


def cause_of(error: BaseException) -> str:
    """The root cause as one short line, without the wrapping that libraries add."""
    chain = _chain(error)
    for inner in reversed(chain):
        if isinstance(inner, ssl.SSLCertVerificationError):
            return f"its certificate is not accepted: {inner.verify_message}"
        if isinstance(inner, ssl.SSLError):
            return "TLS failed; does the address speak it?"
        if isinstance(inner, socket.gaierror):
            return "its host name is unknown"
        if isinstance(inner, TimeoutError):
            return "no response in time"
        if isinstance(inner, OSError) and inner.errno is not None:
            return _WORDS.get(inner.errno, inner.strerror or str(inner))
    text = " ".join(str(chain[-1]).split()) or type(chain[-1]).__name__
    return text if len(text) <= 200 else f"{text[:200]}…"


def no_daemon(url: str, cause: str) -> str:
    """The error text of a command that could not reach the daemon."""
    if "://" not in url:
        return f"no daemon at {url}: --url needs its scheme, as http://{url}"
    return f"no daemon at {url}: {cause}; is it running (triton-canary serve), and is --url its web.listen?"


def _chain(error: BaseException) -> list[BaseException]:
    """The error and its causes, outermost first. Libraries keep a cause in `reason`, `args`, `__cause__` or
    `__context__`."""
    chain: list[BaseException] = []
    following: BaseException | None = error
    while following is not None and following not in chain and len(chain) < 20:
        chain.append(following)
        current = following
        held = [getattr(current, "reason", None), *current.args]
        inner = next((value for value in held if isinstance(value, BaseException)), None)
        following = inner or current.__cause__ or current.__context__
    return chain
