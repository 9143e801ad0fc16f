// The operating point: a slider over the scores of the data, with exact counts at each.

/** Wilson's interval of a share of independent cases, 95 %. */
function wilson(part, whole) {
  if (!whole) return null;
  const z = 1.959963984540054;
  const share = part / whole;
  const middle = (share + (z * z) / (2 * whole)) / (1 + (z * z) / whole);
  const half =
    (z * Math.sqrt((share * (1 - share)) / whole + (z * z) / (4 * whole * whole))) / (1 + (z * z) / whole);
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
    redraw();
  }
  function choose() {
    curve = state.class === null ? view.curves.all : view.curves.classes[state.class];
    heading.textContent = state.class === null ? "All classes together" : classNames[state.class];
    const named =
      state.class === null
        ? [["best mean F1", points.threshold]]
        : [
            ["threshold for all", points.threshold],
            ["best F1", points.per_class[state.class].best_F1.threshold],
            ["precision 90 %", points.per_class[state.class].precision_90.threshold],
            ["recall 90 %", points.per_class[state.class].recall_90.threshold],
          ];
    buttons.replaceChildren(
      ...named.map(([name, value]) =>
        button(name, () => move(value), { disabled: !isKnown(value) || !curve }),
      ),
    );
    if (state.class !== null) buttons.append(button("all classes", () => change({ class: null })));
    threshold = points.threshold ?? (curve && curve.score[0]);
    redraw();
  }
  function redraw() {
    if (!curve || !curve.score.length) {
      slider.disabled = true;
      sentence.textContent = curve
        ? "There are no detections."
        : "The curve of this class was left out to fit the size of the page.";
      charts.replaceChildren();
      numbers.replaceChildren();
      return;
    }
    const last = curve.score.length - 1;
    const at = place();
    slider.disabled = false;
    slider.max = last + 1;
    slider.value = last - at; // to the right, fewer detections
    const here = at < 0 ? { true: 0, reported: 0 } : { true: curve.true[at], reported: curve.reported[at] };
    const F1 = curve.positives ? (2 * here.true) / (here.reported + curve.positives) : null;
    const score = number(threshold, 4);
    slider.setAttribute("aria-valuetext", `score ${score}`);
    sentence.replaceChildren(
      "At a score of at least ",
      make("span", { class: "strong" }, score),
      `: ${count(here.true)} of ${plural(curve.positives, "object")} found, ${plural(here.reported - here.true, "false alarm")}, ${count(curve.positives - here.true)} missed.`,
    );
    const rows = [
      ["precision", here.true, here.reported],
      ["recall", here.true, curve.positives],
    ].map(([name, part, whole]) => {
      const ends = wilson(part, whole);
      return [
        name,
        number(whole ? part / whole : null),
        ends ? `${number(ends[0])} to ${number(ends[1])}` : "n/a",
      ];
    });
    rows.push(["F1", number(F1), ""]);
    if (curve.mean_F1 && curve.mean_F1.length && at >= 0)
      rows.push(["mean F1 of classes", number(curve.mean_F1[at]), ""]);
    numbers.replaceChildren(
      scrolling(
        "At this threshold",
        table(
          "At this threshold",
          [
            { name: "Quantity", head: true },
            { name: "Value", number: true },
            { name: "95 % (Wilson)", number: true },
          ],
          rows,
        ),
      ),
    );
    charts.replaceChildren(precisionRecall(curve, at), histogram(curve, threshold));
  }
  slider.addEventListener("input", () => {
    const at = curve.score.length - 1 - Number(slider.value);
    threshold = at < 0 ? curve.score[0] + Math.max(1e-6, Math.abs(curve.score[0]) * 1e-6) : curve.score[at];
    redraw();
  });
  const copied = copyable("Thresholds of classes", "");
  const formats = choices(
    "Format of the thresholds",
    [
      { value: "json", name: "JSON" },
      { value: "yaml", name: "YAML" },
    ],
    "json",
    fillThresholds,
  );
  function fillThresholds(format) {
    const pairs = points.per_class.map((row) => [row.name, row.best_F1.threshold]);
    copied.area.textContent =
      format === "json"
        ? JSON.stringify(Object.fromEntries(pairs), null, 1)
        : pairs.map(([name, value]) => `${JSON.stringify(name)}: ${value}`).join("\n");
  }
  formats.group.append(copied.copy);
  panel(
    "threshold-panel",
    "Threshold",
    "Operating point",
    `at IoU ${view.curves.iou}`,
    heading,
    buttons,
    make("label", { for: "threshold", class: "note" }, "Score threshold"),
    slider,
    sentence,
    charts,
    numbers,
    make(
      "p",
      { class: "note" },
      "Every position of the slider is a score of the data, and every count is exact. Wilson's intervals take detections as independent; the best F1 on these data is a little too good for the next.",
    ),
    make(
      "details",
      {},
      make("summary", {}, "The best threshold of each class, to copy"),
      formats.group,
      copied.area,
    ),
  );
  fillThresholds("json");
  onChange(choose);
}

