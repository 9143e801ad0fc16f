// The page of an evaluation: its panels, in order, and what they share.

const report = data.report;
const view = data.view;
const result = report.results[0];
const explanation = result.explanation;
const uncertainty = result.uncertainty;
const classNames = result.per_class.map((row) => row.name);
const KIND_NAMES = ["found", "false alarm", "missed"];
const ERROR_NAMES = { Cls: "wrong class", Loc: "loose box", Both: "wrong class, loose box", Dupe: "duplicate", Bkg: "background", Miss: "missed" };

// What the panels share: the class that is chosen (null for all) and the kind of error.
const state = { class: null, error: null };
const listeners = [];

function onChange(listener) {
  listeners.push(listener);
  listener();
}

function change(part) {
  Object.assign(state, part);
  for (const listener of listeners) listener();
}

function showNumber() {
  const rows = view.numbers.map((row) => {
    const place = report.results.findIndex((each) => each.protocol === row.protocol);
    const estimate = (report.results[place].uncertainty || { metrics: {} }).metrics[row.name] || {};
    return { ...row, value: report.results[place].metrics[row.name], low: estimate.low, high: estimate.high, error: estimate.standard_error };
  });
  const many = report.results.length > 1;
  rows.forEach((row) => { row.name = many ? `${row.protocol} ${row.name}` : row.name; });
  const first = rows[0] || { name: "no number", value: null };
  const inputs = report.inputs;
  document.title = `${first.name} ${number(first.value)} \u00b7 upmap`;
  main.append(make("div", { class: "title" },
    make("h1", {}, "Detection evaluation"),
    make("p", { class: "sub" }, `${inputs.detections} on ${inputs.ground_truth}${inputs.image_set ? ", image set " + inputs.image_set : ""}`),
  ));
  const columns = [{ name: "Number", head: true }, { name: "Value", number: true }, { name: "Standard error", number: true }, { name: "From", number: true }, { name: "To", number: true }];
  const cells = rows.map((row) => [row.name, number(row.value, 6), number(row.error, 6), number(row.low, 6), number(row.high, 6)]);
  const level = `${+(100 * (uncertainty ? uncertainty.level : 0.95)).toFixed(2)} %`;
  const section = panel("number", "The number", `${many ? "" : result.protocol + ", "}${first.iou === null ? `IoU from ${result.settings.iou_thresholds[0]}` : `IoU ${first.iou}`}`,
    make("div", { class: "hero" },
      make("div", {},
        make("p", { class: "note" }, first.name),
        make("p", { class: "big", id: "headline" }, number(first.value)),
        make("p", {}, isKnown(first.low) ? [`${level} interval `, make("span", { class: "strong", id: "interval" }, `${number(first.low)} to ${number(first.high)}`)] : "no interval"),
      ),
      dotPlot(rows, "Every number with its interval", { right: 62 }),
    ),
    make("dl", { class: "facts" }, [
      ["Images", count(inputs.images)], ["Objects", count(inputs.ground_truth_boxes)], ["Detections", count(inputs.detection_boxes)],
      ["Classes", count(inputs.classes)], ["Difficult or crowd", count(inputs.difficult + inputs.crowd)],
    ].map(([term, text]) => make("div", {}, make("dt", {}, term), make("dd", {}, text)))),
    tableBehind("Numbers", columns, cells),
  );
  const remarks = data.omitted.length ? [...view.remarks, `To fit its size, this page has not: ${data.omitted.join("; ")}.`] : view.remarks;
  if (remarks.length) {
    section.after(make("section", { class: "callout", "aria-label": "Read before you quote it" },
      make("span", { class: "strong" }, "Read before you quote it."), make("ul", {}, remarks.map((text) => make("li", {}, text)))));
  }
}

