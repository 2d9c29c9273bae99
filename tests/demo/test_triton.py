"""The embedded server's life: ready means ready, an end leaves nothing, and failures state why."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest
import requests
import tritonclient.http

from exporter.demo import triton as module
from exporter.demo.triton import EmbeddedTriton
from exporter.demo.triton_environment import EmbeddedTritonError, TritonEnvironment
from tests.conftest import TritonFactory
from tests.demo.processes import alive, descendants
from tests.waiting import PATIENCE_SECONDS, becomes_true, patient

SAMPLE_MODELS = {"accumulator", "addsub", "cached_delay", "delay", "identity", "pipeline", "repeat", "vad"}
PYTHON_MODELS = SAMPLE_MODELS - {"pipeline"}


@pytest.fixture
def small_repository(tmp_path: Path) -> Path:
    """A repository of one model, for servers that start often."""
    repository = tmp_path / "models"
    repository.mkdir()
    (repository / "identity").symlink_to(module.MODELS / "identity")
    return repository


def regions(server: EmbeddedTriton) -> list[Path]:
    return list(Path("/dev/shm").glob(f"{server._shm_prefix}*"))


def test_all_its_endpoints_are_open(triton: EmbeddedTriton) -> None:
    index = requests.post(f"{triton.http_url}/v2/repository/index", timeout=PATIENCE_SECONDS).json()
    assert {entry["name"]: entry["state"] for entry in index} == dict.fromkeys(SAMPLE_MODELS, "READY")
    assert "nv_inference_request_success" in requests.get(triton.metrics_url, timeout=PATIENCE_SECONDS).text
    assert triton.grpc_url == f"grpc://127.0.0.1:{triton.grpc_port}"


def test_stop_leaves_no_process_and_no_shared_memory(triton_factory: TritonFactory) -> None:
    server = triton_factory()
    server.start()
    assert server.pid is not None
    tree = descendants(server.pid)
    assert len(tree) == 1 + len(PYTHON_MODELS)
    assert len(regions(server)) == len(PYTHON_MODELS)
    begin = time.monotonic()
    server.stop()
    assert time.monotonic() - begin < patient(5)
    assert not alive(tree)
    assert not regions(server)
    assert not server.running


def test_a_crash_leaves_as_little_and_a_start_after_it_keeps_the_ports(
    triton_factory: TritonFactory, small_repository: Path
) -> None:
    server = triton_factory(models=small_repository)
    server.start()
    assert server.pid is not None
    tree, urls = descendants(server.pid), (server.http_url, server.grpc_url, server.metrics_url)
    server.kill()
    assert not alive(tree)
    assert not regions(server)
    server.start()
    assert (server.http_url, server.grpc_url, server.metrics_url) == urls
    server.stop()
    server.start()
    assert (server.http_url, server.grpc_url, server.metrics_url) == urls
    assert requests.get(f"{server.http_url}/v2/health/ready", timeout=PATIENCE_SECONDS).status_code == 200


def test_it_ends_when_its_owner_is_killed(triton_environment: TritonEnvironment, small_repository: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from exporter.demo.triton_environment import TritonEnvironment\n"
        "from exporter.demo.triton import EmbeddedTriton\n"
        "environment = TritonEnvironment(Path(sys.argv[1]))\n"
        "models, log = Path(sys.argv[2]), Path(sys.argv[3])\n"
        "with EmbeddedTriton(environment, models=models, log_path=log): print('ready', flush=True); sys.stdin.read()"
    )
    paths = [triton_environment.root, small_repository, small_repository.parent / "log"]
    with subprocess.Popen(
        [sys.executable, "-c", code, *map(str, paths)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd=Path(__file__).parents[2],
    ) as owner:
        assert owner.stdout is not None
        assert owner.stdout.readline() == b"ready\n"
        tree = descendants(owner.pid)
        assert len(tree) == 4  # owner, keeper, server, stub
        owner.kill()
    assert becomes_true(lambda: not alive(tree))


def test_models_are_loaded_and_unloaded_where_that_is_allowed(
    triton_factory: TritonFactory, small_repository: Path
) -> None:
    server = triton_factory(models=small_repository, model_control=True)
    server.start()
    client = tritonclient.http.InferenceServerClient(f"127.0.0.1:{server.http_port}")
    assert client.is_model_ready("identity")
    client.unload_model("identity")
    assert becomes_true(lambda: not client.is_model_ready("identity"))
    client.load_model("identity")
    assert client.is_model_ready("identity")
    client.close()


@pytest.mark.parametrize("endpoint", [0, 1, 2])
def test_a_port_that_another_server_took_in_between_is_given_up(
    triton_factory: TritonFactory,
    triton: EmbeddedTriton,
    small_repository: Path,
    monkeypatch: pytest.MonkeyPatch,
    endpoint: int,
) -> None:
    free_ports = module.free_ports
    taken = (triton.http_port, triton.grpc_port, triton.metrics_port)[endpoint]
    given: list[list[int]] = []

    def first_with_a_taken_one(count: int) -> list[int]:
        ports = free_ports(count)
        if not given:
            ports[endpoint] = taken
        given.append(ports)
        return ports

    monkeypatch.setattr(module, "free_ports", first_with_a_taken_one)
    server = triton_factory(models=small_repository)
    server.start()
    assert len(given) == 2
    assert [server.http_port, server.grpc_port, server.metrics_port] == given[1]


def test_a_model_that_does_not_load_is_reported_with_the_log(triton_factory: TritonFactory, tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    (broken / "1").mkdir(parents=True)
    (broken / "config.pbtxt").write_text((module.MODELS / "identity" / "config.pbtxt").read_text())
    (broken / "1" / "model.py").write_text("raise RuntimeError('no such luck')")
    server = triton_factory(models=tmp_path)
    with pytest.raises(EmbeddedTritonError, match=r"ended while it started\. Its log ends with:"):
        server.start()
    assert not server.running


def test_a_start_that_takes_too_long_is_ended(triton_factory: TritonFactory, small_repository: Path) -> None:
    server = triton_factory(models=small_repository)
    with pytest.raises(EmbeddedTritonError, match=r"was not ready within 0\.01 s"):
        server.start(deadline_seconds=0.01)
    assert not server.running


def test_free_ports_differ() -> None:
    assert len(set(module.free_ports(20))) == 20
