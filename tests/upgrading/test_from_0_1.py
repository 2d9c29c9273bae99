"""From release 0.1: its configuration, data directory, rules and the queries of its boards, frozen as it wrote them,
are read by this release. Nothing is set aside, changed without need, or lost."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from exporter.config import load
from exporter.metrics.exporter_families import EXPORTER_ORDER
from exporter.metrics.families import PAGE_ORDER
from tests.daemon.running import RunningDaemon
from tests.rules.test_rules import tool

FROZEN = Path(__file__).parent / "release_0_1"
ROOT = Path(__file__).parents[2]
PROBES = ("addsub", "delay", "nightly")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The data directory, its token and the configuration, in a place of the test's own."""
    shutil.copytree(FROZEN / "data", tmp_path / "data")
    (tmp_path / "token").write_text("a-token-of-the-tests\n")
    text = (FROZEN / "canary.yaml").read_text().replace("$FOLDER", str(tmp_path))
    text = text.replace("max_age: 30d", "max_age: 36500d")  # the archive's files keep their date
    (tmp_path / "frozen.yaml").write_text(text)
    return tmp_path


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_the_configuration_is_read(folder: Path) -> None:
    settings = load(folder / "frozen.yaml", {})
    assert tuple(probe.name for probe in settings.probes) == PROBES


def test_the_data_directory_is_taken_over(folder: Path) -> None:
    before = files(folder / "data")
    daemon = RunningDaemon(folder, yaml.safe_load((folder / "frozen.yaml").read_text()))
    with daemon:
        # Its server is not there: each sweep fails, and what was learnt before must survive that.
        daemon.wait_for_state("addsub", "unreachable")
        assert daemon.status("nightly")["paused"] or daemon.value("triton_canary_paused", probe="nightly") == 1
        shown = run("baseline", "show", "addsub", "--url", f"http://{daemon.address}")
        assert shown.returncode == 0, shown.stderr
        assert "addsub" in shown.stdout
        events = daemon.log_events()
    assert [event for event in events if "damaged" in event.get("msg", "")] == []
    after = files(folder / "data")
    assert [name for name in after if "damaged" in name] == []
    for name, content in before.items():
        if name.startswith("archive/"):
            # Rows of another schema go to a file beside; rows of the same are appended.
            assert after[name].startswith(content), name
    kept = json.loads(after["pauses.json"])
    assert [row["probe"] for row in kept["paused"]] == ["nightly"]


def test_the_archive_is_compared(folder: Path) -> None:
    done = run(
        "compare", "--probe", "addsub", "--probe", "delay", str(folder / "data" / "archive"), "--min-sweeps", "1"
    )
    assert done.returncode in (0, 4, 5), done.stderr
    done = run("compare", "--probe", "addsub", *[str(folder / "data" / "archive")] * 2, "--min-sweeps", "1")
    assert done.returncode == 0, done.stderr
    assert "p50" in done.stdout


def known() -> set[str]:
    """All metrics of this release, and the series that its rules record."""
    rules = yaml.safe_load((ROOT / "dashboards" / "rules" / "triton-canary.rules.yaml").read_text())
    recorded = {rule["record"] for group in rules["groups"] for rule in group["rules"] if "record" in rule}
    return recorded | {
        name for family in (*PAGE_ORDER, *EXPORTER_ORDER) for name in (family.name, *family.sample_names)
    }


def test_the_rules_of_0_1_are_rules_over_metrics_that_are_still_there() -> None:
    path = FROZEN / "triton-canary.rules.yaml"
    tool("promtool", "check", "rules", str(path))
    groups = yaml.safe_load(path.read_text())["groups"]
    own = {rule["record"] for group in groups for rule in group["rules"] if "record" in rule}
    text = " ".join(rule["expr"] for group in groups for rule in group["rules"])
    assert missing(text) - own == set()


def test_the_boards_of_0_1_show_metrics_that_are_still_there() -> None:
    assert missing((FROZEN / "board-queries.txt").read_text()) == set()


def missing(text: str) -> set[str]:
    names = set(re.findall(r"\b(triton_canary(?::|_)[a-z0-9_:]+)(?=[{\[\s)/,]|$)", text))
    assert len(names) > 10
    return names - known()


def run(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "exporter", *words], capture_output=True, text=True)
