"""Streams at the pace of real time, on a real network and real audio: are deadlines kept, and what does a request rate
show of the same server?

    python -m bench.streams [--streams 64] [--rounds 3] [--perf-analyzer PATH]

The audio is spoken by espeak-ng. Each round measures streams, a request rate of as many requests per second, and
perf_analyzer's rate, one after the other; beside the streams a process that does nothing but sleep shows how late this
machine wakes any client.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import subprocess
import sys
import tempfile
import wave
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from shutil import copytree
from typing import Any

import numpy as np

from bench.printed_report import parse_levels
from bench.programs import BenchError, progress, run_program
from bench.rounds import spread, table
from bench.sleeper import sleep_beside
from exporter.demo.triton import ADDRESS, EmbeddedTriton
from exporter.demo.triton_environment import make_environment

RATE_HZ = 16_000
STEP_MS = 300
MODEL = "vad_chunks"
TEXTS = (
    "The canary sings before the air runs out, and the miners listen to it all day long.",
    "One, two, three, four, five, six, seven, eight, nine, ten, and so it continues.",
    "Please hold the line. Your call is important to us, and will be got a response soon.",
)
WINDOW_MS = 4000
LIMIT_SECONDS = 90.0
_MODELS = Path(__file__).parent


@dataclass(frozen=True, slots=True)
class Figures:
    """Of one round: what each tool found, in ms; None where it has no such figure."""

    lag: tuple[float, float]
    sleeper: tuple[float, float]
    streams: Mapping[str, float]
    rate: Mapping[str, float]
    theirs: Mapping[str, float]


@contextmanager
def audio_file() -> Iterator[Path]:
    """The texts as streams of steps of 300 ms, with half a second of silence before and after each."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        streams = [_steps(folder / f"{number}.wav", text) for number, text in enumerate(TEXTS)]
        data = folder / "audio.json"
        data.write_text(json.dumps({"data": streams}))
        yield data


