"""The kinds of panels that the boards are made of, each with a title, a description, a unit and its queries."""

from __future__ import annotations

import string
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from grafana_foundation_sdk.builders import (
    barchart,
    common,
    dashboard,
    prometheus,
    stat,
    statetimeline,
    table,
    timeseries,
    trend,
)
from grafana_foundation_sdk.models import common as shapes
from grafana_foundation_sdk.models import dashboard as models
from grafana_foundation_sdk.models.prometheus import PromQueryFormat

from dashboards.generate.queries import Query

DATASOURCE: Final = models.DataSourceRef(type_val="prometheus", uid="${datasource}")

GREEN, YELLOW, ORANGE, RED, BLUE, GREY = "green", "yellow", "orange", "red", "blue", "text"
PERCENTILE_COLORS: Final = {"p50": "green", "p90": "yellow", "p95": "light-orange", "p99": "orange", "p99.9": "red"}
COMPONENT_COLORS: Final = {
    "client_send": "light-blue",
    "client_receive": "blue",
    "network": "dark-blue",
    "server_overhead": "purple",
    "queue": "orange",
    "compute_input": "light-green",
    "compute_infer": "green",
    "compute_output": "dark-green",
    "prefill": "light-green",
    "decode": "green",
    "composing": "semi-dark-yellow",
    "cache_hit": "light-purple",
    "cache_miss": "dark-purple",
    "unaccounted": "text",
}
"""The way of a request from blue (ours) over orange (waiting) to green (the model's work)."""
GRID_HALF: Final = 12
TIMES: Final = "suffix:×"
"""A ratio of two like figures, 1 is no change."""


@dataclass(frozen=True, slots=True)
class Panel:
    """A panel, and its width in the board's 24 columns."""

    builder: Any
    width: int


@dataclass(frozen=True, slots=True)
class Column:
    """One column of figures in a table: its query, heading, unit, and the colours of its values from a limit on. One
    without a heading is not shown: only its labels are wanted."""

    expr: str
    title: str
    unit: str = "short"
    limits: tuple[tuple[float | None, str], ...] = ()
    words: Mapping[str, tuple[str, str]] | None = None


def lines(
    title: str,
    description: str,
    unit: str,
    *queries: Query,
    width: int = 12,
    stacked: bool = False,
    colors: Mapping[str, str] | None = None,
    dashed: Sequence[str] = (),
    minimum: float | None = 0,
    maximum: float | None = None,
) -> Panel:
    """Lines over time. A result stays on the page until the next sweep, so it is drawn as steps, without points."""
    panel = timeseries.Panel().unit(unit).legend(_legend()).tooltip(_tooltip())
    panel.line_width(1).fill_opacity(60 if stacked else 0).show_points(shapes.VisibilityMode.NEVER)
    panel.line_interpolation(shapes.LineInterpolation.STEP_AFTER)
    if stacked:
        panel.stacking(common.StackingConfig().mode(shapes.StackingMode.NORMAL).group("A"))
    _bounds(panel, minimum, maximum)
    _fixed(panel, colors or {})
    for name in dashed:
        style = {"fill": "dash", "dash": [6, 6]}
        panel.override_by_name(name, [models.DynamicConfigValue("custom.lineStyle", style)])
    return _finished(panel, title, description, queries, width)


def number(
    title: str,
    description: str,
    unit: str,
    query: Query,
    *,
    width: int,
    limits: Sequence[tuple[float | None, str]] = ((None, GREEN),),
    words: Mapping[str, tuple[str, str]] | None = None,
    decimals: int | None = None,
    as_name: bool = False,
) -> Panel:
    """One figure of now, coloured by the limit it is over. `as_name` shows the series' name in its place."""
    panel = stat.Panel().unit(unit).graph_mode(shapes.BigValueGraphMode.NONE)
    panel.color_mode(shapes.BigValueColorMode.VALUE).thresholds(_thresholds(limits))
    panel.reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]))
    panel.text_mode(shapes.BigValueTextMode.NAME if as_name else shapes.BigValueTextMode.VALUE)
    if words:
        panel.mappings([_words(words)])
    if decimals is not None:
        panel.decimals(decimals)
    return _finished(panel, title, description, (query,), width)


