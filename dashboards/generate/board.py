"""A board: its variables, links to the other boards, annotations and rows of panels."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final, Self

from grafana_foundation_sdk.builders import dashboard as builders
from grafana_foundation_sdk.models import dashboard as models

from dashboards.generate.panels import DATASOURCE, Panel
from dashboards.generate.queries import JOB

TAG: Final = "triton-canary"
GRID_WIDTH: Final = 24


@dataclass(frozen=True, slots=True)
class Annotation:
    """A mark on every graph at each moment at which the expression has a value; with `value_is_time` at the moments
    that are its values, in milliseconds since 1970."""

    name: str
    expr: str
    title: str
    text: str
    color: str
    value_is_time: bool = False

    def document(self) -> dict[str, Any]:
        """The kit knows no Prometheus annotations, so these are written out."""
        return {
            "datasource": {"type": DATASOURCE.type_val, "uid": DATASOURCE.uid},
            "enable": True,
            "expr": self.expr,
            "hide": False,
            "iconColor": self.color,
            "name": self.name,
            "step": "60s",
            "tagKeys": "target,probe",
            "textFormat": self.text,
            "titleFormat": self.title,
            "useValueForTime": self.value_is_time,
        }


def changed(info: str, by: str, what: str) -> str:
    """Where a label of an info metric has a value that it did not have in the quarter of an hour before, though the
    metric was there: a restart of the daemon or a lost scrape is no change. Going back within that time isn't seen."""
    before = f"last_over_time({info}[15m] offset 1m)"
    now = f"max by ({by}, {what}) ({info})"
    known = f"max by ({by}) ({before})"
    return f"({now} unless on ({by}, {what}) max by ({by}, {what}) ({before})) and on ({by}) {known}"


@dataclass(slots=True)
class Board:
    """Rows are laid out in order; a row's panels share one height and fill the grid's width."""

    uid: str
    title: str
    description: str
    refresh: str = "1m"
    span: str = "now-24h"
    annotations: list[Annotation] = field(default_factory=list)
    _variables: list[Any] = field(default_factory=list)
    _panels: list[Any] = field(default_factory=list)
    _bottom: int = 0

    def __post_init__(self) -> None:
        self._variables.append(builders.DatasourceVariable("datasource").label("Data source").type("prometheus"))
        self.many("job", "Job", "label_values(triton_canary_exporter_build_info, job)")
        self.many("instance", "Instance", 'label_values(triton_canary_exporter_build_info{job=~"$job"}, instance)')

    def many(self, name: str, label: str, query: str, *, without: bool = False) -> None:
        """A variable that may be several values, or all; with `without` all has also what lacks the label."""
        variable = _query_variable(name, label, query).multi(True).include_all(True)
        self._variables.append(variable.all_value(".*" if without else ".+"))

    def one(self, name: str, label: str, query: str, *, numeric: bool = False) -> None:
        """A variable that is one value; the first is chosen by itself."""
        sort = models.VariableSort.NUMERICAL_ASC if numeric else models.VariableSort.ALPHABETICAL_ASC
        self._variables.append(_query_variable(name, label, query).sort(sort))

    def choice(self, name: str, label: str, chosen: str, values: list[str]) -> None:
        """A variable that is one of these values."""
        options = [models.VariableOption(text=value, value=value, selected=value == chosen) for value in values]
        current = models.VariableOption(text=chosen, value=chosen, selected=True)
        variable = builders.CustomVariable(name).label(label).values(",".join(values)).options(options)
        self._variables.append(variable.current(current))

    def row(self, title: str, *rows: tuple[int, list[Panel]]) -> Self:
        """A heading and lines of panels below it: each line's height, and its panels, whose widths add up to the
        grid's."""
        self._panels.append(builders.Row(title).grid_pos(models.GridPos(h=1, w=GRID_WIDTH, x=0, y=self._bottom)))
        self._bottom += 1
        for height, panels in rows:
            left = 0
            for panel in panels:
                position = models.GridPos(h=height, w=panel.width, x=left, y=self._bottom)
                self._panels.append(panel.builder.grid_pos(position))
                left += panel.width
            if left != GRID_WIDTH:
                raise ValueError(f"{self.uid}, {title!r}: a line of panels is {left} wide, not {GRID_WIDTH}")
            self._bottom += height
        return self

    def build(self) -> models.Dashboard:
        board = builders.Dashboard(self.title).uid(self.uid).description(self.description).tags([TAG]).readonly()
        board.tooltip(models.DashboardCursorSync.CROSSHAIR).time(self.span, "now").refresh(self.refresh)
        link = builders.DashboardLink("Triton Canary").type(models.DashboardLinkType.DASHBOARDS).tags([TAG])
        board.link(link.include_vars(True).keep_time(True))
        for variable in self._variables:
            board.with_variable(variable)
        built = board.build()
        built.panels = [panel.build() for panel in self._panels]
        return built


