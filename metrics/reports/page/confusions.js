// Which classes are taken for which: the most frequent confusions, and the whole matrix.

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
      .filter(
        ([row, column]) =>
          row !== column &&
          row < K &&
          column < K &&
          (state.class === null || row === state.class || column === state.class),
      )
      .sort((a, b) => b[2] - a[2] || a[0] - b[0] || a[1] - b[1])
      .slice(0, 20);
    if (!listed.length) {
      pairs.replaceChildren(make("p", { class: "note" }, "No object is taken for another class here."));
      return;
    }
    const most = listed[0][2];
    const [width, left] = isNarrow ? [380, 210] : [900, 330];
    const x = scale(0, most, 0, width - left - 100);
    const bars = listed.flatMap(([row, column, value], i) => [
      label(
        0,
        i * 24 + 16,
        `${clip(names[row], isNarrow ? 11 : 20)} taken for ${clip(names[column], isNarrow ? 11 : 20)}`,
        "start",
        "label",
      ),
      rectangle(
        left,
        i * 24 + 5,
        x(value),
        14,
        "fill-b",
        `${names[row]} taken for ${names[column]}: ${value}`,
      ),
      label(left + 6 + x(value), i * 24 + 16, `${count(value)}, ${percent(value / sums.true[row])}`),
    ]);
    pairs.replaceChildren(
      chart(width, listed.length * 24 + 4, "The most frequent confusions", bars),
      tableBehind(
        "Confusions",
        [
          { name: "Object", head: true },
          { name: "Taken for" },
          { name: "Number", number: true },
          { name: "Of its objects", number: true },
        ],
        listed.map(([row, column, value]) => [
          names[row],
          names[column],
          count(value),
          percent(value / sums.true[row]),
        ]),
      ),
    );
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
    where.textContent =
      `${row < K ? "object " + names[row] : "no object"}, ${column < K ? "detected as " + names[column] : "not detected"}: ${count(at(row, column))}` +
      (row < K ? `, ${percent(at(row, column) / sums.true[row])} of its objects` : "") +
      (column < K ? `, ${percent(at(row, column) / sums.predicted[column])} of its detections` : "");
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
      parts.push(
        draw(
          "text",
          { transform: `translate(${left + i * step + step * 0.65} ${top - 8}) rotate(-60)` },
          clip(name, 16),
        ),
      );
    });
    for (let row = 0; row <= K; row++)
      for (let column = 0; column <= K; column++) {
        if (row === K && column === K) continue;
        const cell = rectangle(
          left + column * step,
          top + row * step,
          step - 1,
          step - 1,
          row === column ? "fill-a" : at(row, column) ? "fill-b" : "track",
        );
        if (at(row, column))
          cell.setAttribute("fill-opacity", (0.08 + 0.92 * Math.sqrt(share(row, column, mode))).toFixed(3));
        cell.addEventListener("pointerenter", () => tell(row, column));
        parts.push(cell);
      }
    const size = (K + 1) * step;
    return chart(
      left + size + 70,
      top + size + 4,
      "Confusion matrix: rows are objects, columns are detections",
      parts,
    );
  }
  function canvasMatrix(mode) {
    const size = (K + 1) * step;
    const canvas = make("canvas", {
      width: size,
      height: size,
      role: "img",
      "aria-label": "Confusion matrix: rows are objects, columns are detections",
    });
    const context = canvas.getContext("2d");
    const colors = getComputedStyle(document.documentElement);
    context.fillStyle = colors.getPropertyValue("--sunken");
    context.fillRect(0, 0, size, size);
    for (const [row, column] of confusion.cells) {
      context.globalAlpha = 0.1 + 0.9 * Math.sqrt(share(row, column, mode));
      context.fillStyle = colors.getPropertyValue(row === column ? "--a" : "--b");
      context.fillRect(column * step, row * step, step, step);
    }
    canvas.addEventListener("pointermove", (event) =>
      tell(Math.min(K, Math.floor(event.offsetY / step)), Math.min(K, Math.floor(event.offsetX / step))),
    );
    return canvas;
  }
  const switcher = choices(
    "Shade of the matrix",
    [
      { value: "true", name: "By object (recall)" },
      { value: "predicted", name: "By detection (precision)" },
      { value: "count", name: "Number" },
    ],
    "true",
    fillMatrix,
  );
  panel(
    "confusions",
    "Confusions",
    "Confusions",
    `at a score of ${number(confusion.threshold, 4)} and IoU ${confusion.iou}`,
    pairs,
    make(
      "details",
      {},
      make("summary", {}, "The whole matrix"),
      switcher.group,
      where,
      make(
        "div",
        { class: "matrix", tabindex: 0, role: "group", "aria-label": "Confusion matrix, scrolls" },
        holder,
      ),
    ),
  );
  fillMatrix("true");
  onChange(fillPairs);
}