def states(title: str, description: str, *queries: Query, words: Mapping[str, tuple[str, str]], width: int) -> Panel:
    """Bands of states over time."""
    panel = statetimeline.Panel().unit("none").mappings([_words(words)]).fill_opacity(70).line_width(0)
    panel.row_height(0.8).show_value(shapes.VisibilityMode.NEVER).merge_values(True)
    panel.legend(_legend()).thresholds(_thresholds(((None, GREY),)))
    return _finished(panel, title, description, queries, width)


def rows(
    title: str,
    description: str,
    labels: Mapping[str, str],
    *columns: Column,
    width: int = 24,
    links: Mapping[str, tuple[str, str]] | None = None,
) -> Panel:
    """A table: a line for each set of labels (label to heading, in order), a column for each query. `links` are those
    of a heading: a title and an address."""
    panel = table.Panel().unit("short").show_header(True)
    targets = [Query(column.expr, table=True) for column in columns]
    # A single query's value is called "Value", those of several by their letter.
    values = [f"Value #{letter}" for letter in string.ascii_uppercase[: len(columns)]] if columns[1:] else ["Value"]
    names = {**labels, **{value: column.title for value, column in zip(values, columns, strict=True) if column.title}}
    panel.with_transformation(models.DataTransformerConfig("merge", options={}))
    keep = {"include": {"names": list(names)}}
    panel.with_transformation(models.DataTransformerConfig("filterFieldsByName", options=keep))
    order = {name: place for place, name in enumerate(names)}
    options = {"excludeByName": {}, "indexByName": order, "renameByName": names}
    panel.with_transformation(models.DataTransformerConfig("organize", options=options))
    for column in filter(lambda column: column.title, columns):
        panel.override_by_name(column.title, _cell(column))
    for heading, (text, address) in (links or {}).items():
        link = [{"title": text, "url": address, "targetBlank": False}]
        panel.override_by_name(heading, [models.DynamicConfigValue("links", link)])
    return _finished(panel, title, description, targets, width)


def curve(
    title: str,
    description: str,
    unit: str,
    x: Query,
    x_title: str,
    *ys: Query,
    width: int = 8,
    x_unit: str = "short",
    colors: Mapping[str, str] | None = None,
) -> Panel:
    """Figures of the last sweep against another of the same levels. Every query gives one series a level."""
    panel = _curve_panel(unit, x_title, colors or {})
    queries = [Query(query.expr, query.legend, table=True) for query in (x, *ys)]
    panel.with_transformation(models.DataTransformerConfig("merge", options={}))
    names = {f"Value #{letter}": query.legend for letter, query in zip(string.ascii_uppercase, queries, strict=False)}
    names["Value #A"] = x_title
    keep = {"include": {"names": list(names)}}
    panel.with_transformation(models.DataTransformerConfig("filterFieldsByName", options=keep))
    order = {name: place for place, name in enumerate(names)}
    options = {"excludeByName": {}, "indexByName": order, "renameByName": names}
    panel.with_transformation(models.DataTransformerConfig("organize", options=options))
    panel.with_transformation(models.DataTransformerConfig("sortBy", options=_sort(x_title)))
    panel.override_by_name(x_title, [models.DynamicConfigValue("unit", x_unit)])
    return _finished(panel, title, description, queries, width)


def curves(title: str, description: str, unit: str, query: Query, *, by: str, width: int = 12) -> Panel:
    """One figure of the last sweep against the level, a line for each value of the label `by`."""
    x_title = f"level\\{by}"
    panel = _curve_panel(unit, x_title, {})
    panel.with_transformation(_matrix("level", by))
    numeric = {"conversions": [{"targetField": x_title, "destinationType": "number"}], "fields": {}}
    panel.with_transformation(models.DataTransformerConfig("convertFieldType", options=numeric))
    panel.with_transformation(models.DataTransformerConfig("sortBy", options=_sort(x_title)))
    panel.override_by_name(x_title, [models.DynamicConfigValue("unit", "short")])
    return _finished(panel, title, description, [Query(query.expr, table=True)], width)