function showCosts() {
  const errors = explanation.errors;
  const steps = make("div", { class: "steps" });
  const modes = {
    shares: "Each kind of error, by what fixing it gives, averaged over all orders of fixing: the six add up to 1 \u2212 mAP.",
    gains: "What fixing each kind alone gives (TIDE). These do not add up: fixing one changes what the next gives.",
  };
  const words = make("p", { class: "note" });
  function fill(mode) {
    const x = scale(0, 1, 0, 400);
    let at = errors.mAP ?? 0;
    words.textContent = modes[mode];
    const rows = view.errors.map((error) => ({ ...error, value: errors[mode][error.key], count: errors.counts[error.key] }));
    if (mode === "shares") rows.sort((a, b) => b.value - a.value);
    steps.replaceChildren(
      make("div", { class: "step", style: "cursor:default" }, make("span", {}, "mAP", make("small", {}, `at IoU ${errors.iou}`)),
        draw("svg", { viewBox: "0 0 400 18", preserveAspectRatio: "none", "aria-hidden": "true" }, rectangle(0, 4, 400, 10, "track"), rectangle(0, 4, x(at), 10, "fill-a")),
        make("span", { class: "amount" }, number(errors.mAP))),
      ...rows.map((row) => {
        const from = mode === "shares" ? at : errors.mAP ?? 0;
        if (mode === "shares") at += row.value ?? 0;
        return make("button", { type: "button", class: "step", "data-error": row.key, "aria-pressed": String(state.error === row.key), onclick: () => change({ error: state.error === row.key ? null : row.key }) },
          make("span", {}, ERROR_NAMES[row.key], make("small", {}, `${row.text}: ${count(row.count)}`)),
          draw("svg", { viewBox: "0 0 400 18", preserveAspectRatio: "none", "aria-hidden": "true" }, rectangle(0, 4, 400, 10, "track"), rectangle(x(from), 4, Math.abs(x(row.value ?? 0)), 10, "fill-b")),
          make("span", { class: "amount" }, signed(row.value)));
      }),
    );
    steps.classList.add("chart");
  }
  const switcher = choices("How costs are computed", [{ value: "shares", name: "Shares (add up)" }, { value: "gains", name: "Each alone (TIDE)" }], "shares", fill);
  panel("costs", "What costs the points", "choose a kind to see its images", switcher.group, steps, words,
    tableBehind("Costs", [{ name: "Error", head: true }, { name: "Number", number: true }, { name: "Share", number: true }, { name: "Alone", number: true }],
      view.errors.map((error) => [ERROR_NAMES[error.key], count(errors.counts[error.key]), signed(errors.shares[error.key], 6), signed(errors.gains[error.key], 6)])));
  fill("shares");
  listeners.push(() => {
    for (const step of steps.querySelectorAll("[data-error]")) step.setAttribute("aria-pressed", String(step.dataset.error === state.error));
  });
}

function showClasses() {
  const points = explanation.operating_points.per_class;
  const rows = result.per_class.map((row, k) => {
    const estimate = (uncertainty ? uncertainty.per_class[row.name] : null) || {};
    const best = points[k].best_F1;
    return { k, name: row.name, AP: row.AP, low: estimate.low, high: estimate.high, objects: row.positives, detections: row.detections, F1: best.F1, threshold: best.threshold };
  });
  const [low, high] = extent(rows.map((row) => ({ ...row, value: row.AP })));
  const columns = [
    { key: "name", name: "Class" }, { key: null, name: "95 % interval" }, { key: "AP", name: "AP", number: true }, { key: null, name: "From, to", number: true },
    { key: "objects", name: "Objects", number: true }, { key: "detections", name: "Detections", number: true }, { key: "F1", name: "Best F1", number: true }, { key: "threshold", name: "At score", number: true },
  ];
  let sort = { key: "AP", sign: -1 };
  const heads = columns.map((column) => make("th", { scope: "col", class: column.number ? "number" : null },
    column.key ? make("button", { type: "button", class: "plain", onclick: () => order(column) }, column.name) : column.name));
  const body = make("tbody", {});
  const lines = rows.map((row) => make("tr", { "data-class": row.k, onclick: () => change({ class: state.class === row.k ? null : row.k }) },
    make("th", { scope: "row", class: "name" }, make("button", { type: "button", class: "plain", "aria-pressed": "false" }, row.name)),
    make("td", {}, cellInterval({ value: row.AP, low: row.low, high: row.high }, low, high, result.metrics[view.numbers[0]?.name] )),
    make("td", { class: "number strong" }, number(row.AP)), make("td", { class: "number" }, isKnown(row.low) ? `${number(row.low)} to ${number(row.high)}` : "n/a"),
    make("td", { class: "number" }, count(row.objects)), make("td", { class: "number" }, count(row.detections)),
    make("td", { class: "number" }, number(row.F1)), make("td", { class: "number" }, number(row.threshold)),
  ));
  const filter = make("input", { type: "search", placeholder: "Filter classes", "aria-label": "Filter classes", oninput: fill });
  function order(column) {
    sort = { key: column.key, sign: sort.key === column.key ? -sort.sign : column.number ? -1 : 1 };
    fill();
  }
  function fill() {
    const text = filter.value.trim().toLowerCase();
    const shown = rows.filter((row) => row.name.toLowerCase().includes(text));
    shown.sort((a, b) => compareValues(a[sort.key], b[sort.key], sort.sign) || a.k - b.k);
    body.replaceChildren(...shown.map((row) => lines[row.k]));
    columns.forEach((column, i) => {
      if (column.key === sort.key) heads[i].setAttribute("aria-sort", sort.sign < 0 ? "descending" : "ascending");
      else heads[i].removeAttribute("aria-sort");
    });
  }
  panel("classes", "Classes", "the line is the mean; choose a class for the panels below",
    rows.length > 30 ? make("div", { class: "bar" }, filter) : null,
    scrolling("Classes", make("table", {}, make("caption", { class: "hidden" }, "Scores of each class"), make("thead", {}, make("tr", {}, heads)), body), "scroll tall"));
  fill();
  onChange(() => lines.forEach((row, k) => {
    row.classList.toggle("selected", state.class === k);
    row.querySelector("button").setAttribute("aria-pressed", String(state.class === k));
  }));
}

