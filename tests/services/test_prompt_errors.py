"""What is reported where a language model's server rejects, breaks off or does not fit: outcome and text, each exactly,
for every way in which prompts are sent."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any

import pytest

from exporter.core.outcome import Outcome
from exporter.core.probe import InputOptions, Probe, PromptOptions
from exporter.core.target import Header
from exporter.core.units import MS, NS
from exporter.services.openai.advice import advice
from exporter.services.openai.hiding import prompt_texts, without_repeats
from exporter.services.openai.reader import OpenAiReader
from exporter.services.openai.service import OpenAiService
from exporter.services.triton_generate import GenerateReader, GenerateService
from exporter.transport.call import Call
from exporter.transport.event_errors import unfinished
from tests.builders import make_probe, make_target
from tests.services.prompting import calls_of
from tests.services.token_server import DONE, HANG_UP, ROLE, Timed, TokenServer, delta, event
from tests.transport.scripted import serving
from tests.waiting import PATIENCE_SECONDS

CHAT, CHAT_WHOLE = "openai, streamed", "openai"
GENERATE, GENERATE_WHOLE = "generate_stream", "generate"
ALL = (CHAT, CHAT_WHOLE, GENERATE, GENERATE_WHOLE)
STREAMS = (CHAT, GENERATE)
PATHS = {
    CHAT: "/v1/chat/completions",
    CHAT_WHOLE: "/v1/chat/completions",
    GENERATE: "/v2/models/m/generate_stream",
    GENERATE_WHOLE: "/v2/models/m/generate",
}
TOKEN = delta(content="a ")
WORD = event({"model_name": "m", "model_version": "1", "text_output": "a "})
TOKENS = {CHAT: TOKEN, GENERATE: WORD}
TOKEN_HERE = b"token"
"""In place of bytes: a token, as the kind has it."""
PAGE = "a web page, as of a proxy's login or of another service; check the target's url"
MAY_SHOW = "(the log of the server, or of a proxy, may show why)"
FEWER = "lower input.prompt.tokens or input.prompt.output_tokens, or give shorter prompts"
NEVER = PATIENCE_SECONDS
"""A pause that the time-out cuts."""
GIVE_UP_S = 0.3


def http(status: int, body: str = "", *headers: str) -> list[bytes | float]:
    head = "\r\n".join([f"HTTP/1.1 {status} x", *headers, f"Content-Length: {len(body)}", "", ""])
    return [(head + body).encode()]


JSON, HTML = "Content-Type: application/json", "Content-Type: text/html; charset=utf-8"


@dataclass(frozen=True)
class Case:
    """What the server sends, and what is reported of it. In `text` `{path}` is the request's and `#` a number."""

    parts: Timed
    outcome: Outcome
    text: str
    kinds: tuple[str, ...] = ALL
    raw: bool = True


