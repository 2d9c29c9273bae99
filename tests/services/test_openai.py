"""The kind `openai` against a scripted server: what is sent, what counts as what, and each way that it can go wrong."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import h11
import pytest

from exporter.core.errors import InputError, PreflightError
from exporter.core.outcome import Outcome, Reason
from exporter.core.probe import InputOptions, Probe, PromptOptions
from exporter.core.target import Header
from exporter.services.openai.service import OpenAiService
from exporter.transport.call import Call
from tests.builders import make_probe, make_target
from tests.services.asking import facts_of
from tests.services.prompting import FACTS, calls_of, steps_of
from tests.services.token_server import DONE, END, HANG_UP, ROLE, TokenServer, delta, event, usage
from tests.transport.scripted import serving
from tests.waiting import PATIENCE_SECONDS, patient

TOKENS = [delta(content="a"), delta(content="b"), delta(content="c")]


def probe_of(port: int = 1, *, streaming: bool = True, **prompt: Any) -> Probe:
    target = make_target(kind="openai", port=port, headers=(Header("Authorization", "Bearer key"),))
    options = PromptOptions(**({"count": 2, "tokens": 5, "output_tokens": 3} | prompt))
    return make_probe(target=target, model="m", streaming=streaming, input=InputOptions(prompt=options))


async def responded(*parts: bytes | float, raw: bool = False, give_up_s: float | None = None, **prompt: Any) -> Call:
    async with serving(TokenServer(lambda _number, _request: parts, raw=raw).script) as port:
        (call,) = await calls_of(OpenAiService(), probe_of(port, **prompt), give_up_s=give_up_s)
        return call


# --- what counts ------------------------------------------------------------------------------------------------------


async def test_a_stream_is_counted_by_its_usage() -> None:
    call = await responded(ROLE, *TOKENS, *END)
    assert (call.outcome, call.text) == (Outcome.OK, "")
    assert (call.responses, len(call.response_ns)) == (3, 3)
    assert (call.prompt_tokens, call.output_tokens, call.cached_tokens, call.early_end) == (10, 3, 2, False)
    assert call.sent_ns < call.opened_ns <= call.first_ns == call.response_ns[0] <= call.last_ns


async def test_a_role_alone_opens_the_stream_and_is_no_token() -> None:
    call = await responded(ROLE, 0.2, *TOKENS, *END)
    assert call.first_ns - call.opened_ns > 150_000_000
    call = await responded(0.2, ROLE, *TOKENS, *END)
    assert call.opened_ns - call.sent_ns > 150_000_000
    assert call.first_ns - call.opened_ns < patient(150_000_000)


@pytest.mark.parametrize(
    "first",
    [
        delta(reasoning_content="hm"),
        delta(reasoning="hm"),
        delta(tool_calls=[{"index": 0, "function": {"name": "f"}}]),
        event({"choices": [{"text": "a", "finish_reason": None}]}),
    ],
    ids=["reasoning_content", "reasoning", "a tool call", "a completion"],
)
async def test_whatever_the_model_makes_is_content(first: bytes) -> None:
    call = await responded(ROLE, first, 0.2, *TOKENS, *END)
    assert (call.outcome, call.responses) == (Outcome.OK, 4)
    assert call.response_ns[1] - call.first_ns > 150_000_000


async def test_two_tokens_in_a_chunk_are_two_by_usage() -> None:
    call = await responded(
        delta(content="ab"), delta(content="cd"), delta("length"), usage(5, 4), DONE, output_tokens=4
    )
    assert (call.responses, call.output_tokens, call.cached_tokens, call.early_end) == (2, 4, -1, False)


async def test_without_usage_nothing_is_counted() -> None:
    call = await responded(ROLE, *TOKENS, delta("length"), DONE)
    assert (call.outcome, call.prompt_tokens, call.output_tokens) == (Outcome.OK, -1, -1)
    assert (call.responses, call.early_end) == (3, False)


@pytest.mark.parametrize("counts", [{"completion_tokens": value} for value in (-1, True, "3", 1e9, 1 << 60, None)])
async def test_usage_that_can_not_be_is_none(counts: dict[str, Any]) -> None:
    call = await responded(*TOKENS, delta("length"), event({"choices": [], "usage": counts}), DONE)
    assert (call.outcome, call.output_tokens) == (Outcome.OK, -1)


@pytest.mark.parametrize("end", [[delta("stop"), usage(5, 2), DONE], [delta("stop"), DONE]], ids=["usage", "no usage"])
async def test_an_early_end_is_counted(end: list[bytes]) -> None:
    call = await responded(*TOKENS[:2], *end)
    assert (call.outcome, call.early_end) == (Outcome.OK, True)


async def test_one_document_is_counted_too() -> None:
    body = json.dumps(
        {
            "choices": [{"message": {"role": "assistant", "content": "abc"}, "finish_reason": "length"}],
            "usage": {"prompt_tokens": 7, "completion_tokens": 3, "prompt_tokens_details": {"cached_tokens": 5}},
        }
    ).encode()
    head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(body)
    server = TokenServer(lambda _number, _request: [head + body], raw=True)
    async with serving(server.script) as port:
        one, two = await calls_of(OpenAiService(), probe_of(port, streaming=False), 2)
    for call in (one, two):
        assert (call.outcome, call.prompt_tokens, call.output_tokens, call.cached_tokens) == (Outcome.OK, 7, 3, 5)
        assert (call.responses, call.opened_ns) == (1, 0)
    sent = json.loads(server.requests[0][1])
    assert (sent["stream"], "stream_options" in sent) == (False, False)


async def test_embeddings() -> None:
    body = b'{"data": [{"embedding": [0.1]}], "usage": {"prompt_tokens": 6, "total_tokens": 6}}'
    server = TokenServer(
        lambda _n, _r: [b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)], raw=True
    )
    async with serving(server.script) as port:
        (call,) = await calls_of(OpenAiService(), probe_of(port, streaming=False, endpoint="v1/embeddings"))
    assert (call.outcome, call.prompt_tokens, call.output_tokens, call.early_end) == (Outcome.OK, 6, -1, False)
    sent = json.loads(server.requests[0][1])
    assert sent.keys() == {"model", "input"}
    assert server.requests[0][0].startswith(b"POST /v1/embeddings HTTP/1.1")


# --- what goes wrong --------------------------------------------------------------------------------------------------


async def test_a_server_that_repeats_the_prompt_has_it_hidden() -> None:
    def refuse(_number: int, request: dict[str, Any]) -> list[bytes | float]:
        body = json.dumps({"detail": [{"msg": "too long", "input": request["messages"][0]["content"]}]}).encode()
        return [b"HTTP/1.1 422 x\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)]

    async with serving(TokenServer(refuse, raw=True).script) as port:
        (call,) = await calls_of(OpenAiService(), probe_of(port, template="the patient of space three, {prompt}"))
    assert call.outcome is Outcome.CLIENT_ERROR
    assert call.text.startswith('HTTP 422: {"detail": [{"msg": "too long", "input": "')
    assert "patient" not in call.text


async def test_429_with_retry_after() -> None:
    busy = b"HTTP/1.1 429 x\r\nRetry-After: 3\r\nContent-Length: 0\r\n\r\n"
    call = await responded(busy, raw=True)
    assert (call.outcome, call.retry_after_ns) == (Outcome.OVERLOAD, 3 * 10**9)


async def test_a_stall_between_tokens_ends_by_the_time_out() -> None:
    call = await responded(ROLE, TOKENS[0], PATIENCE_SECONDS, give_up_s=0.2)
    assert (call.outcome, call.responses, call.output_tokens) == (Outcome.TIMEOUT, 1, -1)


async def test_an_error_reports_more_than_the_time_out_after_it() -> None:
    call = await responded(event({"error": {"message": "lost a worker"}}), PATIENCE_SECONDS, give_up_s=0.2)
    assert (call.outcome, call.text) == (Outcome.SERVER_ERROR, "the response reports an error: lost a worker")


async def test_a_server_that_closes_after_each_stream_is_asked_on_another_connection() -> None:
    server = TokenServer(lambda _number, _request: [*TOKENS, *END], closes=True)
    async with serving(server.script) as port:
        calls = await calls_of(OpenAiService(), probe_of(port), 5)
    assert [call.outcome for call in calls] == [Outcome.OK] * 5
    assert len(server.requests) == 5


async def test_a_server_that_closes_without_a_response_is_asked_no_third_time() -> None:
    server = TokenServer(lambda number, _request: [*TOKENS, *END] if number == 0 else [HANG_UP], raw=False)
    first = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nContent-Length: %d\r\n\r\n"
    whole = b"".join([*TOKENS, *END])
    server = TokenServer(lambda number, _r: [first % len(whole) + whole] if number == 0 else [HANG_UP], raw=True)
    async with serving(server.script) as port:
        one, two = await calls_of(OpenAiService(), probe_of(port), 2)
    assert (one.outcome, two.outcome) == (Outcome.OK, Outcome.CONNECT_ERROR)
    assert len(server.requests) == 3


# --- what is sent -----------------------------------------------------------------------------------------------------


async def sent_by(probe: Probe, count: int = 1) -> list[tuple[h11.Request, dict[str, Any]]]:
    server = TokenServer(lambda _number, _request: [*TOKENS, *END])
    async with serving(server.script) as port:
        await calls_of(OpenAiService(), replace(probe, target=replace(probe.target, port=port)), count)
    found = []
    for head, body in server.requests:
        connection = h11.Connection(h11.SERVER)
        connection.receive_data(head + body)
        request = connection.next_event()
        assert isinstance(request, h11.Request)
        found.append((request, json.loads(body)))
    return found


async def test_a_chat_completion() -> None:
    probe = probe_of(system="Be brief.", template="Repeat: {prompt}!")
    probe = replace(probe, input=replace(probe.input, parameters=(("temperature", 0.5),)))
    ((head, body),) = await sent_by(probe)
    assert (head.method, head.target) == (b"POST", b"/v1/chat/completions")
    headers = dict(head.headers)
    assert (headers[b"authorization"], headers[b"triton-canary"]) == (b"Bearer key", b"s1")
    assert (headers[b"content-type"], headers[b"accept"]) == (b"application/json", b"text/event-stream")
    system, user = body.pop("messages")
    nonce, _, text = system["content"].partition(" ")
    assert (len(nonce), text, system["role"]) == (8, "Be brief.", "system")
    assert user["content"].startswith("Repeat: ")
    assert len(user["content"].removeprefix("Repeat: ").removesuffix("!").split()) == 5
    assert body == {
        "model": "m",
        "max_tokens": 3,
        "ignore_eos": True,
        "temperature": 0.5,
        "stream": True,
        "stream_options": {"include_usage": True},
    }


async def test_another_name_of_the_limit_replaces_it() -> None:
    probe = probe_of()
    probe = replace(probe, input=replace(probe.input, parameters=(("max_completion_tokens", 7),)))
    ((_, body),) = await sent_by(probe)
    assert (body["max_completion_tokens"], "max_tokens" in body) == (7, False)


async def test_no_two_requests_begin_alike_and_all_are_as_long() -> None:
    found = await sent_by(probe_of(count=1), 4)
    begins = [body["messages"][0]["content"][:8] for _, body in found]
    # Already by their first character, or a part of it would be in the cache.
    assert len({begin[0] for begin in begins}) >= 3
    assert len(set(begins)) == 4
    assert len({body["messages"][0]["content"][8:] for _, body in found}) == 1
    again = await sent_by(probe_of(count=1), 1)
    assert again[0][1]["messages"][0]["content"][:8] not in begins


async def test_with_the_cache_allowed_the_same_is_sent_again() -> None:
    found = await sent_by(probe_of(count=1, allow_cache=True), 3)
    assert len({json.dumps(body) for _, body in found}) == 1


async def test_prompts_differ_and_come_again_by_their_seed() -> None:
    one, two, three = [body["messages"][0]["content"][8:] for _, body in await sent_by(probe_of(count=2), 3)]
    assert one == three != two
    probe = probe_of(count=2)
    other = replace(probe, input=replace(probe.input, seed=1))
    assert next(body["messages"][0]["content"][8:] for _, body in await sent_by(other)) not in (one, two)


async def test_a_completion() -> None:
    ((_, body),) = await sent_by(probe_of(endpoint="/proxy/v1/completions", fixed_output=False, system="Be brief."))
    assert body["prompt"][8:].startswith(" Be brief.\n")
    assert "ignore_eos" not in body


# --- payloads of the user's -------------------------------------------------------------------------------------------


def with_file(probe: Probe, tmp_path: Any, text: str, name: str = "prompts.jsonl") -> Probe:
    path = tmp_path / name
    path.write_text(text)
    return replace(probe, input=replace(probe.input, source="files", paths=(str(path),)))


async def test_a_payload_goes_as_it_is_with_what_it_lacks(tmp_path: Any) -> None:
    payload = {"messages": [{"role": "user", "content": [{"type": "image_url"}, {"type": "text", "text": "what?"}]}]}
    lines = json.dumps({"payload": payload | {"max_completion_tokens": 3, "stream": False}}) + '\n{"text": "hi"}\n'
    first, second = await sent_by(with_file(probe_of(), tmp_path, lines), 2)
    content = first[1]["messages"][0]["content"]
    assert content[0] == {"type": "image_url"}
    assert content[1]["text"].endswith(" what?")
    assert (first[1]["model"], first[1]["stream"], first[1]["max_completion_tokens"]) == ("m", True, 3)
    assert "max_tokens" not in first[1]
    assert second[1]["messages"][0]["content"].endswith(" hi")


async def test_perf_analyzer_s_form(tmp_path: Any) -> None:
    text = json.dumps({"data": [{"payload": [{"model": "m", "messages": [{"role": "user", "content": "x"}]}]}]})
    ((_, body),) = await sent_by(with_file(probe_of(), tmp_path, text, "inputs.json"))
    assert body["messages"][0]["content"].endswith(" x")


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ('{"payload": {"model": "other", "messages": [{"content": "x"}]}}', "names the model 'other'"),
        ('{"payload": {"messages": [{"role": "user"}]}}', "has no text that a nonce could go before"),
        ('{"payload": 3}', "prompts.jsonl:1: 'payload' must be one object"),
        ("{", "prompts.jsonl:1: is not JSON"),
        ("[1]", "prompts.jsonl:1: expected an object, found list"),
        ('{"x": 1}', "prompts.jsonl:1: expected 'payload', 'messages' or one of"),
        ('{"text": 3}', "prompts.jsonl:1: 'text' must be text"),
        ('{"text": "x", "delay": -1}', "'delay' must be milliseconds"),
        ("\n\n", "expected 1 to 1000000 prompts, found 0"),
    ],
)
def test_what_is_wrong_with_a_file(tmp_path: Any, text: str, problem: str) -> None:
    probe = with_file(probe_of(), tmp_path, text)
    with pytest.raises(InputError) as found:
        OpenAiService().encode(probe, FACTS, steps_of(probe), "s1")
    assert problem in str(found.value)


# --- preflight --------------------------------------------------------------------------------------------------------

MODELS = (200, '{"object": "list", "data": [{"id": "m", "owned_by": "vllm"}, {"id": "b"}]}')


async def facts_with(pages: dict[str, tuple[int, str]], model: str = "m") -> Any:
    async with serving(TokenServer(lambda _n, _r: (), pages=pages).script) as port:
        probe = replace(probe_of(port), model=model)
        return await facts_of(OpenAiService(), probe.target, probe)


async def test_preflight_finds_the_model() -> None:
    facts = await facts_with({"/health": (200, ""), "/v1/models": MODELS})
    assert (facts.name, facts.platform, facts.takes_prompts, facts.has_statistics) == ("m", "vllm", True, False)


async def test_neither_page_is_needed() -> None:
    assert (await facts_with({})).name == "m"


@pytest.mark.parametrize(
    ("pages", "model", "reason", "text"),
    [
        ({"/v1/models": MODELS}, "x", Reason.MODEL_UNKNOWN, "lists no model 'x'; it has 'm', 'b'"),
        ({"/health": (503, '{"error": "Loading model"}')}, "m", Reason.SERVER_NOT_READY, "Loading model"),
        ({"/v1/models": (401, '{"error": "bad key"}')}, "m", Reason.AUTH, "bad key"),
        ({"/v1/models": (200, "<html>")}, "m", Reason.PROTOCOL, "sent a response that is not JSON"),
        ({"/v1/models": (200, "[]")}, "m", Reason.PROTOCOL, "not a list of models"),
        (
            {"/v1/models": (200, '{"models": ["m"]}')},
            "m",
            Reason.PROTOCOL,
            "KServe serves that below /openai; set input.prompt.endpoint: openai/v1/chat/completions",
        ),
        ({"/v1/models": (302, "")}, "m", Reason.PROTOCOL, "HTTP 302"),
    ],
)
async def test_why_a_preflight_fails(pages: Any, model: str, reason: Reason, text: str) -> None:
    with pytest.raises(PreflightError) as found:
        await facts_with(pages, model)
    assert found.value.reason is reason
    assert text in str(found.value)
