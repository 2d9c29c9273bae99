"""What the boards' queries have in common: selectors and joins.

The contract of names and labels is the metrics page's. Every selector names job and instance, since one Prometheus may
scrape several daemons; every join names its labels, since a join that lost job or instance joins nothing, silently.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

JOB: Final = 'job=~"$job", instance=~"$instance"'
FLEET: Final = f'{JOB}, target=~"$target", model=~"$model"'
PROBE: Final = f'{FLEET}, probe="$probe"'
"""One probe: the model board shows one at a time."""
LEVEL: Final = f'{PROBE}, level="$level"'

BY_PROBE: Final = "job, instance, target, probe, model"
BY_LEVEL: Final = f"{BY_PROBE}, mode, level"


@dataclass(frozen=True, slots=True)
class Query:
    """One PromQL query and the name of its series. `table` asks for the values of now, as rows."""

    expr: str
    legend: str = ""
    table: bool = False


def metric(name: str, selector: str, **labels: str) -> str:
    """A selector of one of our metrics; `labels` are equal to these."""
    more = (f'{label}="{value}"' for label, value in labels.items())
    return f"triton_canary_{name}{{{', '.join((selector, *more))}}}"


def lightest(expr: str) -> str:
    """The series of a probe's lightest level: what a user of an idle server feels."""
    levels = metric("level_value", FLEET)
    least = f"min by ({BY_PROBE}) ({levels})"
    return f"{expr} and on ({BY_LEVEL}) ({levels} == on ({BY_PROBE}) group_left () {least})"
