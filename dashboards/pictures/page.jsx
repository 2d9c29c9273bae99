// A board on a page: panels where the board says, drawn by Grafana's components. Bars and bands of states are not among
// those components (they live in Grafana's server); they are drawn here, in its colours.
import { FieldType, ThemeContext, createTheme, dateTime, getFieldSeriesColor } from "@grafana/data";
import { BigValue, BigValueColorMode, BigValueGraphMode, PanelChrome, TimeSeries, VizLegend } from "@grafana/ui";
import { createRoot } from "react-dom/client";
import { GlobalStyles } from "@grafana/ui";
import uplotStyle from "uplot/dist/uPlot.min.css";
import { framesOf, reduced } from "./frames.js";

const CELL = 34;
const GAP = 8;
const MARGIN = 16;
const HEAD = 84;
const theme = createTheme({ colors: { mode: "dark" } });

window.show = async (board, lastRow) => {
  const panels = until(board.panels, lastRow);
  const drawn = await Promise.all(
    panels.map(async (panel) => ({ ...panel, frames: panel.type === "row" ? [] : await framesOf(panel, theme) })),
  );
  const bottom = Math.max(...panels.map((panel) => panel.gridPos.y + panel.gridPos.h));
  const height = HEAD + bottom * (CELL + GAP) + MARGIN;
  const root = createRoot(document.getElementById("board"));
  root.render(
    <ThemeContext.Provider value={theme}>
      <GlobalStyles />
      <style>{`body { background: ${theme.colors.background.canvas}; margin: 0; overflow: hidden } ${uplotStyle}`}</style>
      <Head board={board} />
      {drawn.map((panel) => (
        <Placed key={panel.id} panel={panel} board={board} />
      ))}
    </ThemeContext.Provider>,
  );
  return height;
};

function until(panels, lastRow) {
  const rows = panels.filter((panel) => panel.type === "row");
  const next = rows[rows.findIndex((row) => row.title === lastRow) + 1];
  return lastRow && next ? panels.slice(0, panels.indexOf(next)) : panels;
}

function Head({ board }) {
  const chip = { background: theme.colors.background.secondary, borderRadius: 2, padding: "4px 8px", marginRight: 8 };
  return (
    <div style={{ padding: `12px ${MARGIN}px`, height: HEAD, fontSize: 13, boxSizing: "border-box" }}>
      <div style={{ fontSize: 18, marginBottom: 10 }}>{board.title}</div>
      {board.variables.map(({ label, value }) => (
        <span key={label} style={chip}>
          {label} <b style={{ marginLeft: 6 }}>{value}</b>
        </span>
      ))}
      <Marks marks={board.annotations} />
    </div>
  );
}

function Marks({ marks }) {
  const kinds = new Map(marks.map((mark) => [mark.text, mark.color]));
  return [...kinds].map(([text, color]) => (
    <span key={text} style={{ marginLeft: 12, color: theme.visualization.getColorByName(color) }}>
      ┆ {text}
    </span>
  ));
}

function Placed({ panel, board }) {
  const column = (window.innerWidth - 2 * MARGIN + GAP) / 24;
  const { x, y, w, h } = panel.gridPos;
  const width = w * column - GAP;
  const height = h * (CELL + GAP) - GAP;
  const place = { position: "absolute", left: MARGIN + x * column, top: HEAD + y * (CELL + GAP), width, height };
  if (panel.type === "row") {
    return <div style={{ ...place, lineHeight: `${height}px`, fontWeight: 500, fontSize: 15 }}>⌄ {panel.title}</div>;
  }
  const Kind = panel.frames.some((frame) => frame.length) ? KINDS[panel.type] : NoData;
  return (
    <div style={place}>
      <PanelChrome title={panel.title} width={width} height={height} padding={panel.type === "table" ? "none" : "md"}>
        {(innerWidth, innerHeight) => <Kind panel={panel} board={board} width={innerWidth} height={innerHeight} />}
      </PanelChrome>
    </div>
  );
}

function NoData({ height }) {
  return <div style={{ lineHeight: `${height}px`, textAlign: "center", color: theme.colors.text.secondary }}>No data</div>;
}

const TOOLTIP = { mode: "multi", sort: "none" };

