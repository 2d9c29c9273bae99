"""Chat sessions against a scripted server, through whole sweeps: what each turn's request has, and when it goes."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from exporter.core.errors import InputError
from exporter.core.outcome import Outcome, Reason
from exporter.core.probe import InputOptions, LoadLevel, MeasurementOptions, Mode, Probe, PromptOptions
from exporter.core.result import SweepResult
from exporter.core.target import Header
from exporter.core.units import NS
from exporter.payload import make_dataset
from exporter.services.openai.control import PROMPT_INPUTS
from exporter.services.openai.dialogue import begin_dialogues
from exporter.sweep.conductor import Sweep
from exporter.transport.call import Response
from exporter.worker.pool import WorkerPool
from tests.builders import make_facts, make_probe, make_target
from tests.services.token_server import DONE, TokenServer, delta, usage
from tests.transport.scripted import serving

FACTS = make_facts(inputs=PROMPT_INPUTS, max_batch_size=0, takes_prompts=True)


def sessions(at_once: int) -> LoadLevel:
    return LoadLevel(Mode.SESSIONS, float(at_once), str(at_once))


def user(text: str, session: str, **more: Any) -> dict[str, Any]:
    return {"session_id": session, "payload": {"messages": [{"role": "user", "content": text}]}, **more}


def probe_of(path: Path, entries: list[dict[str, Any]], port: int = 1, at_once: int = 1, **prompt: Any) -> Probe:
    path.write_text("\n".join(json.dumps(entry) for entry in entries))
    options = PromptOptions(**({"allow_cache": True, "output_tokens": 2} | prompt))
    return make_probe(
        target=make_target(kind="openai", port=port, headers=(Header("Authorization", "Bearer key"),)),
        model="m",
        levels=(sessions(at_once),),
        streaming=True,
        measurement=MeasurementOptions(request_timeout_ns=300 * NS),
        input=InputOptions(source="files", paths=(str(path),), prompt=options),
    )


async def swept(pool: WorkerPool, probe: Probe) -> SweepResult:
    return await Sweep(probe, []).run(lambda: pool.lend(1))


def reply(number: int, _request: dict[str, Any]) -> list[bytes | float]:
    """Two tokens with the request's number in them, and a thought that is no part of the conversation."""
    thought = delta(reasoning_content="hm")
    return [thought, delta(content=f"re:{number}"), delta(content="!"), delta("length"), usage(9, 2), DONE]


def messages(server: TokenServer) -> list[list[str]]:
    """What each request contained, message by message; the cold one left out."""
    return [
        [f"{each['role'][0]}:{each['content']}" for each in json.loads(body)["messages"]]
        for _, body in server.requests[1:]
    ]


async def test_each_turn_has_the_turns_before(pool: WorkerPool, tmp_path: Path) -> None:
    server = TokenServer(reply)
    async with serving(server.script) as port:
        entries = [user("a", "1"), user("x", "2"), user("b", "1"), user("y", "2"), user("c", "1")]
        result = await swept(pool, probe_of(tmp_path / "chat.jsonl", entries, port))
    assert (result.reason, result.measurements[0].outcomes) == (Reason.NONE, {Outcome.OK: 5})
    assert messages(server) == [
        ["u:a"],
        ["u:a", "a:re:1!", "u:b"],
        ["u:a", "a:re:1!", "u:b", "a:re:2!", "u:c"],
        ["u:x"],
        ["u:x", "a:re:4!", "u:y"],
    ]
    assert all(b"Authorization: Bearer key" in head for head, _ in server.requests)
    assert result.measurements[0].tokens is not None
    assert result.measurements[0].tokens.output_tokens == 10
    assert result.tokens == 6 * (9 + 2)  # the cold one is paid for, too


async def test_sessions_at_once_keep_their_own_history_and_their_pause(pool: WorkerPool, tmp_path: Path) -> None:
    came_ns: dict[str, int] = {}
    ended_ns: dict[str, int] = {}

    def responded(number: int, request: dict[str, Any]) -> list[bytes | float]:
        text = request["messages"][-1]["content"]
        came_ns[text] = time.monotonic_ns()
        ended_ns[text] = came_ns[text]
        return [delta(content=f"to {text}"), delta("length"), usage(9, 1), DONE]

    server = TokenServer(responded)
    async with serving(server.script) as port:
        entries = [user(f"{turn}{session}", session, delay=150) for turn in range(3) for session in "abcd"]
        result = await swept(pool, probe_of(tmp_path / "chat.jsonl", entries, port, at_once=4))
    assert (result.reason, result.measurements[0].outcomes) == (Reason.NONE, {Outcome.OK: 12})
    assert sorted(map(tuple, messages(server))) == sorted(
        (*(part for before in range(turn) for part in (f"u:{before}{name}", f"a:to {before}{name}")), f"u:{turn}{name}")
        for turn in range(3)
        for name in "abcd"
    )
    # A session's next turn goes its delay after the response, and the last one's delay holds nothing up.
    for name in "abcd":
        for turn in range(2):
            assert came_ns[f"{turn + 1}{name}"] - ended_ns[f"{turn}{name}"] >= 150_000_000


