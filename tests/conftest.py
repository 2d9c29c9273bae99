"""Fixtures for the whole suite. The embedded real Triton is shared by all tests that can share it."""

from __future__ import annotations

import os
import subprocess
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Protocol

import pytest
from hypothesis import settings

from exporter.demo.triton import MODELS, EmbeddedTriton
from exporter.demo.triton_environment import EmbeddedTritonError, TritonEnvironment, make_environment
from exporter.worker.local import LocalWorker
from exporter.worker.pool import WorkerPool
from tests.servers.environment import FIXTURES, ServerEnvironmentError
from tests.transport.certificates import Certificates, make_certificates

# A test's time is the machine's affair: no example fails for having taken long.
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")

ENVIRONMENT_FIXTURE = "triton_environment"
SERVERS = pytest.StashKey[dict[str, Path | ServerEnvironmentError]]()
ENVIRONMENT = pytest.StashKey[TritonEnvironment | EmbeddedTritonError]()


class TritonFactory(Protocol):
    def __call__(
        self, *, models: Path = MODELS, model_control: bool = False, extra_arguments: Sequence[str] = ()
    ) -> EmbeddedTriton: ...


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Marks what needs the embedded Triton, so that `-m "not triton"` leaves it out."""
    for item in items:
        if _needs_triton(item):
            item.add_marker("triton")


def pytest_collection_finish(session: pytest.Session) -> None:
    """Makes the environments of the embedded Triton and of other servers if a test will want them: here, since no
    test's time limit should hold for a first download."""
    if session.config.option.collectonly:
        return
    terminal = session.config.pluginmanager.get_plugin("terminalreporter")
    progress = terminal.write_line if terminal else print
    if any(map(_needs_triton, session.items)):
        try:
            session.config.stash[ENVIRONMENT] = make_environment(progress)
        except EmbeddedTritonError as error:
            session.config.stash[ENVIRONMENT] = error
    folders: dict[str, Path | ServerEnvironmentError] = {}
    for name, packages in FIXTURES.items():
        if any(_needs(item, name) for item in session.items):
            try:
                folders[name] = packages.make(progress)
            except ServerEnvironmentError as error:
                folders[name] = error
    session.config.stash[SERVERS] = folders


@pytest.fixture(scope="session")
def triton_environment(request: pytest.FixtureRequest) -> TritonEnvironment:
    """The environment of the embedded Triton. Without it the test is skipped with the reason; in CI it fails."""
    environment = request.config.stash[ENVIRONMENT]
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
    """Of the tests' own authority, for the whole session: nobody changes the files."""
    return make_certificates(tmp_path_factory.mktemp("certificates"))


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 256 KiB. Without the right to mount one the test is skipped; in CI it fails."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k", "none", str(folder)], capture_output=True)
    if mounted.returncode != 0:
        if os.environ.get("CI") == "true":
            pytest.fail(f"no small file system can be mounted: {mounted.stderr.decode()}")
        pytest.skip("mounting a small file system takes root")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


@pytest.fixture(scope="session")
def kserve(request: pytest.FixtureRequest) -> Path:
    """The folder of an environment with KServe's model server."""
    return _folder(request, "kserve")


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
