// The page of a comparison: its panels, in order. All detectors are compared with the first.

const report = data.report;
const view = data.view;
const against = report.pairs
  .map((pair, i) => ({ ...pair, place: i }))
  .filter((pair) => pair.a === report.detectors[0].name);
const labels = new Map(report.detectors.map((detector, i) => [detector.name, view.labels[i]]));
const level = `${+(100 * report.level).toFixed(2)} %`;
const correction = `p_${report.correction}`;

// What the panels share: the pair that is shown.
let pair = against[0];
const listeners = [];

function onChange(listener) {
  listeners.push(listener);
  listener();
}

/** Which detector is better, in words; a p of 5 % or more shows nothing. */
function verdict(delta, p) {
  if (!isKnown(p)) return "not tested";
  if (p >= 0.05) return "may be chance";
  return delta > 0 ? "better" : "worse";
}

function differenceText(row) {
  return isKnown(row.low) ? `${signed(row.low)} to ${signed(row.high)}` : "n/a";
}

function showVerdict() {
  const name = view.metrics[0];
  document.title = `${labels.get(against[0].b)} against ${labels.get(against[0].a)} \u00b7 upmap`;
  main.append(
    make(
      "div",
      { class: "title" },
      make("h1", {}, "Detectors compared"),
      make(
        "p",
        { class: "sub" },
        `${report.protocol}, on ${count(against[0].images)} images; ${labels.get(against[0].a)} is what the others are compared with`,
      ),
    ),
  );
  const body = make("div", {});
  const select = make(
    "select",
    {
      id: "pair",
      onchange: () => {
        pair = against[Number(select.value)];
        for (const listener of listeners) listener();
      },
    },
    against.map((each, i) => make("option", { value: i }, labels.get(each.b))),
  );
  const section = panel(
    "verdict",
    "Verdict",
    "The difference",
    `${name}, B \u2212 A, the same images for both`,
    against.length > 1
      ? make("div", { class: "bar" }, make("label", { for: "pair" }, "Detector B"), select)
      : null,
    body,
    make(
      "div",
      { id: "bounds" },
      view.bounds.map((bound) =>
        make("p", {}, make("span", { class: "strong" }, bound.outcome), ` \u00b7 ${bound.text}`),
      ),
    ),
  );
  section.after(remarkList(view.remarks));
  onChange(() => {
    const row = pair.metrics[name];
    const words = {
      better: "B is better",
      worse: "B is worse",
      "may be chance": "No difference shown",
      "not tested": "Not tested",
    };
    body.replaceChildren(
      make(
        "div",
        { class: "hero" },
        make(
          "div",
          {},
          make("p", { class: "note" }, `A ${labels.get(pair.a)}, B ${labels.get(pair.b)}`),
          make("p", { class: "headline", id: "headline" }, words[verdict(row.delta, row.p)]),
          make(
            "p",
            {},
            make("span", { class: "strong", id: "delta" }, signed(row.delta)),
            ` ${level} interval `,
            make("span", { id: "interval" }, differenceText(row)),
            `, p ${probability(row.p)}`,
          ),
        ),
        differenceChart(row),
      ),
    );
  });
}

/** The difference and its interval; of a bootstrap, the replicates too. */
function differenceChart(row) {
  const replicates = view.replicates[pair.place];
  const ends = [
    0,
    row.low,
    row.high,
    row.delta,
    ...(replicates ? [replicates.low, replicates.high] : []),
  ].filter(isKnown);
  const reach = Math.max(...ends.map(Math.abs), 0.001) * 1.15;
  const width = isNarrow ? 380 : 640;
  const x = scale(-reach, reach, 26, width - 26);
  const base = replicates ? 118 : 46;
  const parts = ticks(-reach, reach, isNarrow ? 4 : 6).flatMap((value) => [
    line(x(value), 8, x(value), base, "grid"),
    label(x(value), base + 17, signed(value, Math.abs(reach) < 0.01 ? 4 : 3), "middle"),
  ]);
  if (replicates) {
    const most = Math.max(...replicates.counts);
    const bin = (replicates.high - replicates.low) / replicates.counts.length;
    replicates.counts.forEach((value, i) => {
      const middle = replicates.low + (i + 0.5) * bin;
      const height = (86 * value) / most;
      parts.push(
        rectangle(
          x(replicates.low + i * bin),
          base - height,
          x(bin) - x(0) - 0.6,
          height,
          middle < 0 ? "fill-a" : "fill-b",
          `${signed(middle, 4)}: ${count(value)} replicates`,
        ),
      );
    });
  }
  parts.push(line(x(0), 4, x(0), base, "zero"));
  const y = 24;
  if (isKnown(row.low)) parts.push(line(x(row.low), y, x(row.high), y, "range other"));
  if (isKnown(row.delta))
    parts.push(dot(x(row.delta), y, 6, "dot other", `${signed(row.delta)}, ${differenceText(row)}`));
  parts.push(
    label(x(0) - 10, base + 36, "\u2190 A better", "end"),
    label(x(0) + 10, base + 36, "B better \u2192"),
  );
  return chart(width, base + 42, `B minus A: ${signed(row.delta)}, interval ${differenceText(row)}`, parts);
}

