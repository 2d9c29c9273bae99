"""docs/install.md: what it shows is right, and what it names is there."""

from __future__ import annotations

import re
from pathlib import Path

import yaml

from exporter.schedule.sharding import Shard
from tests.rules.test_rules import RULES, tool

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs" / "install.md").read_text()


def test_prometheus_takes_its_configuration(tmp_path: Path) -> None:
    (block,) = re.findall(r"```yaml\n# prometheus\.yml\n(.+?)```", TEXT, re.DOTALL)
    configuration = yaml.safe_load(block)
    (rules,) = configuration["rule_files"]
    assert Path(rules).name in [path.name for path in RULES.iterdir()]
    configuration["rule_files"] = [str(RULES / Path(rules).name)]
    path = tmp_path / "prometheus.yml"
    path.write_text(yaml.safe_dump(configuration))
    tool("promtool", "check", "config", str(path))


def test_what_it_names_is_there() -> None:
    paths = re.findall(r"\b(?:(?:packaging|dashboards|helm)/[\w./-]*\w|constraints\.txt)", TEXT)
    assert len(paths) > 8
    for path in paths:
        assert (ROOT / path).exists(), path
    for link in re.findall(r"\]\(([^)#]+)", TEXT):
        assert (ROOT / "docs" / link).exists(), link


def test_its_shards_are_all_of_them() -> None:
    shown = [Shard.parse(text) for text in re.findall(r"--shard (\S+)", TEXT)]
    assert shown == [Shard(index, 3) for index in range(3)]


def test_the_parts_of_the_image_add_up() -> None:
    (total,) = re.findall(r"(\d+) \(\d+\) MB `/opt/triton-canary`", TEXT)
    parts = [int(number) for number in re.findall(r"^\| [^|]+ \| (\d+) \|", TEXT, re.MULTILINE)]
    assert sum(parts) == int(total)
