// From Prometheus's answers to Grafana's data frames, by the board's own transformations, units and colours.
import {
  FieldColorModeId,
  FieldType,
  createDataFrame,
  getDisplayProcessor,
  standardTransformers,
  standardTransformersRegistry,
  transformDataFrame,
} from "@grafana/data";
import { firstValueFrom } from "rxjs";

// An older name of one is among them, with the newer one's id.
const transformers = new Map(Object.values(standardTransformers).map((each) => [each.id, each]));
standardTransformersRegistry.setInit(() =>
  [...transformers.values()].map((transformation) => ({
    id: transformation.id,
    name: transformation.name,
    transformation: () => Promise.resolve(transformation),
    editor: () => null,
  })),
);

export async function framesOf(panel, theme) {
  const several = panel.results.length > 1;
  const given = panel.results.flatMap((result) => (result.table ? [table(result, several)] : result.found.map(series)));
  const frames = await firstValueFrom(transformDataFrame(panel.transformations ?? [], given));
  let index = 0;
  for (const frame of frames) {
    for (const [fieldIndex, field] of frame.fields.entries()) {
      const isSeries = field.type === FieldType.number && !(panel.type === "trend" && field === frame.fields[0]);
      field.state = { origin: { frameIndex: frames.indexOf(frame), fieldIndex } };
      configure(field, panel, isSeries ? index : undefined, theme);
      index += isSeries ? 1 : 0;
    }
  }
  return frames;
}

function series({ name, points }) {
  return createDataFrame({
    fields: [
      { name: "Time", type: FieldType.time, values: points.map(([time]) => time * 1000) },
      { name, type: FieldType.number, values: points.map(([, value]) => Number(value)), config: { displayName: name } },
    ],
  });
}

function table({ refId, found }, several) {
  const labels = [...new Set(found.flatMap((row) => Object.keys(row.labels)))].sort();
  return createDataFrame({
    refId,
    fields: [
      { name: "Time", type: FieldType.time, values: found.map(() => 0) },
      ...labels.map((name) => ({ name, type: FieldType.string, values: found.map((row) => row.labels[name] ?? "") })),
      { name: several ? `Value #${refId}` : "Value", type: FieldType.number, values: found.map((row) => row.value) },
    ],
  });
}

function configure(field, panel, seriesIndex, theme) {
  const { defaults = {}, overrides = [] } = panel.fieldConfig;
  const config = { ...structuredClone(defaults), ...field.config, custom: { ...defaults.custom } };
  config.color ??= { mode: config.thresholds ? FieldColorModeId.Thresholds : FieldColorModeId.PaletteClassic };
  if (field.type !== FieldType.number) {
    delete config.unit;
  }
  const title = config.displayName ?? field.name;
  for (const override of overrides.filter((each) => each.matcher.options === title)) {
    for (const { id, value } of override.properties) {
      if (id.startsWith("custom.")) {
        config.custom[id.slice("custom.".length)] = value;
      } else {
        config[id] = value;
      }
    }
  }
  if (config.thresholds) {
    const steps = config.thresholds.steps.map((step) => ({ ...step, value: step.value ?? -Infinity }));
    config.thresholds = { ...config.thresholds, steps };
    if (panel.type === "table") {
      config.color = { mode: FieldColorModeId.Thresholds };
    }
  }
  field.config = config;
  field.state = { ...field.state, seriesIndex, displayName: title };
  field.display = getDisplayProcessor({ field, theme, timeZone: "utc" });
}

export function reduced(frames) {
  const field = frames[0]?.fields.find((each) => each.type === FieldType.number);
  const values = (field?.values ?? []).filter((value) => value !== null);
  return values.length ? field.display(values[values.length - 1]) : { text: "No data", numeric: NaN };
}
