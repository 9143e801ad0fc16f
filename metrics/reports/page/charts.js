// Charts as SVG. A scale is a function from values to px.

/** A chart of `width` by `height` units, which a reader is told of by `label`. */
function chart(width, height, label, ...children) {
  return draw("svg", { class: "chart", viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": label }, ...children);
}

function scale(low, high, from, to) {
  const span = high - low || 1;
  return (value) => from + ((value - low) / span) * (to - from);
}

function line(x1, y1, x2, y2, kind) {
  return draw("line", { x1: x1.toFixed(1), y1: y1.toFixed(1), x2: x2.toFixed(1), y2: y2.toFixed(1), class: kind });
}

function label(x, y, text, anchor = "start", kind = null) {
  return draw("text", { x: x.toFixed(1), y: y.toFixed(1), "text-anchor": anchor, class: kind }, text);
}

function rectangle(x, y, width, height, kind, title) {
  return draw("rect", {
    x: x.toFixed(1), y: y.toFixed(1), width: Math.max(0, width).toFixed(1), height: Math.max(0, height).toFixed(1), class: kind,
  }, title ? draw("title", {}, title) : null);
}

function dot(x, y, radius, kind, title) {
  return draw("circle", { cx: x.toFixed(1), cy: y.toFixed(1), r: radius, class: kind }, title ? draw("title", {}, title) : null);
}

function polyline(points, x, y, kind, title) {
  const places = points.map(([a, b]) => `${x(a).toFixed(1)},${y(b).toFixed(1)}`).join(" ");
  return draw("polyline", { points: places, class: kind }, title ? draw("title", {}, title) : null);
}

/** Round values from `low` to `high`, about `steps` of them. */
function ticks(low, high, steps = 5) {
  const raw = (high - low) / steps || 1;
  const power = 10 ** Math.floor(Math.log10(raw));
  const step = [1, 2, 5, 10].map((factor) => factor * power).find((value) => value >= raw * 0.999);
  const values = [];
  for (let i = Math.ceil(low / step - 1e-9); i * step <= high + step * 1e-9; i++) values.push(Number((i * step).toPrecision(12)));
  return values;
}

/** The grid of a square of two shares, from 0 to 1, with the names of its axes. */
function unitGrid(x, y, across, up) {
  const parts = [];
  for (const value of [0, 0.2, 0.4, 0.6, 0.8, 1]) {
    parts.push(line(x(value), y(0), x(value), y(1), "grid"), line(x(0), y(value), x(1), y(value), "grid"));
    parts.push(label(x(value), y(0) + 16, String(value), "middle"), label(x(0) - 7, y(value) + 4, String(value), "end"));
  }
  parts.push(label(x(0.5), y(0) + 33, across, "middle"));
  parts.push(draw("text", { transform: `translate(${x(0) - 34} ${y(0.5)}) rotate(-90)`, "text-anchor": "middle" }, up));
  return parts;
}

/** Values with intervals, one line each: rows are {name, note, value, low, high}. */
function dotPlot(rows, title, { width = 640, left = 150, right = 120, low = null, high = null, digits = 3 } = {}) {
  const ends = rows.flatMap((row) => [row.low, row.high, row.value]).filter(isKnown);
  const first = low ?? Math.max(0, Math.min(...ends, 1) - 0.03);
  const last = high ?? Math.min(1, Math.max(...ends, 0) + 0.03);
  const x = scale(first, last, left, width - right);
  const step = 25;
  const bottom = rows.length * step + 4;
  const parts = ticks(first, last).flatMap((value) => [line(x(value), 4, x(value), bottom, "grid"), label(x(value), bottom + 15, String(value), "middle")]);
  rows.forEach((row, i) => {
    const y = i * step + 17;
    parts.push(label(left - 12, y + 4, row.name, "end", "label"));
    parts.push(label(width, y + 4, number(row.value, digits) + (row.note ? "  " + row.note : ""), "end", i ? null : "value"));
    parts.push(...interval(x, y, row));
  });
  return chart(width, bottom + 22, title, parts);
}

/** An interval with its value, at the height y. */
function interval(x, y, row, other = "") {
  if (!isKnown(row.value)) return [];
  const hasEnds = isKnown(row.low) && isKnown(row.high);
  const text = hasEnds ? `${number(row.value)}, ${number(row.low)} to ${number(row.high)}` : number(row.value);
  return [hasEnds ? line(x(row.low), y, x(row.high), y, "range" + other) : null, dot(x(row.value), y, 4, "dot" + other, text)];
}

/** An interval in a cell of a table, on a scale that all rows share; `zero` is a line at a value. */
function cellInterval(row, low, high, zero = null) {
  const x = scale(low, high, 6, 184);
  const text = isKnown(row.value) ? `${number(row.value)}${isKnown(row.low) ? `, ${number(row.low)} to ${number(row.high)}` : ""}` : "n/a";
  return chart(190, 18, text, isKnown(zero) ? line(x(zero), 1, x(zero), 17, "zero") : null, interval(x, 9, row));
}

/** Where the ends of all intervals lie, a little wider. */
function extent(rows, low = 0, high = 1) {
  const ends = rows.flatMap((row) => [row.low, row.high, row.value]).filter(isKnown);
  if (!ends.length) return [low, high];
  const margin = 0.03 * (Math.max(...ends) - Math.min(...ends) || 1);
  return [Math.min(...ends) - margin, Math.max(...ends) + margin];
}