def _steps(path: Path, text: str) -> list[dict[str, Any]]:
    spoken = path.with_suffix(".spoken.wav")
    subprocess.run(["espeak-ng", "-w", str(spoken), text], check=True)
    subprocess.run(
        ["sox", str(spoken), "-r", str(RATE_HZ), "-c", "1", "-b", "16", str(path), "pad", "0.5", "0.5"], check=True
    )
    with wave.open(str(path)) as file:
        samples = np.frombuffer(file.readframes(file.getnframes()), np.int16)
    size = RATE_HZ * STEP_MS // 1000
    whole = samples[: len(samples) // size * size].reshape(-1, size) / 32768
    return [{"AUDIO": {"content": np.round(step, 5).tolist(), "shape": [size]}} for step in whole]


@contextmanager
def server() -> Iterator[EmbeddedTriton]:
    """A real Triton with the network."""
    with tempfile.TemporaryDirectory() as name:
        copytree(_MODELS / MODEL, Path(name, MODEL))
        with EmbeddedTriton(make_environment(print), models=Path(name)) as triton:
            yield triton
            triton.kill()


async def ours(triton: EmbeddedTriton, data: Path, load: Sequence[str]) -> dict[str, Any]:
    """One level of ours as `analyze` reports it."""
    with tempfile.TemporaryDirectory() as name:
        result = Path(name, "result.json")
        command = [sys.executable, "-m", "exporter", "analyze", *_words(triton, data), *load, "--json", str(result)]
        ended = await run_program(command, limit_seconds=LIMIT_SECONDS)
        return _level(result, ended.printed)


def _level(result: Path, printed: str) -> dict[str, Any]:
    measurements = json.loads(result.read_text())["measurements"] if result.exists() else []
    if len(measurements) != 1:
        raise BenchError(f"analyze did not report exactly one level:\n{printed}")
    found: dict[str, Any] = measurements[0]
    return found


def _words(triton: EmbeddedTriton, data: Path) -> list[str]:
    words = f"-m {MODEL} -i grpc -u {ADDRESS}:{triton.grpc_port} --streaming -p {WINDOW_MS} -r 3 -s 999"
    return [*words.split(), "--input-data", str(data)]


async def one_round(triton: EmbeddedTriton, data: Path, streams: int, program: Path | None) -> Figures:
    """All of them, one after the other."""
    per_second = streams * 1000 / STEP_MS
    progress("streams")
    beside = asyncio.create_task(sleep_beside(per_second, 3 * WINDOW_MS / 1000))
    level = await ours(triton, data, ["--streams", str(streams), "--step-interval", str(STEP_MS)])
    p50_us, p99_us, *_ = await beside
    progress("rate")
    rate = await ours(
        triton,
        data,
        ["--request-rate-range", f"{per_second:g}", "--num-of-sequences", str(streams), "--serial-sequences"],
    )
    theirs: dict[str, float] = {}
    if program is not None:
        progress("perf_analyzer")
        load = ["--async", "--request-rate-range", f"{per_second:g}", "--num-of-sequences", str(streams)]
        words = [str(program), *_words(triton, data), *load, "--serial-sequences"]
        try:
            ended = await run_program(words, limit_seconds=LIMIT_SECONDS)
            (found,) = parse_levels(ended.printed)
            theirs = {"p50": found.figures["p50"] / 1000, "p99": found.figures["p99"] / 1000}
        except (BenchError, ValueError, KeyError) as error:
            progress(f"perf_analyzer gave no figures: {error}")
    return Figures(
        lag=(percentile(level["send_lag"], 50), percentile(level["send_lag"], 99)),
        sleeper=(p50_us / 1000, p99_us / 1000),
        streams={
            "p50": percentile(level["response_time"], 50),
            "p99": percentile(level["response_time"], 99),
            "final p50": percentile(level["streams"]["final_latency"], 50),
            "late %": 100 * level["streams"]["late"] / level["streams"]["steps"],
            "factor": level["streams"]["real_time_factor"],
        },
        rate={"p50": percentile(rate["response_time"], 50), "p99": percentile(rate["response_time"], 99)},
        theirs=theirs,
    )


def percentile(summary: Mapping[str, Any], wanted: float) -> float:
    """In milliseconds."""
    return next(1000 * float(each["value_seconds"]) for each in summary["percentiles"] if each["percentile"] == wanted)


def shown(rounds: Sequence[Figures]) -> str:
    """Medians and ranges over the rounds, ms."""

    def over(values: Sequence[float]) -> str:
        return spread(list(values), 3) if values else ""

    rows = [
        ["sent after the deadline, p50", over([each.lag[0] for each in rounds])],
        ["sent after the deadline, p99", over([each.lag[1] for each in rounds])],
        ["the machine's own lateness beside it, p50", over([each.sleeper[0] for each in rounds])],
        ["the machine's own lateness beside it, p99", over([each.sleeper[1] for each in rounds])],
        *(
            [f"streams, {name}", over([each.streams[name] for each in rounds])]
            for name in ("p50", "p99", "final p50", "late %", "factor")
        ),
        *([f"our request rate, {name}", over([each.rate[name] for each in rounds])] for name in ("p50", "p99")),
        *(
            [f"perf_analyzer's request rate, {name}", over([each.theirs[name] for each in rounds if each.theirs])]
            for name in ("p50", "p99")
        ),
    ]
    return table(["figure, ms", "median (range)"], rows)


async def run(options: argparse.Namespace) -> None:
    """Prints the table."""
    with server() as triton, audio_file() as data:
        rounds = [await one_round(triton, data, options.streams, options.perf_analyzer) for _ in range(options.rounds)]
    print(shown(rounds))


def main() -> None:
    """See above."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--streams", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--perf-analyzer", type=Path)
    asyncio.run(run(parser.parse_args()))


if __name__ == "__main__":
    main()
