// The page of an evaluation: its panels, in order, and what they share.

const report = data.report;
const view = data.view;
const result = report.results[0];
const explanation = result.explanation;
const uncertainty = result.uncertainty;
const level = `${+(100 * uncertainty.level).toFixed(2)} %`;
const classNames = result.per_class.map((row) => row.name);
const KIND_NAMES = ["found", "false alarm", "missed"];
const ERROR_NAMES = {
  Cls: "wrong class",
  Loc: "loose box",
  Both: "wrong class, loose box",
  Dupe: "duplicate",
  Bkg: "background",
  Miss: "missed",
};

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
    return {
      ...row,
      key: row.name,
      value: report.results[place].metrics[row.name],
      low: estimate.low,
      high: estimate.high,
      error: estimate.standard_error,
    };
  });
  const many = report.results.length > 1;
  rows.forEach((row) => {
    row.name = many ? `${row.protocol} ${row.name}` : row.name;
  });
  const first = rows[0] || { name: "no number", value: null };
  const inputs = report.inputs;
  document.title = `${first.name} ${number(first.value)} \u00b7 upmap`;
  main.append(
    make(
      "div",
      { class: "title" },
      make("h1", {}, "Detection evaluation"),
      make(
        "p",
        { class: "sub" },
        `${inputs.detections} on ${inputs.ground_truth}${inputs.image_set ? ", image set " + inputs.image_set : ""}`,
      ),
    ),
  );
  const columns = [
    { name: "Number", head: true },
    { name: "Value", number: true },
    { name: "Standard error", number: true },
    { name: "From", number: true },
    { name: "To", number: true },
  ];
  const cells = rows.map((row) => [
    row.name,
    number(row.value, 6),
    number(row.error, 6),
    number(row.low, 6),
    number(row.high, 6),
  ]);
  const section = panel(
    "number",
    "Number",
    "The number",
    describeThresholds(many ? null : result.protocol, first.iou),
    make(
      "div",
      { class: "hero" },
      make(
        "div",
        {},
        make("p", { class: "note" }, first.name),
        make("p", { class: "big", id: "headline" }, number(first.value)),
        make(
          "p",
          {},
          isKnown(first.low)
            ? [
                `${level} interval `,
                make(
                  "span",
                  { class: "strong", id: "interval" },
                  `${number(first.low)} to ${number(first.high)}`,
                ),
              ]
            : "no interval",
        ),
      ),
      dotPlot(rows, "Every number with its interval"),
    ),
    make(
      "dl",
      { class: "facts" },
      [
        ["Images", count(inputs.images)],
        ["Objects", count(inputs.ground_truth_boxes)],
        ["Detections", count(inputs.detection_boxes)],
        ["Classes", count(inputs.classes)],
        ["Difficult or crowd", count(inputs.difficult + inputs.crowd)],
      ].map(([term, text]) => make("div", {}, make("dt", {}, term), make("dd", {}, text))),
    ),
    tableBehind("Numbers", columns, cells),
  );
  section.after(remarkList(view.remarks));
}

/** The IoU thresholds of the first number, behind the name of the protocol. */
function describeThresholds(protocol, iou) {
  const thresholds = isKnown(iou) ? [iou] : result.settings.iou_thresholds;
  const text =
    thresholds.length > 1
      ? `IoU from ${thresholds[0]} to ${thresholds[thresholds.length - 1]}`
      : `IoU ${thresholds[0]}`;
  return protocol ? `${protocol}, ${text}` : text;
}