/** Order of two values; undefined ones come last. */
function compareValues(a, b, sign) {
  if (!isKnown(a) || !isKnown(b)) return isKnown(a) ? -1 : isKnown(b) ? 1 : 0;
  return sign * (typeof a === "string" ? (a < b ? -1 : a > b ? 1 : 0) : a - b);
}

/** Wilson's interval of a share of independent cases, 95 %. */
function wilson(part, whole) {
  if (!whole) return null;
  const z = 1.959963984540054;
  const share = part / whole;
  const middle = (share + (z * z) / (2 * whole)) / (1 + (z * z) / whole);
  const half = (z * Math.sqrt((share * (1 - share)) / whole + (z * z) / (4 * whole * whole))) / (1 + (z * z) / whole);
  return [middle - half, middle + half];
}

function showOperatingPoint() {
  const points = explanation.operating_points;
  const slider = make("input", { type: "range", min: 0, step: 1, id: "threshold" });
  const sentence = make("p", { id: "counts", role: "status" });
  const numbers = make("div", {});
  const charts = make("div", { class: "two" });
  const buttons = make("div", { class: "bar", role: "group", "aria-label": "Thresholds" });
  const heading = make("h3", {});
  let curve = null;
  let threshold = points.threshold;

  function place() {
    let at = -1;
    for (let i = 0; i < curve.score.length && curve.score[i] >= threshold; i++) at = i;
    return at;
  }
  function move(next) {
    threshold = next;
    draw_();
  }
  function choose() {
    curve = state.class === null ? view.curves.all : view.curves.classes[state.class];
    heading.textContent = state.class === null ? "All classes together" : classNames[state.class];
    const named = state.class === null
      ? [["best mean F1", points.threshold]]
      : [["threshold for all", points.threshold], ["best F1", points.per_class[state.class].best_F1.threshold],
        ["precision 90 %", points.per_class[state.class].precision_90.threshold], ["recall 90 %", points.per_class[state.class].recall_90.threshold]];
    buttons.replaceChildren(...named.map(([name, value]) => button(name, () => move(value), { disabled: !isKnown(value) || !curve })));
    if (state.class !== null) buttons.append(button("all classes", () => change({ class: null })));
    threshold = points.threshold ?? (curve && curve.score[0]);
    draw_();
  }
  function draw_() {
    if (!curve || !curve.score.length) {
      slider.disabled = true;
      sentence.textContent = curve ? "There are no detections." : "The curve of this class was left out to fit the size of the page.";
      charts.replaceChildren();
      numbers.replaceChildren();
      return;
    }
    const last = curve.score.length - 1;
    const at = place();
    slider.disabled = false;
    slider.max = last + 1;
    slider.value = last - at;  // to the right, fewer detections
    const here = at < 0 ? { true: 0, reported: 0 } : { true: curve.true[at], reported: curve.reported[at] };
    const F1 = curve.positives ? (2 * here.true) / (here.reported + curve.positives) : null;
    const at_score = number(threshold, 4);
    slider.setAttribute("aria-valuetext", `score ${at_score}`);
    sentence.replaceChildren("At a score of at least ", make("span", { class: "strong" }, at_score),
      `: ${count(here.true)} of ${plural(curve.positives, "object")} found, ${plural(here.reported - here.true, "false alarm")}, ${count(curve.positives - here.true)} missed.`);
    const rows = [["precision", here.true, here.reported], ["recall", here.true, curve.positives]].map(([name, part, whole]) => {
      const ends = wilson(part, whole);
      return [name, number(whole ? part / whole : null), ends ? `${number(ends[0])} to ${number(ends[1])}` : "n/a"];
    });
    rows.push(["F1", number(F1), ""]);
    if (curve.mean_F1 && curve.mean_F1.length && at >= 0) rows.push(["mean F1 of classes", number(curve.mean_F1[at]), ""]);
    numbers.replaceChildren(table("At this threshold", [{ name: "Quantity", head: true }, { name: "Value", number: true }, { name: "95 % (Wilson)", number: true }], rows));
    charts.replaceChildren(precisionRecall(curve, at), histogram(curve, threshold));
  }
  slider.addEventListener("input", () => {
    const at = curve.score.length - 1 - Number(slider.value);
    threshold = at < 0 ? curve.score[0] + Math.max(1e-6, Math.abs(curve.score[0]) * 1e-6) : curve.score[at];
    draw_();
  });
  const copied = copyable("Thresholds of classes", "");
  const formats = choices("Format of the thresholds", [{ value: "json", name: "JSON" }, { value: "yaml", name: "YAML" }], "json", fillThresholds);
  function fillThresholds(format) {
    const pairs = points.per_class.map((row) => [row.name, row.best_F1.threshold]);
    copied.area.textContent = format === "json"
      ? JSON.stringify(Object.fromEntries(pairs), null, 1)
      : pairs.map(([name, value]) => `${JSON.stringify(name)}: ${value}`).join("\n");
  }
  formats.group.append(copied.copy);
  panel("threshold-panel", "Operating point", `at IoU ${view.curves.iou}`,
    heading, buttons, make("label", { for: "threshold", class: "note" }, "Score threshold"), slider, sentence, charts, numbers,
    make("p", { class: "note" }, "Every position of the slider is a score of the data, and every count is exact. Wilson's intervals take detections as independent; the best F1 on these data is a little too good for the next."),
    make("details", {}, make("summary", {}, "The best threshold of each class, to copy"), formats.group, copied.area));
  fillThresholds("json");
  onChange(choose);
}

