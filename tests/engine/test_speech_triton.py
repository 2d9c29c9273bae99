"""A real streaming network, Silero VAD, on real audio: spoken by espeak-ng, with silence round it by sox, sent chunk by
chunk as sequences that go side by side."""

from __future__ import annotations

import subprocess
import wave
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tritonclient.http

from exporter.core.probe import LoadLevel, Mode, SequenceOptions, Validation
from exporter.core.units import NS
from exporter.demo.triton import EmbeddedTriton
from exporter.demo.triton_environment import TritonEnvironment
from exporter.worker.pool import WorkerPool
from tests.builders import concurrency
from tests.engine.fakes import request_rate
from tests.engine.test_expected_triton import check_all_right, measure, probe_of, write
from tests.programs import need

MODELS = Path(__file__).parent / "models"
CHUNK = 512
RATE_HZ = 16_000
TEXTS = ("The canary sings before the air runs out.", "One, two, three, four, five.")

REAL_TIME = LoadLevel(Mode.STREAMS, 4.0, "4", step_interval_ns=NS * CHUNK // RATE_HZ)
"""Four speakers, a chunk of 32 ms at a time."""

Audio = np.ndarray[Any, np.dtype[np.float32]]


@pytest.fixture(scope="module")
def server(triton_environment: TritonEnvironment) -> Iterator[EmbeddedTriton]:
    with EmbeddedTriton(triton_environment, models=MODELS) as server:
        yield server
        server.kill()


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> list[Audio]:
    """Both texts, each with a second of silence before and after it, as whole chunks."""
    need("espeak-ng", "sox")
    folder = tmp_path_factory.mktemp("audio")
    return [spoken(folder / f"{number}.wav", text) for number, text in enumerate(TEXTS)]


def spoken(path: Path, text: str) -> Audio:
    reported = path.with_suffix(".spoken.wav")
    subprocess.run(["espeak-ng", "-w", str(reported), text], check=True)
    form = ("-r", str(RATE_HZ), "-c", "1", "-b", "16")
    subprocess.run(["sox", str(reported), *form, str(path), "pad", "1", "1"], check=True)
    with wave.open(str(path)) as file:
        samples = np.frombuffer(file.readframes(file.getnframes()), np.int16)
    return (samples[: len(samples) // CHUNK * CHUNK] / 32768).astype(np.float32)


def at_once(triton: EmbeddedTriton, clip: Audio) -> list[float]:
    """The probability of speech in each chunk, as the model that takes a whole clip reports it."""
    client = tritonclient.http.InferenceServerClient(f"127.0.0.1:{triton.http_port}")
    tensor = tritonclient.http.InferInput("AUDIO", [1, len(clip)], "FP32")
    tensor.set_data_from_numpy(clip[None])
    found = client.infer("vad", [tensor]).as_numpy("PROBABILITY")
    client.close()
    return [float(each) for each in found[0]]


@pytest.mark.parametrize("number", [0, 1])
def test_speech_is_found_where_there_is_speech(triton: EmbeddedTriton, clips: list[Audio], number: int) -> None:
    clip = clips[number]
    probability = np.array(at_once(triton, clip))
    loudness = np.sqrt(np.mean(clip.reshape(-1, CHUNK) ** 2, axis=1))
    second = RATE_HZ // CHUNK
    assert probability[: second - 1].max() < 0.3
    assert probability[-second // 2 :].max() < 0.3
    assert np.mean(probability[loudness > 0.05] > 0.5) > 0.8


@pytest.mark.parametrize(
    ("endpoint", "level", "sequences"),
    [
        ("stream", concurrency(4), None),
        ("http", concurrency(2), None),
        ("stream", request_rate(250), SequenceOptions(count=8, serial=True)),
        ("http", REAL_TIME, SequenceOptions()),
        ("grpc", REAL_TIME, SequenceOptions()),
        ("stream", REAL_TIME, SequenceOptions()),
    ],
)
async def test_streams_of_audio_side_by_side(
    triton: EmbeddedTriton,
    server: EmbeddedTriton,
    pool: WorkerPool,
    clips: list[Audio],
    tmp_path: Path,
    endpoint: str,
    level: LoadLevel,
    sequences: SequenceOptions | None,
) -> None:
    """Each chunk's response is that of the whole clip at this place: no sequence's state is lost or mixed up."""
    data = [[{"AUDIO": chunk.tolist()} for chunk in clip.reshape(-1, CHUNK)] for clip in clips]
    expected = [[{"PROBABILITY": [each]} for each in at_once(triton, clip)] for clip in clips]
    files = write(tmp_path, data, expected)
    rules = Validation(absolute=0.001)
    probe = probe_of(server, endpoint, "vad_stream", level, files, sequences=sequences, validation=rules)
    measurement = await measure(pool, probe)
    check_all_right(measurement)
    if level is REAL_TIME:
        assert measurement.streams is not None
        assert measurement.streams.steps == sum(measurement.outcomes.values()) > 0
        assert measurement.send_lag is not None
        assert measurement.send_lag.min_ns >= 0
    assert measurement.output_error is not None
    assert measurement.output_error.signal > 0