function showCosts() {
  const errors = explanation.errors;
  const steps = make("div", { class: "steps" });
  const modes = {
    shares:
      "Each kind of error, by what fixing it gives, averaged over all orders of fixing: the six add up to 1 \u2212 mAP.",
    gains:
      "What fixing each kind alone gives (TIDE). These do not add up: fixing one changes what the next gives.",
  };
  const words = make("p", { class: "note" });
  function fill(mode) {
    const x = scale(0, 1, 0, 400);
    let at = errors.mAP ?? 0;
    words.textContent = modes[mode];
    const rows = view.errors.map((error) => ({
      ...error,
      value: errors[mode][error.key],
      count: errors.counts[error.key],
    }));
    if (mode === "shares") rows.sort((a, b) => b.value - a.value);
    steps.replaceChildren(
      make(
        "div",
        { class: "step", style: "cursor:default" },
        make("span", {}, "mAP", make("small", {}, `at IoU ${errors.iou}`)),
        draw(
          "svg",
          { viewBox: "0 0 400 18", preserveAspectRatio: "none", "aria-hidden": "true" },
          rectangle(0, 4, 400, 10, "track"),
          rectangle(0, 4, x(at), 10, "fill-a"),
        ),
        make("span", { class: "amount" }, number(errors.mAP)),
      ),
      ...rows.map((row) => {
        const from = mode === "shares" ? at : (errors.mAP ?? 0);
        if (mode === "shares") at += row.value ?? 0;
        return make(
          "button",
          {
            type: "button",
            class: "step",
            "data-error": row.key,
            "aria-pressed": String(state.error === row.key),
            onclick: () => change({ error: state.error === row.key ? null : row.key }),
          },
          make("span", {}, ERROR_NAMES[row.key], make("small", {}, `${row.text}: ${count(row.count)}`)),
          draw(
            "svg",
            { viewBox: "0 0 400 18", preserveAspectRatio: "none", "aria-hidden": "true" },
            rectangle(0, 4, 400, 10, "track"),
            rectangle(x(from), 4, Math.abs(x(row.value ?? 0)), 10, "fill-b"),
          ),
          make("span", { class: "amount" }, signed(row.value)),
        );
      }),
    );
    steps.classList.add("chart");
  }
  const switcher = choices(
    "How costs are computed",
    [
      { value: "shares", name: "Shares (add up)" },
      { value: "gains", name: "Each alone (TIDE)" },
    ],
    "shares",
    fill,
  );
  panel(
    "costs",
    "Costs",
    "What costs the points",
    "choose a kind to see its images",
    switcher.group,
    steps,
    words,
    tableBehind(
      "Costs",
      [
        { name: "Error", head: true },
        { name: "Number", number: true },
        { name: "Share", number: true },
        { name: "Alone", number: true },
      ],
      view.errors.map((error) => [
        ERROR_NAMES[error.key],
        count(errors.counts[error.key]),
        signed(errors.shares[error.key], 6),
        signed(errors.gains[error.key], 6),
      ]),
    ),
  );
  fill("shares");
  listeners.push(() => {
    for (const step of steps.querySelectorAll("[data-error]"))
      step.setAttribute("aria-pressed", String(step.dataset.error === state.error));
  });
}

function showClasses() {
  const points = explanation.operating_points.per_class;
  const rows = result.per_class.map((row, k) => {
    const estimate = uncertainty.per_class[row.name] || {};
    const best = points[k].best_F1;
    return {
      k,
      name: row.name,
      AP: row.AP,
      low: estimate.low,
      high: estimate.high,
      objects: row.positives,
      detections: row.detections,
      F1: best.F1,
      threshold: best.threshold,
    };
  });
  const [low, high] = extent(rows.map((row) => ({ ...row, value: row.AP })));
  const columns = [
    { key: "name", name: "Class" },
    { name: `${level} interval` },
    { key: "AP", name: "AP", number: true },
    { name: "From, to", number: true },
    { key: "objects", name: "Objects", number: true },
    { key: "detections", name: "Detections", number: true },
    { key: "F1", name: "Best F1", number: true },
    { key: "threshold", name: "At score", number: true },
  ];
  const mean = result.metrics[view.numbers[0]?.name];
  const classes = sortableTable("Scores of each class", columns, rows, {
    sort: { key: "AP", sign: -1 },
    choose: (k) => change({ class: state.class === k ? null : k }),
    cells: (row) => [
      cellInterval({ value: row.AP, low: row.low, high: row.high }, low, high, mean),
      make("span", { class: "strong" }, number(row.AP)),
      isKnown(row.low) ? `${number(row.low)} to ${number(row.high)}` : "n/a",
      count(row.objects),
      count(row.detections),
      number(row.F1),
      number(row.threshold),
    ],
  });
  panel(
    "classes",
    "Classes",
    "Classes",
    "the line is the mean; choose a class for the panels below",
    classes.parts,
  );
  onChange(() =>
    classes.lines.forEach((row, k) => {
      row.classList.toggle("selected", state.class === k);
      row.querySelector("button").setAttribute("aria-pressed", String(state.class === k));
    }),
  );
}