function precisionRecall(curve, at) {
  const x = scale(0, 1, 46, 476);
  const y = scale(0, 1, 330, 12);
  const points = curve.score.map((_, i) => [
    curve.true[i] / (curve.positives || 1),
    curve.true[i] / curve.reported[i],
  ]);
  const now = at < 0 ? null : points[at];
  const parts = unitGrid(x, y, "recall", "precision");
  for (const F1 of [0.4, 0.6, 0.8]) {
    const places = Array.from({ length: 41 }, (_, i) => F1 / 2 + ((1 - F1 / 2) * i) / 40)
      .filter((r) => 2 * r > F1)
      .map((r) => [r, (F1 * r) / (2 * r - F1)])
      .filter(([, p]) => p <= 1);
    parts.push(polyline(places, x, y, "guide"), label(x(1) - 2, y(F1 / (2 - F1)) - 5, `F1 ${F1}`, "end"));
  }
  parts.push(polyline(points, x, y, "line"));
  if (now)
    parts.push(dot(x(now[0]), y(now[1]), 6, "now", `recall ${number(now[0])}, precision ${number(now[1])}`));
  const text = now
    ? `Precision against recall; at the threshold recall ${number(now[0])}, precision ${number(now[1])}`
    : "Precision against recall";
  return make("figure", {}, chart(490, 372, text, parts));
}

function histogram(curve, threshold) {
  const edges = view.curves.edges;
  const x = scale(edges[0], edges[edges.length - 1], 46, 476);
  const most = Math.max(1, ...curve.bins_true.map((value, i) => value + curve.bins_false[i]));
  const y = scale(0, Math.log10(1 + most), 330, 30);
  const height = (value) => y(0) - y(Math.log10(1 + value));
  const parts = [];
  for (let power = 1; power <= most; power *= 10)
    parts.push(
      line(46, y(Math.log10(1 + power)), 476, y(Math.log10(1 + power)), "grid"),
      label(40, y(Math.log10(1 + power)) + 4, count(power), "end"),
    );
  curve.bins_true.forEach((right, i) => {
    const wrong = curve.bins_false[i];
    const left = x(edges[i]) + 1;
    const width = (x(edges[i + 1]) - x(edges[i])) / 2 - 1;
    const range = `score ${number(edges[i], 2)} to ${number(edges[i + 1], 2)}`;
    parts.push(
      rectangle(left, y(0) - height(right), width, height(right), "fill-a", `${range}: ${count(right)} true`),
    );
    parts.push(
      rectangle(
        left + width,
        y(0) - height(wrong),
        width,
        height(wrong),
        "fill-b",
        `${range}: ${count(wrong)} false`,
      ),
    );
  });
  for (const value of ticks(edges[0], edges[edges.length - 1]))
    parts.push(label(x(value), 346, String(value), "middle"));
  parts.push(line(46, 330, 476, 330, "base"), label(261, 363, "score", "middle"));
  if (isKnown(threshold))
    parts.push(
      line(
        x(Math.min(threshold, edges[edges.length - 1])),
        24,
        x(Math.min(threshold, edges[edges.length - 1])),
        330,
        "cut",
      ),
    );
  parts.push(
    rectangle(46, 6, 12, 12, "fill-a"),
    label(63, 16, "true"),
    rectangle(110, 6, 12, 12, "fill-b"),
    label(127, 16, "false (number of detections, logarithmic)"),
  );
  return make("figure", {}, chart(490, 372, "Scores of true and false detections", parts));
}
