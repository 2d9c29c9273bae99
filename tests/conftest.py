"""Fixtures for the whole suite. The embedded real Triton is shared by all tests that can share it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Generator, Iterator, Sequence
from contextlib import ExitStack
from functools import cache
from pathlib import Path
from typing import Any, Protocol, cast

import pytest
from hypothesis import HealthCheck, settings

from exporter.demo.machine import TRITON_PYTHONS
from exporter.demo.triton import MODELS, EmbeddedTriton
from exporter.demo.triton_environment import EmbeddedTritonError, TritonEnvironment, make_environment
from exporter.worker.local import LocalWorker
from exporter.worker.pool import WorkerPool
from tests.programs import MISSED, need, need_right, summary
from tests.servers import numpy_1
from tests.servers.environment import FIXTURES, ServerEnvironmentError
from tests.transport.certificates import Certificates, make_certificates

# jsonschema's check of IRIs, a format that no schema here has, compiles a grammar at its import, for four seconds.
sys.modules.setdefault("rfc3987_syntax", cast(Any, None))

# A test's time is the machine's affair: no example fails for having taken long.
settings.register_profile("untimed", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("fast", settings.get_profile("untimed"), max_examples=20)

ENVIRONMENT_FIXTURE = "triton_environment"
MISSED_OUTPUT = "missed_programs"
SERVERS = pytest.StashKey[dict[str, Path | ServerEnvironmentError]]()
TESTS = Path(__file__).parent
SLOW_MARKERS = ("triton", "e2e", "soak", "gpu")
LONGEST = ("walk", "bare", "image")
SLOW_FIXTURES = (*FIXTURES, "worker", "pool")
"""They start servers, or processes that import all of the product."""
SLOW_PLACES = (
    *("bench", "daemon", "e2e", "fuzz", "gpu", "helm", "hostile", "packaging", "rules", "worker"),
    "archive/test_archive.py",  # kills processes in mid-write
    "baseline/test_judge.py",  # months of sweeps, simulated
    "baseline/test_store.py",
    *(f"commands/{name}.py" for name in ("analyze/test_command", "analyze/report/test_plot", "gate/test_command")),
    "commands/test_changes.py",
    "config/test_cron.py",
    "demo/test_child_process.py",
    *(f"engine/test_{name}.py" for name in ("checker", "engine_counts", "engine_guards", "level", "outcomes")),
    "engine/test_sequence_in_flight.py",
    *("payload/test_memory.py", "payload/test_regions.py"),
    *(f"services/test_{name}.py" for name in ("dead_hosts", "example", "triton_control")),
    *("transport/test_grpc_bounds.py", "transport/test_large_bodies.py"),
    *(f"web/test_{name}.py" for name in ("api_routes", "browser", "client_connection", "request_check")),
)
"""Below the tests' folder. Each of them costs seconds; `-m fast` does not even read them."""
NUMPY_1_FIXTURE = "numpy_1_environment"
NUMPY_1 = pytest.StashKey[TritonEnvironment | EmbeddedTritonError]()
ENVIRONMENT = pytest.StashKey[TritonEnvironment | EmbeddedTritonError]()


class TritonFactory(Protocol):
    def __call__(
        self, *, models: Path = MODELS, model_control: bool = False, extra_arguments: Sequence[str] = ()
    ) -> EmbeddedTriton: ...


def pytest_configure(config: pytest.Config) -> None:
    settings.load_profile("fast" if config.option.markexpr == "fast" else "untimed")


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Some need libraries whose import alone takes seconds."""
    return True if config.option.markexpr == "fast" and _is_slow(collection_path) else None


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Marks what needs the embedded Triton, so that `-m "not triton"` leaves it out; and what is fast."""
    for item in items:
        if _needs_triton(item):
            item.add_marker("triton")
        if not (
            _is_slow(item.path)
            or any(_has(item, name) for name in SLOW_MARKERS)
            or any(_needs(item, fixture) for fixture in SLOW_FIXTURES)
        ):
            item.add_marker("fast")
    # The longest first: nothing else is left to run beside them at the end.
    items.sort(key=lambda item: next((place for place, name in enumerate(LONGEST) if _has(item, name)), len(LONGEST)))


def _has(item: pytest.Item, marker: str) -> bool:
    return item.get_closest_marker(marker) is not None


@cache
def _is_slow(path: Path) -> bool:
    return any(path.is_relative_to(TESTS / place) for place in SLOW_PLACES)