def bars(
    title: str,
    description: str,
    unit: str,
    query: Query,
    *,
    along: str,
    by: str,
    width: int = 12,
    stacked: bool = False,
    colors: Mapping[str, str] | None = None,
) -> Panel:
    """Figures of the last sweep: a place for each value of the label `along`, a bar (or a part) for each of `by`."""
    panel = barchart.Panel().unit(unit).legend(_legend()).x_field(f"{along}\\{by}").fill_opacity(80).line_width(0)
    panel.orientation(shapes.VizOrientation.VERTICAL)
    wide = not stacked and width >= GRID_HALF
    panel.show_value(shapes.VisibilityMode.AUTO if wide else shapes.VisibilityMode.NEVER).min(0)
    if stacked:
        panel.stacking(shapes.StackingMode.NORMAL)
    panel.with_transformation(_matrix(along, by))
    _fixed(panel, colors or {})
    return _finished(panel, title, description, [Query(query.expr, table=True)], width)


def _curve_panel(unit: str, x_title: str, colors: Mapping[str, str]) -> trend.Panel:
    panel = trend.Panel().unit(unit).x_field(x_title).legend(_legend()).tooltip(_tooltip()).min(0)
    panel.line_width(2).fill_opacity(0).show_points(shapes.VisibilityMode.ALWAYS).point_size(6)
    _fixed(panel, colors)
    return panel


def _matrix(row: str, column: str) -> models.DataTransformerConfig:
    options = {"columnField": column, "rowField": row, "valueField": "Value", "emptyValue": "null"}
    return models.DataTransformerConfig("groupingToMatrix", options=options)


def _sort(by: str) -> dict[str, Any]:
    return {"fields": {}, "sort": [{"field": by, "desc": False}]}


def _finished(panel: Any, title: str, description: str, queries: Sequence[Query], width: int) -> Panel:
    panel.title(title).description(description).datasource(DATASOURCE)
    for letter, query in zip(string.ascii_uppercase, queries, strict=False):
        target = prometheus.Dataquery().ref_id(letter).expr(query.expr).datasource(DATASOURCE)
        if query.table:
            target.format(PromQueryFormat.TABLE).instant()
        else:
            target.legend_format(query.legend).range()
        panel.with_target(target)
    return Panel(panel, width)


def _legend() -> common.VizLegendOptions:
    legend = common.VizLegendOptions().show_legend(True).display_mode(shapes.LegendDisplayMode.LIST)
    return legend.placement(shapes.LegendPlacement.BOTTOM).calcs([])


def _tooltip() -> common.VizTooltipOptions:
    return common.VizTooltipOptions().mode(shapes.TooltipDisplayMode.MULTI).sort(shapes.SortOrder.NONE)


def _bounds(panel: Any, minimum: float | None, maximum: float | None) -> None:
    if minimum is not None:
        panel.axis_soft_min(minimum)
    if maximum is not None:
        panel.axis_soft_max(maximum)


def _fixed(panel: Any, colors: Mapping[str, str]) -> None:
    for name, color in colors.items():
        panel.override_by_name(name, [models.DynamicConfigValue("color", {"mode": "fixed", "fixedColor": color})])


def _thresholds(limits: Sequence[tuple[float | None, str]]) -> dashboard.ThresholdsConfig:
    steps = [models.Threshold(value, color) for value, color in limits]
    return dashboard.ThresholdsConfig().mode(models.ThresholdsMode.ABSOLUTE).steps(steps)


def _words(words: Mapping[str, tuple[str, str]]) -> models.ValueMap:
    shown = enumerate(words.items())
    return models.ValueMap(
        {value: models.ValueMappingResult(text, color, None, place) for place, (value, (text, color)) in shown}
    )


def _cell(column: Column) -> list[models.DynamicConfigValue]:
    properties = [models.DynamicConfigValue("unit", column.unit)]
    if column.limits or column.words:
        properties.append(models.DynamicConfigValue("custom.cellOptions", {"type": "color-text"}))
    if column.limits:
        steps = [{"value": value, "color": color} for value, color in column.limits]
        properties.append(models.DynamicConfigValue("thresholds", {"mode": "absolute", "steps": steps}))
    if column.words:
        mapped = {
            value: {"text": text, "color": color, "index": place}
            for place, (value, (text, color)) in enumerate(column.words.items())
        }
        properties.append(models.DynamicConfigValue("mappings", [{"type": "value", "options": mapped}]))
    return properties