function showDetectors() {
  const name = view.metrics[0];
  const rows = report.detectors.map((detector, i) => ({ name: view.labels[i], ...detector.metrics[name] }));
  const columns = [
    { name: "Detector", head: true },
    { name: "Path" },
    ...view.metrics.map((metric) => ({ name: metric, number: true })),
  ];
  const tiers =
    report.detectors.length > 2
      ? make(
          "ol",
          {},
          report.tiers.map((tier) => make("li", {}, tier.map((each) => labels.get(each)).join(", "))),
        )
      : null;
  panel(
    "detectors",
    "Detectors",
    "The detectors",
    `${name} with ${level} interval`,
    dotPlot(rows, `${name} of each detector`, { width: 1000, left: 280 }),
    tiers ? [make("h3", {}, "Tiers: within one, no two are shown to differ"), tiers] : null,
    make(
      "p",
      { class: "note" },
      "Intervals of two detectors may overlap though their difference is shown: both are tested on the same images.",
    ),
    tableBehind(
      "Numbers",
      columns,
      report.detectors.map((detector, i) => [
        view.labels[i],
        detector.name,
        ...view.metrics.map((metric) => number(detector.metrics[metric].value, 6)),
      ]),
    ),
  );
}

function showMetrics() {
  const holder = make("div", {});
  panel("numbers", "Numbers", "All numbers", "B \u2212 A", holder);
  const columns = [
    { name: "Number", head: true },
    { name: "A", number: true },
    { name: "B", number: true },
    { name: "Difference" },
    { name: "B \u2212 A", number: true },
    { name: "Interval", number: true },
    { name: "p", number: true },
    { name: "Verdict" },
  ];
  onChange(() => {
    const [low, high] = differenceExtent(Object.values(pair.metrics));
    holder.replaceChildren(
      scrolling(
        "Differences of all numbers",
        table(
          "Differences of all numbers",
          columns,
          view.metrics.map((name) => {
            const row = pair.metrics[name];
            return [
              name,
              number(row.a),
              number(row.b),
              cellDifference(row, low, high),
              signed(row.delta),
              differenceText(row),
              probability(row.p),
              verdict(row.delta, row.p),
            ];
          }),
        ),
      ),
    );
  });
}

function differenceExtent(rows) {
  const [low, high] = extent(
    rows.map((row) => ({ value: row.delta, low: row.low, high: row.high })),
    -0.01,
    0.01,
  );
  return [Math.min(low, 0), Math.max(high, 0)];
}

function cellDifference(row, low, high) {
  return cellInterval({ value: row.delta, low: row.low, high: row.high }, low, high, 0, {
    kind: " other",
    text: signed,
  });
}