function showSlices() {
  const slices = result.slices.slices;
  const rows = slices.map((row) => ({
    ...row,
    low: isKnown(row.standard_error) ? Math.max(0, row.value - 1.959964 * row.standard_error) : null,
    high: isKnown(row.standard_error) ? Math.min(1, row.value + 1.959964 * row.standard_error) : null,
  }));
  const [low, high] = extent(rows);
  const columns = [
    { name: "Slice", head: true },
    { name: `${result.slices.metric}, 95 %` },
    { name: "Value", number: true },
    { name: "Objects", number: true },
    { name: "Images", number: true },
    { name: "Difference to the others", number: true },
    { name: "p (Holm)", number: true },
    { name: "Verdict" },
  ];
  const verdict = (row) =>
    row.has_few_positives
      ? "few objects"
      : !isKnown(row.p_holm)
        ? ""
        : row.p_holm < 0.05
          ? "differs"
          : "may be chance";
  panel(
    "slices",
    "Parts",
    "Parts of the data",
    "the line is the number on all data",
    rows.length
      ? scrolling(
          "Parts of the data",
          table(
            "The headline number on parts of the data",
            columns,
            rows.map((row) => [
              `${row.dimension}: ${row.name}`,
              cellInterval(row, low, high, result.slices.value),
              number(row.value),
              count(row.positives),
              count(row.images),
              isKnown(row.difference)
                ? `${signed(row.difference)} \u00b1 ${number(isKnown(row.difference_error) ? 1.959964 * row.difference_error : null)}`
                : "n/a",
              probability(row.p_holm),
              verdict(row),
            ]),
          ),
        )
      : make("p", { class: "note" }, "There are no parts to compare."),
    make(
      "p",
      { class: "note" },
      "The smaller a part, the higher its mean over classes, other things being equal.",
    ),
  );
}

function showCalibration() {
  const calibration = explanation.calibration;
  if (!calibration) {
    panel(
      "calibration",
      "Scores",
      "Are scores probabilities?",
      null,
      make("p", {}, `Not measured: ${explanation.uncalibrated_reason}.`),
    );
    return;
  }
  const bins = calibration.bins.filter((bin) => bin.count);
  const x = scale(0, 1, 46, 476);
  const y = scale(0, 1, 330, 12);
  const most = Math.max(1, ...bins.map((bin) => bin.count));
  const parts = [
    ...unitGrid(x, y, "score", "share that is true"),
    line(x(0), y(0), x(1), y(1), "guide"),
    polyline(
      bins.map((bin) => [bin.score, bin.precision]),
      x,
      y,
      "line",
    ),
  ];
  for (const bin of bins)
    parts.push(
      dot(
        x(bin.score),
        y(bin.precision),
        (3 + (5 * Math.log10(1 + bin.count)) / Math.log10(1 + most)).toFixed(1),
        "dot",
        `score ${number(bin.score)}: ${percent(bin.precision)} of ${count(bin.count)} true`,
      ),
    );
  panel(
    "calibration",
    "Scores",
    "Are scores probabilities?",
    `at IoU ${calibration.iou}; on the dashed line they are`,
    make(
      "div",
      { class: "two" },
      make("figure", {}, chart(490, 372, "The share of true detections against their score", parts)),
      make(
        "div",
        {},
        scrolling(
          "Calibration errors",
          table(
            "Calibration errors",
            [
              { name: "Error", head: true },
              { name: "Value", number: true },
            ],
            [
              ["D-ECE, all detections", number(calibration.D_ECE)],
              [`D-ECE, score from ${number(calibration.threshold)}`, number(calibration.D_ECE_above)],
              ["LaECE", number(calibration.LaECE)],
            ],
          ),
        ),
        make(
          "p",
          { class: "note" },
          "The larger a point, the more detections. Nearly all detections have scores near 0 and rule the first number.",
        ),
      ),
    ),
    tableBehind(
      "Bins",
      [
        { name: "Score", head: true },
        { name: "Detections", number: true },
        { name: "Mean score", number: true },
        { name: "True", number: true },
      ],
      calibration.bins.map((bin) => [
        `${number(bin.low, 2)} to ${number(bin.high, 2)}`,
        count(bin.count),
        number(bin.score),
        percent(bin.precision),
      ]),
    ),
  );
}

function showProtocol() {
  const settings = Object.entries(result.settings).map(([key, value]) => [
    key,
    typeof value === "string" ? value : JSON.stringify(value),
  ]);
  showOrigin(
    make(
      "details",
      {},
      make("summary", {}, `The protocol ${result.protocol}`),
      scrolling(
        "Protocol",
        table("The protocol", [{ name: "Setting", head: true }, { name: "Value" }], settings),
      ),
    ),
  );
}

// The page is this list, in order.
for (const show of [
  showNumber,
  showCosts,
  showClasses,
  showOperatingPoint,
  showConfusions,
  showSlices,
  showImages,
  showLabels,
  showCalibration,
  showProtocol,
])
  show();