function precisionRecall(curve, at) {
  const x = scale(0, 1, 46, 476);
  const y = scale(0, 1, 330, 12);
  const points = curve.score.map((_, i) => [curve.true[i] / (curve.positives || 1), curve.true[i] / curve.reported[i]]);
  const now = at < 0 ? null : points[at];
  const parts = unitGrid(x, y, "recall", "precision");
  for (const F1 of [0.4, 0.6, 0.8]) {
    const line_ = Array.from({ length: 41 }, (_, i) => F1 / 2 + ((1 - F1 / 2) * i) / 40).filter((r) => 2 * r > F1).map((r) => [r, (F1 * r) / (2 * r - F1)]).filter(([, p]) => p <= 1);
    parts.push(polyline(line_, x, y, "guide"), label(x(1) - 2, y(F1 / (2 - F1)) - 5, `F1 ${F1}`, "end"));
  }
  parts.push(polyline(points, x, y, "line"));
  if (now) parts.push(dot(x(now[0]), y(now[1]), 6, "now", `recall ${number(now[0])}, precision ${number(now[1])}`));
  const text = now ? `Precision against recall; at the threshold recall ${number(now[0])}, precision ${number(now[1])}` : "Precision against recall";
  return make("figure", {}, chart(490, 372, text, parts));
}

