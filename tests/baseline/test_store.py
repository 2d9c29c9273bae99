"""The baseline files: there and back, damage, a full disk, a kill."""

from __future__ import annotations

import json
import logging
import math
import os
import re
import signal
import subprocess
import sys
from array import array
from dataclasses import replace
from pathlib import Path

import pytest

from exporter.baseline.baseline import Modes, SignalBaseline, Usual
from exporter.baseline.file_format import DamagedBaselineError, decode, encode
from exporter.baseline.history import History
from exporter.baseline.judge import judge
from exporter.baseline.key import baseline_key
from exporter.baseline.state import LevelState, LoadState, Pin, ProbeBaselines, VersionState
from exporter.baseline.store import BaselineStore, baseline_path
from exporter.baseline.verdict import TierState
from exporter.core.outcome import SweepStatus
from exporter.core.probe import BaselineOptions, Schedule, Signal
from exporter.core.result import Measurement
from exporter.core.units import NS
from tests.builders import make_probe
from tests.metrics.results import make_measurement, make_result, make_summary
from tests.waiting import becomes_true

BEGIN = 1_767_225_600.0


def make_version(rows: int = 3) -> VersionState:
    hours = array("d", [16.0 + hour / 64 for hour in range(168)])
    history = History()
    for n in range(rows):
        logs = {Signal.LATENCY_P50: 16.1234, Signal.THROUGHPUT: 5.5}
        history.add(BEGIN + 300 * n, logs, unstable=n % 2 == 1, kept_s=28 * 86_400)
    usual = {"page": Usual(0.01, 0.02, 0.2, 0.25)}
    modes = Modes(0.5, 0.1, 0.25, 900.0)
    p50 = SignalBaseline(hours, 0.03125, 288, "Europe/Berlin", usual, 2.0, modes)
    return VersionState(
        history=history,
        components=[(BEGIN, {"queue": 1000.0})],
        pin=Pin(BEGIN, True, {Signal.LATENCY_P50: p50}, {"queue": 1000.5}, BEGIN - 600, True),
        tiers={(Signal.LATENCY_P50, "page"): TierState("0011", True, 2, BEGIN + 600, BEGIN)},
        tail=[(BEGIN, 16.5, 100)],
        lower_unix_s={Signal.LATENCY_P50: BEGIN},
        against="1",
        seen_unix_s=BEGIN + 600,
        tried_unix_s=BEGIN,
        note='a "note"\nof two lines',
    )


def make_baselines(rows: int = 3) -> ProbeBaselines:
    level = LevelState("1", {"1": make_version(rows), "2 é": VersionState()})
    return ProbeBaselines({"t m abc": LoadState({"concurrency 1": level}, BEGIN)})


# --- the text --------------------------------------------------------------------------------------------------------


def test_there_and_back() -> None:
    assert decode(encode("asr", make_baselines()), "asr") == make_baselines()
    assert decode(encode("asr", ProbeBaselines()), "asr") == ProbeBaselines()


def test_four_weeks_of_a_level_are_small() -> None:
    assert len(encode("asr", make_baselines(rows=8064))) < 100_000


def test_every_damaged_byte_is_found() -> None:
    text = encode("asr", make_baselines())
    for at in range(0, len(text), 7):
        changed = text[:at] + chr(ord(text[at]) ^ 1) + text[at + 1 :]
        if json.loads(text.partition("\n")[0]) != _header(changed):
            continue  # the header itself: below
        with pytest.raises(DamagedBaselineError):
            decode(changed, "asr")
    for end in range(len(text) - 2):
        with pytest.raises(DamagedBaselineError):
            decode(text[:end], "asr")


def _header(text: str) -> object:
    try:
        return json.loads(text.partition("\n")[0])
    except ValueError:
        return None


def signed(body: str) -> str:
    """A text whose checksum is right, whatever is in it."""
    import hashlib

    return f'{{"triton_canary_baseline": 2, "sha256": "{hashlib.sha256(body.encode()).hexdigest()}"}}\n{body}\n'


GOOD_BODY = encode("asr", make_baselines()).split("\n", maxsplit=2)[1]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "no version and checksum"),
        ("[]\n{}", "no version and checksum"),
        ('{"triton_canary_baseline": 3, "sha256": ""}\n{}', "version 3, not 2"),
        ('{"triton_canary_baseline": 1, "sha256": "0"}\n{}', "checksum"),
        (signed("{}"), "content"),
        (signed("null"), "content"),
        (signed(GOOD_BODY.replace("0.03125", '"0.03125"')), "content"),
        (signed(GOOD_BODY.replace("0.03125", "NaN")), "content"),
        (signed(GOOD_BODY.replace("16.0,", "", 1)), "167 hours in a week"),
        (signed(GOOD_BODY.replace("Europe/Berlin", "Europe/Berlim")), "no time zone"),
        (signed(re.sub('"unix_s":"....', '"unix_s":"////', GOOD_BODY)), "content"),
        (signed(re.sub('"unix_s":"....', '"unix_s":"é', GOOD_BODY)), "content"),
        (signed(GOOD_BODY.replace('"latency_p50"', '"latency_p51"')), "content"),
        (signed(GOOD_BODY.replace('"probe":"asr"', '"probe":"tts"')), "of probe 'tts', not of 'asr'"),
    ],
)
def test_what_is_never_read_as_good(text: str, problem: str) -> None:
    with pytest.raises(DamagedBaselineError, match=problem):
        decode(text, "asr")