CASES = {
    "wrong path": Case(
        http(404, '{"error": "Not Found"}'),
        Outcome.CLIENT_ERROR,
        "HTTP 404: Not Found; the server does not take POST {path}: check the target's url{and_endpoint}",
    ),
    "wrong path, nothing more": Case(
        http(404),
        Outcome.CLIENT_ERROR,
        "HTTP 404; the server does not take POST {path}: check the target's url{and_endpoint}",
    ),
    "wrong path, as FastAPI has it": Case(
        http(405, '{"detail":"Method Not Allowed"}'),
        Outcome.CLIENT_ERROR,
        "HTTP 405: Method Not Allowed; the server does not take POST {path}: check the target's url{and_endpoint}",
    ),
    "no such model": Case(
        http(404, '{"object":"error","message":"The model `m` does not exist.","type":"NotFoundError","code":404}'),
        Outcome.CLIENT_ERROR,
        "HTTP 404: The model `m` does not exist; check the probe's model",
    ),
    "no stream": Case(
        http(200, '{"choices": [{"message": {"content": "a"}}], "text_output": "a"}', JSON),
        Outcome.PROTOCOL_ERROR,
        "the response is not text/event-stream but application/json: this server or model does not stream; set "
        "streaming: false",
        STREAMS,
    ),
    "an error in place of a stream": Case(
        http(200, '{"error": {"message": "no worker is left"}}', JSON),
        Outcome.PROTOCOL_ERROR,
        "the response is not text/event-stream but application/json, and reports an error: no worker is left",
        STREAMS,
    ),
    "text in place of a stream": Case(
        http(200, "hello"),
        Outcome.PROTOCOL_ERROR,
        "the response is not text/event-stream but of no content type: check the target's url, or set streaming: false",
        STREAMS,
    ),
    "HTML in place of a stream": Case(
        http(200, "<!DOCTYPE html><html><title>Sign in</title></html>", HTML),
        Outcome.PROTOCOL_ERROR,
        f"the response is not text/event-stream but text/html; charset=utf-8: {PAGE}",
        STREAMS,
    ),
    "HTML in place of JSON": Case(
        http(200, "\n<!DOCTYPE html><html><title>Sign in</title></html>", HTML),
        Outcome.PROTOCOL_ERROR,
        "the response is a web page, not JSON, as of a proxy's login or of another service: check the target's url",
        (CHAT_WHOLE, GENERATE_WHOLE),
    ),
    "no JSON": Case(
        http(200, "hello"),
        Outcome.PROTOCOL_ERROR,
        "the response is not JSON: 'hello'",
        (CHAT_WHOLE, GENERATE_WHOLE),
    ),
    "JSON of something else": Case(
        http(200, "{}", JSON),
        Outcome.PROTOCOL_ERROR,
        "the response has no content: no text, reasoning or tool call",
        (CHAT_WHOLE,),
    ),
    "JSON of something else, of Triton's": Case(
        http(200, '{"model_name": "m"}', JSON),
        Outcome.PROTOCOL_ERROR,
        "the response has no content: no output of the model has a value",
        (GENERATE_WHOLE,),
    ),
    "context too long, by llama.cpp": Case(
        http(
            400,
            '{"error":{"code":400,"message":"request (4037 tokens) exceeds the available context size (2048 tokens), '
            'try increasing it","type":"exceed_context_size_error","n_prompt_tokens":4037,"n_ctx":2048}}',
        ),
        Outcome.CLIENT_ERROR,
        f"HTTP 400: request (4037 tokens) exceeds the available context size (2048 tokens), try increasing it; {FEWER}",
    ),
    "context too long, by vLLM": Case(
        http(
            400,
            '{"object":"error","message":"This model\'s maximum context length is 2048 tokens. Please reduce the '
            'length of the messages.","type":"BadRequestError","param":null,"code":400}',
        ),
        Outcome.CLIENT_ERROR,
        "HTTP 400: This model's maximum context length is 2048 tokens. Please reduce the length of the messages; "
        f"{FEWER}",
    ),
    "context too long, by a Triton backend": Case(
        http(400, '{"error":"Prompt length (5000) exceeds maximum input length (2048) set by max_input_len."}'),
        Outcome.CLIENT_ERROR,
        f"HTTP 400: Prompt length (5000) exceeds maximum input length (2048) set by max_input_len; {FEWER}",
    ),
    "a fixed length is not taken": Case(
        http(400, '{"error": {"message": "Unrecognized request argument supplied: ignore_eos", "code": null}}'),
        Outcome.CLIENT_ERROR,
        "HTTP 400: Unrecognized request argument supplied: ignore_eos; set input.prompt.fixed_output: false",
    ),
    "another name of the limit": Case(
        http(400, '{"error": {"message": "Unsupported \'max_tokens\'. Use \'max_completion_tokens\' instead."}}'),
        Outcome.CLIENT_ERROR,
        "HTTP 400: Unsupported 'max_tokens'. Use 'max_completion_tokens' instead; set input.parameters: "
        "{{max_completion_tokens: …}}",
    ),
    "refused token": Case(
        http(401, '{"error":{"message":"Invalid API Key","type":"authentication_error","code":401}}'),
        Outcome.AUTH_ERROR,
        "HTTP 401: Invalid API Key; check the token in the target's headers",
    ),
    "not allowed": Case(
        http(403, "<html><h1>Forbidden</h1></html>", HTML),
        Outcome.AUTH_ERROR,
        "HTTP 403: Forbidden; check the token in the target's headers",
    ),
    "too many requests": Case(
        http(429, '{"error": {"message": "Rate limit reached."}}', "Retry-After: 7"),
        Outcome.OVERLOAD,
        "HTTP 429: Rate limit reached. (Retry-After: 7 s); lower the load, or raise the server's limit",
    ),
    "overloaded": Case(http(503, "", "Retry-After: 2"), Outcome.OVERLOAD, "HTTP 503 (Retry-After: 2 s)"),
    "no response": Case([NEVER], Outcome.TIMEOUT, ""),  # the engine writes its text: it knows the limit
    "a stall before the first token": Case(
        [ROLE, NEVER],
        Outcome.TIMEOUT,
        "no token within # s: the stream opened after # s, without content",
        (CHAT,),
        raw=False,
    ),
    "a stall between tokens": Case(
        [TOKEN_HERE, TOKEN_HERE, NEVER],
        Outcome.TIMEOUT,
        "the stream stalled: 2 events with content, then none for # s, until measurement.request_timeout",
        STREAMS,
        raw=False,
    ),
    "never [DONE], and left open": Case(
        [TOKEN, delta("length"), NEVER],
        Outcome.TIMEOUT,
        "the stream was left open: all of it came, 1 event with content, but not its end within # s",
        (CHAT,),
        raw=False,
    ),
    "never [DONE]": Case(
        [ROLE, TOKEN, TOKEN],
        Outcome.PROTOCOL_ERROR,
        "the stream ended early: neither a finish_reason nor [DONE] came, after 2 events with content " + MAY_SHOW,
        (CHAT,),
        raw=False,
    ),
    "hang-up": Case(
        [TOKEN_HERE, HANG_UP],
        Outcome.PROTOCOL_ERROR,
        f"closed in the middle of the response's body, after 1 event with content {MAY_SHOW}",
        STREAMS,
        raw=False,
    ),
    "hang-up at once": Case(
        [HANG_UP],
        Outcome.CONNECT_ERROR,
        f"connection lost: closed by the peer, after no byte of a response {MAY_SHOW}",
    ),
    "empty stream": Case(
        [delta("stop"), DONE],
        Outcome.PROTOCOL_ERROR,
        "the response has no content (finish_reason: stop): no text, reasoning or tool call",
        (CHAT,),
        raw=False,
    ),
    "[DONE] alone": Case(
        [DONE],
        Outcome.PROTOCOL_ERROR,
        "the response has no content: no text, reasoning or tool call",
        (CHAT,),
        raw=False,
    ),
    "nothing at all": Case(
        [],
        Outcome.PROTOCOL_ERROR,
        "the stream ended early: neither a finish_reason nor [DONE] came",
        (CHAT,),
        raw=False,
    ),
    "nothing at all, of Triton": Case(
        [],
        Outcome.PROTOCOL_ERROR,
        "the response has no content: no output of the model has a value",
        (GENERATE,),
        raw=False,
    ),
    "error mid-stream": Case(
        [TOKEN_HERE, event({"error": {"message": "out of memory", "code": 500}}), DONE],
        Outcome.SERVER_ERROR,
        "the response reports an error: out of memory",
        (CHAT,),
        raw=False,
    ),
    "error mid-stream, of Triton": Case(
        [TOKEN_HERE, event({"error": "out of memory"})],
        Outcome.SERVER_ERROR,
        "the response reports an error: out of memory",
        (GENERATE,),
        raw=False,
    ),
    "an error event": Case(
        [b'event: error\ndata: {"message": "cancelled"}\n\n'],
        Outcome.SERVER_ERROR,
        "the response reports an error: cancelled",
        (CHAT,),
        raw=False,
    ),
    "an error whose code states more": Case(
        [event({"error": {"message": "maximum context length is 9 tokens", "code": 400}})],
        Outcome.CLIENT_ERROR,
        f"the response reports an error: maximum context length is 9 tokens; {FEWER}",
        (CHAT,),
        raw=False,
    ),
    "an event of HTML": Case(
        [b"data: <html>\n\n"], Outcome.PROTOCOL_ERROR, "an event is not JSON: '<html>'", STREAMS, raw=False
    ),
    "no object": Case([b"data: 3\n\n"], Outcome.PROTOCOL_ERROR, "an event is not a JSON object", STREAMS, raw=False),
    "deep JSON": Case(
        [b"data: " + b"[" * 100_000 + b"\n\n"],
        Outcome.PROTOCOL_ERROR,
        f"an event is not JSON: '{'[' * 119}…'",
        STREAMS,
        raw=False,
    ),
    "too long an event": Case(
        [b"data: " + b"x" * (2 << 20)],
        Outcome.PROTOCOL_ERROR,
        "a server-sent event of more than 1048576 bytes",
        STREAMS,
        raw=False,
    ),
}