function histogram(curve, threshold) {
  const edges = view.curves.edges;
  const x = scale(edges[0], edges[edges.length - 1], 46, 476);
  const most = Math.max(1, ...curve.bins_true.map((value, i) => value + curve.bins_false[i]));
  const y = scale(0, Math.log10(1 + most), 330, 30);
  const height = (value) => y(0) - y(Math.log10(1 + value));
  const parts = [];
  for (let power = 1; power <= most; power *= 10) parts.push(line(46, y(Math.log10(1 + power)), 476, y(Math.log10(1 + power)), "grid"), label(40, y(Math.log10(1 + power)) + 4, count(power), "end"));
  curve.bins_true.forEach((right, i) => {
    const wrong = curve.bins_false[i];
    const left = x(edges[i]) + 1;
    const width = (x(edges[i + 1]) - x(edges[i])) / 2 - 1;
    const range = `score ${number(edges[i], 2)} to ${number(edges[i + 1], 2)}`;
    parts.push(rectangle(left, y(0) - height(right), width, height(right), "fill-a", `${range}: ${count(right)} true`));
    parts.push(rectangle(left + width, y(0) - height(wrong), width, height(wrong), "fill-b", `${range}: ${count(wrong)} false`));
  });
  for (const value of ticks(edges[0], edges[edges.length - 1])) parts.push(label(x(value), 346, String(value), "middle"));
  parts.push(line(46, 330, 476, 330, "base"), label(261, 363, "score", "middle"));
  if (isKnown(threshold)) parts.push(line(x(Math.min(threshold, edges[edges.length - 1])), 24, x(Math.min(threshold, edges[edges.length - 1])), 330, "cut"));
  parts.push(rectangle(46, 6, 12, 12, "fill-a"), label(63, 16, "true"), rectangle(110, 6, 12, 12, "fill-b"), label(127, 16, "false (number of detections, logarithmic)"));
  return make("figure", {}, chart(490, 372, "Scores of true and false detections", parts));
}

