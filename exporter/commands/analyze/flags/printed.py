"""A configuration document as YAML text that the daemon reads back as it is. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import yaml

from exporter.config.document import parse_value

_HEAD = """\
# The same measurement for the daemon. A command line has no schedule: set your own, and budgets that your server bears.
"""


class _Dumper(yaml.SafeDumper):
    def ignore_aliases(self, data: Any) -> bool:
        """Nobody reads an alias gladly."""
        return True


def _text(dumper: yaml.SafeDumper, value: str) -> yaml.ScalarNode:
    """Text that we would read as something else is quoted; the dumper quotes what YAML 1.1 would."""
    return dumper.represent_scalar("tag:yaml.org,2002:str", value, style=None if parse_value(value) == value else '"')


_Dumper.add_representer(str, _text)


def print_document(document: Mapping[str, Any], variables: Iterable[str]) -> str:
    """The document's text. `variables` are those of the environment that it needs."""
    text = yaml.dump(dict(document), Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=120)
    return _HEAD + "".join(f"# Needs the secret in the variable {name}.\n" for name in variables) + text
