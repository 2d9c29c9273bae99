"""What a hostile server does. Each behaviour is named by what it does to every response, or to one kind of them."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from tests.hostile.server import Behaviour, Response

HARMFUL = "\x1b[2J\x9b31m\u202e\r\n"
LONG = "x" * (1 << 20)
BOMB = gzip.compress(bytes(64 << 20))


def always(change: Callable[[Response], Response]) -> Behaviour:
    return lambda _path, response: change(response)


def _body(body: bytes) -> Behaviour:
    return always(lambda response: replace(response, body=body))


def json_text(change: Callable[[str], str]) -> Behaviour:
    """Of HTTP alone."""
    return always(lambda response: replace(response, body=change(response.body.decode()).encode()))


def in_json(change: Callable[[Any], Any]) -> Behaviour:
    def behaviour(_path: str, response: Response) -> Response:
        if not response.body:
            return response
        return replace(response, body=json.dumps(change(json.loads(response.body))).encode())

    return behaviour


def strings(value: Any, text: str) -> Any:
    """The same with this text in the place of each that is no key."""
    if isinstance(value, dict):
        return {key: strings(inner, text) for key, inner in value.items()}
    if isinstance(value, list):
        return [strings(inner, text) for inner in value]
    return text if isinstance(value, str) else value


def repeated(value: Any, times: int) -> Any:
    """The same with each list's first entry so many times."""
    if isinstance(value, dict):
        return {key: repeated(inner, times) for key, inner in value.items()}
    if isinstance(value, list) and value:
        return [repeated(value[0], 1)] * times
    return value


BOTH: dict[str, Behaviour] = {
    "redirects": always(lambda _: Response(status=302, headers={"location": "http://127.0.0.1:9/elsewhere"})),
    "is larger than is taken": _body(b"[" + b" " * (9 << 20) + b"]"),
    "is noise": _body(bytes(range(256)) * 40),
    "is empty": _body(b""),
    "refuses with a long text": always(
        lambda _: Response((HARMFUL + LONG).encode(), 500, grpc_status=13, grpc_message="x" * 30_000)
    ),
    "refuses with a harmful text": always(
        lambda _: Response(HARMFUL.encode(), 500, grpc_status=13, grpc_message="%1B[2J%C2%9B31m%E2%80%AE%0A")
    ),
}
HTTP_ONLY: dict[str, Behaviour] = {
    "nests deeply": _body(b"[" * 200_000 + b"]" * 200_000),
    "is a list": _body(b"[]"),
    "is a number": _body(b"7"),
    "is null": _body(b"null"),
    "is a long number": _body(b"9" * 6000),
    "has lone surrogates": json_text(lambda text: text.replace('"1', r'"\ud800')),
    "has harmful texts": in_json(lambda value: strings(value, "a" + HARMFUL)),
    "has long texts": in_json(lambda value: strings(value, LONG)),
    "has numbers for texts": in_json(lambda value: strings(value, 17)),  # type: ignore[arg-type]
    "has very many entries": in_json(lambda value: repeated(value, 5000)),
    "has none": in_json(lambda value: repeated(value, 0)),
    "is a bomb": always(lambda _: Response(BOMB, headers={"Content-Encoding": "gzip"})),
    "is cut off": always(lambda response: replace(response, headers={"Content-Length": "100000"}, cut=True)),
    "has an unknown coding": always(lambda response: replace(response, headers={"Content-Encoding": "br"})),
}