function Lines({ panel, board, width, height }) {
  const range = { from: dateTime(board.from), to: dateTime(board.to) };
  return (
    <TimeSeries
      frames={panel.frames}
      timeRange={{ ...range, raw: range }}
      timeZone="utc"
      width={width}
      height={height}
      legend={panel.options.legend}
      options={TOOLTIP}
    >
      {(builder) => {
        builder.addHook("draw", (plot) => drawMarks(plot, board.annotations));
        return null;
      }}
    </TimeSeries>
  );
}

function drawMarks(plot, marks) {
  const { ctx, bbox } = plot;
  ctx.save();
  ctx.setLineDash([4, 4]);
  for (const { time, color } of marks) {
    const x = Math.round(plot.valToPos(time, "x", true));
    ctx.strokeStyle = theme.visualization.getColorByName(color);
    ctx.lineWidth = 2;
    ctx.beginPath();
    ctx.moveTo(x, bbox.top);
    ctx.lineTo(x, bbox.top + bbox.height);
    ctx.stroke();
  }
  ctx.restore();
}

function Curve({ panel, width, height }) {
  const [frame] = panel.frames;
  const isX = (field) => field === frame.fields[0];
  const range = { from: dateTime(0), to: dateTime(1) };
  return (
    <TimeSeries
      frames={[frame]}
      fields={{ x: isX, y: (field) => !isX(field) }}
      preparePlotFrame={() => frame}
      timeRange={{ ...range, raw: range }}
      timeZone="utc"
      width={width}
      height={height}
      legend={panel.options.legend}
      options={TOOLTIP}
    />
  );
}

function Figure({ panel, width, height }) {
  const value = reduced(panel.frames);
  return (
    <BigValue
      value={{ ...value, text: value.text }}
      theme={theme}
      width={width}
      height={height}
      colorMode={BigValueColorMode.Value}
      graphMode={BigValueGraphMode.None}
      justifyMode="auto"
      textMode="value"
    />
  );
}

function Rows({ panel }) {
  const [frame] = panel.frames;
  const cell = { padding: "6px 10px", borderBottom: `1px solid ${theme.colors.border.weak}`, whiteSpace: "nowrap" };
  const count = frame?.length ?? 0;
  return (
    <table style={{ width: "100%", fontSize: 13, borderCollapse: "collapse" }}>
      <thead>
        <tr>
          {frame.fields.map((field) => (
            <th key={field.name} style={{ ...cell, textAlign: align(field), color: theme.colors.text.secondary }}>
              {field.state.displayName}
            </th>
          ))}
        </tr>
      </thead>
      <tbody>
        {Array.from({ length: count }, (_, row) => (
          <tr key={row}>
            {frame.fields.map((field) => (
              <Cell key={field.name} field={field} value={field.values[row]} style={cell} />
            ))}
          </tr>
        ))}
      </tbody>
    </table>
  );
}

const align = (field) => (field.type === FieldType.number ? "right" : "left");

function Cell({ field, value, style }) {
  const shown = value === null || value === undefined ? { text: "" } : field.display(value);
  const coloured = field.config.custom.cellOptions?.type === "color-text";
  const color = coloured ? shown.color : field.config.links ? theme.colors.text.link : undefined;
  return <td style={{ ...style, textAlign: align(field), color }}>{[shown.text, shown.suffix]}</td>;
}

// --- bars and bands of states -----------------------------------------------------------------------------------------

const AXIS = { left: 58, bottom: 22 };

const legendHeight = (entries) => (entries.length > 6 ? 50 : 28);

function legendOf(entries) {
  const items = entries.map(([label, color]) => ({ label, color, yAxis: 1 }));
  return <VizLegend items={items} displayMode="list" placement="bottom" />;
}