function showConfusions() {
  const confusion = explanation.confusion;
  const K = confusion.classes.length;
  const names = [...confusion.classes, "background"];
  const cells = new Map(confusion.cells.map(([row, column, value]) => [row * (K + 1) + column, value]));
  const at = (row, column) => cells.get(row * (K + 1) + column) || 0;
  const sums = { true: new Array(K + 1).fill(0), predicted: new Array(K + 1).fill(0) };
  for (const [row, column, value] of confusion.cells) {
    sums.true[row] += value;
    sums.predicted[column] += value;
  }
  const pairs = make("div", {});
  function fillPairs() {
    const listed = confusion.cells
      .filter(([row, column]) => row !== column && row < K && column < K && (state.class === null || row === state.class || column === state.class))
      .sort((a, b) => b[2] - a[2] || a[0] - b[0] || a[1] - b[1]).slice(0, 20);
    if (!listed.length) {
      pairs.replaceChildren(make("p", { class: "note" }, "No object is taken for another class here."));
      return;
    }
    const most = listed[0][2];
    const x = scale(0, most, 0, 300);
    const bars = listed.flatMap(([row, column, value], i) => [
      label(0, i * 24 + 16, `${clip(names[row], 22)} taken for ${clip(names[column], 22)}`, "start", "label"),
      rectangle(330, i * 24 + 5, x(value), 14, "fill-b", `${names[row]} taken for ${names[column]}: ${value}`),
      label(336 + x(value), i * 24 + 16, `${count(value)}  ${percent(value / sums.true[row])}`),
    ]);
    const figure = chart(740, listed.length * 24 + 4, "The most frequent confusions", bars);
    figure.style.maxWidth = "740px";
    pairs.replaceChildren(figure,
      tableBehind("Confusions", [{ name: "Object", head: true }, { name: "Taken for" }, { name: "Number", number: true }, { name: "Of its objects", number: true }],
        listed.map(([row, column, value]) => [names[row], names[column], count(value), percent(value / sums.true[row])])));
  }
  const where = make("p", { class: "note", role: "status" }, "Point at a cell.");
  const holder = make("div", {});
  const step = K <= 12 ? 26 : K <= 40 ? 20 : Math.max(4, Math.floor(800 / (K + 1)));
  function share(row, column, mode) {
    const value = at(row, column);
    if (mode === "count") return value / Math.max(1, ...cells.values());
    return value / Math.max(1, mode === "true" ? sums.true[row] : sums.predicted[column]);
  }
  function tell(row, column) {
    where.textContent = `${row < K ? "object " + names[row] : "no object"}, ${column < K ? "detected as " + names[column] : "not detected"}: ${count(at(row, column))}`
      + (row < K ? `, ${percent(at(row, column) / sums.true[row])} of its objects` : "") + (column < K ? `, ${percent(at(row, column) / sums.predicted[column])} of its detections` : "");
  }
  function fillMatrix(mode) {
    holder.replaceChildren(K <= 40 ? svgMatrix(mode) : canvasMatrix(mode));
  }
  function svgMatrix(mode) {
    const left = 130;
    const top = 120;
    const parts = [];
    names.forEach((name, i) => {
      parts.push(label(left - 8, top + i * step + step * 0.7, clip(name, 18), "end"));
      parts.push(draw("text", { transform: `translate(${left + i * step + step * 0.65} ${top - 8}) rotate(-60)` }, clip(name, 16)));
    });
    for (let row = 0; row <= K; row++) for (let column = 0; column <= K; column++) {
      if (row === K && column === K) continue;
      const cell = rectangle(left + column * step, top + row * step, step - 1, step - 1, row === column ? "fill-a" : at(row, column) ? "fill-b" : "track");
      if (at(row, column)) cell.setAttribute("fill-opacity", (0.08 + 0.92 * Math.sqrt(share(row, column, mode))).toFixed(3));
      cell.addEventListener("pointerenter", () => tell(row, column));
      parts.push(cell);
    }
    const size = (K + 1) * step;
    const figure = chart(left + size + 70, top + size + 4, "Confusion matrix: rows are objects, columns are detections", parts);
    figure.style.maxWidth = `${left + size + 70}px`;
    return figure;
  }
  function canvasMatrix(mode) {
    const size = (K + 1) * step;
    const canvas = make("canvas", { width: size, height: size, role: "img", "aria-label": "Confusion matrix: rows are objects, columns are detections" });
    const context = canvas.getContext("2d");
    const colors = getComputedStyle(document.documentElement);
    context.fillStyle = colors.getPropertyValue("--sunken");
    context.fillRect(0, 0, size, size);
    for (const [row, column] of confusion.cells) {
      context.globalAlpha = 0.1 + 0.9 * Math.sqrt(share(row, column, mode));
      context.fillStyle = colors.getPropertyValue(row === column ? "--a" : "--b");
      context.fillRect(column * step, row * step, step, step);
    }
    canvas.addEventListener("pointermove", (event) => tell(Math.min(K, Math.floor(event.offsetY / step)), Math.min(K, Math.floor(event.offsetX / step))));
    return canvas;
  }
  const switcher = choices("Shade of the matrix", [{ value: "true", name: "By object (recall)" }, { value: "predicted", name: "By detection (precision)" }, { value: "count", name: "Number" }], "true", fillMatrix);
  panel("confusions", "Confusions", `at a score of ${number(confusion.threshold, 4)} and IoU ${confusion.iou}`, pairs,
    make("details", {}, make("summary", {}, "The whole matrix"), switcher.group, where, make("div", { class: "matrix", tabindex: 0, role: "group", "aria-label": "Confusion matrix, scrolls" }, holder)));
  fillMatrix("true");
  onChange(fillPairs);
}

function clip(text, length) {
  const characters = Array.from(text);
  return characters.length > length ? characters.slice(0, length - 1).join("") + "\u2026" : text;
}

