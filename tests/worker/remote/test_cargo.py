"""Input that goes ahead of levels: what travels, once to each machine, and what a level then reads."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from exporter.core.errors import InputError, PreflightError
from exporter.core.facts import TensorSpec
from exporter.core.outcome import Reason
from exporter.core.probe import DEFAULT_PROMPT, InputOptions, LoadLevel, Mode
from exporter.core.target import Header
from exporter.core.units import MS
from exporter.core.window import Checked, LevelEnd, RecordColumns, Window
from exporter.engine.plan import LevelPlan
from exporter.payload import make_dataset
from exporter.payload.input_files import find_input_files
from exporter.payload.timing_files import read_intervals
from exporter.services.torchserve import FILE, TorchServeService
from exporter.worker.ipc import Failure
from exporter.worker.remote import cargo
from exporter.worker.remote.cargo import Cargo, Sent
from exporter.worker.remote.host import Variables, WorkerHost
from exporter.worker.remote.member import RemoteWorker
from exporter.worker.remote.schema import schema
from tests.builders import concurrency, make_facts, make_target
from tests.engine.fakes import make_plan
from tests.worker.test_local import FAKE_WORKER, probe

LONG = "é\udcff" * 40_000


class CountingHost(WorkerHost):
    """What came to it, over whatever carries its calls, and the plans that a worker process got."""

    def __init__(self, folder: Path) -> None:
        super().__init__(schema(), FAKE_WORKER, str(folder))
        self.came: list[str] = []
        self.plans: list[LevelPlan] = []

    async def keep_part(self, key: str, name: str, offset: int, data: bytes) -> Failure | None:
        self.came.append(f"{name} {offset} {len(data)}")
        return await super().keep_part(key, name, offset, data)

    async def begin(self, plan: LevelPlan, environment: Variables) -> Failure | None:
        await self.start()
        assert self._worker is not None
        run = self._worker.run_member

        def noting(whole: LevelPlan) -> object:
            self.plans.append(whole)
            return run(whole)

        self._worker.run_member = noting  # type: ignore[method-assign, assignment]
        return await super().begin(plan, environment)


@asynccontextmanager
async def members(*hosts: tuple[str, CountingHost]) -> AsyncIterator[list[RemoteWorker]]:
    """Workers of one sweep at these addresses."""
    one = Cargo()
    found = [RemoteWorker(host, address, cargo=one) for address, host in hosts]
    try:
        for member in found:
            await member.start()
        yield found
    finally:
        await asyncio.gather(*(member.kill() for member in found))


def plan_of(level: LoadLevel | None = None, **options: object) -> LevelPlan:
    it = make_plan(level or concurrency(1), window_ms=100)
    given = replace(it.probe.input, **options)  # type: ignore[arg-type]
    return replace(it, max_windows=1, probe=replace(it.probe, target=make_target(kind="fake"), input=given))


async def run(member: RemoteWorker, plan: LevelPlan) -> LevelEnd:
    async for event in member.run_member(plan):
        end = event
    assert isinstance(end, LevelEnd)
    return end


def write_data(path: Path, first: float = 1.0) -> str:
    steps = [{"INPUT0": [first + number] * 16} for number in range(3)]
    path.write_text(json.dumps({"data": steps}))
    return str(path)


async def test_files_travel_once_to_a_machine_and_each_worker_reads_them(tmp_path: Path) -> None:
    given = (write_data(tmp_path / "a.json"), write_data(tmp_path / "b.json", 7.0))
    digest = find_input_files(given).digest
    it = plan_of(source="files", paths=given, files_digest=digest)
    first, beside, other = (CountingHost(tmp_path / folder) for folder in ("m1", "m1", "m2"))
    for _ in range(2):  # two sweeps
        hosts = ("tcp://m1:1", first), ("tcp://m1:2", beside), ("tcp://m2:1", other)
        async with members(*hosts) as found:
            await asyncio.gather(*(member.prepare(it) for member in found))
            for member in found:
                end = await run(member, it)
                assert end.reason is Reason.NONE, end.text
    sizes = [Path(path).stat().st_size for path in given]
    once = [f"{name}.json 0 {size}" for name, size in zip("ab", sizes, strict=True)]
    assert sorted(first.came + beside.came) == once
    assert other.came == once
    for host, folder in ((first, "m1"), (beside, "m1"), (other, "m2")):
        there = host.plans[-1].probe.input.paths
        assert all(path.startswith(f"{tmp_path}/{folder}/") for path in there)
        assert find_input_files(there).digest == digest


async def test_all_that_a_level_reads_travels(tmp_path: Path) -> None:
    folder = tmp_path / "tensors"
    folder.mkdir()
    values = np.ones(16, np.float32).tobytes()
    (folder / "INPUT0").write_bytes(values)
    (folder / ".hidden").write_text("stays")
    tokenizer = tmp_path / "tokenizer.json"
    tokenizer.write_text("{}")
    intervals = tmp_path / "intervals"
    intervals.write_text("1000\n2000\n")
    level = LoadLevel(
        Mode.INTERVALS, 600.0, "intervals", file=str(intervals), file_digest=read_intervals(str(intervals)).digest
    )
    prompt = replace(DEFAULT_PROMPT, tokenizer=str(tokenizer))
    it = plan_of(level, source="files", paths=(str(folder),), prompt=prompt, string_data=LONG)
    host = CountingHost(tmp_path / "kept")
    async with members(("tcp://m1:1", host)) as (member,):
        assert (await run(member, it)).reason is Reason.NONE
    (there,) = host.plans
    assert there.probe.input.string_data == LONG
    kept = Path(there.probe.input.paths[0])
    assert {path.name: path.read_bytes() for path in kept.iterdir()} == {"INPUT0": values}
    moved = (there.probe.input.prompt.tokenizer, there.level.file)
    assert [Path(path).read_bytes() for path in moved] == [tokenizer.read_bytes(), intervals.read_bytes()]
    assert not {*there.probe.input.paths, *moved} & {str(folder), str(tokenizer), str(intervals)}


async def test_large_and_empty_files_travel_in_chunks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cargo, "CHUNK_BYTES", 1000)
    folder = tmp_path / "tensors"
    folder.mkdir()
    for name, size in {"empty": 0, "even": 2000, "odd": 2001}.items():
        (folder / name).write_bytes(content_of(size))
    host = CountingHost(tmp_path / "kept")
    async with members(("tcp://m1:1", host)) as (member,):
        await member.prepare(plan_of(source="files", paths=(str(folder),)))
        assert host.came == ["empty 0 0", "even 0 1000", "even 1000 1000", "odd 0 1000", "odd 1000 1000", "odd 2000 1"]
        (kept,) = (tmp_path / "kept").iterdir()
        assert find_input_files([str(kept)]).digest == find_input_files([str(folder)]).digest


def content_of(size: int) -> bytes:
    return bytes(number * 7 % 251 for number in range(size))


async def test_files_that_the_data_names_travel_too(tmp_path: Path) -> None:
    """TorchServe's: the paths are in the data, and stay in it."""
    images = [tmp_path / "a.jpg", tmp_path / "b.jpg"]
    for image in images:
        image.write_bytes(f"pixels of {image.name}".encode())
    data = tmp_path / "data.json"
    names = [str(images[0]), str(images[1]), "/no/such.jpg"]
    data.write_text(json.dumps({"data": [{FILE: [name]} for name in names]}))
    facts = replace(make_facts(), inputs=(TensorSpec(FILE, "BYTES", (1,)),), max_batch_size=0)
    it = plan_of(source="files", paths=(str(data),))
    target = make_target(kind="torchserve")
    it = replace(it, facts=facts, probe=replace(it.probe, target=target))
    host = CountingHost(tmp_path / "kept")
    async with members(("tcp://m1:1", host)) as (member,):
        sent = await Cargo().send(member._call, "m1", it, asyncio.Event())
        assert sent is not None
    there = sent.plan(it)
    for image in images:
        image.unlink()
    steps = make_dataset(facts, there.probe.input).steps
    assert [step.inputs[FILE].item().decode() for step in steps] == names
    encode = TorchServeService().encode
    for step, content in zip(steps[:2], (b"pixels of a.jpg", b"pixels of b.jpg"), strict=True):
        (request,) = encode(there.probe, facts, [step.inputs], "s")
        assert content in request.body
    with pytest.raises(InputError, match=r"'/no/such\.jpg': cannot be read"):
        encode(there.probe, facts, [steps[2].inputs], "s")