def change_annotations(selector: str) -> list[Annotation]:
    """What most often explains a step in a graph."""
    by = "job, instance, target, probe, model"
    info = f"triton_canary_probe_info{{{selector}, %s}}"
    of_daemon = f"triton_canary_exporter_config_info{{{JOB}}}"
    gate = "job, instance, stable, candidate"
    verdict = f"max by ({gate}, verdict) (triton_canary_exporter_gate_verdict{{{JOB}}} == 1)"
    ended = f"max by ({gate}) (triton_canary_exporter_gate_end_timestamp_seconds{{{JOB}}})"
    return [
        Annotation(
            name="Served version changed",
            expr=changed(info % 'version!=""', by, "version"),
            title="Served version changed",
            text="{{target}}, {{probe}}: now version {{version}}",
            color="purple",
        ),
        Annotation(
            name="Model configuration changed",
            expr=changed(info % 'model_config_hash!=""', by, "model_config_hash"),
            title="Model configuration changed",
            text="{{target}}, {{probe}}: now {{model_config_hash}}",
            color="orange",
        ),
        Annotation(
            name="Probe changed",
            expr=changed(info % 'config_hash!=""', by, "config_hash"),
            title="Configuration of the probe changed",
            text="{{target}}, {{probe}}: now {{config_hash}}",
            color="blue",
        ),
        Annotation(
            name="Exporter configuration changed",
            expr=changed(of_daemon, "job, instance", "hash"),
            title="Configuration of the exporter changed",
            text="{{instance}}: now {{hash}}",
            color="super-light-blue",
        ),
        Annotation(
            name="Rollout gate ended",
            expr=f"{verdict} * on ({gate}) group_left () {ended} * 1000",
            title="Rollout gate ended",
            text="{{candidate}} against {{stable}}: {{verdict}}",
            color="yellow",
            value_is_time=True,
        ),
    ]


def level_annotations(selector: str) -> list[Annotation]:
    """When a level's latency changed, by its change points: found hours after, and marked where it was."""
    by = "job, instance, target, probe, model, mode, level"
    moment = f"max by ({by}) (triton_canary_change_timestamp_seconds{{{selector}}}) * 1000"
    ratio = f"max by ({by}) (triton_canary_change_ratio{{{selector}}})"
    return [
        Annotation(
            name=f"Became {what}",
            expr=f"{moment} and on ({by}) {ratio} {condition}",
            title=f"Became {what} (change point)",
            text="{{target}}, {{probe}}: {{mode}} {{level}}",
            color=color,
            value_is_time=True,
        )
        for what, condition, color in (("slower", "> 1", "red"), ("faster", "< 1", "green"))
    ]


def _query_variable(name: str, label: str, query: str) -> builders.QueryVariable:
    variable = builders.QueryVariable(name).label(label).query(query).datasource(DATASOURCE)
    return variable.refresh(models.VariableRefresh.ON_TIME_RANGE_CHANGED).sort(models.VariableSort.ALPHABETICAL_ASC)
