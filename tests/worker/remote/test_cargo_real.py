"""Workers of another machine, which has none of the client's files, load a real Triton with them."""

from __future__ import annotations

import json
from pathlib import Path
from urllib.parse import urlsplit

from exporter.core.outcome import Outcome, Reason
from exporter.core.probe import InputOptions, LoadLevel, MeasurementOptions, Mode, StopRules
from exporter.core.target import Header
from exporter.core.units import MS, NS
from exporter.core.window import Checked, LevelEnd, Window
from exporter.demo.triton import EmbeddedTriton
from exporter.engine.plan import LevelPlan
from exporter.payload.input_files import find_input_files
from exporter.payload.timing_files import read_intervals
from exporter.worker.remote.pool import lend_remote
from tests.builders import make_probe, make_target
from tests.programs import need_right
from tests.waiting import PATIENCE_SECONDS
from tests.worker.remote.cluster import Cluster

REQUESTS = 60


async def test_data_times_and_a_secret_come_from_the_client(tmp_path: Path, triton: EmbeddedTriton) -> None:
    """Every response is compared with what the file expects: what was sent is what the file has."""
    need_right("unshare", "--mount", "mount", "-t", "tmpfs", "none", "/mnt")
    mine, folder = tmp_path / "mine", tmp_path / "cluster"
    mine.mkdir()
    folder.mkdir()
    steps = [([float(number)] * 16, [float(number * number)] * 16) for number in range(7)]
    data, intervals, secret = mine / "data.json", mine / "intervals", mine / "token"
    expected = [{"OUTPUT0": [a + b for a, b in zip(*step, strict=True)]} for step in steps]
    inputs = [dict(zip(("INPUT0", "INPUT1"), step, strict=True)) for step in steps]
    data.write_text(json.dumps({"data": inputs, "validation_data": expected}))
    intervals.write_text("5000\n" * 20)
    secret.write_text("of-the-client\n")
    times = read_intervals(str(intervals))
    level = LoadLevel(Mode.INTERVALS, 200.0, "intervals", file=str(intervals), file_digest=times.digest)
    url = urlsplit(triton.http_url)
    probe = make_probe(
        target=make_target(host=url.hostname, port=url.port, headers=(Header("Authorization", file=str(secret)),)),
        model="addsub",
        levels=(level,),
        input=InputOptions(
            source="files", paths=(str(data),), files_digest=find_input_files([str(data)]).digest, batch_size=1
        ),
        measurement=MeasurementOptions(window_ns=100 * MS, request_timeout_ns=round(PATIENCE_SECONDS) * NS),
        stop=StopRules(max_in_flight=100, max_error_ratio=1.0),
    )
    hidden = ("unshare", "--mount", "sh", "-c", f'mount -t tmpfs none {mine} && exec "$@"', "sh")
    own = ("--local-directory", str(folder))
    with Cluster(folder, 2, enter=hidden, worker_arguments=own) as cluster:
        async with lend_remote(cluster.address, 2) as worker:
            facts = await worker.preflight(probe)
            for _ in range(2):
                plan = LevelPlan("sweep", probe, facts, level, REQUESTS, 60 * NS)
                outcomes, checked = [], Checked()
                async for event in worker.run_level(plan):
                    if isinstance(event, Window):
                        outcomes += event.columns.outcome.tolist()
                        checked += event.checked or Checked()
                        assert not event.error_text
                assert isinstance(event, LevelEnd)
                assert event.reason is Reason.REQUEST_BUDGET, event.text
                assert set(outcomes) == {Outcome.OK}
                assert (checked.wrong, checked.responses + checked.unchecked) == (0, len(outcomes))
                assert checked.responses > REQUESTS / 2
            await worker.end_sweep()
        (kept,) = folder.rglob("triton-canary-input-*")
        names = sorted(path.name for path in kept.rglob("*") if path.is_file())
        assert names == ["data.json", "intervals"], "once each, and no secret"
