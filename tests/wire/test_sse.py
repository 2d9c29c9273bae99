"""Server-sent events against a reference that reads the whole text at once, for any split of its bytes."""

from __future__ import annotations

import itertools
import json

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from exporter.core.errors import ProtocolError
from exporter.wire.sse import MAX_EVENT_BYTES, SseEvent, SseParser

STREAM = (
    b"\xef\xbb\xbf: hello\r\n"
    b"event: token\r\ndata: one\r\nid: 7\r\n\r\n"
    b"data: a\ndata:b\rdata\n\n"
    b"event: alone\n\n"
    b"data:  two spaces\r\r"
    b"retry: 10\nnonsense\ndata: [DONE]\n\n"
    b"data: cut off"
)
EVENTS = [
    SseEvent(b"one", b"token", b"7"),
    SseEvent(b"a\nb\n", b"", b"7"),
    SseEvent(b" two spaces", b"", b"7"),
    SseEvent(b"[DONE]", b"", b"7"),
]


def in_pieces(data: bytes, cuts: list[int]) -> list[SseEvent]:
    parser, found = SseParser(), []
    edges = [0, *sorted(cut for cut in cuts if cut <= len(data)), len(data)]
    for start, end in itertools.pairwise(edges):
        found += parser.feed(data[start:end])
    return found


def test_the_standard_s_forms_in_one_piece_and_byte_by_byte() -> None:
    assert SseParser().feed(STREAM) == EVENTS
    assert in_pieces(STREAM, list(range(len(STREAM)))) == EVENTS


@given(st.lists(st.integers(0, len(STREAM))))
def test_no_split_changes_what_is_read(cuts: list[int]) -> None:
    assert in_pieces(STREAM, cuts) == EVENTS


def reference(text: bytes) -> list[bytes]:
    """The data of each event, by the standard's own order of steps over the whole text."""
    lines = text.removeprefix(b"\xef\xbb\xbf").replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n")
    found: list[bytes] = []
    data = b""
    for line in lines[:-1]:
        if not line:
            if data:
                found.append(data[:-1])
            data = b""
        elif line == b"data" or line.startswith(b"data:"):
            value = line[5:]
            data += (value[1:] if value.startswith(b" ") else value) + b"\n"
    return found


@given(
    st.lists(st.sampled_from([b"data", b"data:", b":", b" ", b"x", b"\r", b"\n", b"\r\n", b"\xef\xbb\xbf", b"id:\0"])),
    st.lists(st.integers(0, 60)),
)
@example([b"\r", b"\n", b"data:", b"x", b"\r", b"\n", b"\r"], [1, 5])
def test_any_text_in_any_split_is_read_as_the_whole_is(parts: list[bytes], cuts: list[int]) -> None:
    text = b"".join(parts)
    assert [event.data for event in in_pieces(text, cuts)] == reference(text)


@given(st.lists(st.text(max_size=40)), st.sampled_from(["\n", "\r\n", "\r"]), st.lists(st.integers(0, 400)))
def test_json_comes_back(texts: list[str], line_end: str, cuts: list[int]) -> None:
    lines = [f"data: {json.dumps({'text': text})}{line_end}{line_end}" for text in texts]
    found = in_pieces("".join(lines).encode(), cuts)
    assert [json.loads(event.data)["text"] for event in found] == texts


def test_the_event_is_given_out_with_the_byte_that_ends_it() -> None:
    parser = SseParser()
    assert parser.feed(b"data: x\r\n") == []
    assert parser.feed(b"\r") == [SseEvent(b"x")]
    assert parser.feed(b"\n") == []
    assert not parser.is_inside


@pytest.mark.parametrize(("fed", "inside"), [(b"data: x\n", True), (b"data: x\n\n", False), (b"\n\ndat", True)])
def test_a_stream_that_was_cut_off_is_known(fed: bytes, inside: bool) -> None:
    parser = SseParser()
    parser.feed(fed)
    assert parser.is_inside is inside


@pytest.mark.parametrize("piece", [b"x" * 65_536, b"data: " + b"x" * 1000 + b"\n"], ids=["a line", "many lines"])
def test_an_event_has_a_limit(piece: bytes) -> None:
    def flood() -> None:
        parser = SseParser()
        for _ in range(2 * MAX_EVENT_BYTES // len(piece)):
            parser.feed(piece)

    with pytest.raises(ProtocolError, match=f"more than {MAX_EVENT_BYTES} bytes"):
        flood()


def test_events_one_after_the_other_have_none() -> None:
    parser, event = SseParser(), b"data: " + b"x" * 100_000 + b"\n\n"
    assert sum(len(parser.feed(event)) for _ in range(30)) == 30


@given(
    st.lists(
        st.sampled_from(
            [b"data: x\n\n", b"data: y\r\n\r\n", b"event: t\n", b"da", b"ta: z\n", b"id: 1\n", b"\r", b"\n"]
        )
    )
)
def test_a_whole_message_in_a_read_of_its_own_is_no_other_case(pieces: list[bytes]) -> None:
    parser = SseParser()
    found = [event for piece in pieces for event in parser.feed(piece)]
    bytewise = SseParser()
    assert found == [event for byte in b"".join(pieces) for event in bytewise.feed(bytes([byte]))]
