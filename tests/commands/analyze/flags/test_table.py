"""The table against perf_analyzer's own list of flags, and the page against the table."""

from __future__ import annotations

import re
import shlex
from collections import Counter
from pathlib import Path

import pytest

from exporter.commands.analyze.flags.command_line import parse
from exporter.commands.analyze.flags.flag import Key
from exporter.commands.analyze.flags.help import help_text, reference
from exporter.commands.analyze.flags.table import FLAGS, GROUPS

# The names in the long_options table and the short options' text of perf_analyzer 2.60's command_line_parser.cc.
THEIRS = (Path(__file__).parent / "perf_analyzer_flags.txt").read_text().split()
PAGE = Path(__file__).parents[4] / "docs" / "analyze.md"
OURS_BESIDE = {"--verbose", "--help", "-h"}


def test_every_flag_of_perf_analyzer_is_known() -> None:
    assert len(THEIRS) == 67 + 17
    assert set(THEIRS) <= FLAGS.keys()


def test_all_but_the_last_group_are_perf_analyzers() -> None:
    names = {name for _, flags in GROUPS[:-1] for flag in flags for name in flag.names}
    assert names - OURS_BESIDE == set(THEIRS)


def test_no_name_is_there_twice() -> None:
    names = Counter(name for _, flags in GROUPS for flag in flags for name in flag.names)
    assert [name for name, count in names.items() if count > 1] == []


@pytest.mark.parametrize("name", FLAGS)
def test_the_help_has_every_flag(name: str) -> None:
    assert f"{name} " in help_text() or f"{name}, " in help_text()


def test_the_help_begins_with_examples_that_are_command_lines() -> None:
    examples = re.findall(r"^  triton-canary analyze ([^>\n]*)", help_text().partition("Exit codes")[0], re.MULTILINE)
    assert len(examples) == 3
    for example in examples:
        probe = parse(shlex.split(example)).probe
        assert probe is not None
        assert probe.model == "resnet"


def test_no_key_is_set_by_two_flags() -> None:
    keys = Counter(flag.effect.key for _, flags in GROUPS for flag in flags if isinstance(flag.effect, Key))
    assert set(keys.values()) == {1}


def test_the_page_has_the_table() -> None:
    assert PAGE.read_text().endswith(f"## All flags\n\n{reference().strip()}\n"), "after a change: make reference"