def pytest_collection_finish(session: pytest.Session) -> None:
    """Makes the environments of the embedded Triton and of other servers if a test will want them: here, since no
    test's time limit should hold for a first download."""
    if session.config.option.collectonly:
        return
    progress = _progress(session.config)
    if any(map(_needs_triton, session.items)):
        session.config.stash[ENVIRONMENT] = environment = _made(lambda: make_environment(progress))
        if sys.version_info[:2] <= numpy_1.LAST_PYTHON and any(_needs(item, NUMPY_1_FIXTURE) for item in session.items):
            session.config.stash[NUMPY_1] = (
                _made(lambda: numpy_1.make_with_numpy_1(environment, progress))
                if isinstance(environment, TritonEnvironment)
                else environment
            )
    folders: dict[str, Path | ServerEnvironmentError] = {}
    for name, packages in FIXTURES.items():
        if any(_needs(item, name) for item in session.items):
            try:
                folders[name] = packages.make(progress)
            except ServerEnvironmentError as error:
                folders[name] = error
    session.config.stash[SERVERS] = folders


def _progress(config: pytest.Config) -> Callable[[str], None]:
    """Shows a line at once: by the terminal's reporter, and where several processes run tests, past their captures."""
    terminal: Any = config.pluginmanager.get_plugin("terminalreporter")
    capture: Any = config.pluginmanager.get_plugin("capturemanager")

    def progress(line: str) -> None:
        if terminal is not None:
            terminal.write_line(line)
            return
        with capture.global_and_fixture_disabled():
            print(line, file=sys.stderr)

    return progress


def _made(make: Callable[[], TritonEnvironment]) -> TritonEnvironment | EmbeddedTritonError:
    try:
        return make()
    except EmbeddedTritonError as error:
        return error


@pytest.hookimpl(wrapper=True)
def pytest_report_to_serializable() -> Generator[None, Any, Any]:
    """A process that runs tests sends its reports as UTF-8: what a test printed or logged may be none."""
    return _encodable((yield))


def _encodable(data: Any) -> Any:
    if isinstance(data, str):
        return data.encode(errors="backslashreplace").decode()
    if isinstance(data, dict):
        return {_encodable(key): _encodable(value) for key, value in data.items()}
    return type(data)(map(_encodable, data)) if isinstance(data, list | tuple) else data


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """One of several processes that run tests has ended: what it has missed counts as ours."""
    MISSED.update(getattr(node, "workeroutput", {}).get(MISSED_OUTPUT, ()))


def pytest_sessionfinish(session: pytest.Session) -> None:
    if (output := getattr(session.config, "workeroutput", None)) is not None:
        output[MISSED_OUTPUT] = sorted(MISSED)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """One line with all programs that tests were skipped for."""
    if text := summary(MISSED):
        terminalreporter.section("missing programs", yellow=True)
        terminalreporter.write_line(text)


@pytest.fixture(scope="session")
def triton_environment(request: pytest.FixtureRequest) -> TritonEnvironment:
    """The environment of the embedded Triton. Without it the test is skipped with the reason; in CI it fails, unless
    the wheel has nothing for this Python."""
    if sys.version_info[:2] not in TRITON_PYTHONS:
        pytest.skip("the embedded Triton has no Python backend for this Python")
    return _environment(request, ENVIRONMENT)


@pytest.fixture(scope="session")
def numpy_1_environment(request: pytest.FixtureRequest, triton_environment: TritonEnvironment) -> TritonEnvironment:
    """The same with numpy 1, for models with strings; likewise. Python without a numpy 1: skipped, in CI too."""
    if sys.version_info[:2] > numpy_1.LAST_PYTHON:
        pytest.skip(numpy_1.LACKING)
    return _environment(request, NUMPY_1)


def _environment(
    request: pytest.FixtureRequest, key: pytest.StashKey[TritonEnvironment | EmbeddedTritonError]
) -> TritonEnvironment:
    environment = request.config.stash[key]
    if isinstance(environment, TritonEnvironment):
        return environment
    if os.environ.get("CI") == "true":
        pytest.fail(str(environment), pytrace=False)
    pytest.skip(str(environment))


@pytest.fixture(scope="session")
def triton(triton_environment: TritonEnvironment) -> Iterator[EmbeddedTriton]:
    """One running Triton with all sample models for the whole session. Tests leave it as they found it: none may stop
    it, and what they read of its statistics are differences, since others use it, too."""
    with EmbeddedTriton(triton_environment) as server:
        yield server