def probe_of(kind: str, port: int, **prompt: Any) -> Probe:
    service_kind = "openai" if kind in (CHAT, CHAT_WHOLE) else "triton_generate"
    headers = (Header("Authorization", "Bearer sesame-open-4711"),)
    options = PromptOptions(**({"count": 2, "tokens": 5, "output_tokens": 3} | prompt))
    return make_probe(
        target=make_target(kind=service_kind, port=port, headers=headers),
        model="m",
        streaming=kind in STREAMS,
        input=InputOptions(prompt=options),
    )


async def call_of(kind: str, parts: Timed, *, raw: bool, give_up_s: float | None = None, system: str = "") -> Call:
    sent = [TOKENS[kind] if part == TOKEN_HERE else part for part in parts]
    service = OpenAiService() if kind in (CHAT, CHAT_WHOLE) else GenerateService()
    async with serving(TokenServer(lambda _number, _request: sent, raw=raw).script) as port:
        (call,) = await calls_of(service, probe_of(kind, port, system=system), give_up_s=give_up_s)
    return call


@pytest.mark.parametrize(
    ("kind", "case"),
    [pytest.param(kind, case, id=f"{name} ({kind})") for name, case in CASES.items() for kind in case.kinds],
)
async def test_outcome_and_text(kind: str, case: Case) -> None:
    give_up_s = GIVE_UP_S if NEVER in case.parts else None
    call = await call_of(kind, case.parts, raw=case.raw, give_up_s=give_up_s)
    key = " and input.prompt.endpoint" if kind in (CHAT, CHAT_WHOLE) else ""
    expected = case.text.format(path=PATHS[kind], and_endpoint=key)
    assert call.outcome is case.outcome
    assert re.fullmatch(re.escape(expected).replace(r"\#", r"[\d.]+"), call.text), call.text
    assert call.responses == len(call.response_ns)


