"""Figures in tokens of whole sweeps, compared with what the server sent; and what never leaves a sweep."""

from __future__ import annotations

import json
import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bench import tokens as bench
from exporter.archive.columns import LEVELS
from exporter.archive.rows import level_rows
from exporter.commands.analyze.report.result_json import json_text
from exporter.core.outcome import Outcome, Reason
from exporter.core.probe import InputOptions, LoadLevel, MeasurementOptions, Mode, StopRules
from exporter.core.target import Header
from exporter.core.units import MS, NS
from exporter.metrics.page import MetricsPage
from exporter.state.probe_state import Board
from exporter.sweep.conductor import Sweep
from exporter.sweep.sweep_log import SweepLog
from exporter.worker.pool import WorkerPool
from tests.builders import concurrency, make_probe, make_target
from tests.metrics.results import make_exporter_facts
from tests.services.token_server import TokenServer
from tests.transport.scripted import serving
from tests.waiting import patient

REQUESTS = 12


async def test_our_figures_are_those_that_the_server_sent(pool: WorkerPool) -> None:
    with bench.serving() as port:
        probe = bench.probe_of(port, concurrency(4), request_count=REQUESTS, request_timeout_ns=300 * NS)
        found = await bench.measured(pool, probe)
        sent = bench.sent(port)
    tokens = found.tokens
    assert tokens is not None
    assert found.outcomes == {Outcome.OK: REQUESTS}
    assert (tokens.output_tokens, tokens.chunks) == (bench.TOKENS * REQUESTS, bench.TOKENS * REQUESTS)
    assert tokens.first_token is not None
    assert tokens.per_output_token is not None
    assert tokens.inter_token is not None
    assert tokens.stream_open is not None
    # The cold request is in the server's means: one of thirteen.
    assert tokens.first_token.mean_ns / MS == pytest.approx(sent["first_ns"] / MS, abs=patient(5))
    assert tokens.per_output_token.mean_ns / MS == pytest.approx(sent["pace_ns"] / MS, abs=patient(0.5))
    # Each request's pace is the mean of its gaps.
    assert tokens.inter_token.mean_ns == pytest.approx(tokens.per_output_token.mean_ns, rel=1e-6)
    assert tokens.first_token.min_ns >= bench.FIRST_MS * MS


@pytest.mark.parametrize("echo", [False, True], ids=["refused", "refused with the prompt"])
@pytest.mark.parametrize("level", [concurrency(1), LoadLevel(Mode.SESSIONS, 1.0, "1")], ids=["prompts", "sessions"])
async def test_no_prompt_and_no_key_leaves_a_sweep(
    pool: WorkerPool, tmp_path: Path, level: LoadLevel, echo: bool, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(number: int, request: dict[str, Any]) -> list[bytes | float]:
        if level.mode is Mode.SESSIONS and number % 2:  # a session's first turn, after the cold one
            body = json.dumps({"choices": [{"message": {"content": "give the patient three spoons of it"}}]}).encode()
            return [b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)]
        text = json.dumps(request) if echo else "no"
        body = json.dumps({"error": {"message": f"rejected: {text}"}}).encode()
        return [b"HTTP/1.1 400 x\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)]

    key, prompts = tmp_path / "key", tmp_path / "prompts.jsonl"
    key.write_text("sesame-open-4711\n")
    turns = ["the patient in bed three has had a fever since monday", "the patient has eaten the spoons"]
    entries = [{"session_id": f"{session}", "prompt": text} for session in range(9) for text in turns]
    prompts.write_text("\n".join(map(json.dumps, entries)))
    caplog.set_level(logging.DEBUG)
    async with serving(TokenServer(refuse, raw=True).script) as port:
        header = Header("Authorization", file=str(key), prefix="Bearer ")
        probe = make_probe(
            target=make_target(kind="openai", port=port, headers=(header,)),
            model="m",
            levels=(level,),
            streaming=level.mode is not Mode.SESSIONS,
            measurement=MeasurementOptions(request_count=10 if level.mode is not Mode.SESSIONS else 0),
            input=InputOptions(source="files", paths=(str(prompts),)),
            stop=StopRules(error_min_requests=2),
        )
        result = await Sweep(probe, []).run(lambda: pool.lend(1))
    assert result.reason is Reason.ERROR_RATIO
    assert "client_error: HTTP 400: rejected" in result.reason_text
    board = Board(None)
    board.configure((probe,))
    page = MetricsPage(board, make_exporter_facts(), 100_000)
    board.sweep_ended(result)
    SweepLog().sweep_ended(result)
    metrics = (await page.render(None, None, ())).body.decode()
    page.close()
    assert 'reason="error_ratio"' in metrics
    log = str([vars(record) for record in caplog.records])
    assert "rejected" in log
    shown = [result.reason_text, json_text(result), log, str(LEVELS.encode(level_rows(result))), metrics]
    for text in shown:
        assert "patient" not in text
        assert "spoons" not in text
        assert "fever" not in text
        assert "sesame" not in text


async def test_a_role_that_comes_late_moves_the_opening_alone(pool: WorkerPool) -> None:
    """What a proxy that holds back a role would do: content comes at the same moment with it and without."""
    from tests.services.token_server import END, ROLE, delta

    figures = []
    for first in ([ROLE, 0.2], [0.1, ROLE, 0.1]):
        parts = [*first, delta(content="a"), 0.02, delta(content="b"), 0.02, delta(content="c"), *END]
        async with serving(TokenServer(lambda _number, _request, parts=parts: parts).script) as port:  # type: ignore[misc]
            probe = replace(bench.probe_of(port, concurrency(1), request_count=3), stop=StopRules())
            found = await bench.measured(pool, probe)
        assert found.tokens is not None
        assert found.tokens.stream_open is not None
        assert found.tokens.first_token is not None
        figures.append((found.tokens.stream_open.min_ns / MS, found.tokens.first_token.min_ns / MS))
    (early_ms, first_ms), (late_ms, same_ms) = figures
    assert early_ms < 100 <= late_ms
    assert first_ms == pytest.approx(same_ms, abs=patient(20))
