"""The pages that name tests as their proof name such as there are, and leave out no flag; links lead somewhere, and
versions are the code's."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import numpy as np
import pytest

from exporter.analysis.latency import percentile_index, summarise
from exporter.archive import columns as archive_columns
from exporter.baseline import file_format as baseline_file
from exporter.commands.analyze.flags.table_load import MEASUREMENT
from exporter.commands.analyze.flags.table_request import INPUT
from exporter.schedule import pauses
from exporter.state import state_file as statefile
from exporter.state.history_format import SECTION_MARK

TESTS = Path(__file__).parent
DOCS = TESTS.parent / "docs"
TABLES = ("inputs.md", "requests.md")
PAGES = (*TABLES, "perf_analyzer.md")

_PROOF = re.compile(r"`(?:tests/)?((?:\w+/)*test_\w+\.py|payload/zoo/)(?:::(\w+))?`")


@pytest.mark.parametrize("page", PAGES)
def test_what_is_named_is_there(page: str) -> None:
    named = _PROOF.findall((DOCS / page).read_text())
    assert len(named) > 20
    for file, test in named:
        path = TESTS / file
        assert path.exists(), file
        if test:
            assert re.search(rf"^(async )?def {test}\(", path.read_text(), re.MULTILINE), f"{file}::{test}"


@pytest.mark.parametrize("page", TABLES)
def test_each_row_has_a_proof(page: str) -> None:
    rows = [line for line in (DOCS / page).read_text().splitlines() if line.startswith("|")]
    head = rows.index("| perf_analyzer | here | proof |")
    for row in rows[head + 2 :]:
        assert _PROOF.search(row.rsplit(" | ", 1)[1]), row


def test_each_flag_of_the_load_and_the_input_has_a_row() -> None:
    text = "".join((DOCS / page).read_text() for page in TABLES)
    flags = {flag.name for flag in (*MEASUREMENT, *INPUT) if not flag.use_instead}
    assert sorted(flag for flag in flags if not re.search(rf"`{flag}[ `]", text)) == []


def test_the_functions_that_the_architecture_follows_exist() -> None:
    rows = re.findall(r"^\| \d+ \| `([\w/.]+)` \| `([\w.]+)` \|", (DOCS / "architecture.md").read_text(), re.MULTILINE)
    assert len(rows) > 25
    missing = []
    for file, name in rows:
        body: list[ast.stmt] = ast.parse((ROOT / "exporter" / file).read_text()).body
        for part in name.split("."):
            kinds = (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
            found = [node for node in body if isinstance(node, kinds) and node.name == part]
            body = found[0].body if found else []
        if not body:
            missing.append(f"{file}: {name}")
    assert missing == []


def test_the_architecture_names_packages_that_exist() -> None:
    named = re.findall(r"`([\w/.]+(?:\.py|/))`", (DOCS / "architecture.md").read_text())
    assert len(set(named)) > 50
    assert [space for space in named if not (TESTS.parent / "exporter" / space).exists()] == []


# --- links -----------------------------------------------------------------------------------------------------------

ROOT = TESTS.parent
MARKDOWN = sorted(
    [*ROOT.glob("*.md"), *DOCS.rglob("*.md"), *ROOT.glob("helm/**/*.md")], key=lambda path: path.relative_to(ROOT)
)
_LINK = re.compile(r"\]\(([^)\s]+)\)")


def anchors(page: Path) -> set[str]:
    """Those of its headings, as GitHub makes them."""
    text = re.sub(r"^```.*?^```", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", MARKDOWN, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    for link in _LINK.findall(page.read_text()):
        if "://" in link:
            continue
        name, _, anchor = link.partition("#")
        path = page.parent / name if name else page
        assert path.exists(), link
        assert not anchor or anchor in anchors(path), link


def test_the_readme_is_one_screen() -> None:
    """What, why, a picture, two commands, five links; all documents are in the site's index, which its build checks."""
    lines = (ROOT / "README.md").read_text().splitlines()
    assert len(lines) < 60
    assert sum(line.startswith("* [") for line in lines) == 5


def test_the_example_of_the_percentiles_is_right() -> None:
    text = (DOCS / "percentiles.md").read_text()
    rows = re.findall(r"^\| (\d+) \| trunc\(([\d.]+) × 9 \+ 0\.5\) = (\d+) \| (\d+) ms \|", text, re.MULTILINE)
    assert len(rows) == 4
    sample = np.arange(1, 11, dtype=np.int64)
    for percentile, part, index, value in rows:
        assert float(part) == int(percentile) / 100
        assert percentile_index(int(percentile), 10) == int(index)
        (found,) = summarise(sample, (int(percentile),)).percentiles  # type: ignore[union-attr]
        assert found.value_ns == int(value)


# --- versions --------------------------------------------------------------------------------------------------------


def test_the_versions_that_upgrading_reports() -> None:
    assert (
        "In this release all of them are 1, except those of the baselines and of the history, which are 2."
        in " ".join((DOCS / "upgrading.md").read_text().split())
    )
    versions = (archive_columns.SCHEMA_VERSION, statefile._FORMAT_VERSION, pauses._FORMAT_VERSION)
    assert set(versions) == {1}
    assert baseline_file.FORMAT_VERSION == 2
    assert SECTION_MARK[1:].startswith(b"triton-canary history 2\0")