function Bars({ panel, width, height }) {
  const [frame] = panel.frames;
  const [places, ...parts] = frame.fields;
  const stacked = panel.options.stacking === "normal";
  const legend = legendHeight(parts);
  const plot = { width: width - AXIS.left, height: height - legend - AXIS.bottom - 14 };
  const sums = Array.from(places.values, (_, row) => {
    const values = parts.map((part) => part.values[row] ?? 0);
    return stacked ? values.reduce((sum, value) => sum + value, 0) : Math.max(...values);
  });
  const top = niceTop(Math.max(...sums), panel.fieldConfig.defaults.unit);
  const toY = (value) => 14 + plot.height * (1 - value / top);
  const slot = plot.width / places.values.length;
  const bar = (slot * 0.7) / (stacked ? 1 : parts.length);
  const text = { fill: theme.colors.text.primary, fontSize: 12 };
  return (
    <>
      <svg width={width} height={height - legend}>
        {[0, 0.25, 0.5, 0.75, 1].map((part) => (
          <g key={part}>
            <line x1={AXIS.left} x2={width} y1={toY(part * top)} y2={toY(part * top)} stroke={theme.colors.border.weak} />
            <text x={AXIS.left - 6} y={toY(part * top) + 4} textAnchor="end" {...text}>
              {written(parts[0].display(part * top))}
            </text>
          </g>
        ))}
        {Array.from(places.values, (place, row) => {
          let below = 0;
          return (
            <g key={row} transform={`translate(${AXIS.left + row * slot + slot * 0.15}, 0)`}>
              {parts.map((part, index) => {
                const value = part.values[row] ?? 0;
                const from = stacked ? below : 0;
                below += value;
                const y = toY(from + value);
                return (
                  <g key={part.name}>
                    <rect x={stacked ? 0 : index * bar} width={bar - (stacked ? 0 : 4)} y={y} height={Math.max(0, toY(from) - y)} fill={colorOf(part)} />
                    {panel.options.showValue !== "never" && part.values[row] != null && (
                      <text x={index * bar + bar / 2 - 2} y={y - 4} textAnchor="middle" {...text}>
                        {written(part.display(value))}
                      </text>
                    )}
                  </g>
                );
              })}
              <text x={slot * 0.35} y={height - legend - 6} textAnchor="middle" {...text}>
                {place}
              </text>
            </g>
          );
        })}
      </svg>
      {legendOf(parts.map((part) => [part.state.displayName, colorOf(part)]))}
    </>
  );
}

const written = ({ text, suffix = "" }) => text + suffix;
const colorOf = (field) => getFieldSeriesColor(field, theme).color;

function niceTop(value, unit) {
  const base = unit === "bytes" ? 1024 : 10;
  const power = base ** Math.floor(Math.log(value || 1) / Math.log(base) + 1e-9);
  const steps = [1, 1.2, 1.6, 2, 3, 4, 6, 8, 10, 16, 20, 32, 64, 128, 256, 512, 1024];
  return power * steps.find((step) => step * power >= value);
}

function States({ panel, board, width, height }) {
  const legend = legendHeight([]);
  const named = 150;
  const rows = panel.frames.map((frame) => ({ time: frame.fields[0].values, field: frame.fields[1] }));
  const each = (height - legend - AXIS.bottom) / Math.max(1, rows.length);
  const toX = (time) => named + ((width - named) * (time - board.from)) / (board.to - board.from);
  const step = rows[0] ? rows[0].time[1] - rows[0].time[0] : 0;
  const words = Object.values(panel.fieldConfig.defaults.mappings[0].options);
  const byName = (color) => theme.visualization.getColorByName(color);
  return (
    <>
      <svg width={width} height={height - legend}>
        {rows.map(({ time, field }, row) => (
          <g key={row}>
            <text x={named - 8} y={row * each + each / 2 + 4} textAnchor="end" fontSize={12} fill={theme.colors.text.primary}>
              {field.state.displayName}
            </text>
            {Array.from(time, (moment, index) => (
              <rect
                key={index}
                x={toX(moment)}
                width={toX(moment + step) - toX(moment) + 0.5}
                y={row * each + each * 0.12}
                height={each * 0.76}
                fill={field.display(field.values[index]).color}
                opacity={0.8}
              />
            ))}
          </g>
        ))}
        {[0, 0.25, 0.5, 0.75, 1].map((part) => (
          <text
            key={part}
            x={named + (width - named) * part}
            y={height - legend - 6}
            textAnchor={part === 1 ? "end" : part ? "middle" : "start"}
            fontSize={12}
            fill={theme.colors.text.secondary}
          >
            {dateTime(board.from + (board.to - board.from) * part).utc().format("HH:mm")}
          </text>
        ))}
      </svg>
      {legendOf(words.map(({ text, color }) => [text, byName(color)]))}
    </>
  );
}

const KINDS = {
  timeseries: Lines,
  trend: Curve,
  stat: Figure,
  table: Rows,
  barchart: Bars,
  "state-timeline": States,
};