async def test_the_pause_that_is_asked_for_is_kept() -> None:
    call = await call_of(CHAT, http(429, "", "Retry-After: 3"), raw=True)
    assert (call.outcome, call.retry_after_ns) == (Outcome.OVERLOAD, 3 * NS)


@pytest.mark.parametrize(
    ("response_ms", "opened_ms", "is_complete", "text"),
    [
        ([], 20, False, "no token within 2 s: the stream opened after 0.02 s, without content"),
        (
            [100],
            20,
            False,
            "the stream stalled: 1 event with content, then none for 1.9 s, until measurement.request_timeout",
        ),
        (
            [100, 500, 1100],
            20,
            False,
            "the stream was not complete within 2 s, after 3 events with content: raise measurement.request_timeout, "
            "or lower input.prompt.output_tokens",
        ),
        (
            [100, 200],
            20,
            True,
            "the stream was left open: all of it came, 2 events with content, but not its end within 2 s",
        ),
    ],
)
def test_a_stall_is_not_a_long_stream(response_ms: list[int], opened_ms: int, is_complete: bool, text: str) -> None:
    call = Call(0)
    call.sent_ns = 5 * NS
    call.opened_ns, call.last_ns = call.sent_ns + opened_ms * MS, call.sent_ns + 2 * NS
    call.response_ns = [call.sent_ns + each * MS for each in response_ms]
    assert unfinished(call, is_complete=is_complete) == text


def test_without_a_token_one_is_to_be_set() -> None:
    head = b"POST / HTTP/1.1\r\nHost: x\r\n\r\n"
    assert advice(Outcome.AUTH_ERROR, "HTTP 401", head) == "set authorization in the target's headers"


@pytest.mark.parametrize("outcome", [Outcome.SERVER_ERROR, Outcome.PROTOCOL_ERROR, Outcome.TIMEOUT])
def test_no_advice_on_what_the_server_did(outcome: Outcome) -> None:
    assert advice(outcome, "HTTP 500: context length, ignore_eos", b"POST /x HTTP/1.1\r\n\r\n") == ""


def test_a_request_that_is_repeated_is_no_complaint_about_its_parts() -> None:
    head = b"POST /x HTTP/1.1\r\n\r\n"
    assert advice(Outcome.CLIENT_ERROR, 'HTTP 400: bad: {"ignore_eos": true, "max_completion_tokens": 3}', head) == ""
    text = (
        'HTTP 422: {"detail": [{"type": "extra_forbidden", "loc": ["body", "ignore_eos"], "msg": "Extra inputs are"}]}'
    )
    assert advice(Outcome.CLIENT_ERROR, text, head) == "set input.prompt.fixed_output: false"


# --- a prompt that is repeated ----------------------------------------------------------------------------------------

PROMPT = 'Dr. Müller asks:\n\n"is patient 4711 fed?"'
SHORT_PROMPT = "My PIN 8211"
BODY = b'{"model": "m-of-sixteen-and-more", "messages": [{"role": "user", "content": %b}]}'