# --- the files -------------------------------------------------------------------------------------------------------


def test_a_restart_changes_nothing(tmp_path: Path) -> None:
    """Sweeps before and after a restart are judged as without one."""
    options = BaselineOptions(pin_ns=4 * 3600 * NS, provisional_ns=3600 * NS, counts_interval_ns=60 * NS)
    probe = make_probe(schedule=Schedule(60 * NS), baseline=options)

    def tiers(*restarts: int) -> list[object]:
        directory = tmp_path / str(restarts)
        store, found = BaselineStore(directory, lambda: BEGIN), []
        for sweep in range(280):
            if sweep in restarts:
                store.close()
                store = BaselineStore(directory, lambda: BEGIN)
            result = make_result(probe, started_unix_s=BEGIN + 60 * sweep, measurements=(at_sweep(sweep),))
            found.append(store.judge(result))
        store.close()
        signals = [signal for result in found for signal in result.verdicts[0].signals]
        return [(dict(signal.tiers), signal.withheld) for signal in signals]

    assert tiers(10, 75, 245, 258, 259) == tiers()
    assert tiers()[-3] == ({"page": True, "warn": True, "slow": False}, "")


def at_sweep(sweep: int) -> Measurement:
    return make_measurement(foreign_requests=0, latency=make_summary(8.0 if sweep >= 250 else 4.0))


