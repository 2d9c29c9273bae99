"""What defines a metric: one `Family` in the `FamilyTable` of its page. The page, docs/metrics.md and the bounds of
series are made from the tables.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

PREFIX: Final = "triton_canary_"
EXPORTER_PREFIX: Final = PREFIX + "exporter_"

P: Final = ("target", "probe", "model")
"""The labels of everything that is of a probe; one that is measured from places has `place` beside them."""
L: Final = (*P, "mode", "level")
"""Those of everything that is of one of its load levels."""

Kind = Literal["gauge", "counter", "histogram"]


@dataclass(frozen=True, slots=True, eq=False)
class Family:
    """One metric family. `name` is without the suffix of its samples (`_total`, `_bucket`, ...); `labels` is without
    a bucket's `le`, and `probe_info` has the user's own beside them."""

    name: str
    kind: Kind
    help: str
    labels: tuple[str, ...]

    @property
    def sample_names(self) -> tuple[str, ...]:
        """The names of its samples: what `?name[]=` selects by."""
        suffixes = {"gauge": ("",), "counter": ("_total",), "histogram": ("_bucket", "_sum", "_count")}
        return tuple(self.name + suffix for suffix in suffixes[self.kind])


class FamilyTable:
    """Collects the families of one page, or of a part of one, in its order. `labels` are those of a family that
    names none."""

    def __init__(self, prefix: str, labels: tuple[str, ...] = ()) -> None:
        self.families: list[Family] = []
        self._prefix = prefix
        self._labels = labels

    def family(self, kind: Kind, name: str, help_text: str, labels: tuple[str, ...] | None = None) -> Family:
        """Defines one; its name gets the table's prefix."""
        family = Family(self._prefix + name, kind, help_text, self._labels if labels is None else labels)
        self.families.append(family)
        return family