async def test_a_failed_turn_ends_its_session_alone(pool: WorkerPool, tmp_path: Path) -> None:
    def responded(number: int, request: dict[str, Any]) -> list[bytes | float]:
        if request["messages"][-1]["content"] == "b":
            return [b'data: {"error": {"message": "out of memory", "code": 500}}\n\n']
        return reply(number, request)

    server = TokenServer(responded)
    async with serving(server.script) as port:
        entries = [user("a", "1"), user("b", "1"), user("c", "1"), user("d", "1"), user("x", "2"), user("y", "2")]
        result = await swept(pool, probe_of(tmp_path / "chat.jsonl", entries, port))
    measurement = result.measurements[0]
    assert measurement.outcomes == {Outcome.OK: 3, Outcome.SERVER_ERROR: 1}
    assert [text[-1] for text in messages(server)] == ["u:a", "u:b", "u:x", "u:y"]
    assert sum(window.unsent for window in measurement.window_summaries) == 2


@pytest.mark.parametrize("streaming", [True, False])
async def test_what_is_no_stream_is_repeated_too(pool: WorkerPool, tmp_path: Path, streaming: bool) -> None:
    def document(number: int, _request: dict[str, Any]) -> list[bytes | float]:
        body = json.dumps({"choices": [{"message": {"role": "assistant", "content": f"re:{number}"}}]}).encode()
        return [b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)]

    server = TokenServer(reply if streaming else document, raw=not streaming)
    async with serving(server.script) as port:
        probe = probe_of(tmp_path / "chat.jsonl", [user("a", "1"), user("b", "1")], port)
        await swept(pool, replace(probe, streaming=streaming))
    assert messages(server)[1] == ["u:a", "a:re:1!" if streaming else "a:re:1", "u:b"]


def bodies(probe: Probe, sessions_of: list[list[int]]) -> list[list[dict[str, Any]]]:
    """The payloads of these sessions, each turn with the response "ok"."""
    begin = begin_dialogues(probe, [step.inputs for step in make_dataset(FACTS, probe.input).steps], "s1")
    found: list[list[dict[str, Any]]] = []
    for steps in sessions_of:
        dialogue = begin()
        found.append([])
        for step in steps:
            found[-1].append(json.loads(dialogue.request(step).body))
            dialogue.responded(Response((b"ok",)))
    return found


def test_one_nonce_a_session_so_that_its_own_history_stays_cached(tmp_path: Path) -> None:
    entries = [user("a", "1"), user("b", "1")]
    probe = probe_of(tmp_path / "chat.jsonl", entries, allow_cache=False)
    one, other = bodies(probe, [[0, 1], [0, 1]])
    first, second = ([body["messages"][0]["content"] for body in session] for session in (one, other))
    assert first[0] == first[1] != second[0] == second[1]
    assert first[0][8:] == second[0][8:] == " a"
    assert [each["content"] for each in one[1]["messages"][1:]] == ["ok", "b"]


def test_the_probe_s_system_prompt_is_sent_once(tmp_path: Path) -> None:
    entries: list[dict[str, Any]] = [{"session_id": "1", "text": "a"}, {"session_id": "1", "text": "b"}]
    probe = probe_of(tmp_path / "chat.jsonl", entries, system="be brief")
    ((_, second),) = bodies(probe, [[0, 1]])
    assert [each["role"] for each in second["messages"]] == ["system", "user", "assistant", "user"]


def test_a_turn_without_messages_is_refused(tmp_path: Path) -> None:
    entries: list[dict[str, Any]] = [{"session_id": "1", "payload": {"messages": "a"}}]
    with pytest.raises(InputError, match="a turn of a session needs 'messages'"):
        bodies(probe_of(tmp_path / "chat.jsonl", entries), [[0]])