async def test_what_is_wrong_with_a_file_names_its_path_here(tmp_path: Path) -> None:
    path = tmp_path / "data.json"
    path.write_text(json.dumps({"data": [{"INPUT0": [1.0]}]}))
    host = CountingHost(tmp_path / "kept")
    async with members(("tcp://m1:1", host)) as (member,):
        with pytest.raises(PreflightError) as raised:
            await run(member, plan_of(source="files", paths=(str(path),)))
        assert raised.value.reason is Reason.BAD_INPUT
        assert raised.value.problems
        for text in (str(raised.value), *raised.value.problems):
            assert str(path) in text
            assert "kept" not in text
    path.unlink()
    async with members(("tcp://m1:1", CountingHost(tmp_path / "kept"))) as (member,):
        with pytest.raises(PreflightError, match=rf"{path}: cannot be read: No such file"):
            await member.prepare(plan_of(source="files", paths=(str(path),)))


def test_texts_of_a_level_have_the_paths_here() -> None:
    sent = Sent("/kept", {"/here/data.json": "/kept/0/data.json"}, "/kept/1/text")
    text, here = "/kept/0/data.json: step 3: 5 is not 6", "/here/data.json: step 3: 5 is not 6"
    window = Window(0, 0, 1, RecordColumns.empty(), 0, error_text=text, checked=Checked(1, 1, difference=text))
    found = sent.event(window)
    assert isinstance(found, Window)
    assert found == replace(window, error_text=here, checked=Checked(1, 1, difference=here))
    assert sent.event(LevelEnd(Reason.NONE, text, 0)) == LevelEnd(Reason.NONE, here, 0)
    failure = Failure(True, Reason.BAD_INPUT, f"{text}; /kept/0/da…", (text, "/kept/1/text"))
    assert sent.failure(failure) == replace(failure, text=f"{here}; …", problems=(here, "/kept/1/text"))