function showSlices() {
  const slices = result.slices.slices;
  const rows = slices.map((row) => ({ ...row, low: isKnown(row.standard_error) ? Math.max(0, row.value - 1.959964 * row.standard_error) : null, high: isKnown(row.standard_error) ? Math.min(1, row.value + 1.959964 * row.standard_error) : null }));
  const [low, high] = extent(rows);
  const columns = [{ name: "Slice", head: true }, { name: `${result.slices.metric}, 95 %` }, { name: "Value", number: true }, { name: "Objects", number: true }, { name: "Images", number: true }, { name: "Difference to the others", number: true }, { name: "p (Holm)", number: true }, { name: "Verdict" }];
  const verdict = (row) => row.has_few_positives ? "few objects" : !isKnown(row.p_holm) ? "" : row.p_holm < 0.05 ? "differs" : "may be chance";
  panel("slices", "Parts of the data", "the line is the number on all data",
    rows.length ? scrolling("Parts of the data", table("The headline number on parts of the data", columns, rows.map((row) => [
      `${row.dimension}: ${row.name}`, cellInterval(row, low, high, result.slices.value), number(row.value), count(row.positives), count(row.images),
      isKnown(row.difference) ? `${signed(row.difference)} \u00b1 ${number(isKnown(row.difference_error) ? 1.959964 * row.difference_error : null)}` : "n/a", probability(row.p_holm), verdict(row),
    ]))) : make("p", { class: "note" }, "There are no parts to compare."),
    make("p", { class: "note" }, "The smaller a part, the higher its mean over classes, other things being equal."));
}

function showCalibration() {
  const calibration = explanation.calibration;
  if (!calibration) {
    panel("calibration", "Are scores probabilities?", null, make("p", {}, `Not measured: ${explanation.uncalibrated_reason}.`));
    return;
  }
  const bins = calibration.bins.filter((bin) => bin.count);
  const x = scale(0, 1, 46, 476);
  const y = scale(0, 1, 330, 12);
  const most = Math.max(1, ...bins.map((bin) => bin.count));
  const parts = [...unitGrid(x, y, "score", "share that is true"), line(x(0), y(0), x(1), y(1), "guide"), polyline(bins.map((bin) => [bin.score, bin.precision]), x, y, "line")];
  for (const bin of bins) parts.push(dot(x(bin.score), y(bin.precision), (3 + 5 * Math.log10(1 + bin.count) / Math.log10(1 + most)).toFixed(1), "dot", `score ${number(bin.score)}: ${percent(bin.precision)} of ${count(bin.count)} true`));
  panel("calibration", "Are scores probabilities?", `at IoU ${calibration.iou}; on the dashed line they are`,
    make("div", { class: "two" }, make("figure", {}, chart(490, 372, "The share of true detections against their score", parts)),
      make("div", {}, table("Calibration errors", [{ name: "Error", head: true }, { name: "Value", number: true }], [
        ["D-ECE, all detections", number(calibration.D_ECE)], [`D-ECE, score from ${number(calibration.threshold)}`, number(calibration.D_ECE_above)], ["LaECE", number(calibration.LaECE)],
      ]), make("p", { class: "note" }, "The larger a point, the more detections. Nearly all detections have scores near 0 and rule the first number."))),
    tableBehind("Bins", [{ name: "Score", head: true }, { name: "Detections", number: true }, { name: "Mean score", number: true }, { name: "True", number: true }],
      calibration.bins.map((bin) => [`${number(bin.low, 2)} to ${number(bin.high, 2)}`, count(bin.count), number(bin.score), percent(bin.precision)])));
}

function showProvenance() {
  const provenance = view.provenance;
  const settings = Object.entries(result.settings).map(([key, value]) => [key, typeof value === "string" ? value : JSON.stringify(value)]);
  const command = copyable("Command line", provenance.command);
  panel("made", "How this was made", `upmap ${provenance.upmap}, numpy ${provenance.numpy}`,
    make("div", { class: "bar" }, button("Download all numbers (JSON)", () => download("report.json", JSON.stringify(report, null, 1) + "\n", "application/json"), { id: "download" }), command.copy),
    command.area,
    scrolling("Inputs", table("Inputs", [{ name: "Input", head: true }, { name: "Path" }, { name: "Digest of" }, { name: "SHA-256" }],
      provenance.inputs.map((row) => [row.name.replace("_", " "), row.path, row.of, make("code", {}, row.sha256)]))),
    make("details", {}, make("summary", {}, `The protocol ${result.protocol}`), scrolling("Protocol", table("The protocol", [{ name: "Setting", head: true }, { name: "Value" }], settings))));
  main.append(make("footer", {}, "Drawn by upmap from the data in this file. It asks the network for nothing."));
}

// The page is this list, in order.
for (const show of [showNumber, showCosts, showClasses, showOperatingPoint, showConfusions, showSlices, showImages, showLabels, showCalibration, showProvenance]) show();
