"""No prompt, no response and no key of a language model leaves the daemon: not in its log at level debug, its metrics,
pages, API, archive, history or state, whatever the server repeats, and not in what `analyze` writes."""

from __future__ import annotations

import asyncio
import contextlib
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.daemon.running import RunningDaemon
from tests.services.token_server import DONE, END, HANG_UP, Timed, TokenServer, delta, event
from tests.transport.scripted import serving

KEY = "sesame-open-4711"
PROMPT = 'Frau Müller, geb. 1931:\n\n"Fieber seit Montag, 39,5"'
SHORT = "PIN 8264"
RESPONSE = "three spoons of it before each meal"
PRIVATE = ("Frau", "Müller", "geb. 1931", "Fieber", "PIN 8264", "spoons", "sesame", "M\\u00fcller", "M\\xfcller")
"""Words, and no numbers alone: the id of a sweep can have any of them."""


def whole(status: int, body: str, *headers: str) -> list[bytes | float]:
    data = body.encode()
    head = "\r\n".join([f"HTTP/1.1 {status} x", *headers, f"Content-Length: {len(data)}", "", ""])
    return [head.encode() + data]


def chunked(*events: bytes) -> list[bytes | float]:
    body = b"".join(b"%x\r\n%b\r\n" % (len(each), each) for each in events)
    return [b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n", body]


def repeated(head: str, request: dict[str, Any]) -> dict[str, Timed]:
    """By the model's name what comes back; all but the first repeat the request and its head."""
    text, ascii_text = json.dumps(request, ensure_ascii=False), json.dumps(request)
    content = request.get("text_input") or request["messages"][0]["content"]
    spoken = delta(content=RESPONSE)
    echo = f"{content} {head}"
    return {
        "fine": [*chunked(spoken, *END), b"0\r\n\r\n"],
        "text": whole(400, f"rejected: {text} {head}"),
        "json": whole(422, json.dumps({"detail": [{"input": request, "head": head}]})),
        "nested": whole(404, json.dumps({"error": {"message": f"no place for {ascii_text} {head}"}})),
        "token": whole(401, json.dumps({"error": f"{head} may not ask: {content}"})),
        "busy": whole(429, json.dumps({"error": {"message": echo}}), "Retry-After: 1"),
        "moved": whole(302, "", f"Location: https://x/{KEY}?{KEY}"),
        "page": whole(200, f"<html>{echo}</html>", "Content-Type: text/html"),
        "typed": whole(200, "x", f"Content-Type: {KEY}"),
        "late-error": [*chunked(spoken, event({"error": {"message": echo, "code": 500}}), DONE), b"0\r\n\r\n"],
        "no-event": [*chunked(f"data: {content!r}\n\n".encode()), b"0\r\n\r\n"],
        "hang-up": [*chunked(spoken), HANG_UP],
        "stall": [*chunked(spoken), 60.0],
    }


CASES = tuple(repeated("", {"text_input": "x"}))
MODEL_LIST = {"object": "list", "data": [{"id": name, "owned_by": KEY} for name in CASES]}
PAGES = {
    "/health": (200, ""),
    "/v1/models": (200, json.dumps(MODEL_LIST)),
    "/metrics": (200, f'# HELP x {KEY}\nvllm:num_requests_running{{model_name="{KEY}"}} 1\n'),
}
TENSOR = {"name": "text_input", "datatype": "BYTES", "shape": [1]}
CONFIG = {
    "name": "m",
    "input": [{"name": "text_input", "data_type": "TYPE_STRING", "dims": [1]}],
    "model_transaction_policy": {"decoupled": True},
}
TRITON_PAGES = {
    "/v2": (200, json.dumps({"name": "triton", "version": "2", "extensions": []})),
    "/v2/health/live": (200, ""),
    "/v2/health/ready": (200, ""),
    "/v2/models/m/ready": (200, ""),
    "/v2/models/m": (200, json.dumps({"name": "m", "versions": ["1"], "inputs": [TENSOR], "outputs": []})),
    "/v2/models/m/config": (200, json.dumps(CONFIG)),
    "/v2/models/m/stats": (200, '{"model_stats": []}'),
}


def chat_server() -> TokenServer:
    def respond(_number: int, request: dict[str, Any]) -> Timed:
        return repeated(server.requests[-1][0].decode(), request)[request["model"]]

    server = TokenServer(respond, raw=True, pages=PAGES)
    return server


def generate_server(case: str) -> TokenServer:
    def respond(_number: int, request: dict[str, Any]) -> Timed:
        return repeated(server.requests[-1][0].decode(), request)[case]

    server = TokenServer(respond, raw=True, pages=TRITON_PAGES)
    return server


def configuration(folder: Path, chat_port: int, generate_ports: dict[str, int]) -> dict[str, Any]:
    (folder / "key").write_text(f"{KEY}\n")
    (folder / "prompts.jsonl").write_text("\n".join(json.dumps({"prompt": each}) for each in (PROMPT, SHORT)))
    headers = {"Authorization": {"file": str(folder / "key"), "prefix": "Bearer "}}
    targets = [{"name": "chat", "kind": "openai", "port": chat_port}]
    targets += [{"name": case, "kind": "triton_generate", "port": port} for case, port in generate_ports.items()]
    probes = [{"name": f"chat.{case}", "target": "chat", "model": case} for case in CASES]
    probes += [{"name": f"generate.{case}", "target": case, "model": "m"} for case in generate_ports]
    url = "http://127.0.0.1:{port}"
    return {
        "log": {"level": "debug"},
        "limits": {"concurrent_sweeps": 2},
        "targets": [
            {"name": each["name"], "kind": each["kind"], "url": url.format(**each), "headers": headers, "group": "all"}
            for each in targets
        ],
        "probes": [
            {
                **each,
                "streaming": True,
                "load": {"concurrency": 1},
                "schedule": {"every": "1h"},
                "input": {"source": "files", "paths": [str(folder / "prompts.jsonl")]},
                "measurement": {"request_count": 4},
                "stop": {"error_min_requests": 2},
            }
            for each in probes
        ],
    }


def shown_by(daemon: RunningDaemon, names: list[str]) -> list[bytes]:
    """All that it exports, once each probe had a sweep."""
    for name in names:
        daemon.wait_for_log("sweep ended", probe=name)
    paths = ["/", "/metrics", "/api/status", "/config", "/api/v1/probes", "/api/v1/openapi.json"]
    for name in names:
        paths += [f"/probes/{name}", f"/api/v1/probes/{name}", f"/api/v1/probes/{name}/history"]
    shown = [daemon.get(path)[1] for path in paths]
    assert daemon.stop() == 0
    kept = [path for path in (daemon.folder / "data").rglob("*") if path.is_file()]
    assert any(path.suffix == ".csv" for path in kept)
    return [*shown, daemon.log_path.read_bytes(), *(path.read_bytes() for path in kept)]


async def test_no_prompt_response_or_key_leaves_the_daemon(tmp_path: Path) -> None:
    generate_cases = ("text", "json", "late-error", "stall")
    async with asyncio.timeout(300), contextlib.AsyncExitStack() as stack:
        chat = chat_server()
        chat_port = await stack.enter_async_context(serving(chat.script))
        ports = {
            case: await stack.enter_async_context(serving(generate_server(case).script)) for case in generate_cases
        }
        document = configuration(tmp_path, chat_port, ports)
        names = [probe["name"] for probe in document["probes"]]
        daemon = RunningDaemon(tmp_path, document)
        await asyncio.to_thread(daemon.start)
        try:
            shown = await asyncio.to_thread(shown_by, daemon, names)
        finally:
            daemon.stop()
    sent = b"".join(head + body for head, body in chat.requests)
    assert KEY.encode() in sent
    assert "Müller".encode() in sent
    texts = [each.decode("utf-8", "replace") for each in shown]
    log = next(text for text in texts if "msg=" in text)
    assert log.count('msg="sweep ended"') == len(names)
    assert "HTTP 422" in log
    for text in texts:
        for private in PRIVATE:
            assert private not in text, text[max(0, text.index(private) - 300) : text.index(private) + 100]


@pytest.mark.parametrize("case", ["fine", "text", "json", "late-error", "hang-up"])
async def test_no_prompt_response_or_key_leaves_analyze(tmp_path: Path, case: str) -> None:
    (tmp_path / "prompts.jsonl").write_text("\n".join(json.dumps({"prompt": each}) for each in (PROMPT, SHORT)))
    async with serving(chat_server().script) as port:
        words = ["-m", case, "--service-kind", "openai", "-u", f"127.0.0.1:{port}", "--streaming", "-v"]
        words += ["--endpoint", "v1/chat/completions", "-H", f"Authorization:Bearer {KEY}"]
        words += ["--input-data", str(tmp_path / "prompts.jsonl"), "--request-count", "4"]
        words += ["-f", "out.csv", "--json", "out.json", "--profile-export-file", "export.json", "--verbose-csv"]
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "exporter", "analyze", *words),
            cwd=tmp_path,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        output, _ = await asyncio.wait_for(process.communicate(), 120)
    shown = [output, *(path.read_bytes() for path in tmp_path.iterdir() if path.name != "prompts.jsonl")]
    assert len(shown) >= 3, output
    for text in (each.decode("utf-8", "replace") for each in shown):
        for private in PRIVATE:
            assert private not in text, text[max(0, text.index(private) - 300) : text.index(private) + 100]