def test_a_sweep_gets_its_verdicts_and_a_failed_one_none(tmp_path: Path) -> None:
    store = BaselineStore(tmp_path, lambda: BEGIN)
    (verdict,) = store.judge(make_result()).verdicts
    assert [signal.tiers for signal in verdict.signals] == [{}, {}, {}]
    failed = make_result(status=SweepStatus.FAILED)
    assert store.judge(failed) is failed
    off = make_result(make_probe(name="off", baseline=BaselineOptions(enabled=False)))
    assert store.judge(off) is off
    store.close()
    assert [path.name for path in tmp_path.iterdir()] == ["addsub.baseline"]


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe", encode("addsub", make_baselines()).encode()[:-20]])
def test_a_damaged_file_is_set_aside_named_and_not_used(
    tmp_path: Path, content: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    path = baseline_path(tmp_path, "addsub")
    path.write_bytes(content)
    store = BaselineStore(tmp_path)
    assert store.state("addsub") == ProbeBaselines()
    assert (path.exists(), (tmp_path / "addsub.baseline.damaged").read_bytes()) == (False, content)
    (record,) = caplog.records
    assert record.message == "baseline file is damaged and not used"
    assert record.fields["set_aside_as"] == "addsub.baseline.damaged"  # type: ignore[attr-defined]
    assert record.fields["file"] == str(path)  # type: ignore[attr-defined]
    store.close()


def test_hostile_names_stay_in_the_directory(tmp_path: Path) -> None:
    for name in ("../evil", "/etc/x", ".", "a b"):
        assert baseline_path(tmp_path, name).parent == tmp_path


def test_a_full_disk_keeps_the_file_that_there_was(small_disk: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    store, path = BaselineStore(small_disk), baseline_path(small_disk, "addsub")
    store.put("addsub", make_baselines())
    assert becomes_true(path.exists)
    kept = path.read_bytes()
    ballast = small_disk / "ballast"
    ballast.write_bytes(b"x" * (200 * 1024))
    for errors in (1, 2):
        store.put("addsub", make_baselines(rows=8064))
        assert becomes_true(lambda errors=errors: store.write_errors == errors)  # type: ignore[misc]
    assert path.read_bytes() == kept
    assert becomes_true(lambda: store.write_problem.endswith(f"{path} cannot be written: No space left on device"))
    assert [record.message for record in caplog.records] == ["baseline file cannot be written"]
    assert "No space left on device" in caplog.records[0].fields["error"]  # type: ignore[attr-defined]
    ballast.unlink()
    store.put("addsub", make_baselines(rows=8064))
    store.close()
    assert store.write_problem == ""
    assert BaselineStore(small_disk).state("addsub") == make_baselines(rows=8064)
    assert caplog.records[-1].message == "baseline files can be written again"


WRITE_FOR_EVER = """
import sys
from pathlib import Path
from exporter.baseline.store import BaselineStore
from tests.baseline.test_store import make_baselines
store, rows = BaselineStore(Path(sys.argv[1])), 1
while True:
    store.put("addsub", make_baselines(rows % 2000))
    rows += 1
    print(rows, flush=True)
"""


def test_a_kill_at_any_moment_leaves_a_whole_file(tmp_path: Path) -> None:
    for attempt in range(4):
        command = [sys.executable, "-c", WRITE_FOR_EVER, str(tmp_path)]
        with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
            assert process.stdout is not None
            assert becomes_true(baseline_path(tmp_path, "addsub").exists)
            for _ in range(20 + 37 * attempt):
                process.stdout.readline()
            os.kill(process.pid, signal.SIGKILL)
        store = BaselineStore(tmp_path)
        assert store.state("addsub").loads["t m abc"].levels["concurrency 1"].versions["1"].history
        assert not list(tmp_path.glob("*.damaged"))
        store.close()


def test_the_key_is_of_target_model_and_load() -> None:
    probe = make_probe()
    assert baseline_key(probe) == "triton-http addsub 4df8163cc681"
    assert baseline_key(replace(probe, name="other")) == baseline_key(probe)


def test_a_line_of_the_log_for_each_transition(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "exporter.baseline")
    options = BaselineOptions(pin_ns=2 * 3600 * NS, provisional_ns=3600 * NS, counts_interval_ns=60 * NS)
    probe, store = make_probe(schedule=Schedule(60 * NS), baseline=options), BaselineStore(tmp_path, lambda: BEGIN)
    for sweep in range(180):
        slow = make_summary(8.0 if 130 <= sweep < 150 else 4.0)
        measurements = (make_measurement(latency=slow),)
        store.judge(make_result(probe, started_unix_s=BEGIN + 60 * sweep, measurements=measurements))
    store.close()
    lines = [
        (record.levelname, record.getMessage(), record.fields.get("signal"), record.fields.get("tier"))  # type: ignore[attr-defined]
        for record in caplog.records
    ]
    p50 = [line for line in lines if line[2] in (None, "latency_p50")]
    assert p50 == [
        ("INFO", "baseline pinned", None, None),
        ("INFO", "baseline pinned", None, None),
        ("WARNING", "regression began", "latency_p50", "page"),
        ("WARNING", "regression began", "latency_p50", "warn"),
        ("INFO", "regression ended", "latency_p50", "page"),
        ("INFO", "regression ended", "latency_p50", "warn"),
    ]
    assert caplog.records[0].fields["baseline_level"] == "concurrency 1"  # type: ignore[attr-defined]


# --- files of earlier releases ---------------------------------------------------------------------------------------

OLD_FILES = sorted((Path(__file__).parent / "old_files").glob("*.v1.baseline"))


@pytest.mark.parametrize("path", OLD_FILES, ids=lambda path: path.name)
def test_a_file_of_an_earlier_release_is_taken_over(
    path: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "exporter.baseline")
    name = path.name.removesuffix(".v1.baseline")
    baseline_path(tmp_path, name).write_bytes(path.read_bytes())
    store = BaselineStore(tmp_path, lambda: BEGIN)
    (load,) = store.state(name).loads.values()
    level = load.levels["concurrency 1"]
    state = level.versions["1"]
    assert state.pin is not None
    assert (state.pin.provisional, state.pin.old_form) == (name == "provisional", name != "provisional")
    assert math.exp(state.pin.signals[Signal.LATENCY_P50].at(BEGIN)) == pytest.approx(20e6, rel=0.02)
    assert state.tiers[Signal.LATENCY_P50, "page"].holds is (name == "regressed")
    assert len(state.history) > 60
    assert ("2" in level.versions) is (name == "two-versions")
    (record,) = caplog.records
    assert "of an earlier release is read" in record.message
    store.changed(name)
    store.close()
    assert encode(name, BaselineStore(tmp_path).state(name)) == encode(name, store.state(name))
    assert json.loads(baseline_path(tmp_path, name).read_text().partition("\n")[0])["triton_canary_baseline"] == 2


def test_a_pin_of_an_earlier_release_is_made_again_at_its_level() -> None:
    path = next(path for path in OLD_FILES if path.name.startswith("pinned"))
    (load,) = decode(path.read_text(), "pinned").loads.values()
    state = load.levels["concurrency 1"].versions["1"]
    last_s = state.history.last_unix_s
    probe = make_probe(schedule=Schedule(3600 * NS))
    slower = make_measurement(latency=make_summary(22.0), throughput=45.0)
    for hour in range(1, 40):
        judge(load, make_result(probe, started_unix_s=last_s + 3600 * hour, duration_ns=0, measurements=(slower,)))
    assert state.pin is not None
    assert not state.pin.old_form
    assert math.exp(state.pin.signals[Signal.LATENCY_P50].at(last_s)) == pytest.approx(20e6, rel=0.02)