function showClasses() {
  const holder = make("div", {});
  panel(
    "classes",
    "Classes",
    "Classes",
    `p is adjusted over all classes (${report.correction === "holm" ? "Holm" : "Benjamini-Hochberg"})`,
    holder,
  );
  const columns = [
    { key: "name", name: "Class" },
    { key: "objects", name: "Objects", number: true },
    { key: "a", name: "A", number: true },
    { key: "b", name: "B", number: true },
    { name: "Difference" },
    { key: "delta", name: "B \u2212 A", number: true },
    { name: "Interval", number: true },
    { key: "p", name: "p", number: true },
    { name: "Test" },
    { key: "verdict", name: "Verdict" },
  ];
  onChange(() => {
    const entries = Object.entries(pair.per_class);
    const [low, high] = differenceExtent(entries.map(([, row]) => row));
    const rows = entries.map(([name, row], k) => ({
      ...row,
      k,
      name,
      objects: row.positives,
      p: row[correction],
      verdict: verdict(row.delta, row[correction]),
    }));
    const classes = sortableTable("Differences of each class", columns, rows, {
      sort: { key: "delta", sign: -1 },
      cells: (row) => [
        count(row.objects),
        number(row.a),
        number(row.b),
        cellDifference(row, low, high),
        make("span", { class: "strong" }, signed(row.delta)),
        differenceText(row),
        probability(row.p),
        row.test,
        row.verdict,
      ],
    });
    holder.replaceChildren(...classes.parts.filter(Boolean));
  });
}

function showCosts() {
  const holder = make("div", {});
  panel(
    "costs",
    "Costs",
    "What costs the points",
    "shares of 1 \u2212 mAP, which add up to it; shorter is better",
    holder,
  );
  onChange(() => {
    const places = [pair.a, pair.b].map((name) =>
      report.detectors.findIndex((detector) => detector.name === name),
    );
    const [a, b] = places.map((place) => view.costs[place]);
    const most = Math.max(
      0.001,
      ...view.errors.flatMap((error) => [a.shares[error.key] ?? 0, b.shares[error.key] ?? 0]),
    );
    const [width, left, step] = isNarrow ? [380, 0, 62] : [900, 270, 46];
    const x = scale(0, most, 0, width - left - 100);
    const bars = view.errors.flatMap((error, i) => {
      const y = i * step + (isNarrow ? 18 : 0);
      const [first, second] = [a.shares[error.key], b.shares[error.key]];
      return [
        label(0, isNarrow ? y - 2 : y + 18, error.text, "start", "label"),
        rectangle(left, y + 4, x(Math.max(0, first)), 12, "fill-a", `A: ${number(first)}`),
        rectangle(left, y + 18, x(Math.max(0, second)), 12, "fill-b", `B: ${number(second)}`),
        label(
          width,
          y + 22,
          signed(isKnown(first) && isKnown(second) ? second - first : null),
          "end",
          "value",
        ),
      ];
    });
    holder.replaceChildren(
      chart(width, view.errors.length * step, "Costs of each kind of error, A and B", bars),
      tableBehind(
        "Costs",
        [
          { name: "Error", head: true },
          { name: "A", number: true },
          { name: "B", number: true },
          { name: "Number in A", number: true },
          { name: "Number in B", number: true },
        ],
        view.errors.map((error) => [
          error.text,
          number(a.shares[error.key], 6),
          number(b.shares[error.key], 6),
          count(a.counts[error.key]),
          count(b.counts[error.key]),
        ]),
      ),
    );
  });
}

function showImages() {
  const holder = make("div", {});
  panel(
    "images",
    "Images",
    "Images that changed most",
    `what each adds to the difference of ${view.metrics[0]}, in points, to first order`,
    holder,
  );
  onChange(() => {
    const rows = pair.image_delta.map((row, k) => ({ k, name: String(row.image), delta: row.delta }));
    const reach = Math.max(...rows.map((row) => Math.abs(row.delta)), 1e-12);
    const columns = [
      { key: "name", name: "Image" },
      { name: "\u2190 A better, B better \u2192" },
      { key: "delta", name: "Points", number: true },
    ];
    const images = sortableTable("Images that changed most", columns, rows, {
      sort: { key: "delta", sign: -1 },
      cells: (row) => {
        const x = scale(-reach, reach, 4, 186);
        const bar = rectangle(
          Math.min(x(0), x(row.delta)),
          4,
          Math.abs(x(row.delta) - x(0)),
          10,
          row.delta < 0 ? "fill-a" : "fill-b",
        );
        return [
          chart(190, 18, signed(100 * row.delta), line(x(0), 1, x(0), 17, "zero"), bar),
          signed(100 * row.delta),
        ];
      },
    });
    holder.replaceChildren(
      ...(rows.length ? images.parts.filter(Boolean) : [make("p", { class: "note" }, "No image changed.")]),
    );
  });
}

// The page is this list, in order.
for (const show of [showVerdict, showDetectors, showMetrics, showClasses, showCosts, showImages, showOrigin])
  show();