class ChangingHost(CountingHost):
    """The file changes between its digest and its bytes."""

    async def lacking(self, keys: list[str]) -> tuple[str, list[str]] | Failure:
        self.change()
        return await super().lacking(keys)

    change: Callable[[], object]


async def test_a_file_that_changes_meanwhile_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "data.json"
    it = plan_of(source="files", paths=(write_data(path),))
    host = ChangingHost(tmp_path / "kept")
    host.change = lambda: write_data(path, 9.0)
    async with members(("tcp://m1:1", host)) as (member,):
        with pytest.raises(PreflightError, match=f"{path}: has changed while it was sent"):
            await member.prepare(it)
        assert list((tmp_path / "kept").iterdir()) == []
        await member.prepare(it)


async def test_a_worker_that_cannot_keep_it_is_one_clear_error(tmp_path: Path) -> None:
    taken = tmp_path / "kept"
    taken.write_text("a file is where the folder should be")
    async with members(("tcp://m1:1", CountingHost(taken))) as (member,):
        with pytest.raises(PreflightError, match=r"input data cannot be kept: .*File exists") as raised:
            await member.prepare(plan_of(string_data=LONG))
        assert raised.value.reason is Reason.NO_WORKER
        assert await member.preflight(probe()) == make_facts(), "it is not lost"