@pytest.mark.parametrize(
    ("repeated", "shown"),
    [
        ('bad: Dr. Müller asks: "is patient 4711 fed?"!', "bad: …!"),
        (r"bad: Dr. M\u00fcller asks:\n\n\"is patient 4711 fed?\"!", "bad: …!"),
        (r"bad: Dr. Müller asks:\n\n\"is patient 4711 fed?\"!", "bad: …!"),
        ("no model m-of-sixteen-and-more", "no model m-of-sixteen-and-more"),
    ],
    ids=["as it is", "as JSON in ASCII", "as JSON", "the model's name stays"],
)
def test_a_repeated_prompt_is_hidden_in_each_form(repeated: str, shown: str) -> None:
    content = r'"Dr. Müller asks:\n\n\"is patient 4711 fed?\""'.encode()
    assert without_repeats(repeated, prompt_texts(BODY % content, names_model=True)) == shown


def test_a_short_prompt_is_hidden_as_a_whole() -> None:
    prompts = prompt_texts(BODY % b'"00000000 my pin 12"', names_model=True)
    assert without_repeats("rejected: 'my pin 12' is too short", prompts) == "rejected: '…' is too short"


@pytest.mark.parametrize("shown", range(len(SHORT_PROMPT)))
def test_a_prompt_that_a_cut_splits_is_hidden(shown: int) -> None:
    """Its first two characters may stay: they are in many texts."""
    prompts = prompt_texts(BODY % b'"00000000 My PIN 8211"', names_model=True)
    text = f"HTTP 400: rejected: '{SHORT_PROMPT[:shown]}…"
    assert without_repeats(text, prompts) in ("HTTP 400: rejected: '…", f"HTTP 400: rejected: '{'My'[:shown]}…")


def test_what_a_cut_splits_is_hidden_in_each_form_and_before_more_text() -> None:
    prompts = prompt_texts(BODY % r'"Jörg, Müllerstr. 4 in 10115 Berlin"'.encode(), names_model=True)
    assert without_repeats("bad: Jörg, Mü…", prompts) == "bad: …"
    assert without_repeats(r"bad: J\u00f6rg, …", prompts) == "bad: …"
    assert (
        without_repeats("bad: Jörg, Mü…, after 2 events with content", prompts) == "bad: …, after 2 events with content"
    )
    assert without_repeats("loading the model…", prompts) == "loading the model…"
    assert without_repeats("no key Jörg", prompts) == "no key Jörg"


@pytest.mark.parametrize("kind", ALL)
async def test_a_cut_text_as_it_is_reported_has_no_part_of_a_prompt(kind: str) -> None:
    """The prompt of these calls, repeated where the limit of a text splits it."""
    limit = len((await call_of(kind, http(400, json.dumps({"error": "x" * 1000})), raw=True)).text)
    before = limit - len("HTTP 400: '") - 7
    error = "x" * before + f"'{SHORT_PROMPT}' is not allowed here"
    call = await call_of(kind, http(400, json.dumps({"error": error})), raw=True, system=SHORT_PROMPT)
    assert call.text == f"HTTP 400: {'x' * before}'…"


@pytest.mark.parametrize("kind", STREAMS)
async def test_an_event_that_is_no_json_is_cut_the_same_way(kind: str) -> None:
    data = b"x" * 112 + b"'" + SHORT_PROMPT.encode() + b"'" + b" is not allowed here" * 30
    call = await call_of(kind, [b"data: " + data + b"\n\n"], raw=False, system=SHORT_PROMPT)
    assert call.text == f"""an event is not JSON: "{"x" * 112}'…\""""


@pytest.mark.parametrize("name", ["type", "role", "object", "model"])
def test_an_input_of_any_name_is_hidden(name: str) -> None:
    body = json.dumps({"text_input": "a", name: SHORT_PROMPT}).encode()
    assert (
        without_repeats(f"bad: {SHORT_PROMPT}", prompt_texts(body, names_model=GenerateReader.names_model)) == "bad: …"
    )


def test_a_text_in_place_of_a_type_is_hidden_and_the_types_are_shown() -> None:
    body = json.dumps(
        {
            "model": "m-of-sixteen-and-more",
            "messages": [
                {"role": "assistant", "content": [{"type": "image_url"}]},
                {"role": "user", "content": [{"type": SHORT_PROMPT, "model": "My PIN 4711"}]},
            ],
            "response_format": {"type": "json_object"},
        }
    ).encode()
    text = "m-of-sixteen-and-more: no assistant, image_url or json_object with {}, {}"
    prompts = prompt_texts(body, names_model=OpenAiReader.names_model)
    assert without_repeats(text.format(SHORT_PROMPT, "My PIN 4711"), prompts) == text.format("…", "…")
