"""The pages that name tests as their proof name such as there are, and leave out no flag."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from exporter.config.flags.table_load import MEASUREMENT
from exporter.config.flags.table_request import INPUT

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


def test_the_architecture_names_rooms_that_there_are() -> None:
    named = re.findall(r"`([\w/.]+(?:\.py|/))`", (DOCS / "architecture.md").read_text())
    assert len(set(named)) > 50
    assert [room for room in named if not (TESTS.parent / "exporter" / room).exists()] == []