@pytest.fixture(scope="session")
def triton_installation(triton_environment: TritonEnvironment, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that looks as Triton does where it is installed, for those who load its library."""
    folder = tmp_path_factory.mktemp("tritonserver")
    triton_environment.link_installation(folder)
    return folder


@pytest.fixture(scope="module")
def triton_variables(triton_environment: TritonEnvironment) -> Iterator[None]:
    """What a Triton with Python models needs of its environment, for a worker that has one in its process."""
    variables = triton_environment.variables()
    with pytest.MonkeyPatch.context() as patch:
        for name in ("PATH", "LD_LIBRARY_PATH"):
            patch.setenv(name, variables[name])
        yield


@pytest.fixture
def triton_factory(triton_environment: TritonEnvironment) -> Iterator[TritonFactory]:
    """Makes servers of the test's own, which the test starts. After it they are killed, which is quicker than stopping
    them and leaves as little behind."""
    with ExitStack() as stack:

        def make(
            *, models: Path = MODELS, model_control: bool = False, extra_arguments: Sequence[str] = ()
        ) -> EmbeddedTriton:
            server = EmbeddedTriton(
                triton_environment, models=models, model_control=model_control, extra_arguments=extra_arguments
            )
            stack.callback(server.close)
            stack.callback(server.kill)
            return server

        yield make


@pytest.fixture
async def worker() -> AsyncIterator[LocalWorker]:
    """A worker process of the test's own."""
    it = await LocalWorker.spawn()
    yield it
    await it.kill()


@pytest.fixture
async def pool() -> AsyncIterator[WorkerPool]:
    """Workers for one sweep at a time, of the test's own."""
    it = WorkerPool(1)
    yield it
    await it.close()


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    """Of the tests' own authority, for the whole session: no test changes the files."""
    return make_certificates(tmp_path_factory.mktemp("certificates"))


@pytest.fixture(scope="session")
def plain_certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    """The same without the extensions that Python's own clients ask for from 3.13 on."""
    return make_certificates(tmp_path_factory.mktemp("plain-certificates"), plain=True)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 256 KiB. Without the right to mount one the test is skipped."""
    folder = tmp_path / "disk"
    folder.mkdir()
    need_right("mount", "-t", "tmpfs", "-o", "size=256k", "none", str(folder))
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


@pytest.fixture(scope="session")
def kserve(request: pytest.FixtureRequest) -> Path:
    """The folder of an environment with KServe's model server."""
    return _folder(request, "kserve")


@pytest.fixture(scope="session")
def kserve_openai(request: pytest.FixtureRequest) -> Path:
    """The folder of an environment with the KServe whose OpenAI routes need no vLLM."""
    return _folder(request, "kserve_openai")


@pytest.fixture(scope="session")
def llamacpp(request: pytest.FixtureRequest) -> Path:
    """llama.cpp's environment."""
    return _folder(request, "llamacpp")


@pytest.fixture(scope="session")
def tokenizers(request: pytest.FixtureRequest) -> Path:
    """The environment of the extra `tokenizer`."""
    return _folder(request, "tokenizers")


@pytest.fixture(scope="session")
def mlserver(request: pytest.FixtureRequest) -> Path:
    """The folder of an environment with MLServer."""
    return _folder(request, "mlserver")


@pytest.fixture(scope="session")
def pythie_serving(request: pytest.FixtureRequest) -> Path:
    """The folder of an environment with pythie-serving, a server of TensorFlow Serving's Predict."""
    return _folder(request, "pythie_serving")


@pytest.fixture(scope="session")
def tensorflow_protobuf(request: pytest.FixtureRequest) -> Path:
    """The folder of an environment with the generated classes of TensorFlow's messages."""
    return _folder(request, "tensorflow_protobuf")


@pytest.fixture(scope="session")
def torchserve(request: pytest.FixtureRequest) -> Path:
    """The folder of an environment with TorchServe."""
    return _folder(request, "torchserve")


def _folder(request: pytest.FixtureRequest, name: str) -> Path:
    if program := FIXTURES[name].program:
        need(program)
    folder = request.config.stash[SERVERS][name]
    if isinstance(folder, Path):
        return folder
    if os.environ.get("CI") == "true":
        pytest.fail(str(folder), pytrace=False)
    pytest.skip(str(folder))


def _needs_triton(item: pytest.Item) -> bool:
    return _needs(item, ENVIRONMENT_FIXTURE)


def _needs(item: pytest.Item, fixture: str) -> bool:
    return isinstance(item, pytest.Function) and fixture in item.fixturenames