class SlowStore(CountingHost):
    """Sending takes a while, in which the level is stopped."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.asked, self.released = asyncio.Event(), asyncio.Event()

    async def lacking(self, keys: list[str]) -> tuple[str, list[str]] | Failure:
        self.asked.set()
        await self.released.wait()
        return await super().lacking(keys)


async def test_a_level_that_is_stopped_while_its_data_travels_does_not_begin(tmp_path: Path) -> None:
    host = SlowStore(tmp_path / "kept")
    it = replace(plan_of(string_data=LONG), abandoned_until_ns=(7,), spared_until_ns=5)
    async with members(("tcp://m1:1", host)) as (member,):
        running = asyncio.create_task(run(member, it))
        await host.asked.wait()
        await member.stop_level()
        host.released.set()
        assert await running == LevelEnd(Reason.NONE, "", 0, abandoned_until_ns=(7,), spared_until_ns=5)
        assert host.plans == []
        assert (await run(member, it)).sent > 0, "the next one does"


async def test_a_level_has_the_time_that_its_data_left(tmp_path: Path) -> None:
    host = SlowStore(tmp_path / "kept")
    it = replace(plan_of(string_data=LONG), max_duration_ns=20 * MS)
    async with members(("tcp://m1:1", host)) as (member,):
        running = asyncio.create_task(run(member, it))
        await host.asked.wait()
        await asyncio.sleep(0.05)
        host.released.set()
        end = await running
    assert (end.reason, end.sent, host.plans) == (Reason.TIME_BUDGET, 0, [])
    assert "max_duration" in end.text


async def test_the_same_at_two_paths_travels_once_and_an_error_names_both(tmp_path: Path) -> None:
    paths = []
    for number in "12":
        (tmp_path / number).mkdir()
        path = tmp_path / number / "d.json"
        path.write_text(json.dumps({"data": [{"INPUT0": [1.0]}]}))
        paths.append(str(path))
    host = CountingHost(tmp_path / "kept")
    async with members(("tcp://m1:1", host)) as (member,):
        with pytest.raises(PreflightError, match=f"{paths[0]} or {paths[1]}"):
            await run(member, plan_of(source="files", paths=tuple(paths)))
    assert len(host.came) == 1


async def test_a_level_without_files_ends_with_its_own_error(tmp_path: Path) -> None:
    it = plan_of()
    it = replace(it, probe=replace(it.probe, target=make_target(kind="no_fit")))
    async with members(("tcp://m1:1", CountingHost(tmp_path / "kept"))) as (member,):
        with pytest.raises(PreflightError, match="expected 16 elements, found 4"):
            await run(member, it)


async def test_a_path_that_is_given_as_a_text_stays_one(tmp_path: Path) -> None:
    """TorchServe's input may be a file that `string_data` names."""
    image = tmp_path / "a.jpg"
    image.write_bytes(b"pixels")
    facts = replace(make_facts(), inputs=(TensorSpec(FILE, "BYTES", (1,)),), max_batch_size=0)
    it = plan_of(string_data=str(image))
    it = replace(it, facts=facts, probe=replace(it.probe, target=make_target(kind="torchserve")))
    async with members(("tcp://m1:1", CountingHost(tmp_path / "kept"))) as (member,):
        sent = await Cargo().send(member._call, "m1", it, asyncio.Event())
    assert sent is not None
    there = sent.plan(it).probe
    assert there.input.string_data == str(image)
    image.unlink()
    (step,) = make_dataset(facts, there.input).steps
    (request,) = TorchServeService().encode(there, facts, [step.inputs], "s")
    assert b"pixels" in request.body


def test_no_secret_is_in_what_dask_may_log() -> None:
    """It logs its messages at its level debug, with our arguments as their repr."""
    secret = "hunter2"
    options = InputOptions(string_data=secret, parameters=(("a", secret),))
    options = replace(options, prompt=replace(DEFAULT_PROMPT, system=secret, template=secret))
    target = make_target(headers=(Header("Authorization", value=secret),))
    it = make_plan(concurrency(1))
    it = replace(it, probe=replace(it.probe, target=target, input=options))
    assert secret not in repr((it, Variables({"TOKEN": secret})))


async def test_questions_for_the_server_carry_no_input(tmp_path: Path) -> None:
    asked: list[InputOptions] = []

    class Asked(CountingHost):
        async def preflight(self, probe: object, environment: Variables) -> object:  # type: ignore[override]
            asked.append(probe.input)  # type: ignore[attr-defined]
            return make_facts()

    async with members(("tcp://m1:1", Asked(tmp_path / "kept"))) as (member,):
        it = plan_of(string_data=LONG, paths=("/data.json",), source="files").probe
        await member.preflight(it)
    assert asked == [replace(it.input, string_data="", paths=())]
