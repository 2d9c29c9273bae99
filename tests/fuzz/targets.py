"""Every parser of what others send, as a function of bytes: it returns, or raises what its caller expects of it.

The same table is run by Hypothesis in `make test` and by atheris, guided by coverage, in `make soak`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from exporter.baseline.file_format import DamagedBaselineError, decode
from exporter.config.cron import parse_cron
from exporter.config.document import parse_any, parse_document
from exporter.core.errors import ProtocolError
from exporter.core.facts import TensorSpec
from exporter.core.untrusted_text import clean_name, clean_text, load_json
from exporter.discovery.found import DiscoveryError, parse_groups
from exporter.payload.input_errors import InputErrors
from exporter.payload.json_file import read_json_file
from exporter.server.metrics import PageError, parse_page
from exporter.services.oip.responses import decode_response
from exporter.services.openai.reader import OpenAiReader
from exporter.services.tfserving.messages import read_json
from exporter.services.triton.stream import decode_response as read_stream
from exporter.state.state_file import _decode as decode_state
from exporter.transport.call import EncodedRequest, Response
from exporter.transport.tls_files import der_element as content
from exporter.web.request_check import HostNames
from exporter.wire.codings import decompress
from exporter.wire.grpc import Rpc
from exporter.wire.grpc_messages import frame_message
from exporter.wire.hpack_blocks import BlockDecoder, encode_block
from exporter.wire.http1 import Http1Client
from exporter.wire.http2 import Http2Connection
from exporter.wire.sse import SseParser
from tests.wire.reused import reused

MAX_BODY = 1 << 20


@dataclass(frozen=True, slots=True)
class Target:
    """A parser: what it may raise, and inputs that are good, or nearly so, to begin from."""

    parse: Callable[[bytes], object]
    expected: tuple[type[Exception], ...] = ()
    seeds: tuple[bytes, ...] = (b"",)

    def run(self, data: bytes) -> None:
        """Raises what is a bug."""
        try:
            self.parse(data)
        except self.expected:
            return


def _http1(data: bytes) -> None:
    client = Http1Client(keep_body=True)
    client.begin()
    for start in range(0, len(data), 1000):
        if reused(client.receive, data[start : start + 1000]):
            return
    client.receive_eof()


def _http2(data: bytes) -> None:
    core: Http2Connection[Rpc] = Http2Connection()
    for start in range(0, len(data), 1000):
        reused(core.receive, data[start : start + 1000])
        if core.can_start:
            core.start(Rpc(), encode_block([(":method", "POST")]), frame_message(b"x"))
    core.abandon()


def _triton_http(data: bytes) -> None:
    head, _, body = data.partition(b"\r\n\r\n")
    decode_response(Response([body], head=b"HTTP/1.1 200 OK\r\n" + head + b"\r\n\r\n"))


def _openai(data: bytes) -> None:
    reader = OpenAiReader()
    reader.begin(EncodedRequest(b"", b"{}"))
    for event in SseParser().feed(data + b"\n\n"):
        reader.event(event)
    reader.document(data)
    reader.refusal(data)
    reader.end()


def _host(data: bytes) -> None:
    HostNames.of("127.0.0.1", ["a.example"]).allow(data.decode("latin-1"))


def _texts(data: bytes) -> None:
    text = data.decode("utf-8", "surrogatepass") if _is_utf8(data) else data.decode("latin-1")
    assert clean_text(text).isprintable()
    assert clean_name(text).isprintable()


def _is_utf8(data: bytes) -> bool:
    try:
        data.decode("utf-8", "surrogatepass")
    except UnicodeDecodeError:
        return False
    return True


def _input_file(data: bytes) -> None:
    from tempfile import NamedTemporaryFile

    with NamedTemporaryFile(suffix=".json") as file:
        file.write(data)
        file.flush()
        read_json_file(Path(file.name), InputErrors())


_SPEC = TensorSpec("out", "FP32", (2, 2))
_SETTINGS_FRAME: Final = b"\x00\x00\x00\x04\x00\x00\x00\x00\x00"
_PAGE: Final = (
    b'# TYPE nv_inference_request_success counter\nnv_inference_request_success{model="m",version="1"} 5\n'
    b'nv_gpu_utilization{gpu_uuid="GPU-1"} 0.5\n'
)
_OUTPUTS: Final = b'{"outputs":[{"name":"out","datatype":"FP32","shape":[2],"data":[1,2]}]}'

TARGETS: Final[dict[str, Target]] = {
    "http1": Target(
        _http1,
        (ProtocolError,),
        (
            b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
        ),
    ),
    "http2": Target(_http2, (ProtocolError,), (_SETTINGS_FRAME, _SETTINGS_FRAME + b"\x00\x00\x08\x06" + bytes(13))),
    "hpack": Target(lambda data: BlockDecoder().decode(data), (ProtocolError,), (encode_block([(":status", "200")]),)),
    "gzip": Target(lambda data: decompress(data, "gzip", MAX_BODY), (ProtocolError,)),
    "deflate": Target(lambda data: decompress(data, "deflate", MAX_BODY), (ProtocolError,)),
    "sse": Target(lambda data: SseParser().feed(data), (ProtocolError,), (b"data: a\n\n", b": x\r\nid: 1\rdata\n\n")),
    "openai": Target(
        _openai,
        (ProtocolError,),
        (b'data: {"choices": [{"delta": {"content": "a"}}], "usage": {"completion_tokens": 3}}', b"data: [DONE]"),
    ),
    "triton-http": Target(
        _triton_http, (ProtocolError,), (b"content-type: application/json\r\n\r\n" + _OUTPUTS, b"\r\n\r\n" + _OUTPUTS)
    ),
    "triton-grpc": Target(lambda data: decode_response(Response([data])), (ProtocolError,)),
    "triton-stream": Target(read_stream, (ProtocolError,)),
    "tfserving-json": Target(
        lambda data: read_json(load_json(data), (_SPEC,)), (ProtocolError, ValueError, KeyError, TypeError)
    ),
    "json": Target(load_json, (ValueError,), (b'{"a": ["\\ud800", 1e999]}',)),
    "text": Target(_texts, (), (b"a\x1b[31m", "\u202ex".encode())),
    "metrics-page": Target(lambda data: parse_page(data.decode("utf-8", "replace"), 0, "m"), (PageError,), (_PAGE,)),
    "der": Target(lambda data: content(data, 0), (ValueError, IndexError), (b"\x30\x03\x02\x01\x05",)),
    "target-list": Target(
        lambda data: parse_groups(json.loads(data), ("zone",)),
        (DiscoveryError, ValueError, RecursionError),
        (b'[{"targets": ["a:1"], "labels": {"zone": "z"}}]',),
    ),
    "yaml-list": Target(parse_any, (ValueError,), (b"- targets: ['a:1']\n", b"a: &a [1]\nb: *a\n")),
    "yaml": Target(lambda data: parse_document(data.decode("utf-8", "replace")), (), (b"targets: []\n",)),
    "cron": Target(lambda data: parse_cron(data.decode("latin-1")), (ValueError,), (b"*/5 1-3 * * mon",)),
    "baseline": Target(
        lambda data: decode(data.decode("utf-8", "replace"), "p"),
        (DamagedBaselineError,),
        (b'{"triton_canary_baseline": 1, "sha256": ""}\n{"probe": "p", "loads": {}}\n',),
    ),
    "state": Target(
        lambda data: decode_state(data.decode("utf-8", "replace")),
        (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError),
        (b'{"version": 1, "probes": []}',),
    ),
    "input-file": Target(_input_file, (), (b'{"data": [{"INPUT0": [1, 2]}]}',)),
    "host": Target(_host, (), (b"a.example:1", b"[::1]:9")),
}


def mutations(seed: bytes) -> Iterator[bytes]:
    """The seed cut, doubled, and with single bytes changed: where parsers break most."""
    for cut in range(len(seed)):
        yield seed[:cut]
        yield seed[cut:]
        for value in (0, 0x7F, 0x80, 0xFF, ord("0"), ord("9"), ord('"'), ord("{")):
            yield seed[:cut] + bytes([value]) + seed[cut + 1 :]
    yield seed + seed
